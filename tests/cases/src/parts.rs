//! The calls on a task that the protocol tells in parts: advice, questions, ranges, shared maps.

use ipc_protocol::vm_advice::{VmMachineAttribute, VmPurgableControl};
use ipc_protocol::vm_inspect::{
    TaskVmInfo, TaskVmInfoReply, VmPageQuery, VmPageRangeQuery, VmRegionRecurse,
};
use ipc_protocol::vm_map::VmRegion;
use ipc_protocol::vm_range::{
    MACH_VM_RANGE_FLAVOR_V1, MachVmRangeCreate, RANGES_MAX, VmMapCreate, VmMapSeal, VmMapSubmap,
};

use ipc_protocol::vm_share::{
    MachMemoryObjectMemoryEntry, MemoryObjectCreateProxy, VmMapReadPort, VmRemap, VmRemapNew,
};
use ipc_protocol::vm_wire::{VmWire, VmWireAll};

use crate::vm::{BOTH, Mapping, Said, Task, Vm};

impl<V: Vm> Task<'_, V> {
    /// `vm_machine_attribute`; gives the value.
    ///
    /// # Errors
    /// What it is answered, here and in all the calls below.
    pub fn machine_attribute(
        &self,
        address: u64,
        size: u64,
        attribute: u32,
        value: u32,
    ) -> Said<u32> {
        let message = VmMachineAttribute {
            address,
            size,
            attribute,
            value,
        };
        self.ask(&message, &[]).map(|(reply, _)| reply.value)
    }

    /// `vm_purgable_control`; gives the state.
    ///
    /// # Errors
    /// As above.
    pub fn purgable_control(&self, address: u64, control: u32, state: u32) -> Said<u32> {
        let message = VmPurgableControl {
            address,
            control,
            state,
        };
        self.ask(&message, &[]).map(|(reply, _)| reply.state)
    }

    /// `vm_page_query`; gives the disposition and the references.
    ///
    /// # Errors
    /// As above.
    pub fn page_query(&self, address: u64) -> Said<(u32, u32)> {
        let (reply, _) = self.ask(&VmPageQuery { address }, &[])?;
        Ok((reply.disposition, reply.ref_count))
    }

    /// `vm_region` with a flavor and room for so many words.
    ///
    /// # Errors
    /// As above.
    pub fn region_of_flavor(&self, address: u64, flavor: u32, count: u32) -> Said<u64> {
        let message = VmRegion {
            address,
            flavor,
            count,
        };
        self.ask(&message, &[]).map(|(reply, _)| reply.address)
    }

    /// `vm_region_recurse`: the depth reached, address and protection there.
    ///
    /// # Errors
    /// As above.
    pub fn region_recurse(&self, address: u64, depth: u32, count: u32) -> Said<(u32, u64, u32)> {
        let message = VmRegionRecurse {
            address,
            depth,
            count,
        };
        let (reply, _) = self.ask(&message, &[])?;
        Ok((reply.depth, reply.region.address, reply.region.protection))
    }

    /// `vm_remap` of a range of the map behind `from` (none: an empty slot) to where `to` says; gives
    /// the address and both protections.
    ///
    /// # Errors
    /// As above.
    pub fn remap(&self, to: Mapping, from: Option<&V::Port>, source: u64) -> Said<(u64, u32, u32)> {
        let message = VmRemap {
            address: to.address,
            size: to.size,
            mask: to.mask,
            flags: to.flags,
            source,
            copy: to.copy,
            inheritance: to.inherit,
        };
        let (reply, _) = self.ask(&message, &[from])?;
        Ok((reply.address, reply.protection, reply.max_protection))
    }

    /// `vm_remap_new`, as [`Task::remap`] with the protections of `to`.
    ///
    /// # Errors
    /// As above.
    pub fn remap_new(
        &self,
        to: Mapping,
        from: Option<&V::Port>,
        source: u64,
    ) -> Said<(u64, u32, u32)> {
        let message = VmRemapNew {
            address: to.address,
            size: to.size,
            mask: to.mask,
            flags: to.flags,
            source,
            copy: to.copy,
            protection: to.cur,
            max_protection: to.max,
            inheritance: to.inherit,
        };
        let (reply, _) = self.ask(&message, &[from])?;
        Ok((reply.address, reply.protection, reply.max_protection))
    }

    /// The map's read-only port.
    ///
    /// # Errors
    /// As above.
    pub fn read_port(&self) -> Said<V::Port> {
        self.made(&VmMapReadPort {}, &[]).map(|(_, port)| port)
    }

    /// `mach_memory_object_memory_entry`.
    ///
    /// # Errors
    /// As above.
    pub fn object_entry(
        &self,
        host: Option<&V::Port>,
        internal: bool,
        size: u64,
        pager: Option<&V::Port>,
    ) -> Said<V::Port> {
        let message = MachMemoryObjectMemoryEntry {
            internal,
            size,
            protection: BOTH,
        };
        self.made(&message, &[host, pager]).map(|(_, entry)| entry)
    }

    /// `memory_object_create_proxy` of one window.
    ///
    /// # Errors
    /// As above.
    pub fn proxy(
        &self,
        object: Option<&V::Port>,
        offset: u64,
        start: u64,
        length: u64,
    ) -> Said<V::Port> {
        let message = MemoryObjectCreateProxy {
            max_protection: BOTH,
            count: 1,
            offset,
            start,
            length,
        };
        self.made(&message, &[object]).map(|(_, proxy)| proxy)
    }

    /// `vm_page_range_query` into this map; gives the count.
    ///
    /// # Errors
    /// As above.
    pub fn page_range_query(
        &self,
        address: u64,
        size: u64,
        dispositions: u64,
        count: u64,
    ) -> Said<u64> {
        let message = VmPageRangeQuery {
            address,
            size,
            dispositions,
            count,
        };
        let (reply, _) = self.ask(&message, &[Some(&self.port)])?;
        Ok(reply.count)
    }

    /// `task_vm_info` of so many words.
    ///
    /// # Errors
    /// As above.
    pub fn vm_info(&self, count: u32) -> Said<TaskVmInfoReply> {
        self.ask(&TaskVmInfo { count }, &[]).map(|(reply, _)| reply)
    }

    /// `vm_wire` with the host port.
    ///
    /// # Errors
    /// As above.
    pub fn wire(&self, address: u64, size: u64, access: u32) -> Said {
        self.wire_with(Some(&self.vm.host()), address, size, access)
    }

    /// `vm_wire` with some right or none for the host port.
    ///
    /// # Errors
    /// As above.
    pub fn wire_with(&self, host: Option<&V::Port>, address: u64, size: u64, access: u32) -> Said {
        let message = VmWire {
            address,
            size,
            access,
        };
        self.ask(&message, &[host]).map(|_| ())
    }

    /// `vm_wire_all` with some right or none for the host port.
    ///
    /// # Errors
    /// As above.
    pub fn wire_all(&self, host: Option<&V::Port>, flags: u32) -> Said {
        self.ask(&VmWireAll { flags }, &[host]).map(|_| ())
    }

    /// `mach_vm_range_create` of one range.
    ///
    /// # Errors
    /// As above.
    pub fn range_create(&self, start: u64, size: u64) -> Said {
        let (mut starts, mut sizes) = ([0; RANGES_MAX], [0; RANGES_MAX]);
        (starts[0], sizes[0]) = (start, size);
        let message = MachVmRangeCreate {
            flavor: MACH_VM_RANGE_FLAVOR_V1,
            count: 1,
            starts,
            sizes,
        };
        self.ask(&message, &[]).map(|_| ())
    }

    /// A shared map, to be filled and sealed.
    ///
    /// # Errors
    /// As above.
    pub fn map_create(&self, min: u64, max: u64) -> Said<Self> {
        let (_, port) = self.made(&VmMapCreate { min, max }, &[])?;
        Ok(Task { port, ..*self })
    }

    /// Seals a shared map; gives the entry that stands for it.
    ///
    /// # Errors
    /// As above.
    pub fn map_seal(&self, protection: u32) -> Said<V::Port> {
        let made = self.made(&VmMapSeal { protection }, &[])?;
        Ok(made.1)
    }

    /// Shows a part of a shared map in a range set aside.
    ///
    /// # Errors
    /// As above.
    pub fn map_submap(&self, mapping: Mapping, entry: &V::Port) -> Said {
        let message = VmMapSubmap {
            address: mapping.address,
            size: mapping.size,
            offset: mapping.offset,
            copy: mapping.copy,
            protection: mapping.cur,
            max_protection: mapping.max,
            inheritance: mapping.inherit,
        };
        self.ask(&message, &[Some(entry)]).map(|_| ())
    }
}
