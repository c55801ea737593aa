//! A 9P server over a tree in memory, for the tests: made of bytes, not of this crate's encoders,
//! so that a mistake cannot cancel itself out.

use crate::ninep::Error;
use crate::session::Transport;
use std::borrow::ToOwned;
use std::collections::BTreeMap;
use std::string::String;
use std::vec::Vec;

#[derive(Clone)]
enum Node {
    Directory,
    File { contents: Vec<u8>, version: u32 },
    Other,
}

/// The server.
pub(crate) struct Toy {
    tree: BTreeMap<String, Node>,
    fids: BTreeMap<u32, (String, bool)>,
    fail: Option<(u32, u32)>,
    /// Answers with bytes that mean nothing.
    pub(crate) garble: bool,
}

impl Toy {
    /// A tree with these files and the directories they need.
    pub(crate) fn new(files: &[(&str, &[u8])]) -> Toy {
        let mut tree = BTreeMap::from([(String::new(), Node::Directory)]);
        for (path, contents) in files {
            let mut above = *path;
            while let Some((parent, _)) = above.rsplit_once('/') {
                tree.insert(parent.to_owned(), Node::Directory);
                above = parent;
            }
            let node = Node::File {
                contents: contents.to_vec(),
                version: 1,
            };
            tree.insert((*path).to_owned(), node);
        }
        Toy {
            tree,
            fids: BTreeMap::new(),
            fail: None,
            garble: false,
        }
    }

    /// Adds something that is neither file nor directory.
    pub(crate) fn add_other(&mut self, path: &str) {
        self.tree.insert(path.to_owned(), Node::Other);
    }

    /// Changes a file.
    pub(crate) fn set(&mut self, path: &str, new: &[u8]) {
        if let Some(Node::File { contents, version }) = self.tree.get_mut(path) {
            *contents = new.to_vec();
            *version += 1;
        }
    }

    /// Fids in use.
    pub(crate) fn fids(&self) -> usize {
        self.fids.len()
    }

    /// Refuses the next request with this number.
    pub(crate) fn fail_next(&mut self, number: u32) {
        self.fail_after(0, number);
    }

    /// Refuses one request with this number, after letting so many pass.
    pub(crate) fn fail_after(&mut self, requests: u32, number: u32) {
        self.fail = Some((requests, number));
    }

    fn qid(&self, path: &str) -> Vec<u8> {
        let (kind, version) = match &self.tree[path] {
            Node::Directory => (0x80, 0),
            Node::File { version, .. } => (0, *version),
            Node::Other => (0, 0),
        };
        let number = self.tree.range(..path.to_owned()).count() as u64;
        let mut qid = Vec::from([kind]);
        qid.extend(version.to_le_bytes());
        qid.extend(number.to_le_bytes());
        qid
    }

    fn answer(&mut self, code: u8, fields: &[u8]) -> Result<Vec<u8>, u32> {
        let word = |at: usize| u32::from_le_bytes(fields[at..at + 4].try_into().unwrap());
        let long = |at: usize| u64::from_le_bytes(fields[at..at + 8].try_into().unwrap());
        if code == 100 {
            return Ok(fields.to_vec());
        }
        let fid = word(0);
        match code {
            104 => {
                self.fids.insert(fid, (String::new(), false));
                Ok(self.qid(""))
            }
            110 => self.walk(fid, word(4), &fields[8..]),
            12 => {
                let (path, open) = self.fids.get_mut(&fid).ok_or(9u32)?;
                assert!(!*open);
                *open = true;
                let path = path.clone();
                assert!(!matches!(self.tree[&path], Node::Other));
                let mut reply = self.qid(&path);
                reply.extend([0; 4]);
                Ok(reply)
            }
            24 => self.attributes(fid),
            116 => self.read(fid, long(4), word(12)),
            40 => self.read_directory(fid, long(4), word(12)),
            120 => self.fids.remove(&fid).map(|_| Vec::new()).ok_or(9),
            _ => Err(95),
        }
    }

    fn walk(&mut self, fid: u32, new: u32, fields: &[u8]) -> Result<Vec<u8>, u32> {
        let (mut path, open) = self.fids.get(&fid).ok_or(9u32)?.clone();
        assert!(!open);
        assert!(new == fid || !self.fids.contains_key(&new));
        let count = u16::from_le_bytes([fields[0], fields[1]]);
        assert!(count <= 16);
        let mut at = 2;
        let mut qids = Vec::new();
        for _ in 0..count {
            let length = usize::from(u16::from_le_bytes([fields[at], fields[at + 1]]));
            let name = std::str::from_utf8(&fields[at + 2..at + 2 + length]).unwrap();
            at += 2 + length;
            if !path.is_empty() {
                path.push('/');
            }
            path.push_str(name);
            if !self.tree.contains_key(&path) {
                break;
            }
            qids.push(self.qid(&path));
        }
        if qids.is_empty() && count > 0 {
            return Err(2);
        }
        if qids.len() == usize::from(count) {
            self.fids.insert(new, (path, false));
        }
        let mut reply = (qids.len() as u16).to_le_bytes().to_vec();
        reply.extend(qids.concat());
        Ok(reply)
    }

    fn attributes(&self, fid: u32) -> Result<Vec<u8>, u32> {
        let (path, _) = self.fids.get(&fid).ok_or(9u32)?;
        let (mode, size) = match &self.tree[path] {
            Node::Directory => (0o40_755u32, 4096),
            Node::File { contents, .. } => (0o100_644, contents.len() as u64),
            Node::Other => (0o10_644, 0),
        };
        let mut reply = 0x7FFu64.to_le_bytes().to_vec();
        reply.extend(self.qid(path));
        reply.extend(mode.to_le_bytes());
        reply.extend([0; 24]);
        reply.extend(size.to_le_bytes());
        reply.extend([0; 96]);
        Ok(reply)
    }

    fn read(&self, fid: u32, offset: u64, count: u32) -> Result<Vec<u8>, u32> {
        let (path, open) = self.fids.get(&fid).ok_or(9u32)?;
        assert!(*open);
        let Node::File { contents, .. } = &self.tree[path] else {
            return Err(21);
        };
        let start = (offset as usize).min(contents.len());
        let end = start.saturating_add(count as usize).min(contents.len());
        let mut reply = ((end - start) as u32).to_le_bytes().to_vec();
        reply.extend(&contents[start..end]);
        Ok(reply)
    }

    fn read_directory(&self, fid: u32, cookie: u64, count: u32) -> Result<Vec<u8>, u32> {
        let (path, open) = self.fids.get(&fid).ok_or(9u32)?;
        assert!(*open);
        let inside = |name: &&String| {
            let parent = name.rsplit_once('/').map_or("", |(parent, _)| parent);
            parent == path && !name.is_empty()
        };
        let names = [".", ".."]
            .into_iter()
            .chain(self.tree.keys().filter(inside).map(String::as_str));
        let mut data = Vec::new();
        for (index, name) in names.enumerate().skip(cookie as usize) {
            let short = name.rsplit_once('/').map_or(name, |(_, short)| short);
            if data.len() + 24 + short.len() > count as usize {
                break;
            }
            data.extend([0; 13]);
            data.extend((index as u64 + 1).to_le_bytes());
            data.push(0);
            data.extend((short.len() as u16).to_le_bytes());
            data.extend(short.as_bytes());
        }
        let mut reply = (data.len() as u32).to_le_bytes().to_vec();
        reply.extend(data);
        Ok(reply)
    }

    fn fails(&mut self) -> Option<u32> {
        let (left, number) = self.fail.take()?;
        if left == 0 {
            return Some(number);
        }
        self.fail = Some((left - 1, number));
        None
    }
}

impl Transport for Toy {
    fn exchange(
        &mut self,
        request: &[u8],
        head: &mut [u8],
        body: &mut [u8],
    ) -> Result<usize, Error> {
        let size = u32::from_le_bytes(request[..4].try_into().unwrap());
        assert_eq!(size as usize, request.len());
        let code = request[4];
        let answer = match self.fails() {
            Some(number) => Err(number),
            None => self.answer(code, &request[7..]),
        };
        let (code, fields) = match answer {
            Ok(fields) => (code + 1, fields),
            Err(number) => (7, number.to_le_bytes().to_vec()),
        };
        let mut reply = (fields.len() as u32 + 7).to_le_bytes().to_vec();
        reply.push(if self.garble { 0x55 } else { code });
        reply.extend(&request[5..7]);
        reply.extend(fields);
        let split = reply.len().min(head.len());
        head[..split].copy_from_slice(&reply[..split]);
        body[..reply.len() - split].copy_from_slice(&reply[split..]);
        Ok(reply.len())
    }
}
