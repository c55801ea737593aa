//! How a task without a program of its own touches memory: two pages at the top of its map.
//!
//! The first page holds a few instructions, the second is a desk that the client shares. A thread is
//! started for each touch: it moves bytes between the desk and an address, or touches one byte, and
//! ends in a breakpoint, or in the exception of the access that failed. Both are calls to the client.
//! Nothing else is in such a task, so that a row finds its map empty. The pages come with the first
//! touch and are inherited by nobody.

use ipc::abi::exception::Kind;
use ipc::abi::layout::{PAGE_SIZE, USER_MAX};
use ipc::abi::types::{Inherit, MapFlags, Prot};
use ipc::mapping::Options;
use ipc::protocol::memory_entry::MemoryEntry;
use ipc::protocol::vm_map::{MAP_MEM_NAMED_CREATE, Map};
use ipc::{Kern, Mapping, SendRight, Untyped, task, thread, trap, vm};

use guest_test::Supervisor;

/// Where the code lies in a task.
pub(crate) const CODE: u64 = USER_MAX - 2 * PAGE_SIZE;
/// Where the desk lies in a task.
const DESK: u64 = CODE + PAGE_SIZE;

/// Offsets of the pieces of code. Each gets an address in RDI, and a number in RSP.
const LOAD: u64 = 0;
const STORE: u64 = 64;
const PEEK: u64 = 128;
const POKE: u64 = 192;

/// Moves RSP bytes from RDI to the desk: mov rsi, rdi; mov rdi, DESK; mov rcx, rsp; rep movsb; int3.
const LOAD_CODE: [u8; 19] = with_desk(
    [
        0x48, 0x89, 0xFE, 0x48, 0xBF, 0, 0, 0, 0, 0, 0, 0, 0, 0x48, 0x89, 0xE1, 0xF3, 0xA4, 0xCC,
    ],
    5,
);
/// Moves RSP bytes from the desk to RDI: mov rsi, DESK; mov rcx, rsp; rep movsb; int3.
const STORE_CODE: [u8; 16] = with_desk(
    [
        0x48, 0xBE, 0, 0, 0, 0, 0, 0, 0, 0, 0x48, 0x89, 0xE1, 0xF3, 0xA4, 0xCC,
    ],
    2,
);
/// Reads the byte at RDI into RSP: `movzx esp, byte [rdi]; int3`.
const PEEK_CODE: [u8; 4] = [0x0F, 0xB6, 0x27, 0xCC];
/// Writes the low byte of RSP to RDI: `mov eax, esp; mov [rdi], al; int3`.
const POKE_CODE: [u8; 5] = [0x89, 0xE0, 0x88, 0x07, 0xCC];

/// Puts the address of the desk into a piece of code.
const fn with_desk<const N: usize>(mut code: [u8; N], place: usize) -> [u8; N] {
    let address = DESK.to_le_bytes();
    let mut at = 0;
    while at < address.len() {
        code[place + at] = address[at];
        at += 1;
    }
    code
}

/// The two pages, and the client's view of them.
pub(crate) struct Hands {
    pages: SendRight<MemoryEntry>,
    view: Mapping,
}

/// A thread that touches memory of another task.
pub(crate) struct Touch {
    thread: SendRight<Untyped>,
}

impl Hands {
    /// Makes the pages.
    pub(crate) fn new() -> Result<Hands, Kern> {
        let permission = u32::from(Prot::ALL.bits()) | MAP_MEM_NAMED_CREATE;
        let (pages, size) = vm::own().memory_entry(2 * PAGE_SIZE, 0, permission, None)?;
        let view = Options::new(size)
            .entry(&pages)
            .max_protection(Prot::DEFAULT)
            .map()?;
        view.write(LOAD, &LOAD_CODE)?;
        view.write(STORE, &STORE_CODE)?;
        view.write(PEEK, &PEEK_CODE)?;
        view.write(POKE, &POKE_CODE)?;
        Ok(Hands { pages, view })
    }

    /// Gives a task its pages.
    pub(crate) fn give(&self, map: &SendRight<Map>) -> Result<(), Kern> {
        let page = |offset, protection| {
            Options::new(PAGE_SIZE)
                .entry(&self.pages)
                .offset(offset)
                .at(CODE + offset)
                .protection(protection)
                .max_protection(protection)
                .inherit(Inherit::None)
                .flags(MapFlags::OVERWRITE)
                .map_in(map)
        };
        page(0, Prot::READ.union(Prot::EXECUTE))?;
        page(PAGE_SIZE, Prot::DEFAULT)?;
        Ok(())
    }

    /// Reads bytes of the task, a page at most.
    pub(crate) fn load(
        &self,
        subject: (&SendRight<Untyped>, &Supervisor),
        address: u64,
        bytes: &mut [u8],
    ) -> Result<(), Kern> {
        let touch = start(subject.0, LOAD, address, bytes.len() as u64)?;
        end(touch, subject.1)?;
        self.view.read(PAGE_SIZE, bytes)
    }

    /// Writes bytes of the task, a page at most.
    pub(crate) fn store(
        &self,
        subject: (&SendRight<Untyped>, &Supervisor),
        address: u64,
        bytes: &[u8],
    ) -> Result<(), Kern> {
        self.view.write(PAGE_SIZE, bytes)?;
        let touch = start(subject.0, STORE, address, bytes.len() as u64)?;
        end(touch, subject.1).map(drop)
    }
}

/// Begins to touch a byte.
pub(crate) fn begin(
    task: &SendRight<Untyped>,
    address: u64,
    value: Option<u8>,
) -> Result<Touch, Kern> {
    match value {
        None => start(task, PEEK, address, 0),
        Some(value) => start(task, POKE, address, value.into()),
    }
}

/// Starts a thread at an address.
pub(crate) fn run(task: &SendRight<Untyped>, address: u64) -> Result<Touch, Kern> {
    thread_at(task, address, 0, 0)
}

fn start(task: &SendRight<Untyped>, code: u64, address: u64, number: u64) -> Result<Touch, Kern> {
    thread_at(task, CODE + code, address, number)
}

fn thread_at(task: &SendRight<Untyped>, ip: u64, address: u64, number: u64) -> Result<Touch, Kern> {
    // SAFETY: the task is not this one, and shares with it only the two pages, whose code is made
    // to run so.
    let thread = unsafe { task::start_thread(task, ip, number, address, thread::PRIORITY_MAX) }?;
    Ok(Touch { thread })
}

/// Waits for the end of a touch; gives the number that it ended with.
pub(crate) fn end(touch: Touch, supervisor: &Supervisor) -> Result<u64, Kern> {
    let caught = supervisor.next();
    let said = match &caught {
        Ok(caught) => match caught.exception.kind {
            Kind::Breakpoint => Ok(caught.exception.sp),
            Kind::BadAccess => Err(Kern::from_raw(caught.exception.code as u32)),
            _ => Err(Kern::Failure),
        },
        Err(_) => Err(Kern::OperationTimedOut),
    };
    // Fails if its task has ended meanwhile.
    let _ = trap::thread_terminate(touch.thread.name());
    said
}
