//! A value into a message and out of it: postcard for bodies, whole words for the hot few.
//!
//! [`Payload`] is what the `protocol!` table implements for each request and each reply. A payload
//! in *words* lies in the registers of the message and uses no body; a payload in the *body* is
//! encoded by serde and postcard and uses no register. Which of the two is fixed for each message,
//! so that there is one way to say a thing and no choice to be attacked.
//!
//! Malformed means: a field that is out of its type's range, a body that ends too soon, a body
//! that goes on after the last field, or a body beside a payload in words. All of them are
//! MIG_TYPE_ERROR. `from_bytes` of postcard is not used: it accepts trailing bytes.

use ipc_abi::Kern;
use ipc_abi::message::WORDS;
use serde::{Deserialize, Serialize};

/// The words of a message, as they travel in registers.
pub type Words = [u64; WORDS];

/// A request or a reply: what can be put into a message and got out of one.
///
/// `words` are the registers that the payload may use: all six of a request, the last five of a
/// reply (its first carries the code).
pub trait Payload: Sized {
    /// Writes the value and says how many bytes of `body` it takes.
    ///
    /// # Errors
    /// KERN_INVALID_ARGUMENT: it does not fit `body`.
    fn put(&self, words: &mut [u64], body: &mut [u8]) -> Result<usize, Kern>;

    /// Reads the value; `body` is exactly the bytes that the message carries.
    ///
    /// # Errors
    /// MIG_TYPE_ERROR: malformed, see the module's text.
    fn get(words: &[u64], body: &[u8]) -> Result<Self, Kern>;
}

/// A reply that says no more than its code.
impl Payload for () {
    fn put(&self, _words: &mut [u64], _body: &mut [u8]) -> Result<usize, Kern> {
        Ok(0)
    }

    fn get(_words: &[u64], body: &[u8]) -> Result<(), Kern> {
        no_body(body)
    }
}

/// Encodes `value` at the start of `body` and says how many bytes it takes.
pub(crate) fn encode<T: Serialize>(value: &T, body: &mut [u8]) -> Result<usize, Kern> {
    postcard::to_slice(value, body)
        .map(|used| used.len())
        .map_err(|_| Kern::InvalidArgument)
}

/// Decodes all of `body`.
pub(crate) fn decode<'a, T: Deserialize<'a>>(body: &'a [u8]) -> Result<T, Kern> {
    match postcard::take_from_bytes(body) {
        Ok((value, [])) => Ok(value),
        _ => Err(Kern::MigTypeError),
    }
}

/// Refuses a body where there must be none.
pub(crate) fn no_body(body: &[u8]) -> Result<(), Kern> {
    if body.is_empty() {
        Ok(())
    } else {
        Err(Kern::MigTypeError)
    }
}

/// Refuses a message that carries another number of rights than its kind has slots. A slot may be
/// empty, but it must be there.
pub(crate) fn expect_rights(carried: usize, slots: usize) -> Result<(), Kern> {
    if carried == slots {
        Ok(())
    } else {
        Err(Kern::MigBadArguments)
    }
}

/// A field that fills one message word.
pub trait Word: Sized {
    /// As a word.
    fn to_word(&self) -> u64;

    /// From a word.
    ///
    /// # Errors
    /// MIG_TYPE_ERROR: the word is out of the type's range.
    fn from_word(word: u64) -> Result<Self, Kern>;
}

impl Word for u64 {
    fn to_word(&self) -> u64 {
        *self
    }

    fn from_word(word: u64) -> Result<u64, Kern> {
        Ok(word)
    }
}

impl Word for u32 {
    fn to_word(&self) -> u64 {
        u64::from(*self)
    }

    fn from_word(word: u64) -> Result<u32, Kern> {
        u32::try_from(word).map_err(|_| Kern::MigTypeError)
    }
}

impl Word for bool {
    fn to_word(&self) -> u64 {
        u64::from(*self)
    }

    fn from_word(word: u64) -> Result<bool, Kern> {
        match word {
            0 => Ok(false),
            1 => Ok(true),
            _ => Err(Kern::MigTypeError),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_word_out_of_range_is_a_type_error() {
        assert_eq!(u32::from_word(1 << 32), Err(Kern::MigTypeError));
        assert_eq!(bool::from_word(2), Err(Kern::MigTypeError));
        assert_eq!(u32::from_word(0xFFFF_FFFF), Ok(u32::MAX));
    }

    #[test]
    fn a_body_must_be_used_up() {
        assert_eq!(decode::<u32>(&[5]), Ok(5));
        assert_eq!(decode::<u32>(&[5, 0]), Err(Kern::MigTypeError));
        assert_eq!(decode::<u32>(&[]), Err(Kern::MigTypeError));
        assert_eq!(decode::<bool>(&[2]), Err(Kern::MigTypeError));
    }
}
