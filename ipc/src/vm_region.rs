//! Regions: what is mapped where, maps that other maps show, and ranges set aside, as methods of the
//! right to a map.
//!
//! A shared region is made in three steps: [`SendRight::create_map`], then fill the new map by the calls
//! on any map, then [`SendRight::seal`] it. What comes of it is a named entry, which
//! [`Options::entry`](crate::mapping::Options::entry) or [`SendRight::map_submap`] show in any map. Units,
//! rules and errors are with the messages.

use crate::right::SendRight;
use ipc_abi::Kern;
use ipc_abi::message::FOREVER;
use ipc_abi::types::Prot;
use ipc_protocol::memory_entry::MemoryEntry;
use ipc_protocol::vm_inspect::{
    VM_REGION_SUBMAP_SHORT_INFO_COUNT_64, VmRegionRecurse, VmRegionRecurseReply,
};
use ipc_protocol::vm_map::{Map, VM_PROT_COPY, VmProtect, VmRegion, VmRegionReply};
use ipc_protocol::vm_range::{
    MACH_VM_RANGE_FLAVOR_V1, MachVmRangeCreate, RANGES_MAX, VmMapCreate, VmMapCreateReply,
    VmMapSeal, VmMapSealReply, VmMapSubmap,
};

impl SendRight<Map> {
    /// [`VmRegion`] with a flavor, and room for so many words of its answer.
    ///
    /// Errors, in order: KERN_INVALID_ARGUMENT (flavor, count; C0404), KERN_INVALID_ADDRESS (nothing at
    /// or above; R194).
    #[doc(alias = "vm_region")]
    pub fn region_with(
        &self,
        address: u64,
        flavor: u32,
        count: u32,
    ) -> Result<VmRegionReply, Kern> {
        self.call(&VmRegion {
            address,
            flavor,
            count,
        })
    }

    /// [`VmRegion`] with all that there is to say, pages counted.
    ///
    /// KERN_INVALID_ADDRESS: nothing is mapped at or above the address (R194-196).
    #[doc(alias = "vm_region")]
    pub fn region_extended(&self, address: u64) -> Result<VmRegionReply, Kern> {
        self.call(&VmRegion::extended(address))
    }

    /// [`VmRegionRecurse`]: goes into so many maps at most.
    ///
    /// KERN_INVALID_ADDRESS: nothing shows at or above the address (R78, R194-196).
    #[doc(alias = "vm_region_recurse")]
    pub fn region_recurse(&self, address: u64, depth: u32) -> Result<VmRegionRecurseReply, Kern> {
        self.call(&VmRegionRecurse {
            address,
            depth,
            count: VM_REGION_SUBMAP_SHORT_INFO_COUNT_64,
        })
    }

    /// [`VmProtect`] with VM_PROT_COPY: the range becomes the map's own, and gets this protection
    /// whatever its maximum was.
    ///
    /// Errors, in order: KERN_INVALID_ARGUMENT (range), KERN_INVALID_ADDRESS (a hole),
    /// KERN_PROTECTION_FAILURE (never to be read; permanent pages of a map that is shown; device
    /// registers), KERN_NO_SPACE (permanent entries), KERN_MEMORY_ERROR (R116, C0224, C0230).
    #[doc(alias = "vm_protect")]
    pub fn protect_copy(&self, address: u64, size: u64, protection: Prot) -> Result<(), Kern> {
        self.call(&VmProtect {
            address,
            size,
            set_maximum: false,
            protection: u32::from(protection.bits()) | VM_PROT_COPY,
        })
    }

    /// [`VmMapCreate`]: an empty shared map of `[min, max)`.
    ///
    /// KERN_INVALID_ARGUMENT: bounds that are not on pages, out of order, or beyond the user's half.
    #[doc(alias = "vm_map_create")]
    pub fn create_map(&self, min: u64, max: u64) -> Result<SendRight<Map>, Kern> {
        let (_, mut rights) = self.call_with(&VmMapCreate { min, max }, [], FOREVER)?;
        rights.take_send(VmMapCreateReply::MAP)
    }

    /// [`VmMapSeal`]: nothing in this shared map changes from now on. Gives the named entry that stands
    /// for it, for mappings with no more than `protection`.
    ///
    /// Errors, in order: KERN_INVALID_ARGUMENT (a task's map), KERN_PROTECTION_FAILURE (a tray),
    /// KERN_INVALID_ARGUMENT (too many maps above one another).
    pub fn seal(&self, protection: Prot) -> Result<SendRight<MemoryEntry>, Kern> {
        let protection = protection.bits().into();
        let (_, mut rights) = self.call_with(&VmMapSeal { protection }, [], FOREVER)?;
        rights.take_send(VmMapSealReply::ENTRY)
    }

    /// [`VmMapSubmap`]: turns a part of a reserved range into a window on a sealed map.
    ///
    /// Errors, in order: KERN_INVALID_ARGUMENT (whatever is wrong with the range or the window),
    /// KERN_INVALID_RIGHT (more protection than the entry allows).
    #[doc(alias = "vm_map_submap")]
    pub fn map_submap(
        &self,
        request: &VmMapSubmap,
        entry: &SendRight<MemoryEntry>,
    ) -> Result<(), Kern> {
        self.call_with(request, [entry.copy()], FOREVER).map(drop)
    }

    /// [`MachVmRangeCreate`]: sets ranges aside, each with its first address and its bytes.
    ///
    /// Errors, in order: KERN_INVALID_ARGUMENT (none or more than [`RANGES_MAX`]; not on pages),
    /// KERN_MEMORY_PRESENT (set aside before), KERN_INVALID_ARGUMENT (they overlap, leave the map, or
    /// something is mapped there; C0495).
    #[doc(alias = "mach_vm_range_create")]
    pub fn create_ranges(&self, ranges: &[(u64, u64)]) -> Result<(), Kern> {
        let mut request = MachVmRangeCreate {
            flavor: MACH_VM_RANGE_FLAVOR_V1,
            count: u32::try_from(ranges.len()).unwrap_or(u32::MAX),
            starts: [0; RANGES_MAX],
            sizes: [0; RANGES_MAX],
        };
        let places = request.starts.iter_mut().zip(&mut request.sizes);
        for ((start, size), range) in places.zip(ranges) {
            (*start, *size) = *range;
        }
        self.call(&request)
    }
}
