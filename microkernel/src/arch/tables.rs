//! The kernel half of the page tables, built once at start-up and shared by every address space.
//!
//! W^X holds for every alias: the image is mapped by page with just the rights of its section, the
//! direct map is never executable, and where it shows the kernel's text and constants it is
//! read-only. A page below the boot stack stays unmapped, so that an overflow is a report. Entries
//! are global: a switch of address spaces keeps them in the TLB.

use core::ptr;

use ipc_abi::boot::FrameRange;
use kernel_core::addr::PhysAddr;
use kernel_core::memory_map::MemoryRange;

use super::gdt::IST_STACK;
use super::layout::{
    CONTROLLERS, CONTROLLERS_BLOCK, DIRECT_MAP, KERNEL_BASE, KERNEL_ROOT_INDEX, MMIO, PROCESSORS,
};
use super::percpu::PerCpu;
use crate::boot::entry::STACK_SIZE;
use crate::boot::{EARLY_LIMIT, Handover};

const PAGE: u64 = 4096;
const LARGE: u64 = 2 << 20;
const GIANT: u64 = 1 << 30;

const PRESENT: u64 = 1;
const WRITE: u64 = 1 << 1;
const UNCACHED: u64 = 3 << 3;
const LARGE_BIT: u64 = 1 << 7;
const GLOBAL: u64 = 1 << 8;
const ADDRESS: u64 = 0x000F_FFFF_FFFF_F000;

/// Physical address of the local APIC's registers, where every PC has them after reset.
const LOCAL_APIC: u64 = 0xFEE0_0000;

unsafe extern "C" {
    static kernel_start: u8;
    static kernel_text_end: u8;
    static kernel_constants_end: u8;
    static kernel_end: u8;
    static boot_stack_guard: u8;
}

/// Physical address of a symbol of the linker script.
fn physical(symbol: *const u8) -> u64 {
    (symbol as u64).wrapping_sub(KERNEL_BASE)
}

/// The image's physical extent: first byte, and one past the last.
pub(crate) fn kernel_extent() -> (u64, u64) {
    (
        physical(&raw const kernel_start),
        physical(&raw const kernel_end),
    )
}

/// The finished kernel half.
pub(crate) struct KernelHalf {
    /// Physical address of the root table, whose user half is empty.
    pub(crate) root: PhysAddr,
    /// The memory that the tables take.
    pub(crate) tables: MemoryRange,
}

/// Builds the kernel half in free memory and loads it.
///
/// # Errors
/// A text, if there is no such memory.
pub(crate) fn build(handover: &Handover, no_execute: bool) -> Result<KernelHalf, &'static str> {
    let (next, limit) = room(handover).ok_or(NO_ROOM)?;
    let mut builder = Builder {
        next,
        limit,
        no_execute: if no_execute { 1 << 63 } else { 0 },
        root: 0,
    };
    builder.root = builder.frame()?;
    for index in KERNEL_ROOT_INDEX..512 {
        // Every root entry exists from the start, so that spaces can copy them once and for all.
        let table = builder.frame()?;
        write(builder.root, index, table | PRESENT | WRITE);
    }
    builder.image()?;
    builder.direct_map(handover)?;
    let uncached = PRESENT | WRITE | GLOBAL | UNCACHED | builder.no_execute;
    builder.map_large(MMIO, LOCAL_APIC, uncached)?;
    builder.stacks(processors(handover))?;
    builder.map_large(CONTROLLERS, CONTROLLERS_BLOCK.start, uncached)?;
    super::cpu::load_root(builder.root);
    crate::processors::set_kernel_root(builder.root);
    Ok(KernelHalf {
        root: PhysAddr::new(builder.root).ok_or("the kernel lies beyond 4 TiB")?,
        tables: MemoryRange::taken(next, builder.next),
    })
}

/// How many processors there is memory for: those that the firmware names.
pub(crate) fn processors(handover: &Handover) -> usize {
    handover.topology.processors.len().max(1)
}

/// Where the memory of a processor other than the first lies:
///
/// ```text
/// nothing, stack of 64 KiB, nothing, the four stacks of `gdt::Ist`, its block
/// ```
pub(crate) struct Place {
    /// End of its stack.
    pub(crate) stack_top: u64,
    /// Start of the four stacks.
    pub(crate) stacks: u64,
    /// Its block.
    pub(crate) block: u64,
}

impl Place {
    const SIZE: u64 = 32 * PAGE;
    const STACK: u64 = STACK_SIZE as u64;
    const STACKS: u64 = 4 * IST_STACK as u64;

    /// That of processor `number`.
    pub(crate) const fn of(number: usize) -> Place {
        let start = PROCESSORS + number as u64 * Place::SIZE;
        let stack_top = start + PAGE + Place::STACK;
        let stacks = stack_top + PAGE;
        Place {
            stack_top,
            stacks,
            block: stacks + Place::STACKS,
        }
    }

    fn pages(self) -> impl Iterator<Item = u64> {
        let stack = self.stack_top - Place::STACK..self.stack_top;
        let rest = self.stacks..self.block + PAGE;
        let page = PAGE as usize;
        stack.step_by(page).chain(rest.step_by(page))
    }
}

const _: () = assert!(Place::of(0).block + PAGE <= PROCESSORS + Place::SIZE);
const _: () = assert!(size_of::<PerCpu>() as u64 <= PAGE);

const NO_ROOM: &str = "no memory below 4 GiB for the kernel's page tables";

/// The lowest free memory that is surely large enough for the tables, and below what the early
/// tables map: its first byte, and one past the last.
fn room(handover: &Handover) -> Option<(u64, u64)> {
    let ends = handover.ranges.iter().filter(|range| range.usable);
    let top = ends
        .map(|range| range.start.saturating_add(range.size))
        .max()?;
    // The root and what it names, a directory for each GiB, tables for the kernel's image, and what
    // the other processors have.
    let stacks = processors(handover) as u64 * (Place::SIZE / PAGE);
    let needed = (257 + 64 + stacks + 2 * top.div_ceil(GIANT)) * PAGE;
    let free = handover.free(None);
    let bytes = |range: &FrameRange| {
        let first = u64::from(range.first) * PAGE;
        (
            first,
            (first + u64::from(range.count) * PAGE).min(EARLY_LIMIT),
        )
    };
    let mut gaps = free.iter().map(bytes);
    gaps.find(|(first, end)| end.saturating_sub(*first) >= needed)
}

struct Builder {
    next: u64,
    limit: u64,
    no_execute: u64,
    root: u64,
}

impl Builder {
    /// Takes a zeroed frame.
    fn frame(&mut self) -> Result<u64, &'static str> {
        let frame = self.next;
        if frame.saturating_add(PAGE) > self.limit {
            return Err(NO_ROOM);
        }
        self.next = frame + PAGE;
        for index in 0..512 {
            write(frame, index, 0);
        }
        Ok(frame)
    }

    /// The table below `table[index]`, made if it is missing.
    fn below(&mut self, table: u64, index: usize) -> Result<u64, &'static str> {
        let entry = read(table, index);
        if entry & PRESENT != 0 {
            return Ok(entry & ADDRESS);
        }
        let frame = self.frame()?;
        write(table, index, frame | PRESENT | WRITE);
        Ok(frame)
    }

    fn directory(&mut self, address: u64) -> Result<u64, &'static str> {
        let upper = self.below(self.root, index(address, 39))?;
        self.below(upper, index(address, 30))
    }

    fn map_large(&mut self, address: u64, to: u64, bits: u64) -> Result<(), &'static str> {
        let directory = self.directory(address)?;
        write(directory, index(address, 21), to | bits | LARGE_BIT);
        Ok(())
    }

    fn map_page(&mut self, address: u64, to: u64, bits: u64) -> Result<(), &'static str> {
        let directory = self.directory(address)?;
        let table = self.below(directory, index(address, 21))?;
        write(table, index(address, 12), to | bits);
        Ok(())
    }

    fn image(&mut self) -> Result<(), &'static str> {
        let (start, end) = kernel_extent();
        let guard = physical(&raw const boot_stack_guard);
        for page in (start..end).step_by(PAGE as usize) {
            if page == guard {
                continue;
            }
            let rights = if page < physical(&raw const kernel_text_end) {
                0
            } else if page < physical(&raw const kernel_constants_end) {
                self.no_execute
            } else {
                WRITE | self.no_execute
            };
            self.map_page(KERNEL_BASE + page, page, PRESENT | GLOBAL | rights)?;
        }
        Ok(())
    }

    fn stacks(&mut self, processors: usize) -> Result<(), &'static str> {
        for page in (1..processors).flat_map(|number| Place::of(number).pages()) {
            let frame = self.frame()?;
            let bits = PRESENT | GLOBAL | WRITE | self.no_execute;
            self.map_page(page, frame, bits)?;
        }
        Ok(())
    }

    fn direct_map(&mut self, handover: &Handover) -> Result<(), &'static str> {
        let usable = handover.ranges.iter().filter(|range| range.usable);
        for range in usable {
            let end = range
                .start
                .saturating_add(range.size)
                .min(super::layout::DIRECT_MAP_SIZE);
            let first = range.start & !(LARGE - 1);
            for block in (first..end).step_by(LARGE as usize) {
                self.direct_block(block)?;
            }
        }
        Ok(())
    }

    /// Maps 2 MiB: by one large page, or page by page where the kernel's constants are.
    fn direct_block(&mut self, block: u64) -> Result<(), &'static str> {
        let (start, _) = kernel_extent();
        let fixed = start..physical(&raw const kernel_constants_end);
        let bits = PRESENT | GLOBAL | self.no_execute;
        if block >= fixed.end || block + LARGE <= fixed.start {
            return self.map_large(DIRECT_MAP + block, block, bits | WRITE);
        }
        for page in (block..block + LARGE).step_by(PAGE as usize) {
            let write = if fixed.contains(&page) { 0 } else { WRITE };
            self.map_page(DIRECT_MAP + page, page, bits | write)?;
        }
        Ok(())
    }
}

const fn index(address: u64, shift: u32) -> usize {
    (address >> shift & 511) as usize
}

/// Reads a word of a table that this module made.
fn read(table: u64, index: usize) -> u64 {
    // SAFETY: `table` is a frame that `Builder::frame` took, below 4 GiB, so the early tables map
    // it; the index is below 512; one processor runs.
    unsafe { ptr::read_volatile(word(table, index)) }
}

fn write(table: u64, index: usize, value: u64) {
    // SAFETY: as in `read`; the frame is nobody else's.
    unsafe { ptr::write_volatile(word(table, index), value) }
}

fn word(table: u64, index: usize) -> *mut u64 {
    let offset = (index & 511) as u64 * 8;
    (DIRECT_MAP + table % (4 * GIANT) + offset) as *mut u64
}
