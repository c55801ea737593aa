//! Faults: from a touch to the next instruction.

use core::hint::black_box;

use guest_test::touch;
use ipc::abi::layout::PAGE_SIZE;
use ipc::abi::types::Prot;
use ipc::mapping::Options;
use ipc::protocol::memory_entry::MemoryEntry;
use ipc::{Kern, Mapping, SendRight, Untyped, task, trap, vm};

use crate::partner::{Partner, Role};
use crate::probe::Bench;

/// Pages of the sweep: 256 MiB.
pub(crate) const SWEEP: u64 = (256 << 20) / PAGE_SIZE;

/// Reads the word at an address.
#[inline(always)]
fn read(address: u64) {
    black_box(touch::read(black_box(address)));
}

/// Writes the first word of a page of a mapping.
#[inline(always)]
fn write(memory: &Mapping, page: u64) {
    let place = black_box(memory.address() + page * PAGE_SIZE);
    // SAFETY: inside the mapping, which nothing refers to.
    unsafe { touch::write(place, 1) };
}

/// An entry of so many pages, all of them resident.
pub(crate) fn resident_entry(pages: u64) -> Result<SendRight<MemoryEntry>, Kern> {
    // Away from other memory: an entry of a part of an object is an object that shadows it.
    let memory = Options::new(pages * PAGE_SIZE)
        .near(0x4100_0000_0000)
        .map()?;
    (0..pages).for_each(|page| write(&memory, page));
    let permission = u32::from(Prot::DEFAULT.bits());
    let entry = vm::own().memory_entry(memory.size(), memory.address(), permission, None);
    entry.map(|(entry, _)| entry)
}

/// The page is in the object, the translation is missing.
pub(crate) fn resident(bench: &mut Bench) -> Result<(), Kern> {
    let entry = resident_entry(1)?;
    bench.repeat(|probe| {
        // Away from memory that it would become one entry with, whose pages would be entered as well.
        let view = Options::new(PAGE_SIZE)
            .entry(&entry)
            .max_protection(Prot::DEFAULT)
            .near(0x4200_0000_0000)
            .map()?;
        probe.time(|| read(view.address()));
        Ok(())
    })
}

/// Sixteen such pages, one after the other.
pub(crate) fn around(bench: &mut Bench) -> Result<(), Kern> {
    let entry = resident_entry(16)?;
    bench.repeat(|probe| {
        let view = Options::new(16 * PAGE_SIZE)
            .entry(&entry)
            .max_protection(Prot::DEFAULT)
            .near(0x4300_0000_0000)
            .mask(16 * PAGE_SIZE - 1)
            .map()?;
        probe.time(|| (0..16).for_each(|page| read(view.address() + page * PAGE_SIZE)));
        Ok(())
    })
}

/// The first touch of anonymous memory.
pub(crate) fn zero_fill(bench: &mut Bench) -> Result<(), Kern> {
    bench.repeat(|probe| {
        let memory = Mapping::allocate(PAGE_SIZE)?;
        probe.time(|| write(&memory, 0));
        Ok(())
    })
}

/// The first touch of each page of 256 MiB.
pub(crate) fn zero_fill_sweep(bench: &mut Bench) -> Result<(), Kern> {
    bench.repeat(|probe| {
        let memory = Mapping::allocate(SWEEP * PAGE_SIZE)?;
        probe.time(|| (0..SWEEP).for_each(|page| write(&memory, page)));
        Ok(())
    })
}

/// A write to a page that is shared copy-on-write.
pub(crate) fn cow_break(bench: &mut Bench) -> Result<(), Kern> {
    bench.repeat(|probe| {
        let source = Mapping::allocate(PAGE_SIZE)?;
        write(&source, 0);
        let copy = Mapping::allocate(PAGE_SIZE)?;
        vm::own().copy_range(source.address(), PAGE_SIZE, copy.address())?;
        probe.time(|| write(&copy, 0));
        Ok(())
    })
}

/// Pages of the object of [`cow_break_large`].
const LARGE: u64 = 100_000;
/// Where its copy is mapped.
const COPY: u64 = 0x4300_0000_0000;

/// The same in an object of 100 000 pages, all of them there: its size is to make no difference.
pub(crate) fn cow_break_large(bench: &mut Bench) -> Result<(), Kern> {
    let source = Mapping::allocate(LARGE * PAGE_SIZE)?;
    (0..LARGE).for_each(|page| write(&source, page));
    // A page in the same table, so that none has to be made for the page that is measured.
    let near = COPY + (LARGE + 1) * PAGE_SIZE;
    let near = Options::new(PAGE_SIZE).near(near).map()?;
    write(&near, 0);
    bench.repeat(|probe| {
        let copy = Options::new(source.size()).near(COPY).map()?;
        vm::own().copy_range(source.address(), source.size(), copy.address())?;
        probe.time(|| write(&copy, LARGE - 1));
        Ok(())
    })
}

/// The first write after a task was made that inherits 2 MiB: what was lowered for the whole table
/// is lowered for its pages one by one.
pub(crate) fn cow_break_first(bench: &mut Bench) -> Result<(), Kern> {
    let memory = Mapping::allocate(4 << 20)?;
    bench.repeat(|probe| {
        (0..memory.size() / PAGE_SIZE).for_each(|page| write(&memory, page));
        let child = vm::own().create_task(true)?;
        probe.time(|| write(&memory, 300));
        task::terminate(&child.task, 0)?;
        drop(child);
        (0..8).for_each(|_| trap::thread_yield());
        Ok(())
    })
}

/// An exception to a handler in another task, which lets the thread go on.
pub(crate) fn exception(bench: &mut Bench) -> Result<(), Kern> {
    let partner = Partner::start(Role::Handle)?;
    let own = task::own()?;
    task::set_exception_port(&own, Some(&partner.port))?;
    let result = bench.repeat(|probe| {
        probe.time(touch::breakpoint);
        Ok(())
    });
    task::set_exception_port::<Untyped>(&own, None)?;
    result
}
