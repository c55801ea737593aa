//! The kernel program: the hardware shell around kernel-core.
//!
//! Start-up is [`start`], a call a line. After it the kernel runs only from its entry points
//! (`arch/entry.rs`), which lead to `trap` (system calls), `fault` (page faults), `exception` and
//! `schedule` (interrupts); each decodes registers, asks kernel-core, and goes on with the thread
//! that it names.
#![no_std]
#![no_main]

extern crate alloc;

mod arch;
mod audit;
mod boot;
mod console;
mod exception;
mod fast;
mod fault;
mod frames;
mod lock;
mod machine;
mod panic;
mod pmap;
mod processors;
mod report;
mod schedule;
mod trace;
mod trap;
mod world;

use core::fmt;

use arch::ioapic::Lines;
use arch::{apic, clock, cpu, entry, fast_entry, idt, percpu, pic, tables, vector, vtd};
use boot::first_task::Program;
use boot::smp;
use pmap::Memory;
use world::World;

/// What the first instructions call, on the kernel's stack, with early tables.
/// `loader` and `info` are what EAX and EBX were at a Multiboot2 entry; PVH has no `loader`.
extern "C" fn start(loader: u32, info: u32) -> ! {
    console::init();
    percpu::init();
    idt::init();
    pic::mask_all();
    let handover = or_stop(boot::read(loader, info));
    console::set_level(handover.option("log"));
    trace::set(handover.option("trace"));
    audit::set(handover.option("check"));
    let features = cpu::Features::detect();
    features.switch_on();
    let mode = vector::Mode::of(features);
    percpu::set_vector_mode(mode);
    cpu::set_system_call_entry(fast_entry::system_call_address(mode));
    idt::shorten_page_faults(mode);
    let half = or_stop(tables::build(&handover, features.no_execute));
    apic::init();
    let clock = clock::Clock::measure();
    let program = or_stop(Program::read(&handover));
    let memory = or_stop(program.take_memory(&handover, &half));
    let mut world = or_stop(World::new(
        Memory::new(half.root, features.no_execute),
        Lines::new(handover.topology.clone()),
        clock,
    ));
    if let Some(iommu) = handover.topology.iommu.and_then(vtd::Iommu::new) {
        log::info!("devices are confined by an IOMMU");
        world.hardware.memory.confine(iommu);
    }
    or_stop(program.start(&mut world, &handover, &memory));
    smp::start(&handover, &clock);
    or_stop(world.kernel.set_processors(percpu::seats()));
    let first = schedule::begin(&mut world);
    world::set(world);
    smp::release();
    entry::leave(first)
}

/// The value, or the reason why the machine cannot start as its last words.
fn or_stop<T, E: fmt::Display>(result: Result<T, E>) -> T {
    result.unwrap_or_else(|why| panic::stop(format_args!("{why}")))
}
