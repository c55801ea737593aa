//! The kernel program: the hardware shell around kernel-core.
//!
//! Start-up is [`start`], a call a line. After it the kernel runs only from its entry points
//! (`arch/entry.rs`), which lead to `trap` (system calls), `fault` (page faults), `exception` and
//! `schedule` (interrupts); each decodes registers, asks kernel-core, and goes on with the thread
//! that it names.
#![no_std]
#![no_main]

mod arch;
mod boot;
mod console;
mod exception;
mod fault;
mod heap;
mod panic;
mod schedule;
mod trap;

use arch::{apic, clock, cpu, gdt, idt, percpu, pic, tables, vector};

/// What the first instructions call, on the kernel's stack, with early tables.
extern "C" fn start(start_info: u64) -> ! {
    console::init();
    gdt::init();
    idt::init();
    pic::mask_all();
    let features = cpu::Features::detect();
    features.switch_on();
    percpu::init(vector::Mode::of(features));
    cpu::set_system_call_entry(arch::entry::system_call_address());
    let handover = boot::pvh::read(start_info).unwrap_or_else(|why| stop(why));
    console::set_level(handover.option("log"));
    let half = tables::build(&handover, features.no_execute).unwrap_or_else(|why| stop(why));
    apic::init();
    let clock = clock::Clock::measure();
    log::debug!("clock {:?} {:x?} {:?}", clock, half.end, handover.image);
    panic::stop(format_args!("end of start-up"))
}

fn stop(why: &'static str) -> ! {
    panic::stop(format_args!("{why}"))
}
