//! What did not hold, and where.

use alloc::format;
use alloc::string::String;
use core::fmt;
use core::panic::Location;

use ipc_abi::Kern;

/// What a case returns.
pub type Outcome<T = ()> = Result<T, Failure>;

/// Something that did not hold.
#[derive(Debug)]
pub struct Failure {
    at: &'static Location<'static>,
    what: String,
}

impl Failure {
    /// A failure of the caller, in words.
    #[track_caller]
    #[must_use]
    pub fn new(what: String) -> Failure {
        let at = Location::caller();
        Failure { at, what }
    }
}

impl From<Kern> for Failure {
    #[track_caller]
    fn from(code: Kern) -> Failure {
        Failure::new(format!("a call answered {code}"))
    }
}

impl From<String> for Failure {
    #[track_caller]
    fn from(what: String) -> Failure {
        Failure::new(what)
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Failure { at, what } = self;
        write!(f, "{}:{}: {what}", at.file(), at.line())
    }
}

/// A failure unless `found` is `right`.
///
/// # Errors
/// It is not.
#[track_caller]
pub fn same<T: PartialEq + fmt::Debug>(what: &str, found: T, right: T) -> Outcome {
    if found == right {
        return Ok(());
    }
    Err(Failure::new(format!(
        "{what} is {found:x?}, expected {right:x?}"
    )))
}

/// A failure unless this holds.
///
/// # Errors
/// It does not.
#[track_caller]
pub fn holds(what: &str, is: bool) -> Outcome {
    if is {
        return Ok(());
    }
    Err(Failure::new(format!("it does not hold that {what}")))
}
