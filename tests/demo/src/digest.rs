//! SHA-256 of each file of the share, as it is mapped: each page arrives by a fault.

use alloc::vec::Vec;

use ipc::abi::layout::PAGE_SIZE;
use ipc::protocol::files::Files;
use ipc::{Kern, Mapping, SendRight, vm};
use sha2::{Digest, Sha256};

use crate::cost::Samples;
use crate::line::line;
use crate::report::Report;
use crate::share::{self, Opened, shown};

/// Bytes that are hashed at a time: as many as the pager brings at once, so that the cost of a
/// request can be told from that of hashing.
const PIECE: usize = 64 * PAGE_SIZE as usize;

/// Bytes of a file's head that have a digest of their own: what the other checks copy and change,
/// so that they do not need the file's size of memory once more.
pub(crate) const HEAD: u64 = 1 << 20;

/// A SHA-256 digest.
pub(crate) type Hash = [u8; 32];

/// The largest file of the share, kept for the checks that need one.
pub(crate) struct Largest {
    /// Its path.
    pub(crate) path: Vec<u8>,
    /// The digest of its first [`HEAD`] bytes, or of all of them.
    pub(crate) head: Hash,
    /// Bytes.
    pub(crate) size: u64,
}

impl Largest {
    /// Bytes of its head.
    pub(crate) fn head_size(&self) -> u64 {
        self.size.min(HEAD)
    }
}

/// Prints the digest of each file of the share as `sha256sum` does, and checks what its lines
/// cannot show. Gives the largest file, if there is one that is not empty.
pub(crate) fn all(
    files: &SendRight<Files>,
    report: &mut Report,
    first_touches: &mut Samples,
) -> Result<Option<Largest>, Kern> {
    let before = vm::own().statistics()?;
    let paths = share::tree(files, report);
    let (mut bytes, mut clean, mut largest) = (0u64, true, None::<Largest>);
    for path in &paths {
        match share::open(files, path).and_then(|file| digest(&file, first_touches)) {
            Ok(Digested {
                hashes: Hashes { head, whole },
                size,
                tail_is_zero,
            }) => {
                ipc::console::write_bytes(&line(&whole, path));
                bytes = bytes.saturating_add(size);
                clean &= tail_is_zero;
                if size > largest.as_ref().map_or(0, |largest| largest.size) {
                    let path = path.clone();
                    largest = Some(Largest { path, head, size });
                }
            }
            Err(code) => report.fail(format_args!("{}: {code}", shown(path))),
        }
    }
    let after = vm::own().statistics()?;
    let copied = after.pages_copied.saturating_sub(before.pages_copied);
    let count = paths.len();
    let pages = after.page_ins.saturating_sub(before.page_ins);
    report.check(
        clean,
        format_args!(
            "{count} files mapped whole and hashed, {bytes} bytes; behind their ends all reads zero"
        ),
    );
    report.check(
        copied == 0 && (pages > 0 || bytes == 0),
        format_args!("{pages} pages came from the pager, none of them copied between tasks"),
    );
    Ok(largest)
}

struct Digested {
    hashes: Hashes,
    size: u64,
    tail_is_zero: bool,
}

fn digest(file: &Opened, first_touches: &mut Samples) -> Result<Digested, Kern> {
    let mapping = file.map()?;
    let hashes = match &mapping {
        Some(mapping) => hash_mapping(mapping, file.size, first_touches),
        None => sha256(&[], first_touches),
    };
    Ok(Digested {
        hashes,
        size: file.size,
        tail_is_zero: mapping.as_ref().map_or(Ok(true), tail_is_zero)?,
    })
}

/// The digests of a file.
pub(crate) struct Hashes {
    /// Of its head.
    pub(crate) head: Hash,
    /// Of all of it.
    pub(crate) whole: Hash,
}

/// The digests of the first `size` bytes of a mapped file, or of a private copy of one.
pub(crate) fn hash_mapping(mapping: &Mapping, size: u64, first_touches: &mut Samples) -> Hashes {
    // SAFETY: the file pager promises not to change what it has supplied (delayed copies), and
    // nobody has a writable mapping of the file; of a copy nobody else knows.
    let bytes = unsafe { mapping.bytes() };
    let size = usize::try_from(size).unwrap_or(usize::MAX);
    sha256(bytes.get(..size).unwrap_or(bytes), first_touches)
}

/// The digests of bytes. The first touch of each piece is timed.
fn sha256(bytes: &[u8], first_touches: &mut Samples) -> Hashes {
    let mut hash = Sha256::new();
    let (head, rest) = bytes.split_at(bytes.len().min(HEAD as usize));
    let mut add = |hash: &mut Sha256, bytes: &[u8]| {
        for piece in bytes.chunks(PIECE) {
            first_touches.time(|| touch(piece));
            hash.update(piece);
        }
    };
    add(&mut hash, head);
    let head = hash.clone().finalize().into();
    add(&mut hash, rest);
    Hashes {
        head,
        whole: hash.finalize().into(),
    }
}

/// Reads one byte, for its fault.
fn touch(bytes: &[u8]) {
    core::hint::black_box(bytes.first().copied());
}

/// Whether the rest of the last page, behind the end of the file, reads zero.
fn tail_is_zero(mapping: &Mapping) -> Result<bool, Kern> {
    let mut page = [0xFF; PAGE_SIZE as usize];
    let size = mapping.size();
    let tail = usize::try_from(size.next_multiple_of(PAGE_SIZE).saturating_sub(size));
    let tail = page
        .get_mut(..tail.map_err(|_| Kern::InvalidArgument)?)
        .ok_or(Kern::InvalidArgument)?;
    mapping.read(size, tail)?;
    Ok(tail.iter().all(|byte| *byte == 0))
}
