//! Which paths there are: what a client may name inside the shared directory.
//!
//! A path is bytes, as in every Unix: names separated by `/`, each of any bytes but `/` and NUL.
//! Paths are relative to the shared directory; a leading `./` or `/`, repeated and trailing slashes
//! mean nothing. `..` is refused rather than resolved: nothing outside can be named, whatever the
//! server at the other end would make of it.

/// Longest name of one component, in bytes: the limit of every host file system we know.
pub const NAME_MAX: usize = 255;
/// Longest path, in bytes.
pub const PATH_MAX: usize = 4096;

/// Why a path is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BadPath {
    /// It has a component `..`.
    Parent,
    /// It has a NUL byte.
    Nul,
    /// It, or a component, is over its limit.
    TooLong,
}

/// A path that has been checked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Path<'a>(&'a [u8]);

impl<'a> Path<'a> {
    /// Checks a path.
    ///
    /// # Errors
    /// In order: [`BadPath::TooLong`] for the whole; then, from the left, what is wrong with the
    /// first component that is not acceptable.
    pub fn new(bytes: &'a [u8]) -> Result<Path<'a>, BadPath> {
        if bytes.len() > PATH_MAX {
            return Err(BadPath::TooLong);
        }
        let path = Path(bytes);
        for name in path.components() {
            check_name(name)?;
        }
        Ok(path)
    }

    /// The names from the top down; none for the shared directory itself.
    pub fn components(self) -> impl Iterator<Item = &'a [u8]> + Clone {
        self.0
            .split(|byte| *byte == b'/')
            .filter(|name| !name.is_empty() && *name != b".")
    }
}

fn check_name(name: &[u8]) -> Result<(), BadPath> {
    if name == b".." {
        Err(BadPath::Parent)
    } else if name.contains(&0) {
        Err(BadPath::Nul)
    } else if name.len() > NAME_MAX {
        Err(BadPath::TooLong)
    } else {
        Ok(())
    }
}

/// Whether a name that a directory claims to hold can be one: anything else would let a listing
/// lead outside the directory.
#[must_use]
pub fn is_name(name: &[u8]) -> bool {
    !name.is_empty() && name != b"." && !name.contains(&b'/') && check_name(name).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::vec::Vec;

    fn split(bytes: &[u8]) -> Vec<&[u8]> {
        Path::new(bytes).unwrap().components().collect()
    }

    #[test]
    fn slashes_and_dots_that_mean_nothing_are_dropped() {
        assert_eq!(split(b"./a//b/./c/"), [b"a", b"b", b"c"]);
        assert_eq!(split(b"/a"), [b"a"]);
        assert_eq!(split(b""), [] as [&[u8]; 0]);
        assert_eq!(split(b"."), [] as [&[u8]; 0]);
    }

    #[test]
    fn names_may_hold_spaces_utf8_newlines_and_bytes_that_are_no_text() {
        let name = "sp ace \u{e9}".as_bytes();
        assert_eq!(split(name), [name]);
        assert_eq!(split(b"a\nb\\\xFF"), [b"a\nb\\\xFF"]);
        assert_eq!(split(b"..."), [b"..."]);
    }

    #[test]
    fn what_leads_outside_or_cannot_be_a_name_is_refused() {
        assert_eq!(Path::new(b"a/../b"), Err(BadPath::Parent));
        assert_eq!(Path::new(b".."), Err(BadPath::Parent));
        assert_eq!(Path::new(b"a\0b"), Err(BadPath::Nul));
        assert_eq!(Path::new(&[b'a'; 256]), Err(BadPath::TooLong));
        assert_eq!(Path::new(&[b'/'; 4097]), Err(BadPath::TooLong));
        assert!(Path::new(&[b'a'; 255]).is_ok());
        for bad in [&b""[..], b".", b"..", b"a/b", b"a\0"] {
            assert!(!is_name(bad));
        }
        assert!(is_name(b"a b"));
    }
}
