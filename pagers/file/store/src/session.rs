//! The conversation with a 9P server: attach once, then look, open, read, list, close.
//!
//! One request is outstanding at a time. The server's fids are handed out here: 0 is the top of the
//! tree, [`File`] holds one, everything else gives its own back before it returns, whatever goes
//! wrong on the way. Directories are read one message a call, so that no directory however large
//! keeps the caller from other work; where to go on is the server's own cookie, which stays good
//! when entries come and go.

use crate::ninep::{
    Attributes, EISDIR, ENOENT, Entry, Error, Kind, MSIZE_MIN, NO_TAG, Qid, READ_HEAD, Reply,
    Request, WALK_MAX,
};
use crate::path::Path;

const ROOT: u32 = 0;
/// Room for a walk of [`WALK_MAX`] names of the longest kind, the longest request there is.
const REQUEST_ROOM: usize = 4352;
/// Room for every reply but a read's; what it holds of a directory is one message's worth.
const REPLY_ROOM: usize = 8192;
/// What the protocol sets aside in each message for the header of a read.
const READ_OVERHEAD: u32 = 24;

/// EINVAL: nothing that can be read as a file.
const EINVAL: u32 = 22;
/// ESTALE: the file was replaced while it was being opened.
const ESTALE: u32 = 116;

/// Carries messages to a server.
pub trait Transport {
    /// Sends `request` and waits for the reply, whose first bytes go to `head` and, once that is
    /// full, on to `body`. Gives the length of the reply.
    ///
    /// # Errors
    /// [`Error::Transport`]: the message, or the reply, did not get through.
    fn exchange(
        &mut self,
        request: &[u8],
        head: &mut [u8],
        body: &mut [u8],
    ) -> Result<usize, Error>;
}

/// An open regular file.
#[derive(Debug)]
pub struct File {
    fid: u32,
    /// Identity, and the version that was opened.
    pub qid: Qid,
    /// Size in bytes when it was opened.
    pub size: u64,
}

/// An attached server.
pub struct Session<T> {
    transport: T,
    msize: u32,
    tag: u16,
    next_fid: u32,
    free_fid: Option<u32>,
    request: [u8; REQUEST_ROOM],
    reply: [u8; REPLY_ROOM],
}

impl<T: Transport> Session<T> {
    /// Agrees on messages of up to `msize` bytes and attaches to the top of the tree.
    ///
    /// # Errors
    /// [`Error::Malformed`]: the server speaks something else, or the tree's top is no directory.
    /// Otherwise what the server or the transport says.
    pub fn connect(transport: T, msize: u32) -> Result<Session<T>, Error> {
        let mut session = Session {
            transport,
            msize: MSIZE_MIN,
            tag: 0,
            next_fid: ROOT.saturating_add(1),
            free_fid: None,
            request: [0; REQUEST_ROOM],
            reply: [0; REPLY_ROOM],
        };
        let offered = msize.max(MSIZE_MIN);
        match session.call(&Request::Version { msize: offered })? {
            Reply::Version { msize } => session.msize = msize,
            _ => return Err(Error::Malformed),
        }
        match session.call(&Request::Attach { fid: ROOT })? {
            Reply::Attach(qid) if qid.is_directory() => Ok(session),
            _ => Err(Error::Malformed),
        }
    }

    /// Most bytes that one message brings.
    #[must_use]
    pub fn read_limit(&self) -> u32 {
        self.msize.saturating_sub(READ_OVERHEAD)
    }

    /// Says what a path names.
    ///
    /// # Errors
    /// [`Error::Remote`] with ENOENT: nothing. Otherwise what the server or the transport says.
    pub fn look(&mut self, path: Path<'_>) -> Result<Attributes, Error> {
        let fid = self.walk(path)?;
        let found = self.attributes(fid);
        self.clunk(fid);
        found
    }

    /// Opens a regular file for reading.
    ///
    /// # Errors
    /// [`Error::Remote`] with ENOENT: there is no such file; EISDIR: it is a directory; EINVAL: it is
    /// something else that is no file (it is not opened: opening a pipe could wait for ever);
    /// ESTALE: it was replaced meanwhile. Otherwise what the server or the transport says.
    pub fn open(&mut self, path: Path<'_>) -> Result<File, Error> {
        let fid = self.walk(path)?;
        let opened = self.open_fid(fid);
        if opened.is_err() {
            self.clunk(fid);
        }
        opened
    }

    /// Gives an open file up.
    pub fn close(&mut self, file: File) {
        self.clunk(file.fid);
    }

    /// Reads at `offset` until `into` is full or the file ends, and says how many bytes it was.
    ///
    /// # Errors
    /// What the server or the transport says; then `into` may hold anything.
    pub fn read(&mut self, file: &File, offset: u64, into: &mut [u8]) -> Result<usize, Error> {
        let mut done: usize = 0;
        while let Some(room) = into.get_mut(done..).filter(|room| !room.is_empty()) {
            let at = u64::try_from(done)
                .ok()
                .and_then(|done| offset.checked_add(done))
                .ok_or(Error::TooLong)?;
            let got = self.read_once(file.fid, at, room)?;
            if got == 0 {
                break;
            }
            done = done.saturating_add(got);
        }
        Ok(done)
    }

    /// Lists what follows `cookie` in a directory, one message's worth (0: from the start). `take`
    /// gets entry after entry, never `.` and `..`, and answers whether it took it; after the first
    /// that it did not take it is asked no more. Gives where to go on; `None` at the end.
    ///
    /// # Errors
    /// [`Error::Remote`] with ENOENT: there is no such directory; ENOTDIR: it is none. Otherwise
    /// what the server or the transport says. What was taken before stays taken.
    pub fn list(
        &mut self,
        path: Path<'_>,
        cookie: u64,
        take: impl FnMut(Entry<'_>) -> bool,
    ) -> Result<Option<u64>, Error> {
        let fid = self.walk(path)?;
        let listed = self.list_fid(fid, cookie, take);
        self.clunk(fid);
        listed
    }

    fn list_fid(
        &mut self,
        fid: u32,
        cookie: u64,
        mut take: impl FnMut(Entry<'_>) -> bool,
    ) -> Result<Option<u64>, Error> {
        // Opening with a look first, for the same reason as a file: it might be a pipe.
        if self.attributes(fid)?.kind != Kind::Directory {
            return Err(Error::Remote(crate::ninep::ENOTDIR));
        }
        self.call(&Request::Open { fid })?;
        let room = u32::try_from(REPLY_ROOM.saturating_sub(READ_HEAD)).unwrap_or(0);
        let count = room.min(self.read_limit());
        let Reply::ReadDir(entries) = self.call(&Request::ReadDir { fid, cookie, count })? else {
            return Err(Error::Malformed);
        };
        let mut next = None;
        for entry in entries {
            let entry = entry?;
            if entry.name != b"." && entry.name != b".." && !take(entry) {
                return Ok(next.or(Some(cookie)));
            }
            next = Some(entry.cookie);
        }
        Ok(next)
    }

    fn open_fid(&mut self, fid: u32) -> Result<File, Error> {
        let found = self.attributes(fid)?;
        match found.kind {
            Kind::File => {}
            Kind::Directory => return Err(Error::Remote(EISDIR)),
            Kind::Other | Kind::Unknown => return Err(Error::Remote(EINVAL)),
        }
        match self.call(&Request::Open { fid })? {
            Reply::Open(qid) if qid.path == found.qid.path => Ok(File {
                fid,
                qid: found.qid,
                size: found.size,
            }),
            Reply::Open(_) => Err(Error::Remote(ESTALE)),
            _ => Err(Error::Malformed),
        }
    }

    fn attributes(&mut self, fid: u32) -> Result<Attributes, Error> {
        match self.call(&Request::GetAttr { fid })? {
            Reply::GetAttr(found) => Ok(found),
            _ => Err(Error::Malformed),
        }
    }

    /// A new fid for what the path names. Paths longer than one walk are walked in place.
    fn walk(&mut self, path: Path<'_>) -> Result<u32, Error> {
        let new = self.take_fid()?;
        let mut names = path.components();
        let mut from = ROOT;
        loop {
            let mut step: [&[u8]; WALK_MAX] = [&[]; WALK_MAX];
            let mut count: usize = 0;
            for (place, name) in step.iter_mut().zip(names.by_ref()) {
                *place = name;
                count = count.saturating_add(1);
            }
            if count == 0 && from == new {
                return Ok(new);
            }
            if let Err(error) = self.walk_step(from, new, step.get(..count).unwrap_or(&[])) {
                if from == new {
                    self.clunk(new);
                } else {
                    self.free_fid = Some(new);
                }
                return Err(error);
            }
            from = new;
        }
    }

    fn walk_step(&mut self, fid: u32, new_fid: u32, names: &[&[u8]]) -> Result<(), Error> {
        let walk = Request::Walk {
            fid,
            new_fid,
            names,
        };
        match self.call(&walk)? {
            Reply::Walk { reached, .. } if reached == names.len() => Ok(()),
            Reply::Walk { .. } => Err(Error::Remote(ENOENT)),
            _ => Err(Error::Malformed),
        }
    }

    fn read_once(&mut self, fid: u32, offset: u64, into: &mut [u8]) -> Result<usize, Error> {
        let count = u32::try_from(into.len())
            .unwrap_or(u32::MAX)
            .min(self.read_limit());
        let body = usize::try_from(count)
            .ok()
            .and_then(|count| into.get_mut(..count))
            .ok_or(Error::TooLong)?;
        let request = Request::Read { fid, offset, count };
        let tag = self.next_tag();
        let length = request.encode(tag, &mut self.request)?;
        let message = self.request.get(..length).ok_or(Error::TooLong)?;
        let mut head = [0; READ_HEAD];
        let got = self.transport.exchange(message, &mut head, body)?;
        match request.decode(tag, &head, got)? {
            Reply::Read { count } => usize::try_from(count).map_err(|_| Error::Malformed),
            _ => Err(Error::Malformed),
        }
    }

    fn call(&mut self, request: &Request<'_>) -> Result<Reply<'_>, Error> {
        let tag = match request {
            Request::Version { .. } => NO_TAG,
            _ => self.next_tag(),
        };
        let length = request.encode(tag, &mut self.request)?;
        let message = self.request.get(..length).ok_or(Error::TooLong)?;
        let got = self.transport.exchange(message, &mut self.reply, &mut [])?;
        let reply = self.reply.get(..got).ok_or(Error::Malformed)?;
        request.decode(tag, reply, got)
    }

    /// The fid is free afterwards, whatever the server answers: that is the protocol.
    fn clunk(&mut self, fid: u32) {
        if self.call(&Request::Clunk { fid }).is_ok() {
            self.free_fid = Some(fid);
        }
    }

    /// A fid that is not in use: the one freed last, else a new number.
    fn take_fid(&mut self) -> Result<u32, Error> {
        if let Some(fid) = self.free_fid.take() {
            return Ok(fid);
        }
        let fid = self.next_fid;
        self.next_fid = fid.checked_add(1).ok_or(Error::TooLong)?;
        Ok(fid)
    }

    fn next_tag(&mut self) -> u16 {
        self.tag = match self.tag.wrapping_add(1) {
            NO_TAG => 0,
            tag => tag,
        };
        self.tag
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ninep::ENOTDIR;
    use crate::toy::Toy;
    use std::string::String;
    use std::vec;
    use std::vec::Vec;

    fn path(text: &str) -> Path<'_> {
        Path::new(text.as_bytes()).unwrap()
    }

    fn connect(toy: Toy) -> Session<Toy> {
        Session::connect(toy, 1 << 16).unwrap()
    }

    fn list_all(session: &mut Session<Toy>, directory: &str) -> Vec<String> {
        let mut names = Vec::new();
        let mut cookie = Some(0);
        while let Some(at) = cookie {
            cookie = session
                .list(path(directory), at, |entry| {
                    names.push(String::from_utf8(entry.name.to_vec()).unwrap());
                    true
                })
                .unwrap();
        }
        names
    }

    #[test]
    fn a_file_reads_back_whole_in_pieces_of_any_size() {
        let contents: Vec<u8> = (0..200_000u32).map(|byte| byte as u8).collect();
        let mut session = connect(Toy::new(&[("d/sp ace", &contents)]));
        let file = session.open(path("d/sp ace")).unwrap();
        assert_eq!(file.size, 200_000);
        let mut whole = vec![0; 200_010];
        assert_eq!(session.read(&file, 0, &mut whole), Ok(200_000));
        assert_eq!(whole[..200_000], contents);
        let mut piece = [0; 4096];
        assert_eq!(session.read(&file, 199_000, &mut piece), Ok(1000));
        assert_eq!(piece[..1000], contents[199_000..]);
        assert_eq!(session.read(&file, 300_000, &mut piece), Ok(0));
        session.close(file);
        assert_eq!(session.transport.fids(), 1);
    }

    #[test]
    fn paths_deeper_than_one_walk_are_reached() {
        for depth in [15, 16, 17, 32, 33, 100] {
            let deep = vec!["d"; depth].join("/") + "/f";
            let mut session = connect(Toy::new(&[(&deep, b"deep")]));
            let file = session.open(path(&deep)).unwrap();
            assert_eq!(file.size, 4);
            let missing = vec!["d"; depth].join("/") + "/g";
            let error = session.open(path(&missing)).unwrap_err();
            assert_eq!(error, Error::Remote(ENOENT));
            assert_eq!(session.transport.fids(), 2, "depth {depth}");
        }
    }

    #[test]
    fn what_is_no_file_is_not_opened() {
        let mut toy = Toy::new(&[("d/f", b"x")]);
        toy.add_other("pipe");
        let mut session = connect(toy);
        for (name, number) in [
            ("d", EISDIR),
            ("", EISDIR),
            ("pipe", EINVAL),
            ("no", ENOENT),
        ] {
            let error = session.open(path(name)).unwrap_err();
            assert_eq!(error, Error::Remote(number), "{name}");
        }
        let listed = session.list(path("d/f"), 0, |_| true);
        assert_eq!(listed, Err(Error::Remote(ENOTDIR)));
        assert_eq!(session.transport.fids(), 1);
    }

    #[test]
    fn a_directory_larger_than_a_message_is_listed_once_each() {
        let names: Vec<String> = (0..2000)
            .map(|n| std::format!("dir/file number {n}"))
            .collect();
        let files: Vec<(&str, &[u8])> = names.iter().map(|name| (&name[..], &b""[..])).collect();
        let mut session = connect(Toy::new(&files));
        let mut seen = list_all(&mut session, "dir");
        seen.sort();
        let mut want: Vec<_> = names
            .iter()
            .map(|name| name[4..].into())
            .collect::<Vec<String>>();
        want.sort();
        assert_eq!(seen, want);
        assert_eq!(list_all(&mut session, ""), ["dir"]);
        assert_eq!(session.transport.fids(), 1);
    }

    #[test]
    fn a_listing_goes_on_where_the_taker_stopped() {
        let files = [("a", &b""[..]), ("b", b""), ("c", b""), ("d", b"")];
        let mut session = connect(Toy::new(&files));
        let mut seen = Vec::new();
        let mut cookie = Some(0);
        while let Some(at) = cookie {
            let mut room = 1;
            cookie = session
                .list(path("."), at, |entry| {
                    let taken = room > 0;
                    if taken {
                        seen.push(entry.name[0]);
                        room -= 1;
                    }
                    taken
                })
                .unwrap();
        }
        assert_eq!(seen, b"abcd");
    }

    #[test]
    fn a_file_that_shrank_gives_fewer_bytes_and_one_that_grew_its_new_ones() {
        let mut session = connect(Toy::new(&[("f", &[7; 5000])]));
        let file = session.open(path("f")).unwrap();
        session.transport.set("f", &[8; 100]);
        let mut bytes = [0; 5000];
        assert_eq!(session.read(&file, 0, &mut bytes), Ok(100));
        session.transport.set("f", &[9; 6000]);
        assert_eq!(session.read(&file, 4096, &mut bytes), Ok(1904));
        let again = session.open(path("f")).unwrap();
        assert_eq!(again.size, 6000);
        assert_eq!(again.qid.path, file.qid.path);
        assert_ne!(again.qid.version, file.qid.version);
    }

    #[test]
    fn an_error_of_the_host_arrives_as_its_number_and_leaks_no_fid() {
        let mut session = connect(Toy::new(&[("f", b"x")]));
        let file = session.open(path("f")).unwrap();
        session.transport.fail_next(5);
        assert_eq!(session.read(&file, 0, &mut [0; 8]), Err(Error::Remote(5)));
        for step in 0..3 {
            session.transport.fail_after(step, 13);
            let error = session.open(path("f")).unwrap_err();
            assert_eq!(error, Error::Remote(13));
            assert_eq!(session.transport.fids(), 2, "step {step}");
        }
    }

    #[test]
    fn a_server_of_another_protocol_is_refused() {
        let mut toy = Toy::new(&[]);
        toy.garble = true;
        let error = Session::connect(toy, 8192).map(|_| ()).unwrap_err();
        assert_eq!(error, Error::Malformed);
    }
}
