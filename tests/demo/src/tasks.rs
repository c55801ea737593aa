//! Checks with a second task: memory shared by a named entry, and memory that a child inherits.

use core::sync::atomic::{AtomicU64, Ordering};

use ipc::abi::layout::PAGE_SIZE;
use ipc::abi::notify::ExitStatus;
use ipc::abi::right::SpecialPort;
use ipc::abi::types::{Inherit, Prot};
use ipc::mapping::Options;
use ipc::protocol::memory_entry::MemoryEntry;
use ipc::server;
use ipc::{Kern, Mapping, ReceiveRight, Untyped, bootstrap, task, trap, vm};

use crate::memory::{set_word, word};
use crate::report::Report;
use crate::watch::Watch;
use crate::{NAME, share};

/// The name under which the partner finds the named entry.
const ENTRY: &str = "demo.entry";
/// The role of the second client.
pub(crate) const PARTNER: &str = "partner";
const PAGES: u64 = 4;
const FROM_PARENT: u64 = 0x5041_5245_4E54;
const FROM_OTHER: u64 = 0x4F54_4845_5221;

/// A named entry handed to a second client task, which maps it: writes are seen both ways.
pub(crate) fn named_entry(report: &mut Report) -> Result<(), Kern> {
    let memory = Mapping::allocate(PAGES * PAGE_SIZE)?;
    for page in 0..PAGES {
        set_word(&memory, page, FROM_PARENT + page)?;
    }
    let permission = u32::from(Prot::DEFAULT.bits());
    let (entry, size) =
        vm::own().memory_entry(memory.size(), memory.address(), permission, None)?;
    bootstrap::register(ENTRY, entry.copy())?;
    let partner = bootstrap::start(NAME, PARTNER)?;
    let status = bootstrap::wait(partner.instance)?;
    report.check(
        size == memory.size() && status == ExitStatus::Exited(0),
        format_args!("named entry: a second task mapped it and saw this task's writes"),
    );
    let mut seen = true;
    for page in 0..PAGES {
        seen &= word(&memory, page)? == FROM_OTHER + page;
    }
    report.check(
        seen,
        format_args!("named entry: this task sees the other's writes"),
    );
    Ok(())
}

/// What the second client does. Status 0: it saw what it had to.
pub(crate) fn partner() -> Result<u32, Kern> {
    let entry = share::find::<MemoryEntry>(ENTRY)?;
    // No more rights than the entry gives, now or later.
    let view = Options::new(PAGES * PAGE_SIZE).max_protection(Prot::DEFAULT);
    let view = view.entry(&entry).map()?;
    for page in 0..PAGES {
        if word(&view, page)? != FROM_PARENT + page {
            return Ok(2);
        }
        set_word(&view, page, FROM_OTHER + page)?;
    }
    Ok(0)
}

/// Offsets of the words through which parent and child speak, in the shared range.
const COPY_ADDRESS: u64 = 0;
const SEEN_BY_CHILD: u64 = 8;
const WRITTEN_BY_CHILD: u64 = 16;

/// A task with inherited memory: one range shared, one copied.
pub(crate) fn inherited(report: &mut Report) -> Result<(), Kern> {
    let shared = Mapping::allocate(PAGE_SIZE)?;
    shared.inherit(Inherit::Share)?;
    let copied = Mapping::allocate(PAGE_SIZE)?;
    set_word(&copied, 0, FROM_PARENT)?;
    shared
        .atomic(COPY_ADDRESS)?
        .store(copied.address(), Ordering::Release);
    let stack = Mapping::allocate(4 * PAGE_SIZE)?;

    let child = vm::own().create_task(true)?;
    // What the parent writes after the fork is not the child's.
    set_word(&copied, 0, 0)?;
    let notices = ReceiveRight::<Untyped>::new(0)?;
    child.task.watch(&notices)?;
    // At a function's first instruction the stack is 8 below a multiple of 16.
    let sp = stack.address() + stack.size() - 8;
    // SAFETY: the child runs in its own copy of this task's memory. Its function uses no more than
    // a stack, its argument, and words that are atomic on both sides.
    unsafe {
        task::start_thread(
            &child.task,
            child_main as *const () as u64,
            sp,
            shared.address(),
            ipc::thread::PRIORITY_MAX,
        )?;
    }
    let mut watch = Watch::for_a_while();
    server::serve(&mut watch, &notices)?;
    report.check(
        watch.ended == Some(ExitStatus::Exited(CHILD_STATUS)),
        format_args!("task_create: a task with inherited memory ran and ended"),
    );
    report.check(
        shared.atomic(SEEN_BY_CHILD)?.load(Ordering::Acquire) == FROM_PARENT
            && shared.atomic(WRITTEN_BY_CHILD)?.load(Ordering::Acquire) == FROM_OTHER,
        format_args!("vm_inherit share: this task sees what the child wrote"),
    );
    report.check(
        word(&copied, 0)? == 0,
        format_args!(
            "vm_inherit copy: the child saw the memory of the fork, its writes are its own"
        ),
    );
    Ok(())
}

const CHILD_STATUS: u32 = 3;

/// The child: no heap, no IPC buffer, nothing of the runtime, whose names for rights are the
/// parent's.
extern "C" fn child_main(shared: u64) -> ! {
    let at = |address: u64| {
        // SAFETY: the parent put the addresses of words there that are mapped and aligned, and
        // which it uses atomically too, or not at all.
        unsafe { AtomicU64::from_ptr(address as *mut u64) }
    };
    let copied = at(at(shared + COPY_ADDRESS).load(Ordering::Acquire));
    at(shared + SEEN_BY_CHILD).store(copied.load(Ordering::Relaxed), Ordering::Release);
    copied.store(FROM_OTHER, Ordering::Relaxed);
    let written = copied.load(Ordering::Relaxed);
    at(shared + WRITTEN_BY_CHILD).store(written, Ordering::Release);
    loop {
        if let Ok(own) = trap::task_get_special_port(SpecialPort::TaskSelf) {
            let _ = trap::task_terminate(own, CHILD_STATUS);
        }
    }
}
