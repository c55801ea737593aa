//! How much a map may hold, and all maps together; as it is set and asked for.

use ipc_abi::Kern;
use ipc_protocol::vm_wire::{UNCHANGED, VmLimitsReply, VmSetLimits};

use crate::Core;
use crate::event::MapId;

/// Most that one map may hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Entries, of the map and of what was made from it.
    pub entries: u32,
    /// Anonymous pages that it pays for.
    pub pages: u32,
    /// Bytes mapped.
    pub size: u64,
    /// Pages wired.
    pub wired: u64,
    /// Copies and named entries made from it, and copies on their way.
    pub copies: u32,
    /// Objects made for it.
    pub objects: u32,
    /// Calls that are not finished.
    pub ops: u32,
}

impl Limits {
    /// As much as there is.
    pub const NONE: Limits = Limits {
        entries: u32::MAX,
        pages: u32::MAX,
        size: u64::MAX,
        wired: u64::MAX,
        copies: u32::MAX,
        objects: u32::MAX,
        ops: u32::MAX,
    };

    /// Nothing.
    pub const ZERO: Limits = Limits {
        entries: 0,
        pages: 0,
        size: 0,
        wired: 0,
        copies: 0,
        objects: 0,
        ops: 0,
    };

    /// What a client gets of a machine of this size.
    #[must_use]
    pub const fn for_frames(frames: u32) -> Limits {
        Limits {
            entries: at_least(frames.saturating_mul(4), 4096),
            pages: frames.saturating_sub(frames / 8),
            size: u64::MAX,
            wired: frames as u64 / 4,
            copies: at_least(frames / 4, 1024),
            objects: at_least(frames.saturating_mul(2), 4096),
            ops: 1024,
        }
    }
}

/// Most that all maps may hold, less those of the system.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Whole {
    /// Entries.
    pub entries: u32,
    /// Pages wired.
    pub wired: u64,
    /// Hidden maps.
    pub copies: u32,
    /// Objects.
    pub objects: u32,
    /// Operations.
    pub ops: u32,
}

impl Whole {
    /// Twice what one client gets.
    #[must_use]
    pub const fn for_frames(frames: u32) -> Whole {
        let one = Limits::for_frames(frames);
        Whole {
            entries: one.entries.saturating_mul(2),
            wired: one.wired.saturating_mul(2),
            copies: one.copies.saturating_mul(2),
            objects: one.objects.saturating_mul(2),
            ops: one.ops.saturating_mul(8),
        }
    }
}

const fn at_least(wanted: u32, least: u32) -> u32 {
    if wanted < least { least } else { wanted }
}

impl Core {
    /// Sets the limits of a map. What it holds stays.
    pub(crate) fn set_limits(&mut self, map: MapId, args: &VmSetLimits) -> Result<(), Kern> {
        let record = self.maps.get_mut(map).ok_or(Kern::Terminated)?;
        record.account.system = args.system;
        let mut limits = record.account.family.cap;
        let small = |limit: &mut u32, value: u64| {
            if value != UNCHANGED {
                *limit = u32::try_from(value).unwrap_or(u32::MAX);
            }
        };
        small(&mut limits.entries, args.entries);
        small(&mut limits.pages, args.pages);
        small(&mut limits.copies, args.copies);
        small(&mut limits.objects, args.objects);
        small(&mut limits.ops, args.ops);
        if args.size != UNCHANGED {
            limits.size = args.size;
        }
        if args.wired != UNCHANGED {
            limits.wired = args.wired;
        }
        self.set_cap(map, limits);
        Ok(())
    }

    /// The limits of a map, and what it holds.
    pub(crate) fn limits(&self, map: MapId) -> Result<VmLimitsReply, Kern> {
        let map = self.maps.get(map).ok_or(Kern::Terminated)?;
        let (limits, held) = (&map.account.family.cap, &map.account);
        Ok(VmLimitsReply {
            entries_limit: limits.entries.into(),
            pages_limit: limits.pages.into(),
            size_limit: limits.size,
            wired_limit: limits.wired,
            copies_limit: limits.copies.into(),
            objects_limit: limits.objects.into(),
            ops_limit: limits.ops.into(),
            system: held.system,
            entries: map.entries().saturating_add(held.hidden_entries).into(),
            pages: map.pages.into(),
            size: map.size,
            wired: map.wired,
            copies: held.copies.into(),
            objects: held.objects.into(),
            ops: held.ops.into(),
        })
    }
}
