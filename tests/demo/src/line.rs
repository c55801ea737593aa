//! A line of `sha256sum`, to the byte, so that its output and ours can be compared as text.
//!
//! `sha256sum` writes the digest, two spaces and the name. A name with a backslash, a newline or a
//! carriage return is written with `\\`, `\n` and `\r`, and the line then starts with a backslash.

use alloc::vec::Vec;

const DIGITS: &[u8; 16] = b"0123456789abcdef";

/// The line for a digest and a path relative to the top of the tree, with its newline. The path is
/// written as `find .` gives it.
pub(crate) fn line(digest: &[u8], path: &[u8]) -> Vec<u8> {
    let escape = path.iter().any(|byte| escaped(*byte).is_some());
    let mut line = Vec::with_capacity(path.len() + 2 * digest.len() + 8);
    line.extend(escape.then_some(b'\\'));
    line.extend(hex(digest));
    line.extend(b"  ./");
    for byte in path {
        match escaped(*byte) {
            Some(letter) => line.extend([b'\\', letter]),
            None => line.push(*byte),
        }
    }
    line.push(b'\n');
    line
}

fn hex(digest: &[u8]) -> impl Iterator<Item = u8> {
    let digit = |value: u8| DIGITS.get(usize::from(value)).copied().unwrap_or(b'?');
    digest
        .iter()
        .flat_map(move |byte| [digit(byte >> 4), digit(byte & 15)])
}

/// The letter that stands for a byte that is not written as it is.
fn escaped(byte: u8) -> Option<u8> {
    match byte {
        b'\\' => Some(b'\\'),
        b'\n' => Some(b'n'),
        b'\r' => Some(b'r'),
        _ => None,
    }
}
