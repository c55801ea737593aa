//! Types that calls on memory share: protections, inheritance, behaviours, flags.

bitflags::bitflags! {
    /// Rights to memory (Mach's vm_prot_t and its numbers).
    #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default)]
    pub struct Prot: u8 {
        /// VM_PROT_READ.
        const READ = 1;
        /// VM_PROT_WRITE. On x86 writable memory is readable too.
        const WRITE = 2;
        /// VM_PROT_EXECUTE.
        const EXECUTE = 4;
    }
}

impl Prot {
    /// VM_PROT_NONE.
    pub const NONE: Prot = Prot::empty();
    /// VM_PROT_DEFAULT: read and write.
    pub const DEFAULT: Prot = Prot::READ.union(Prot::WRITE);
    /// VM_PROT_ALL.
    pub const ALL: Prot = Prot::all();
}

/// What a child task gets of a range (Mach's vm_inherit_t and its numbers).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
#[repr(u8)]
pub enum Inherit {
    /// The same memory: writes are seen both ways.
    Share = 0,
    /// A copy, made lazily.
    #[default]
    Copy = 1,
    /// Nothing.
    None = 2,
}

impl Inherit {
    /// Reads a value from a message. 3 (donate copy) is not supported and reads as `None`.
    #[must_use]
    pub const fn from_raw(raw: u32) -> Option<Inherit> {
        Some(match raw {
            0 => Inherit::Share,
            1 => Inherit::Copy,
            2 => Inherit::None,
            _ => return None,
        })
    }
}

/// How a range will be read (vm_behavior_t): a hint for read-ahead.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
#[repr(u8)]
pub enum Behavior {
    /// VM_BEHAVIOR_DEFAULT.
    #[default]
    Default = 0,
    /// VM_BEHAVIOR_RANDOM: no read-ahead.
    Random = 1,
    /// VM_BEHAVIOR_SEQUENTIAL: forward.
    Sequential = 2,
    /// VM_BEHAVIOR_RSEQNTL: backward.
    ReverseSequential = 3,
}

/// How a memory object may be copied (memory_object_copy_strategy_t; rule 1).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
#[repr(u8)]
pub enum CopyStrategy {
    /// Pages are copied at once. What a pager that says nothing gets.
    #[default]
    None = 0,
    /// The pager is asked to make the copy.
    Call = 1,
    /// A copy object gets the old page before the source's page is written.
    Delay = 2,
    /// Both sides become copy-on-write: anonymous memory that is mapped once.
    Symmetric = 4,
}

impl CopyStrategy {
    /// Reads a value from a message. 3 (temporary) reads as symmetric (rule 4).
    #[must_use]
    pub const fn from_raw(raw: u32) -> Option<CopyStrategy> {
        Some(match raw {
            0 => CopyStrategy::None,
            1 => CopyStrategy::Call,
            2 => CopyStrategy::Delay,
            3 | 4 => CopyStrategy::Symmetric,
            _ => return None,
        })
    }
}

bitflags::bitflags! {
    /// Flags of vm_allocate, vm_map and vm_remap (the VM_FLAGS of Mach and their numbers).
    #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default)]
    pub struct MapFlags: u32 {
        /// VM_FLAGS_ANYWHERE: the server chooses the address. Absent: fixed.
        const ANYWHERE = 0x0001;
        /// VM_FLAGS_PURGABLE: the memory may be given up while nobody needs it.
        const PURGABLE = 0x0002;
        /// VM_FLAGS_4GB_CHUNK: accepted; memory is not managed in such chunks.
        const FOUR_GB_CHUNK = 0x0004;
        /// VM_FLAGS_RANDOM_ADDR: accepted; the address is the one that ANYWHERE gives.
        const RANDOM_ADDR = 0x0008;
        /// VM_FLAGS_NO_CACHE: accepted; a hint that pages will not be needed again soon.
        const NO_CACHE = 0x0010;
        /// VM_FLAGS_RESILIENT_CODESIGN: accepted; code is not signed.
        const RESILIENT_CODESIGN = 0x0020;
        /// VM_FLAGS_RESILIENT_MEDIA: accepted for copies.
        const RESILIENT_MEDIA = 0x0040;
        /// VM_FLAGS_PERMANENT: the mapping cannot be removed.
        const PERMANENT = 0x0080;
        /// VM_FLAGS_TPRO: accepted; the processor has no such pages.
        const TPRO = 0x1000;
        /// VM_FLAGS_OVERWRITE: a fixed mapping replaces what is there.
        const OVERWRITE = 0x4000;
        /// VM_FLAGS_SUPERPAGE_MASK: a size of page, not a set of bits. There are no superpages: any
        /// value but 0 is refused.
        const SUPERPAGE = 0x0007_0000;
        /// Copy-on-write straight on the object, no snapshot (amendment A6). Not one of Mach's.
        const PRIVATE = 0x0008_0000;
        /// VM_FLAGS_RETURN_DATA_ADDR: the answer is the address of the byte asked for, not of its page.
        const RETURN_DATA_ADDR = 0x0010_0000;
        /// VM_FLAGS_RETURN_4K_DATA_ADDR: the same, for pages are of 4 KiB.
        const RETURN_4K_DATA_ADDR = 0x0080_0000;
        /// The user tag that vm_region reports.
        const TAG = 0xFF00_0000;
    }
}

impl MapFlags {
    /// What vm_allocate takes (VM_FLAGS_USER_ALLOCATE).
    pub const USER_ALLOCATE: MapFlags = MapFlags::ANYWHERE
        .union(MapFlags::PURGABLE)
        .union(MapFlags::FOUR_GB_CHUNK)
        .union(MapFlags::RANDOM_ADDR)
        .union(MapFlags::NO_CACHE)
        .union(MapFlags::PERMANENT)
        .union(MapFlags::TPRO)
        .union(MapFlags::OVERWRITE)
        .union(MapFlags::TAG);
    /// What vm_map takes (VM_FLAGS_USER_MAP, and PRIVATE).
    pub const USER_MAP: MapFlags = MapFlags::USER_ALLOCATE
        .union(MapFlags::RETURN_DATA_ADDR)
        .union(MapFlags::RETURN_4K_DATA_ADDR)
        .union(MapFlags::PRIVATE);
    /// What vm_remap takes (VM_FLAGS_USER_REMAP): no tag.
    pub const USER_REMAP: MapFlags = MapFlags::ANYWHERE
        .union(MapFlags::RANDOM_ADDR)
        .union(MapFlags::OVERWRITE)
        .union(MapFlags::RETURN_DATA_ADDR)
        .union(MapFlags::RESILIENT_CODESIGN)
        .union(MapFlags::RESILIENT_MEDIA);

    /// Whether the answer is to be the address of a byte.
    #[must_use]
    pub const fn returns_data_address(self) -> bool {
        self.intersects(MapFlags::RETURN_DATA_ADDR.union(MapFlags::RETURN_4K_DATA_ADDR))
    }
}

/// Which pages a lock_request returns to their pager (memory_object_return_t).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
#[repr(u8)]
pub enum Return {
    /// MEMORY_OBJECT_RETURN_NONE.
    #[default]
    None = 0,
    /// MEMORY_OBJECT_RETURN_DIRTY: dirty pages.
    Dirty = 1,
    /// MEMORY_OBJECT_RETURN_ALL: dirty and precious pages.
    All = 2,
    /// MEMORY_OBJECT_RETURN_ANYTHING: every resident page.
    Anything = 3,
}

impl Return {
    /// Reads a value from a message.
    #[must_use]
    pub const fn from_raw(raw: u32) -> Option<Return> {
        Some(match raw {
            0 => Return::None,
            1 => Return::Dirty,
            2 => Return::All,
            3 => Return::Anything,
            _ => return None,
        })
    }
}
