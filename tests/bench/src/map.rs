//! Calls on an address map, each a message to the VM server.

use core::hint::black_box;

use guest_test::touch;
use ipc::abi::layout::PAGE_SIZE;
use ipc::abi::message::Info;
use ipc::abi::right::Disposition;
use ipc::abi::types::{MapFlags, Prot};
use ipc::{Kern, Mapping, buffer, trap, vm};

use crate::ipc_rt::{call_of, check};
use crate::partner::{Partner, Role};
use crate::probe::Bench;

const MIB: u64 = 1 << 20;

/// Writes the first word of each page of a range that this task has just mapped.
fn touch_pages(address: u64, size: u64) {
    for page in 0..size / PAGE_SIZE {
        // SAFETY: mapped, and nothing refers to it.
        unsafe { touch::write(address + page * PAGE_SIZE, 1) };
    }
}

/// A page allocated and given back, untouched.
pub(crate) fn allocate(bench: &mut Bench) -> Result<(), Kern> {
    let map = vm::own();
    bench.repeat(|probe| {
        probe.time(|| {
            let address = map.allocate(PAGE_SIZE)?;
            map.deallocate(address, PAGE_SIZE)
        })
    })
}

/// A page allocated, written and given back.
pub(crate) fn allocate_touch(bench: &mut Bench) -> Result<(), Kern> {
    allocate_touch_pages(bench, 1)
}

/// 1024 pages allocated, written and given back.
pub(crate) fn allocate_touch_many(bench: &mut Bench) -> Result<(), Kern> {
    allocate_touch_pages(bench, 1024)
}

fn allocate_touch_pages(bench: &mut Bench, pages: u64) -> Result<(), Kern> {
    let (map, size) = (vm::own(), pages * PAGE_SIZE);
    bench.repeat(|probe| {
        probe.time(|| {
            let address = map.allocate(size)?;
            touch_pages(address, size);
            map.deallocate(address, size)
        })
    })
}

/// Where a page stands alone: nothing is put there that does not name its place.
const ALONE: u64 = 0x2100_0000_0000;

/// A page with a hole on both sides, which was written, loses the right to be written, then gets it back: a
/// call each, and the figure is that of one.
pub(crate) fn protect(bench: &mut Bench) -> Result<(), Kern> {
    let map = vm::own();
    let address = map.allocate_at(ALONE, PAGE_SIZE, MapFlags::empty())?;
    protect_page(bench, address)?;
    map.deallocate(address, PAGE_SIZE)
}

/// The same with a page in the middle of a mapping: it is cut off, and joined again.
pub(crate) fn protect_inside(bench: &mut Bench) -> Result<(), Kern> {
    let memory = Mapping::allocate(1024 * PAGE_SIZE)?;
    protect_page(bench, memory.address() + 512 * PAGE_SIZE)
}

fn protect_page(bench: &mut Bench, address: u64) -> Result<(), Kern> {
    touch_pages(address, PAGE_SIZE);
    let map = vm::own();
    let mut writable = true;
    bench.repeat(|probe| {
        writable = !writable;
        let protection = if writable { Prot::DEFAULT } else { Prot::READ };
        probe.time(|| map.protect(address, PAGE_SIZE, protection))?;
        if writable {
            touch_pages(address, PAGE_SIZE);
        }
        Ok(())
    })
}

/// 16 MiB copied, before a page is touched.
pub(crate) fn copy(bench: &mut Bench) -> Result<(), Kern> {
    copy_of(bench, 16 * MIB)
}

/// A page copied, before it is touched.
pub(crate) fn copy_page(bench: &mut Bench) -> Result<(), Kern> {
    copy_of(bench, PAGE_SIZE)
}

fn copy_of(bench: &mut Bench, size: u64) -> Result<(), Kern> {
    let source = Mapping::allocate(size)?;
    touch_pages(source.address(), size);
    bench.repeat(|probe| {
        let copy = Mapping::allocate(size)?;
        probe.time(|| vm::own().copy_range(source.address(), size, copy.address()))
    })
}

/// 16 MiB sent to another task, which maps and unmaps them untouched.
pub(crate) fn out_of_line(bench: &mut Bench) -> Result<(), Kern> {
    send_out_of_line(bench, Role::OutOfLine, 16 * MIB)
}

/// The same with a page.
pub(crate) fn out_of_line_page(bench: &mut Bench) -> Result<(), Kern> {
    send_out_of_line(bench, Role::OutOfLine, PAGE_SIZE)
}

/// 16 MiB sent to another task, which maps them, reads each page and unmaps them.
pub(crate) fn out_of_line_touched(bench: &mut Bench) -> Result<(), Kern> {
    send_out_of_line(bench, Role::OutOfLineTouched, 16 * MIB)
}

fn send_out_of_line(bench: &mut Bench, role: Role, size: u64) -> Result<(), Kern> {
    let partner = Partner::start(role)?;
    let source = Mapping::allocate(size)?;
    touch_pages(source.address(), size);
    let info = Info::new(1, 0, 1).ok_or(Kern::InvalidArgument)?;
    let request = call_of(&partner, info, [size, 0, 0, 0, 0, 0]);
    bench.repeat(|probe| {
        let answer = probe.time(|| {
            let copy = source.snapshot()?.into_name();
            buffer::set_right(0, copy, Disposition::MoveSend);
            Ok(trap::exchange(black_box(&request)))
        })?;
        check(&answer)
    })
}
