//! The kernel half of every address space: what lies where.
//!
//! ```text
//! FFFF_FFFF_C020_0000  CONTROLLERS  the I/O APICs and what else the chipset has beside them, uncached
//! FFFF_FFFF_C000_0000  MMIO         the local APIC, uncached
//! FFFF_FFFF_A000_0000  PROCESSORS   stacks and block of each further processor (`tables::Place`)
//! FFFF_FFFF_8000_0000  KERNEL_BASE  the kernel's image at its physical address; W^X by page
//! FFFF_8000_0000_0000  DIRECT_MAP   all of RAM by large pages, never executable; the pages of the
//!                                   kernel's text and constants are read-only here too
//! ```

/// Where physical address 0 of the kernel's image would be.
pub(crate) const KERNEL_BASE: u64 = 0xFFFF_FFFF_8000_0000;
/// Where physical address 0 of RAM is mapped.
pub(crate) const DIRECT_MAP: u64 = 0xFFFF_8000_0000_0000;
/// Where the memory of processors other than the first is.
pub(crate) const PROCESSORS: u64 = 0xFFFF_FFFF_A000_0000;
/// Where device registers that the kernel itself uses are mapped.
pub(crate) const MMIO: u64 = 0xFFFF_FFFF_C000_0000;
/// Where [`CONTROLLERS_BLOCK`] is mapped.
pub(crate) const CONTROLLERS: u64 = MMIO + (2 << 20);
/// Physical addresses at which PCs have their I/O APICs.
pub(crate) const CONTROLLERS_BLOCK: core::ops::Range<u64> = 0xFEC0_0000..0xFEE0_0000;
/// One past the last byte of the user half, the gap page at its end included.
pub(crate) const USER_HALF_END: u64 = 0x8000_0000_0000;
/// First entry of a root table that belongs to the kernel half.
pub(crate) const KERNEL_ROOT_INDEX: usize = 256;
/// Most bytes of physical memory that the direct map shows: what frame numbers can name.
pub(crate) const DIRECT_MAP_SIZE: u64 = 1 << 42;
