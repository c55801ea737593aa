//! The other processors: having them look, having them leave what they have loaded, stopping them.
//!
//! There is one interrupt between processors ([`apic::POKE`]). Whoever gets it, or comes into the
//! kernel otherwise, stands in line for the kernel's lock, where it serves its inbox, and then looks
//! at what it is to run. So a processor that was *recalled* uses no translation of ring 3 and stores
//! no registers until the one that recalled it has let go of the lock.

use core::hint::spin_loop;
use core::sync::atomic::{AtomicU64, Ordering};

use crate::arch::percpu::{self, PerCpu};
use crate::arch::{apic, cpu};
use crate::schedule::Processor;

/// Physical address of the root table whose user half is empty.
static KERNEL_ROOT: AtomicU64 = AtomicU64::new(0);

/// Notes where processors go that leave an address space.
pub(crate) fn set_kernel_root(root: u64) {
    KERNEL_ROOT.store(root, Ordering::Relaxed);
}

/// Where they go.
pub(crate) fn kernel_root() -> u64 {
    KERNEL_ROOT.load(Ordering::Relaxed)
}

/// Interrupts processors, by bits, so that they look at what they are to run.
#[cold]
pub(crate) fn poke(numbers: u64) {
    for other in percpu::others().filter(|other| numbers >> other.number() & 1 != 0) {
        apic::send(other.apic, apic::POKE);
    }
}

/// Brings the other processors that are meant into the kernel, out of their space: when this returns
/// none of them uses a translation of that space, or stores to the thread that it ran. The caller has
/// the kernel's lock.
pub(crate) fn recall(is_meant: impl Fn(&Processor) -> bool) {
    if percpu::count() == 1 {
        return;
    }
    let mut asked = 0_u64;
    for other in percpu::others().filter(|other| is_meant(&other.processor)) {
        asked |= 1 << other.number();
        if other.inbox.ask() {
            apic::send(other.apic, apic::POKE);
        }
    }
    for other in percpu::others().filter(|other| asked >> other.number() & 1 != 0) {
        while !other.inbox.is_served() {
            spin_loop();
        }
        other.processor.note_root(kernel_root());
    }
}

/// Brings every other processor into the kernel: none executes an instruction of a thread that was
/// suspended.
pub(crate) fn recall_all() {
    recall(|other| other.thread().is_some());
}

/// What a processor does in line for the kernel's lock.
pub(crate) fn serve(here: &PerCpu) {
    here.inbox.serve(|| cpu::load_root(kernel_root()));
}

/// Stops all other processors for good, wherever they are.
pub(crate) fn stop_others() {
    if percpu::count() > 1 {
        apic::stop_others();
    }
}
