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

impl Behavior {
    /// Reads a number from a message.
    #[must_use]
    pub const fn from_raw(raw: u32) -> Option<Behavior> {
        Some(match raw {
            0 => Behavior::Default,
            1 => Behavior::Random,
            2 => Behavior::Sequential,
            3 => Behavior::ReverseSequential,
            _ => return None,
        })
    }
}

/// What is to become of a range, once (the one-shot numbers of vm_behavior_t).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Advice {
    /// VM_BEHAVIOR_WILLNEED.
    WillNeed = 4,
    /// VM_BEHAVIOR_DONTNEED.
    DontNeed = 5,
    /// VM_BEHAVIOR_FREE.
    Free = 6,
    /// VM_BEHAVIOR_ZERO_WIRED_PAGES.
    ZeroWiredPages = 7,
    /// VM_BEHAVIOR_REUSABLE.
    Reusable = 8,
    /// VM_BEHAVIOR_REUSE.
    Reuse = 9,
    /// VM_BEHAVIOR_CAN_REUSE.
    CanReuse = 10,
    /// VM_BEHAVIOR_PAGEOUT.
    PageOut = 11,
    /// VM_BEHAVIOR_ZERO.
    Zero = 12,
}

impl Advice {
    /// Reads a number from a message.
    #[must_use]
    pub const fn from_raw(raw: u32) -> Option<Advice> {
        Some(match raw {
            4 => Advice::WillNeed,
            5 => Advice::DontNeed,
            6 => Advice::Free,
            7 => Advice::ZeroWiredPages,
            8 => Advice::Reusable,
            9 => Advice::Reuse,
            10 => Advice::CanReuse,
            11 => Advice::PageOut,
            12 => Advice::Zero,
            _ => return None,
        })
    }
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
        /// Where the map wires what is mapped: if this cannot be wired it stays, unwired (amendment
        /// A8). Not one of Mach's.
        const WIRE_BEST_EFFORT = 0x0020_0000;
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
        .union(MapFlags::WIRE_BEST_EFFORT)
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
        .union(MapFlags::WIRE_BEST_EFFORT)
        .union(MapFlags::RESILIENT_CODESIGN)
        .union(MapFlags::RESILIENT_MEDIA);

    /// Whether the answer is to be the address of a byte.
    #[must_use]
    pub const fn returns_data_address(self) -> bool {
        self.intersects(MapFlags::RETURN_DATA_ADDR.union(MapFlags::RETURN_4K_DATA_ADDR))
    }
}

/// The state word of vm_purgable_control (Mach's VM_PURGABLE and VM_VOLATILE numbers).
pub mod purgeable {
    /// VM_PURGABLE_SET_STATE: the control that sets the state.
    pub const SET_STATE: u32 = 0;
    /// VM_PURGABLE_GET_STATE: the control that asks for it.
    pub const GET_STATE: u32 = 1;
    /// VM_PURGABLE_PURGE_ALL: the control that empties all volatile memory of the map.
    pub const PURGE_ALL: u32 = 2;

    /// Contents stay.
    pub const NONVOLATILE: u32 = 0;
    /// Contents may go at any time.
    pub const VOLATILE: u32 = 1;
    /// Contents have gone.
    pub const EMPTY: u32 = 2;
    /// Not purgeable.
    pub const DENY: u32 = 3;
    /// The bits of the state proper.
    pub const STATE_MASK: u32 = 3;

    /// Goes before what is in its group already; else after it.
    pub const MAKE_FIRST_IN_GROUP: u32 = 1 << 4;
    /// Goes before all groups.
    pub const ORDERING_OBSOLETE: u32 = 1 << 5;
    /// Last in, first out; else first in, first out.
    pub const BEHAVIOR_LIFO: u32 = 1 << 6;
    /// Bit of the lowest of the group's three.
    pub const GROUP_SHIFT: u32 = 8;
    /// The group: 0 goes first, 7 last.
    pub const GROUP_MASK: u32 = 7 << GROUP_SHIFT;
    /// For tests: goes as soon as it is volatile.
    pub const DEBUG_EMPTY: u32 = 1 << 12;
    /// VM_PURGABLE_DEBUG_FAULT: accepted; volatile memory that is touched is not reported.
    pub const DEBUG_FAULT: u32 = 2 << 12;
    /// Goes after all groups.
    pub const NO_AGING: u32 = 1 << 16;
    /// Every bit that is defined.
    pub const ALL_MASKS: u32 = STATE_MASK
        | MAKE_FIRST_IN_GROUP
        | ORDERING_OBSOLETE
        | BEHAVIOR_LIFO
        | GROUP_MASK
        | DEBUG_EMPTY
        | DEBUG_FAULT
        | NO_AGING;
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
