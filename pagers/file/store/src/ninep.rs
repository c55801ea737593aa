//! 9P2000.L messages: what the client says, and what it accepts as an answer.
//!
//! A message is `size[4] type[1] tag[2]` and the fields of its type, all little-endian; a string is
//! `length[2]` and its bytes. [`Request::encode`] and [`Request::decode`] are a pair: the reply is
//! checked against the request that it answers, so that a reply of another type, with another tag,
//! with a byte too few or too many, or with more than was asked for, is [`Error::Malformed`] and
//! nothing else. Data of a read does not pass through here: it is the tail of the message, behind
//! [`READ_HEAD`] bytes, so that the transport can put it where it is wanted.

use crate::path::is_name;
use crate::wire::{Reader, Writer};

/// The protocol's name for itself.
pub const VERSION: &[u8] = b"9P2000.L";
/// The tag of [`Request::Version`].
pub const NO_TAG: u16 = 0xFFFF;
/// "No fid", where a fid for authentication could stand.
const NO_FID: u32 = u32::MAX;
/// "No user number": the name decides.
const NO_USER: u32 = u32::MAX;
/// Most names of one walk.
pub const WALK_MAX: usize = 16;
/// Bytes of a read's reply before its data; an error reply has just as many.
pub const READ_HEAD: usize = 11;
/// Smallest message size that a session can work with.
pub const MSIZE_MIN: u32 = 4096;

const ERROR: u8 = 7;
/// The basic fields that we ask `getattr` for: type of the file and its size among them.
const GETATTR_BASIC: u64 = 0x7FF;
const GETATTR_SIZE: u64 = 0x200;
const GETATTR_MODE: u64 = 0x1;

/// Why a request did not succeed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Error {
    /// The server refused, with this Linux error number.
    Remote(u32),
    /// The reply is not one to the request.
    Malformed,
    /// The request does not fit a message.
    TooLong,
    /// The transport did not carry the message.
    Transport,
}

/// ENOENT: no such file.
pub const ENOENT: u32 = 2;
/// EISDIR: a directory where a file is needed.
pub const EISDIR: u32 = 21;
/// ENOTDIR: a file where a directory is needed.
pub const ENOTDIR: u32 = 20;

/// What the server knows a file by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Qid {
    /// Kind, see the `is_` functions.
    pub kind: u8,
    /// Changes when the contents change.
    pub version: u32,
    /// Unique among all files of the share as long as the file exists.
    pub path: u64,
}

impl Qid {
    fn read(reader: &mut Reader<'_>) -> Option<Qid> {
        Some(Qid {
            kind: reader.u8()?,
            version: reader.u32()?,
            path: reader.u64()?,
        })
    }

    /// Whether it names a directory.
    #[must_use]
    pub const fn is_directory(self) -> bool {
        self.kind & 0x80 != 0
    }

    /// Whether it names a symbolic link.
    #[must_use]
    pub const fn is_link(self) -> bool {
        self.kind & 0x02 != 0
    }
}

/// What a directory entry, or a file, is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A regular file.
    File,
    /// A directory.
    Directory,
    /// A symbolic link, a device, a socket, ...: nothing that can be mapped or entered.
    Other,
    /// The server did not say.
    Unknown,
}

impl Kind {
    /// From the type byte of a directory entry (Linux's DT_ numbers).
    const fn from_entry(raw: u8) -> Kind {
        match raw {
            0 => Kind::Unknown,
            4 => Kind::Directory,
            8 => Kind::File,
            _ => Kind::Other,
        }
    }

    /// From the file type bits of a mode.
    const fn from_mode(mode: u32) -> Kind {
        match mode & 0o170_000 {
            0o040_000 => Kind::Directory,
            0o100_000 => Kind::File,
            _ => Kind::Other,
        }
    }
}

/// What `getattr` tells, as far as we use it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Attributes {
    /// Identity and version.
    pub qid: Qid,
    /// What it is.
    pub kind: Kind,
    /// Size in bytes.
    pub size: u64,
}

/// One message to the server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Request<'a> {
    /// Agrees on the protocol and the size of messages.
    Version {
        /// Largest message that we take, in bytes.
        msize: u32,
    },
    /// Makes `fid` stand for the top of the tree.
    Attach {
        /// A fid that is not in use.
        fid: u32,
    },
    /// Makes `new_fid` stand for what is reached from `fid` by `names`, at most [`WALK_MAX`].
    Walk {
        /// Where to start.
        fid: u32,
        /// A fid that is not in use, or `fid` itself.
        new_fid: u32,
        /// The names, from the top down.
        names: &'a [&'a [u8]],
    },
    /// Opens `fid` for reading.
    Open {
        /// A fid that is not open.
        fid: u32,
    },
    /// Asks for kind and size.
    GetAttr {
        /// Any fid.
        fid: u32,
    },
    /// Reads `count` bytes at `offset`.
    Read {
        /// An open file.
        fid: u32,
        /// In bytes.
        offset: u64,
        /// In bytes.
        count: u32,
    },
    /// Reads whole directory entries, `count` bytes at most, that follow the one with `cookie`.
    ReadDir {
        /// An open directory.
        fid: u32,
        /// 0, or the cookie of an entry.
        cookie: u64,
        /// In bytes.
        count: u32,
    },
    /// Gives a fid up.
    Clunk {
        /// Any fid.
        fid: u32,
    },
}

/// One answer of the server.
#[derive(Clone, Debug)]
pub enum Reply<'a> {
    /// The size of messages from now on.
    Version {
        /// In bytes, at least [`MSIZE_MIN`] and not more than we offered.
        msize: u32,
    },
    /// The top of the tree.
    Attach(Qid),
    /// What the names reached: as many as there were, or fewer if one does not exist.
    Walk {
        /// How many names were reached.
        reached: usize,
        /// The last of them.
        last: Option<Qid>,
    },
    /// The file is open.
    Open(Qid),
    /// Kind and size.
    GetAttr(Attributes),
    /// So many bytes follow; not more than were asked for.
    Read {
        /// In bytes.
        count: u32,
    },
    /// Entries of a directory; none at its end.
    ReadDir(Entries<'a>),
    /// The fid is free.
    Clunk,
}

impl Request<'_> {
    const fn code(&self) -> u8 {
        match self {
            Request::Open { .. } => 12,
            Request::GetAttr { .. } => 24,
            Request::ReadDir { .. } => 40,
            Request::Version { .. } => 100,
            Request::Attach { .. } => 104,
            Request::Walk { .. } => 110,
            Request::Read { .. } => 116,
            Request::Clunk { .. } => 120,
        }
    }

    /// Writes the message to the front of `bytes` and gives its length.
    ///
    /// # Errors
    /// [`Error::TooLong`]: it does not fit, or walks more than [`WALK_MAX`] names.
    pub fn encode(&self, tag: u16, bytes: &mut [u8]) -> Result<usize, Error> {
        let mut out = Writer::new(bytes);
        out.u32(0).u8(self.code()).u16(tag);
        match *self {
            Request::Version { msize } => out.u32(msize).string(VERSION),
            Request::Attach { fid } => out
                .u32(fid)
                .u32(NO_FID)
                .string(b"root")
                .string(b"")
                .u32(NO_USER),
            Request::Walk {
                fid,
                new_fid,
                names,
            } => {
                let count = names_count(names)?;
                out.u32(fid).u32(new_fid).u16(count);
                names.iter().fold(&mut out, |out, name| out.string(name))
            }
            Request::Open { fid } => out.u32(fid).u32(0),
            Request::GetAttr { fid } => out.u32(fid).u64(GETATTR_BASIC),
            Request::Read { fid, offset, count } => out.u32(fid).u64(offset).u32(count),
            Request::ReadDir { fid, cookie, count } => out.u32(fid).u64(cookie).u32(count),
            Request::Clunk { fid } => out.u32(fid),
        };
        out.finish().ok_or(Error::TooLong)
    }

    /// Reads the answer to this request. `bytes` is the whole message, or for a read its first
    /// [`READ_HEAD`] bytes with `length` that of the whole.
    ///
    /// # Errors
    /// [`Error::Remote`]: the server says no. [`Error::Malformed`]: anything but a faultless answer.
    pub fn decode<'b>(&self, tag: u16, bytes: &'b [u8], length: usize) -> Result<Reply<'b>, Error> {
        let mut reader = Reader::new(bytes);
        let code = header(&mut reader, tag, length).ok_or(Error::Malformed)?;
        if code == ERROR {
            let number = reader.u32().filter(|_| reader.is_empty());
            return Err(number.map_or(Error::Malformed, Error::Remote));
        }
        if code != self.code().saturating_add(1) {
            return Err(Error::Malformed);
        }
        self.fields(&mut reader, length)
            .filter(|_| reader.is_empty())
            .ok_or(Error::Malformed)
    }

    fn fields<'b>(&self, reader: &mut Reader<'b>, length: usize) -> Option<Reply<'b>> {
        Some(match *self {
            Request::Version { msize } => version(reader, msize)?,
            Request::Attach { .. } => Reply::Attach(Qid::read(reader)?),
            Request::Walk { names, .. } => walk(reader, names.len())?,
            Request::Open { .. } => {
                let qid = Qid::read(reader)?;
                reader.u32()?;
                Reply::Open(qid)
            }
            Request::GetAttr { .. } => Reply::GetAttr(attributes(reader)?),
            Request::Read { count, .. } => {
                let got = reader.u32().filter(|got| *got <= count)?;
                let data = length.checked_sub(READ_HEAD)?;
                (usize::try_from(got).ok()? == data).then_some(Reply::Read { count: got })?
            }
            Request::ReadDir { count, .. } => {
                let got = reader.u32().filter(|got| *got <= count)?;
                let entries = Entries(Reader::new(reader.bytes(usize::try_from(got).ok()?)?));
                entries.clone().all(|entry| entry.is_ok()).then_some(())?;
                Reply::ReadDir(entries)
            }
            Request::Clunk { .. } => Reply::Clunk,
        })
    }
}

fn names_count(names: &[&[u8]]) -> Result<u16, Error> {
    if names.len() > WALK_MAX {
        return Err(Error::TooLong);
    }
    u16::try_from(names.len()).map_err(|_| Error::TooLong)
}

/// Checks size and tag, gives the type.
fn header(reader: &mut Reader<'_>, tag: u16, length: usize) -> Option<u8> {
    let size = reader.u32()?;
    let code = reader.u8()?;
    let same = reader.u16()? == tag && usize::try_from(size).ok()? == length;
    same.then_some(code)
}

fn version<'b>(reader: &mut Reader<'b>, offered: u32) -> Option<Reply<'b>> {
    let msize = reader.u32()?;
    let known = reader.string()? == VERSION;
    (known && (MSIZE_MIN..=offered).contains(&msize)).then_some(Reply::Version { msize })
}

fn walk<'b>(reader: &mut Reader<'b>, asked: usize) -> Option<Reply<'b>> {
    let reached = usize::from(reader.u16()?);
    // A walk whose first name does not exist is an error reply; none at all only answers none.
    if reached > asked || (reached == 0 && asked > 0) {
        return None;
    }
    let mut last = None;
    for _ in 0..reached {
        last = Some(Qid::read(reader)?);
    }
    Some(Reply::Walk { reached, last })
}

fn attributes(reader: &mut Reader<'_>) -> Option<Attributes> {
    let valid = reader.u64()?;
    let qid = Qid::read(reader)?;
    let mode = reader.u32()?;
    // uid, gid, number of links, device.
    reader.bytes(24)?;
    let size = reader.u64()?;
    // Block size, blocks; four times in seconds and nanoseconds; generation, data version.
    reader.bytes(96)?;
    let needed = GETATTR_MODE | GETATTR_SIZE;
    (valid & needed == needed).then_some(Attributes {
        qid,
        kind: Kind::from_mode(mode),
        size,
    })
}

/// One entry of a directory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Entry<'a> {
    /// What it is; [`Kind::Unknown`] where the host's file system does not say.
    pub kind: Kind,
    /// Its name; `.` and `..` are listed as well.
    pub name: &'a [u8],
    /// Where to go on after it.
    pub cookie: u64,
}

/// The entries of a directory reply. All of them have been checked to be whole.
#[derive(Clone, Debug)]
pub struct Entries<'a>(Reader<'a>);

impl<'a> Iterator for Entries<'a> {
    type Item = Result<Entry<'a>, Error>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.0.is_empty() {
            return None;
        }
        let entry = entry(&mut self.0);
        if entry.is_none() {
            self.0 = Reader::new(&[]);
        }
        Some(entry.ok_or(Error::Malformed))
    }
}

fn entry<'a>(reader: &mut Reader<'a>) -> Option<Entry<'a>> {
    let qid = Qid::read(reader)?;
    let cookie = reader.u64()?;
    let kind = match Kind::from_entry(reader.u8()?) {
        Kind::Unknown if qid.is_directory() => Kind::Directory,
        Kind::Unknown if qid.is_link() => Kind::Other,
        kind => kind,
    };
    let name = reader.string()?;
    let usual = is_name(name) || name == b"." || name == b"..";
    usual.then_some(Entry { kind, name, cookie })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::vec;
    use std::vec::Vec;

    fn encode(request: Request<'_>, tag: u16) -> Vec<u8> {
        let mut bytes = [0xEE; 256];
        let length = request.encode(tag, &mut bytes).unwrap();
        bytes[..length].to_vec()
    }

    fn reply(code: u8, tag: u16, fields: &[u8]) -> Vec<u8> {
        let mut bytes = vec![0; 4];
        bytes.push(code);
        bytes.extend(tag.to_le_bytes());
        bytes.extend(fields);
        let length = bytes.len() as u32;
        bytes[..4].copy_from_slice(&length.to_le_bytes());
        bytes
    }

    fn getattr_reply(mode: u32, size: u64) -> Vec<u8> {
        let mut fields = 0x7FFu64.to_le_bytes().to_vec();
        fields.extend([0, 1, 0, 0, 0, 9, 0, 0, 0, 0, 0, 0, 0]);
        fields.extend(mode.to_le_bytes());
        fields.extend([0; 24]);
        fields.extend(size.to_le_bytes());
        fields.extend([0; 96]);
        reply(25, 5, &fields)
    }

    #[test]
    fn requests_are_the_bytes_of_the_protocol() {
        assert_eq!(
            encode(Request::Version { msize: 0x1_2000 }, NO_TAG),
            b"\x15\0\0\0\x64\xFF\xFF\x00\x20\x01\0\x08\x009P2000.L"
        );
        assert_eq!(
            encode(Request::Attach { fid: 3 }, 1),
            b"\x1B\0\0\0\x68\x01\0\x03\0\0\0\xFF\xFF\xFF\xFF\x04\0root\0\0\xFF\xFF\xFF\xFF"
        );
        assert_eq!(
            encode(
                Request::Walk {
                    fid: 0,
                    new_fid: 7,
                    names: &[b"ab", b"c d"]
                },
                2
            ),
            b"\x1A\0\0\0\x6E\x02\0\0\0\0\0\x07\0\0\0\x02\0\x02\0ab\x03\0c d"
        );
        assert_eq!(
            encode(
                Request::Read {
                    fid: 1,
                    offset: 0x1_0000_0002,
                    count: 0x4000
                },
                3
            ),
            b"\x17\0\0\0\x74\x03\0\x01\0\0\0\x02\0\0\0\x01\0\0\0\0\x40\0\0"
        );
        assert_eq!(
            encode(Request::Clunk { fid: 9 }, 4),
            b"\x0B\0\0\0\x78\x04\0\x09\0\0\0"
        );
    }

    #[test]
    fn a_request_that_does_not_fit_is_refused() {
        let names = [&b"n"[..]; 17];
        let long = Request::Walk {
            fid: 0,
            new_fid: 1,
            names: &names,
        };
        assert_eq!(long.encode(1, &mut [0; 512]), Err(Error::TooLong));
        let read = Request::Clunk { fid: 1 };
        for size in 0..11 {
            assert_eq!(read.encode(1, &mut vec![0; size]), Err(Error::TooLong));
        }
    }

    #[test]
    fn an_error_reply_is_the_servers_number() {
        let bytes = reply(7, 5, &2u32.to_le_bytes());
        let got = Request::Open { fid: 1 }.decode(5, &bytes, bytes.len());
        assert_eq!(got.unwrap_err(), Error::Remote(ENOENT));
    }

    #[test]
    fn kind_and_size_come_from_getattr() {
        let bytes = getattr_reply(0o100_644, 12_345);
        let request = Request::GetAttr { fid: 1 };
        match request.decode(5, &bytes, bytes.len()).unwrap() {
            Reply::GetAttr(found) => {
                assert_eq!((found.kind, found.size), (Kind::File, 12_345));
                assert_eq!((found.qid.version, found.qid.path), (1, 9));
            }
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_reply_to_something_else_is_malformed() {
        let bytes = reply(121, 5, &[]);
        let clunk = Request::Clunk { fid: 1 };
        assert!(clunk.decode(5, &bytes, bytes.len()).is_ok());
        assert!(clunk.decode(6, &bytes, bytes.len()).is_err());
        assert!(clunk.decode(5, &bytes, bytes.len() + 1).is_err());
        let open = Request::Open { fid: 1 };
        assert_eq!(
            open.decode(5, &bytes, bytes.len()).unwrap_err(),
            Error::Malformed
        );
    }

    #[test]
    fn a_read_never_gives_more_than_was_asked_for_or_sent() {
        let request = Request::Read {
            fid: 1,
            offset: 0,
            count: 100,
        };
        let head = |count: u32, length: u32| {
            let mut bytes = length.to_le_bytes().to_vec();
            bytes.extend([117, 5, 0]);
            bytes.extend(count.to_le_bytes());
            request.decode(5, &bytes, length as usize).map(|_| ())
        };
        assert_eq!(head(100, 111), Ok(()));
        assert_eq!(head(0, 11), Ok(()));
        assert_eq!(head(101, 112), Err(Error::Malformed));
        assert_eq!(head(100, 110), Err(Error::Malformed));
        assert_eq!(head(5, 111), Err(Error::Malformed));
    }

    #[test]
    fn a_smaller_msize_is_taken_and_a_larger_or_useless_one_refused() {
        let request = Request::Version { msize: 8192 };
        let answer = |msize: u32, name: &[u8]| {
            let mut fields = msize.to_le_bytes().to_vec();
            fields.extend((name.len() as u16).to_le_bytes());
            fields.extend(name);
            let bytes = reply(101, NO_TAG, &fields);
            request.decode(NO_TAG, &bytes, bytes.len()).is_ok()
        };
        assert!(answer(8192, VERSION));
        assert!(answer(4096, VERSION));
        assert!(!answer(8193, VERSION));
        assert!(!answer(100, VERSION));
        assert!(!answer(8192, b"unknown"));
    }

    fn directory(entries: &[(u8, u64, u8, &[u8])]) -> Vec<u8> {
        let mut data = Vec::new();
        for (qid_kind, cookie, kind, name) in entries {
            data.push(*qid_kind);
            data.extend([0; 12]);
            data.extend(cookie.to_le_bytes());
            data.push(*kind);
            data.extend((name.len() as u16).to_le_bytes());
            data.extend(*name);
        }
        let mut fields = (data.len() as u32).to_le_bytes().to_vec();
        fields.extend(data);
        reply(41, 5, &fields)
    }

    const READ_DIR: Request<'_> = Request::ReadDir {
        fid: 1,
        cookie: 0,
        count: 4000,
    };

    #[test]
    fn directory_entries_come_with_kind_and_cookie() {
        let bytes = directory(&[
            (0x80, 1, 4, b"."),
            (0, 7, 8, b"sp ace"),
            (0x02, 9, 0, b"link"),
            (0, 11, 0, b"?"),
        ]);
        let Reply::ReadDir(entries) = READ_DIR.decode(5, &bytes, bytes.len()).unwrap() else {
            panic!("not a directory");
        };
        let seen: Vec<_> = entries
            .map(|entry| entry.unwrap())
            .map(|entry| (entry.kind, entry.name, entry.cookie))
            .collect();
        assert_eq!(
            seen,
            [
                (Kind::Directory, &b"."[..], 1),
                (Kind::File, b"sp ace", 7),
                (Kind::Other, b"link", 9),
                (Kind::Unknown, b"?", 11),
            ]
        );
    }

    #[test]
    fn a_name_that_would_lead_elsewhere_spoils_the_listing() {
        for bad in [&b"a/b"[..], b"", b"a\0"] {
            let bytes = directory(&[(0, 1, 8, b"fine"), (0, 2, 8, bad)]);
            assert!(READ_DIR.decode(5, &bytes, bytes.len()).is_err());
        }
    }

    /// Each prefix, each single-byte change, and each extension of good replies: an answer or an
    /// error, never a panic; and nothing shorter or longer than the whole is accepted.
    #[test]
    fn no_garbled_reply_panics_and_no_cut_one_is_accepted() {
        let walk = Request::Walk {
            fid: 0,
            new_fid: 1,
            names: &[b"a", b"b"],
        };
        let mut walked = 2u16.to_le_bytes().to_vec();
        walked.extend([1; 26]);
        let cases = [
            (walk, reply(111, 5, &walked)),
            (READ_DIR, directory(&[(0, 1, 8, b"x"), (0, 2, 4, b"dir")])),
            (Request::GetAttr { fid: 1 }, getattr_reply(0o40_755, 1)),
            (Request::Open { fid: 1 }, reply(13, 5, &[0; 17])),
            (Request::Attach { fid: 1 }, reply(105, 5, &[0; 13])),
        ];
        for (request, good) in cases {
            assert!(request.decode(5, &good, good.len()).is_ok());
            for cut in 0..good.len() {
                assert!(request.decode(5, &good[..cut], cut).is_err());
                assert!(request.decode(5, &good[..cut], good.len()).is_err());
            }
            for at in 0..good.len() {
                for value in [0, 1, 0x7F, 0x80, 0xFF] {
                    let mut bad = good.clone();
                    bad[at] = value;
                    let _ = request.decode(5, &bad, bad.len());
                }
            }
            let mut long = good.clone();
            long.push(0);
            let length = long.len() as u32;
            long[..4].copy_from_slice(&length.to_le_bytes());
            assert!(request.decode(5, &long, long.len()).is_err());
        }
    }
}
