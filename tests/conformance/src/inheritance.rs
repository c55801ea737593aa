//! What a task that is made with inherited memory gets of it.

use core::sync::atomic::{AtomicU64, Ordering};

use guest_test::{Outcome, check, check_eq};
use ipc::abi::layout::PAGE_SIZE;
use ipc::abi::notify::{self, ExitStatus};
use ipc::abi::right::SpecialPort;
use ipc::abi::types::{Inherit, Prot};
use ipc::mapping::Options;
use ipc::protocol::vm_map::Map;
use ipc::vm::NewTask;
use ipc::{Kern, Mapping, SendRight, task, thread, trap, vm};

use crate::support::{filled, notice, port, set_word, word};

/// Reads a word of another map, by a copy object.
fn read_in(map: &SendRight<Map>, address: u64) -> Outcome<u64> {
    let copy = map.copy_in(address, 8, false)?;
    let landed = vm::own().copy_out(&copy, None)?;
    let value = guest_test::touch::read(landed);
    vm::own().deallocate(landed, 8)?;
    Ok(value)
}

/// Writes a word of another map.
fn write_in(map: &SendRight<Map>, address: u64, value: u64) -> Outcome {
    map.write_bytes(address, &value.to_le_bytes())?;
    Ok(())
}

/// A task that inherits from this one, ended when dropped.
struct Child(NewTask);

impl Child {
    fn new(inherit: bool) -> Result<Child, Kern> {
        vm::own().create_task(inherit).map(Child)
    }

    fn map(&self) -> &SendRight<Map> {
        &self.0.map
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        // Fails if it has ended already.
        let _ = task::terminate(&self.0.task, 0);
    }
}

pub(crate) fn copied_memory_is_that_of_the_moment() -> Outcome {
    let memory = filled(4, 10)?;
    let child = Child::new(true)?;
    let place = |page| memory.address() + page * PAGE_SIZE;
    set_word(&memory, 0, 100)?;
    write_in(child.map(), place(1), 110)?;
    check_eq!(read_in(child.map(), place(0))?, 10);
    check_eq!(read_in(child.map(), place(1))?, 110);
    check_eq!(read_in(child.map(), place(2))?, 12);
    check_eq!((word(&memory, 0)?, word(&memory, 1)?), (100, 11));
    check_eq!(word(&memory, 2)?, 12);
    Ok(())
}

pub(crate) fn shared_memory_is_the_same_for_both() -> Outcome {
    let memory = filled(2, 10)?;
    memory.inherit(Inherit::Share)?;
    let child = Child::new(true)?;
    set_word(&memory, 0, 100)?;
    check_eq!(read_in(child.map(), memory.address())?, 100);
    write_in(child.map(), memory.address() + PAGE_SIZE, 110)?;
    check_eq!(word(&memory, 1)?, 110);
    Ok(())
}

pub(crate) fn memory_that_is_not_inherited_is_not_there() -> Outcome {
    let memory = filled(2, 10)?;
    memory.inherit(Inherit::None)?;
    let child = Child::new(true)?;
    let copy = child.map().copy_in(memory.address(), PAGE_SIZE, false);
    check_eq!(copy.err(), Some(Kern::InvalidAddress));
    let fixed = ipc::abi::types::MapFlags::empty();
    let free = child
        .map()
        .allocate_at(memory.address(), PAGE_SIZE, fixed)?;
    check_eq!(read_in(child.map(), free)?, 0);
    check_eq!(word(&memory, 0)?, 10);
    Ok(())
}

pub(crate) fn a_task_without_inheritance_is_empty() -> Outcome {
    let memory = filled(1, 1)?;
    let child = Child::new(false)?;
    check_eq!(child.map().region(0).err(), Some(Kern::InvalidAddress));
    let copy = child.map().copy_in(memory.address(), 1, false);
    check_eq!(copy.err(), Some(Kern::InvalidAddress));
    Ok(())
}

pub(crate) fn attributes_are_inherited() -> Outcome {
    let memory = Options::new(PAGE_SIZE)
        .read_only()
        .inherit(Inherit::Share)
        .map()?;
    let child = Child::new(true)?;
    let theirs = child.map().region(memory.address())?;
    let read = u32::from(Prot::READ.bits());
    check_eq!((theirs.protection, theirs.max_protection), (read, read));
    check_eq!(theirs.inheritance, Inherit::Share as u32);
    Ok(())
}

pub(crate) fn grandchildren_share_what_is_shared() -> Outcome {
    let memory = filled(1, 5)?;
    memory.inherit(Inherit::Share)?;
    let child = Child::new(true)?;
    let grandchild = Child(child.map().create_task(true)?);
    write_in(grandchild.map(), memory.address(), 55)?;
    check_eq!(word(&memory, 0)?, 55);
    check_eq!(read_in(child.map(), memory.address())?, 55);
    Ok(())
}

pub(crate) fn a_copy_survives_the_end_of_the_other() -> Outcome {
    let memory = filled(3, 70)?;
    let child = Child::new(true)?;
    write_in(child.map(), memory.address(), 700)?;
    drop(child);
    for page in 0..3 {
        check_eq!(word(&memory, page)?, 70 + page);
        set_word(&memory, page, page)?;
        check_eq!(word(&memory, page)?, page);
    }
    Ok(())
}

pub(crate) fn many_generations_leave_no_long_chain() -> Outcome {
    let memory = filled(1, 0)?;
    for round in 1..100 {
        let child = Child::new(true)?;
        set_word(&memory, 0, round)?;
        check_eq!(read_in(child.map(), memory.address())?, round - 1);
    }
    let depth = vm::own().region(memory.address())?.shadow_depth;
    check!(depth <= 4, "a chain of {depth} objects");
    Ok(())
}

/// Offsets of the words through which parent and child speak.
const COPIED_AT: u64 = 0;
const FOUND: u64 = 8;
const STATUS: u32 = 33;

pub(crate) fn a_child_runs_in_the_memory_that_it_inherited() -> Outcome {
    let shared = Mapping::allocate(PAGE_SIZE)?;
    shared.inherit(Inherit::Share)?;
    let copied = filled(1, 0xC0)?;
    shared
        .atomic(COPIED_AT)?
        .store(copied.address(), Ordering::Release);
    let stack = Mapping::allocate(4 * PAGE_SIZE)?;
    let child = Child::new(true)?;
    set_word(&copied, 0, 0)?;
    let told = port(0)?;
    child.0.task.watch(&told)?;
    // SAFETY: the child runs in its own copy of this memory; its function needs no more than a
    // stack, its argument, and words that are atomic on both sides.
    unsafe {
        task::start_thread(
            &child.0.task,
            child_main as *const () as u64,
            stack.address() + stack.size() - 8,
            shared.address(),
            thread::PRIORITY_MAX,
        )?;
    }
    let (_, [_, status, ..]) = notice(&told, notify::DEAD_NAME)?;
    check_eq!(ExitStatus::from_word(status), ExitStatus::Exited(STATUS));
    check_eq!(shared.atomic(FOUND)?.load(Ordering::Acquire), 0xC0);
    check_eq!(word(&copied, 0)?, 0);
    drop(SendRight::<ipc::Untyped>::from_name(child.0.task.name()));
    Ok(())
}

/// The child: no heap and no runtime, whose names for rights are the parent's.
extern "C" fn child_main(shared: u64) -> ! {
    let at = |address: u64| {
        // SAFETY: the parent put the addresses of words there that are mapped and aligned, and
        // that it uses atomically too.
        unsafe { AtomicU64::from_ptr(address as *mut u64) }
    };
    let copied = at(at(shared + COPIED_AT).load(Ordering::Acquire));
    at(shared + FOUND).store(copied.swap(1, Ordering::Relaxed), Ordering::Release);
    loop {
        if let Ok(own) = trap::task_get_special_port(SpecialPort::TaskSelf) {
            let _ = trap::task_terminate(own, STATUS);
        }
    }
}
