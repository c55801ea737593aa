//! A program into a new task: its segments, its stack and arguments, its first thread.
//!
//! Contents go by copy objects: they are written to memory of our own, which is then moved to the
//! child. So a child's pages are nobody else's, and text that nobody may write is never writable
//! there.

use alloc::vec::Vec;
use core::fmt;

use bootimg::{ElfError, LoadPlan, Protection, Segment};
use ipc::args;
use ipc::protocol::vm_map::Map;
use ipc::right::SendRight;
use ipc::vm::{self, NewTask};
use ipc::{Kern, Mapping, mapping, task};
use ipc_abi::layout::{PAGE_SIZE, USER_MAX, USER_MIN};
use ipc_abi::types::Prot;

/// One past the last address of a task's first stack. Above it lie the pages of its arguments.
const STACK_TOP: u64 = 0x7000_0000_0000;
/// Bytes of a task's first stack; the page below is never mapped by the loader.
const STACK_SIZE: u64 = 256 * 1024;

/// Why a program was not loaded.
#[derive(Debug)]
pub(crate) enum LoadError {
    /// It is not a program that Pagoda runs.
    Elf(ElfError),
    /// A call failed.
    Kern(Kern),
}

impl fmt::Display for LoadError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            LoadError::Elf(error) => error.fmt(f),
            LoadError::Kern(code) => code.fmt(f),
        }
    }
}

impl From<Kern> for LoadError {
    fn from(code: Kern) -> LoadError {
        LoadError::Kern(code)
    }
}

impl From<ElfError> for LoadError {
    fn from(error: ElfError) -> LoadError {
        LoadError::Elf(error)
    }
}

/// A task that is loaded but has no thread yet.
pub(crate) struct Loaded {
    /// The task.
    pub(crate) new: NewTask,
    entry: u64,
    arguments: u64,
}

/// Makes a task and loads a program into it. On failure the task is ended again.
pub(crate) fn load<'a>(
    file: &[u8],
    arguments: impl Iterator<Item = &'a str> + Clone,
) -> Result<Loaded, LoadError> {
    let plan = LoadPlan::parse(file, USER_MIN..STACK_TOP - STACK_SIZE)?;
    let new = vm::own().create_task(false)?;
    match fill(&new.map, &plan, arguments) {
        Ok(arguments) => Ok(Loaded {
            new,
            entry: plan.entry(),
            arguments,
        }),
        Err(code) => {
            // Nothing runs in it, so this cannot fail but by its having ended.
            let _ = task::terminate(&new.task, 0);
            Err(code.into())
        }
    }
}

impl Loaded {
    /// Starts its first thread.
    pub(crate) fn start(&self, priority: u32) -> Result<(), Kern> {
        let sp = self.arguments;
        // SAFETY: the task is new and shares no memory with this one.
        unsafe { task::start_thread(&self.new.task, self.entry, sp, sp, priority) }.map(drop)
    }
}

/// Fills a map with a program, its stack and its arguments; gives the arguments' address.
fn fill<'a>(
    map: &SendRight<Map>,
    plan: &LoadPlan<'_>,
    arguments: impl Iterator<Item = &'a str> + Clone,
) -> Result<u64, Kern> {
    for segment in plan.segments() {
        map_segment(map, segment)?;
    }
    let stack = mapping::Options::new(STACK_SIZE).at(STACK_TOP - STACK_SIZE);
    stack.max_protection(Prot::DEFAULT).map_in(map)?;
    map_arguments(map, arguments)
}

fn map_segment(map: &SendRight<Map>, segment: &Segment<'_>) -> Result<(), Kern> {
    let protection = match segment.protection {
        Protection::Read => Prot::READ,
        Protection::ReadWrite => Prot::DEFAULT,
        Protection::ReadExecute => Prot::READ.union(Prot::EXECUTE),
    };
    let filled = (segment.data.len() as u64).next_multiple_of(PAGE_SIZE);
    if filled > 0 {
        put(map, segment.address, segment.data, filled, protection)?;
    }
    let rest = segment.pages * PAGE_SIZE - filled;
    if rest > 0 {
        let zeros = mapping::Options::new(rest).at(segment.address + filled);
        zeros
            .protection(protection)
            .max_protection(protection)
            .map_in(map)?;
    }
    Ok(())
}

/// Maps `size` bytes at `start` that hold `data`, and zeros behind it.
fn put(
    map: &SendRight<Map>,
    start: u64,
    data: &[u8],
    size: u64,
    protection: Prot,
) -> Result<(), Kern> {
    let scratch = Mapping::allocate(size)?;
    scratch.write(0, data)?;
    let copy = vm::own().copy_in(scratch.address(), size, false)?;
    drop(scratch);
    mapping::Options::new(size)
        .copy_object(&copy)
        .copied()
        .at(start)
        .protection(protection)
        .max_protection(protection)
        .map_in(map)
        .map(drop)
}

fn map_arguments<'a>(
    map: &SendRight<Map>,
    arguments: impl Iterator<Item = &'a str> + Clone,
) -> Result<u64, Kern> {
    let size = args::size(arguments.clone());
    let mut block = Vec::new();
    block
        .try_reserve_exact(size)
        .map_err(|_| Kern::ResourceShortage)?;
    block.resize(size, 0);
    args::write(arguments, &mut block).ok_or(Kern::InvalidArgument)?;
    let pages = (size as u64).next_multiple_of(PAGE_SIZE);
    put(map, STACK_TOP, &block, pages, Prot::DEFAULT)?;
    Ok(STACK_TOP)
}

const _: () = assert!(STACK_TOP < USER_MAX);
