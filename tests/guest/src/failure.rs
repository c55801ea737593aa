//! What did not hold, and where: cases return it instead of panicking, so that the next case runs.

use alloc::format;
use alloc::string::String;
use core::fmt;
use core::panic::Location;

use ipc::Kern;

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
        Failure {
            at: Location::caller(),
            what,
        }
    }
}

/// A call that failed where `?` stands.
impl From<Kern> for Failure {
    #[track_caller]
    fn from(code: Kern) -> Failure {
        Failure::new(format!("a call answered {code}"))
    }
}

/// What is missing where `?` stands.
impl From<&str> for Failure {
    #[track_caller]
    fn from(what: &str) -> Failure {
        Failure::new(String::from(what))
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Failure { at, what } = self;
        write!(f, "{}:{}: {what}", at.file(), at.line())
    }
}

/// Returns a failure if a condition does not hold. Text as for `format!` may say more.
#[macro_export]
macro_rules! check {
    ($condition:expr $(,)?) => {
        if !$condition {
            return ::core::result::Result::Err($crate::Failure::new(
                $crate::failure::not_true(stringify!($condition)),
            ));
        }
    };
    ($condition:expr, $($text:tt)+) => {
        if !$condition {
            return ::core::result::Result::Err($crate::Failure::new(
                $crate::failure::formatted(::core::format_args!($($text)+)),
            ));
        }
    };
}

/// Returns a failure with both values if the first is not equal to the second.
#[macro_export]
macro_rules! check_eq {
    ($left:expr, $right:expr $(,)?) => {
        match (&$left, &$right) {
            (left, right) => {
                if !(*left == *right) {
                    return ::core::result::Result::Err($crate::Failure::new(
                        $crate::failure::not_equal(stringify!($left), left, right),
                    ));
                }
            }
        }
    };
}

/// For [`check!`].
#[doc(hidden)]
#[must_use]
pub fn not_true(condition: &str) -> String {
    format!("`{condition}` does not hold")
}

/// For [`check!`].
#[doc(hidden)]
#[must_use]
pub fn formatted(text: fmt::Arguments<'_>) -> String {
    format!("{text}")
}

/// For [`check_eq!`].
#[doc(hidden)]
#[must_use]
pub fn not_equal(what: &str, left: &dyn fmt::Debug, right: &dyn fmt::Debug) -> String {
    format!("`{what}` is {left:x?}, expected {right:x?}")
}
