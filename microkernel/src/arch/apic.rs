//! The local APIC: its timer, one-shot, interrupts between processors, and the end of an interrupt.

use core::ptr;
use core::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use ipc_abi::device::InterruptMessage;

use super::layout::MMIO;

/// Vector of the timer.
pub(crate) const TIMER: u8 = 0x40;
/// Vector by which one processor has another look.
pub(crate) const POKE: u8 = 0x41;
/// Vector of interrupts that went away before they were delivered.
pub(crate) const SPURIOUS: u8 = 0xFF;

/// What a device writes, and where, to interrupt the processor of this identifier (below 255) by the vector
/// of this number among those for devices.
pub(crate) fn message(to: u32, number: u32) -> InterruptMessage {
    InterruptMessage {
        address: 0xFEE0_0000 | to << 12,
        data: device_vector(number).into(),
    }
}

/// Vectors of devices.
const DEVICES: core::ops::Range<u8> = 0x50..0xF0;
const _: () = assert!((DEVICES.end - DEVICES.start) as u32 == kernel_core::INTERRUPTS_MAX);

/// The vector of this number among those for devices.
pub(crate) const fn device_vector(number: u32) -> u8 {
    DEVICES.start.wrapping_add(number as u8)
}

/// The number of a vector among those for devices, if it is one.
pub(crate) fn device_number(vector: u8) -> Option<u32> {
    DEVICES
        .contains(&vector)
        .then(|| u32::from(vector - DEVICES.start))
}

const IDENTIFIER: u64 = 0x20;
const TASK_PRIORITY: u64 = 0x80;
const END_OF_INTERRUPT: u64 = 0xB0;
const SPURIOUS_VECTOR: u64 = 0xF0;
const COMMAND: u64 = 0x300;
const COMMAND_TARGET: u64 = 0x310;
const LVT_TIMER: u64 = 0x320;
const LVT_LINT0: u64 = 0x350;
const LVT_LINT1: u64 = 0x360;
const LVT_ERROR: u64 = 0x370;
const TIMER_INITIAL: u64 = 0x380;
const TIMER_CURRENT: u64 = 0x390;
const TIMER_DIVIDE: u64 = 0x3E0;
const MASKED: u32 = 1 << 16;

/// Kinds of interrupts between processors, and the mark of one that is not sent yet.
const NON_MASKABLE: u32 = 4 << 8;
const INIT: u32 = 5 << 8;
const STARTUP: u32 = 6 << 8;
const ASSERT: u32 = 1 << 14;
const TO_ALL_OTHERS: u32 = 3 << 18;
const PENDING: u32 = 1 << 12;

/// Where a processor reads its identifier, in the highest byte.
pub(crate) const IDENTIFIER_ADDRESS: u64 = MMIO + IDENTIFIER;

/// Non-maskable interrupts so far, of all processors; their stub counts them.
pub(crate) static NON_MASKABLES: AtomicU64 = AtomicU64::new(0);
/// One more than the identifier of the processor that alone is to go on, for that stub; 0: all are.
pub(crate) static LAST: AtomicU32 = AtomicU32::new(0);

/// Enables the APIC with every source masked but the timer, which is stopped, and the line by which a
/// chipset tells every processor of failures.
pub(crate) fn init() {
    write(TASK_PRIORITY, 0);
    for source in [LVT_LINT0, LVT_ERROR] {
        write(source, MASKED);
    }
    write(LVT_LINT1, NON_MASKABLE);
    write(SPURIOUS_VECTOR, 0x100 | u32::from(SPURIOUS));
    write(TIMER_DIVIDE, 0xB); // by 1
    write(LVT_TIMER, u32::from(TIMER)); // one-shot
    write(TIMER_INITIAL, 0);
}

/// Lets the timer fire once after `ticks`; 0 stops it.
pub(crate) fn set_timer(ticks: u32) {
    write(TIMER_INITIAL, ticks);
}

/// Ticks until the timer fires.
pub(crate) fn timer_left() -> u32 {
    read(TIMER_CURRENT)
}

/// Says that the interrupt is dealt with.
pub(crate) fn end_of_interrupt() {
    write(END_OF_INTERRUPT, 0);
}

/// What this processor is called here.
pub(crate) fn identifier() -> u32 {
    read(IDENTIFIER) >> 24
}

/// Interrupts the processor of this identifier.
pub(crate) fn send(to: u32, vector: u8) {
    command(to, u32::from(vector) | ASSERT);
}

/// Resets a processor, which then waits for [`send_startup`].
pub(crate) fn send_init(to: u32) {
    command(to, INIT | ASSERT);
}

/// Lets a processor that was reset begin at the start of a page below 1 MiB.
pub(crate) fn send_startup(to: u32, page: u8) {
    command(to, STARTUP | ASSERT | u32::from(page));
}

/// Sends every other processor a non-maskable interrupt, and has it stop there.
pub(crate) fn stop_others() {
    LAST.store(identifier() + 1, Ordering::SeqCst);
    command(0, NON_MASKABLE | ASSERT | TO_ALL_OTHERS);
}

fn command(to: u32, what: u32) {
    while read(COMMAND) & PENDING != 0 {
        core::hint::spin_loop();
    }
    write(COMMAND_TARGET, to << 24);
    write(COMMAND, what);
}

fn write(register: u64, value: u32) {
    // SAFETY: `tables` maps the APIC's registers at MMIO, uncached; the register exists and has no
    // effect on memory.
    unsafe { ptr::write_volatile((MMIO + register) as *mut u32, value) }
}

fn read(register: u64) -> u32 {
    // SAFETY: as in `write`.
    unsafe { ptr::read_volatile((MMIO + register) as *const u32) }
}
