//! Starts the other processors.
//!
//! One after another they are reset and sent to a page below 1 MiB, where the first instructions of
//! `boot/entry.rs` bring them to [`start_other`] on a stack of their own. Each then waits until
//! [`release`]; until then the boot processor is alone in the kernel.

use core::hint::spin_loop;
use core::ptr;
use core::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use ipc_abi::layout::PAGE_SIZE;
use kernel_core::addr::PhysAddr;

use super::{Handover, LOW_MEMORY, entry};
use crate::arch::clock::Clock;
use crate::arch::percpu::{self, PerCpu};
use crate::arch::{apic, cpu, entry as traps, fast_entry, idt, tables, vector};
use crate::pmap::direct_map;
use crate::{processors, schedule, world};

/// Real mode's own tables lie below; nothing of the firmware's runs any more.
const LOWEST: u64 = 0x1000;
/// Nanoseconds from reset to start, and from a start to its repetition.
const RESET: u64 = 10_000_000;
const REPEAT: u64 = 200_000;
/// Nanoseconds that a processor may take to come.
const PATIENCE: u64 = 500_000_000;

/// What a processor that starts finds: the kernel's root table, its stack, and its block.
#[unsafe(no_mangle)]
static START_ROOT: AtomicU64 = AtomicU64::new(0);
#[unsafe(no_mangle)]
static START_STACK: AtomicU64 = AtomicU64::new(0);
#[unsafe(no_mangle)]
static START_BLOCK: AtomicU64 = AtomicU64::new(0);

/// The number of the processor that came last.
static CAME: AtomicU64 = AtomicU64::new(0);
static RELEASED: AtomicBool = AtomicBool::new(false);

/// Starts the processors that the firmware names and [`tables::build`] made room for. One that does
/// not come is left out, with those after it.
pub(crate) fn start(handover: &Handover, clock: &Clock) {
    let boot = apic::identifier();
    percpu::set_boot_apic(boot);
    let others = handover.topology.processors.iter();
    let others = others.filter(|identifier| **identifier != boot);
    // Larger identifiers do not fit the interrupt command of this controller.
    let others = others.filter(|identifier| **identifier < 0xFF);
    let Some(page) = low_page(handover) else {
        log::warn!("no memory below 1 MiB to start other processors with");
        return;
    };
    for (number, identifier) in (1..tables::processors(handover)).zip(others) {
        let Some(block) = make_block(number, *identifier) else {
            return;
        };
        START_ROOT.store(processors::kernel_root(), Ordering::Release);
        START_STACK.store(block.stack_top, Ordering::Release);
        START_BLOCK.store(ptr::from_ref(block) as u64, Ordering::Release);
        if !wake(*identifier, page, number, clock) {
            log::warn!("processor {identifier} does not come");
            return;
        }
        percpu::add(block);
    }
}

/// Lets the processors that were started in.
pub(crate) fn release() {
    RELEASED.store(true, Ordering::Release);
}

/// The block of a processor, in the memory that is mapped for it.
fn make_block(number: usize, identifier: u32) -> Option<&'static PerCpu> {
    let place = tables::Place::of(number);
    let block = place.block as *mut PerCpu;
    // SAFETY: `tables::build` mapped fresh frames there, which only this processor is to use.
    unsafe {
        block.write(PerCpu::new(number, identifier, place.stack_top));
        PerCpu::settle(block, place.stacks);
        block.as_ref()
    }
}

/// A page below 1 MiB with the first instructions; real mode can run them only there.
fn low_page(handover: &Handover) -> Option<u8> {
    let usable = handover.ranges.iter().filter(|range| range.usable);
    let mut pages = usable.filter_map(|range| {
        let first = range.start.max(LOWEST).next_multiple_of(PAGE_SIZE);
        let end = range.start.saturating_add(range.size).min(LOW_MEMORY);
        (first + PAGE_SIZE <= end).then_some(first)
    });
    let page = pages.next()?;
    let frame = PhysAddr::new(page)?.frame();
    // SAFETY: RAM that nobody owns: memory below 1 MiB is given to no task and to no pool.
    unsafe { direct_map::fill(frame, entry::start_page()) };
    u8::try_from(page / PAGE_SIZE).ok()
}

/// Sends a processor to the page; says whether it came.
fn wake(identifier: u32, page: u8, number: usize, clock: &Clock) -> bool {
    let came = || CAME.load(Ordering::Acquire) == number as u64;
    let wait = |time: u64| {
        let end = clock.now().saturating_add(time);
        while !came() && clock.now() < end {
            spin_loop();
        }
    };
    apic::send_init(identifier);
    wait(RESET);
    for time in [REPEAT, PATIENCE] {
        if !came() {
            apic::send_startup(identifier, page);
            wait(time);
        }
    }
    came()
}

/// What the first instructions of a processor call, on its stack.
pub(super) extern "C" fn start_other(block: &'static PerCpu) -> ! {
    // SAFETY: the block was made for this processor, and interrupts are off.
    unsafe { block.enter() };
    idt::load();
    let features = cpu::Features::detect();
    features.switch_on();
    let mode = vector::Mode::of(features);
    percpu::set_vector_mode(mode);
    cpu::set_system_call_entry(fast_entry::system_call_address(mode));
    apic::init();
    CAME.store(block.number() as u64, Ordering::Release);
    while !RELEASED.load(Ordering::Acquire) {
        spin_loop();
    }
    traps::leave(world::with(schedule::begin))
}
