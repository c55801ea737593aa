//! What cases are run against: [`Vm`], and the calls on a task in their raw form.
//!
//! There are two: the core alone on the host, and the whole system in the emulator, where a client
//! task sends real messages and a thread of the subject touches memory. [`Task`] words the calls on
//! top, so that a case is written once. Arguments are plain numbers: what is wrong with one is for
//! the server to say.
//!
//! A call that fails must have changed nothing: [`Task::ask`] compares the map before and after, for
//! every call of every case. (What only shows that an entry was cut in two, or that it will be copied
//! when written, does not count: rule 55.)

use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use core::cell::RefCell;

use ipc_abi::Kern;
use ipc_abi::layout::{PAGE_SIZE, USER_MIN};
use ipc_protocol::Message;
use ipc_protocol::memory_object;

/// A VM server, and tasks and pagers around it.
pub trait Vm {
    /// A right: to a task's map, to whatever the server names, or to a port of the case's own.
    type Port: Clone;
    /// A touch that may wait for somebody.
    type Touch;
    /// A request that may wait for somebody.
    type Asked;
    /// Addresses from here on are not the case's.
    const LIMIT: u64;

    /// The host control port: the right to wire.
    fn host(&self) -> Self::Port;

    /// Makes a task whose map is a child of this one's; without one, a task with an empty map.
    ///
    /// # Errors
    /// What the server says.
    fn fork(&self, parent: Option<&Self::Port>) -> Result<Self::Port, Kern>;

    /// Ends every task and drops what was made since the last time.
    ///
    /// # Errors
    /// What was not given back.
    fn clean(&self) -> Result<(), String>;

    /// Sends a request and waits for the answer and its rights.
    ///
    /// # Errors
    /// What it is answered, or why it was not sent.
    fn call<M: Message>(
        &self,
        to: &Self::Port,
        message: &M,
        rights: &[Option<&Self::Port>],
    ) -> Result<(M::Reply, Vec<Self::Port>), Kern>;

    /// Begins to make a request without rights. Somebody has to bring what it waits for.
    fn ask<M: Message + Send + 'static>(&self, to: &Self::Port, message: M) -> Self::Asked;

    /// Waits for the answer; its rights are dropped.
    ///
    /// # Errors
    /// What it is answered.
    fn answered(&self, asked: Self::Asked) -> Result<(), Kern>;

    /// Reads memory as a thread of the task does.
    ///
    /// # Errors
    /// The code of the exception.
    fn read(&self, task: &Self::Port, address: u64, bytes: &mut [u8]) -> Result<(), Kern>;

    /// Writes memory as a thread of the task does.
    ///
    /// # Errors
    /// The code of the exception.
    fn write(&self, task: &Self::Port, address: u64, bytes: &[u8]) -> Result<(), Kern>;

    /// Begins to touch a byte, and to write it if there is a value. Somebody has to bring it.
    fn begin(&self, task: &Self::Port, address: u64, value: Option<u8>) -> Self::Touch;

    /// Waits for the end of a touch; gives the byte.
    ///
    /// # Errors
    /// The code of the exception.
    fn finish(&self, touch: Self::Touch) -> Result<u8, Kern>;

    /// Makes a port of the case's own, to be a memory object.
    ///
    /// # Errors
    /// There is no room.
    fn object(&self) -> Result<Self::Port, Kern>;

    /// The next message at a port of the case's own, with its right; `None`: there is none.
    fn hear(&self, object: &Self::Port) -> Option<(memory_object::Request, Option<Self::Port>)>;

    /// Destroys a port of the case's own.
    fn destroy(&self, object: &Self::Port);

    /// Whether two rights are to the same port.
    fn is_same(&self, one: &Self::Port, other: &Self::Port) -> bool;

    /// A name that denotes nothing. This and what follows is only where messages go through a kernel
    /// and threads run.
    ///
    /// # Errors
    /// KERN_NOT_SUPPORTED, here and below: there is no kernel.
    fn nothing(&self) -> Result<Self::Port, Kern> {
        Err(Kern::NotSupported)
    }

    /// A thread of the task runs the code at an address, which is a breakpoint.
    ///
    /// # Errors
    /// The code of the exception.
    fn execute(&self, _task: &Self::Port, _address: u64) -> Result<(), Kern> {
        Err(Kern::NotSupported)
    }

    /// Sends bytes and a right to a port of the case's own, and receives them.
    ///
    /// # Errors
    /// As above.
    fn echo(&self, _bytes: &[u8], _right: &Self::Port) -> Result<(Vec<u8>, Self::Port), Kern> {
        Err(Kern::NotSupported)
    }

    /// The stub for `vm_read_list`: ranges of the task by address and size. Each then has the first
    /// byte of what was read, if anything was, and its size.
    ///
    /// # Errors
    /// What the stub says; the ranges mean something all the same.
    fn read_list(&self, _task: &Self::Port, _ranges: &mut [(u64, u64)]) -> Result<(), Kern> {
        Err(Kern::NotSupported)
    }
}

/// What vm_region says, as far as cases look at it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Region {
    /// First address.
    pub address: u64,
    /// Bytes.
    pub size: u64,
    /// Current protection.
    pub protection: u32,
    /// Maximum protection.
    pub max_protection: u32,
    /// Inheritance.
    pub inheritance: u32,
    /// Behaviour.
    pub behavior: u32,
    /// The user tag.
    pub tag: u32,
    /// User wirings.
    pub wired: u32,
    /// Others may map its object too.
    pub shared: bool,
    /// Objects below its own.
    pub depth: u32,
}

impl Region {
    /// One past the last address.
    #[must_use]
    pub const fn end(&self) -> u64 {
        self.address.wrapping_add(self.size)
    }

    /// What must not change when a call fails, but for the size.
    const fn attributes(&self) -> [u32; 6] {
        [
            self.protection,
            self.max_protection,
            self.inheritance,
            self.behavior,
            self.tag,
            self.wired,
        ]
    }
}

/// The arguments of vm_map.
#[derive(Clone, Copy, Debug)]
pub struct Mapping {
    /// Where to.
    pub address: u64,
    /// Bytes.
    pub size: u64,
    /// Bits that must be zero in the address.
    pub mask: u64,
    /// Flags.
    pub flags: u32,
    /// Offset in the object.
    pub offset: u64,
    /// A private copy.
    pub copy: bool,
    /// Protection.
    pub cur: u32,
    /// Maximum protection.
    pub max: u32,
    /// Inheritance.
    pub inherit: u32,
}

/// VM_FLAGS_FIXED.
pub const FIXED: u32 = 0;
/// VM_FLAGS_ANYWHERE.
pub const ANYWHERE: u32 = 1;
/// VM_FLAGS_OVERWRITE.
pub const OVERWRITE: u32 = 0x4000;
/// VM_PROT_READ.
pub const READ: u32 = 1;
/// VM_PROT_READ and VM_PROT_WRITE.
pub const BOTH: u32 = 3;

impl Mapping {
    /// Memory of so many bytes anywhere: read and write, maximum all, inheritance copy.
    #[must_use]
    pub const fn anywhere(size: u64) -> Mapping {
        Mapping {
            address: 0,
            size,
            mask: 0,
            flags: ANYWHERE,
            offset: 0,
            copy: false,
            cur: BOTH,
            max: 7,
            inherit: 1,
        }
    }
}

/// A task, as the case that it belongs to sees it.
pub struct Task<'v, V: Vm> {
    /// What it lives in.
    pub vm: &'v V,
    /// The right to its map.
    pub port: V::Port,
    /// Failed calls that changed something.
    pub faults: &'v RefCell<Vec<String>>,
}

impl<V: Vm> Clone for Task<'_, V> {
    fn clone(&self) -> Self {
        Task {
            port: self.port.clone(),
            ..*self
        }
    }
}

/// An answer.
pub type Said<T = ()> = Result<T, Kern>;

impl<V: Vm> Task<'_, V> {
    /// Makes a request on the task's map; if it fails, nothing may have changed.
    ///
    /// # Errors
    /// What it is answered.
    pub fn ask<M: Message>(
        &self,
        message: &M,
        rights: &[Option<&V::Port>],
    ) -> Said<(M::Reply, Vec<V::Port>)> {
        let before = self.picture();
        let said = self.vm.call(&self.port, message, rights);
        if let Err(code) = said {
            let after = self.picture();
            if before != after {
                self.faults.borrow_mut().push(format!(
                    "{} answered {code} and changed {before:x?} to {after:x?}",
                    M::NAME
                ));
            }
        }
        said
    }

    /// Does something in which calls may fail and leave a change: where the row says so.
    pub fn unchecked<T>(&self, work: impl FnOnce(&Self) -> T) -> T {
        let before = self.faults.take();
        let done = work(self);
        self.faults.replace(before);
        done
    }

    pub(crate) fn plain<M: Message>(&self, message: &M) -> Said<M::Reply> {
        self.ask(message, &[]).map(|(reply, _)| reply)
    }

    /// A request that makes a right.
    pub(crate) fn made<M: Message>(
        &self,
        message: &M,
        rights: &[Option<&V::Port>],
    ) -> Said<(M::Reply, V::Port)> {
        let (reply, mut rights) = self.ask(message, rights)?;
        match rights.pop() {
            Some(right) => Ok((reply, right)),
            None => Err(Kern::MigBadArguments),
        }
    }

    /// Every region of the map with its attributes; neighbours that are alike are one.
    #[must_use]
    pub fn picture(&self) -> Vec<(u64, u64, [u32; 6])> {
        let mut picture: Vec<(u64, u64, [u32; 6])> = Vec::new();
        let mut at = USER_MIN;
        while let Ok(region) = self.region(at) {
            if region.address >= V::LIMIT {
                break;
            }
            match picture.last_mut() {
                Some((_, end, attributes))
                    if *end == region.address && *attributes == region.attributes() =>
                {
                    *end = region.end();
                }
                _ => picture.push((region.address, region.end(), region.attributes())),
            }
            at = region.end();
        }
        picture
    }

    /// The region that an address lies in, if it lies in one.
    #[must_use]
    pub fn at(&self, address: u64) -> Option<Region> {
        let region = self.region(address).ok();
        region.filter(|region| region.address <= address)
    }

    /// Whether each page of a range is mapped.
    #[must_use]
    pub fn is_mapped(&self, address: u64, size: u64) -> bool {
        (0..size.div_ceil(PAGE_SIZE)).all(|page| self.at(address + page * PAGE_SIZE).is_some())
    }

    /// A child with what this map's inheritance gives it.
    ///
    /// # Errors
    /// As above.
    pub fn fork(&self) -> Said<Self> {
        let port = self.vm.fork(Some(&self.port))?;
        Ok(Task { port, ..*self })
    }

    /// A thread of the task reads a word.
    ///
    /// # Errors
    /// The code of the exception.
    pub fn load(&self, address: u64) -> Said<u64> {
        let mut bytes = [0; 8];
        self.vm.read(&self.port, address, &mut bytes)?;
        Ok(u64::from_le_bytes(bytes))
    }

    /// A thread of the task writes a word.
    ///
    /// # Errors
    /// The code of the exception.
    pub fn store(&self, address: u64, word: u64) -> Said {
        self.vm.write(&self.port, address, &word.to_le_bytes())
    }

    /// A thread of the task reads so many bytes.
    ///
    /// # Errors
    /// The code of the exception.
    pub fn bytes(&self, address: u64, size: usize) -> Said<Vec<u8>> {
        let mut bytes = alloc::vec![0; size];
        self.vm.read(&self.port, address, &mut bytes)?;
        Ok(bytes)
    }

    /// A thread of the task writes bytes.
    ///
    /// # Errors
    /// The code of the exception.
    pub fn put(&self, address: u64, bytes: &[u8]) -> Said {
        self.vm.write(&self.port, address, bytes)
    }
}
