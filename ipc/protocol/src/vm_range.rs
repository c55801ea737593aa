//! Client to VM server, on a map port: maps that other maps show, and ranges set aside.

use crate::define::protocol;

/// The one flavor of [`MachVmRangeCreate`].
pub const MACH_VM_RANGE_FLAVOR_V1: u32 = 1;

/// Ranges that one [`MachVmRangeCreate`] makes at most.
pub const RANGES_MAX: usize = 3;

protocol! {
    /// Client to VM server: shared regions and reserved ranges of an address map.
    #[derive(Clone, Copy)]
    part of vm_map::Map "vm_range" at 5200, "client" to "VM server, on the map port of a task";

    /// Makes an empty *shared map*: an address map without a task, filled through its port by the
    /// calls on any map, sealed by [`VmMapSeal`], and then shown in other maps. Memory in it counts
    /// against limits like those of the map that this is asked of.
    ///
    /// KERN_INVALID_ARGUMENT: `min` or `max` not a multiple of the page, `min` not below `max`, or
    /// `max` above the user's half of the address space. KERN_RESOURCE_SHORTAGE.
    /// Source: feature table rows 85, 97.
    5201 vm_map_create VmMapCreate in words {
        /// Lowest address that can be mapped.
        min: u64,
        /// One past the highest.
        max: u64,
    }
    reply VmMapCreateReply {}
    reply rights {
        /// A send right to the map's port.
        MAP,
    };

    /// Seals the shared map that this is asked of: what is mapped there never changes again, and
    /// whatever call would change it is refused with KERN_NO_ACCESS. Gives a named entry that stands
    /// for the map: [`crate::vm_map::VmMap`] and [`VmMapSubmap`] take it, with addresses of the
    /// shared map for offsets. A map that is sealed already gives one more, up to 63.
    ///
    /// A shared map may show others: up to 8 above one another, 64 in all. In order:
    /// KERN_INVALID_ARGUMENT: a bit outside read, write, execute; the map is a task's.
    /// KERN_PROTECTION_FAILURE: a tray is mapped there. KERN_INVALID_ARGUMENT: too many maps.
    /// KERN_RESOURCE_SHORTAGE. It can still be changed then.
    /// Source: feature table rows 10, 96, 97.
    5202 vm_map_seal VmMapSeal in words {
        /// `Prot` bits: the most that a mapping through the entry may allow.
        protection: u32,
    }
    reply VmMapSealReply {
        /// One past the highest address of the shared map.
        size: u64,
    }
    reply rights {
        /// A send right to the named entry.
        ENTRY,
    };

    /// Turns a part of a reserved range, of which nothing is mapped, into a window on a sealed map.
    ///
    /// With `copy` each page is shared until it is written; the piece that is written, as large as
    /// the entry of the shared map, is then this map's own, without execute, and the shared map stays
    /// as it is. Without `copy` writes go to the memory that all share. Either way no more is
    /// allowed than the shared map's own entries allow. In order:
    /// KERN_INVALID_ARGUMENT: size 0, `address`, `size` or `offset` not a multiple of the page, a
    /// range that overflows; a protection bit outside read, write, execute; `protection` not within
    /// `max_protection`; `inheritance` not 0 to 2; the entry stands for no sealed map, or the window
    /// leaves it; the range was not reserved ([`MachVmRangeCreate`]), or something is mapped in it.
    /// KERN_INVALID_RIGHT: more protection than the entry allows. KERN_RESOURCE_SHORTAGE.
    /// Source: R77, R78, R118, R119, R125; feature table rows 6, 96.
    5203 vm_map_submap VmMapSubmap in body {
        /// First address.
        address: u64,
        /// Bytes.
        size: u64,
        /// Address in the shared map.
        offset: u64,
        /// Keep what is written to oneself.
        copy: bool,
        /// `Prot` bits.
        protection: u32,
        /// `Prot` bits that `vm_protect` may ever give.
        max_protection: u32,
        /// `Inherit` number: share shows a child the same map; of a copy it gets nothing.
        inheritance: u32,
    }
    rights {
        /// A send right to the named entry.
        ENTRY,
    };

    /// Sets ranges aside: mappings go there only where they are asked to, by a fixed address. A child
    /// has its parent's ranges. A map has up to 64 of them, for as long as it lives.
    ///
    /// In order: KERN_INVALID_ARGUMENT: an unknown flavor; no ranges, or more than 3; a range that is
    /// empty, overflows, or does not start and end on a page. KERN_NO_ACCESS: the map is sealed.
    /// KERN_MEMORY_PRESENT: a part of one was set aside before. KERN_INVALID_ARGUMENT: two of them overlap; something is mapped in one, or it
    /// leaves the map. KERN_RESOURCE_SHORTAGE. On failure none is set aside.
    /// Source: C0495; feature table 2.1.
    5204 mach_vm_range_create MachVmRangeCreate in body {
        /// [`MACH_VM_RANGE_FLAVOR_V1`].
        flavor: u32,
        /// Ranges.
        count: u32,
        /// First address of each.
        starts: [u64; RANGES_MAX],
        /// Bytes of each.
        sizes: [u64; RANGES_MAX],
    };
}
