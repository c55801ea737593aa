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
    /// Flags of vm_allocate and vm_map (the VM_FLAGS of Mach; the user tag is bits 24..32).
    #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default)]
    pub struct MapFlags: u32 {
        /// VM_FLAGS_ANYWHERE: the server chooses the address. Absent: fixed.
        const ANYWHERE = 0x0001;
        /// VM_FLAGS_OVERWRITE: a fixed mapping replaces what is there.
        const OVERWRITE = 0x4000;
        /// Copy-on-write straight on the object, no snapshot (amendment A6).
        const PRIVATE = 0x0010_0000;
        /// The user tag that vm_region reports.
        const TAG = 0xFF00_0000;
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
