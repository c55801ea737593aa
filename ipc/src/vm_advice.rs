//! Calls on an address map about how its memory is used: advice, purgeable memory.
//!
//! As in [`crate::vm`], these are safe functions although some take contents away that Rust code may
//! rely on: whoever holds a map port can send these messages.

use crate::right::SendRight;
use ipc_abi::Kern;
use ipc_abi::types::{Advice, purgeable};
use ipc_protocol::memory_entry::{MachMemoryEntryPurgableControl, MemoryEntry};
use ipc_protocol::vm_advice::{VmMachineAttribute, VmPurgableControl, VmSwapout};
use ipc_protocol::vm_map::{Map, VmBehaviorSet};

impl SendRight<Map> {
    /// [`VmBehaviorSet`]: what is done at once. [`SendRight::set_behavior`] is what is kept.
    #[doc(alias = "vm_behavior_set")]
    pub fn advise(&self, address: u64, size: u64, advice: Advice) -> Result<(), Kern> {
        self.call(&VmBehaviorSet {
            address,
            size,
            behavior: advice as u32,
        })
    }

    /// [`VmMachineAttribute`]: attribute and value; gives the value.
    #[doc(alias = "vm_machine_attribute")]
    pub fn machine_attribute(
        &self,
        address: u64,
        size: u64,
        (attribute, value): (u32, u32),
    ) -> Result<u32, Kern> {
        let reply = self.call(&VmMachineAttribute {
            address,
            size,
            attribute,
            value,
        })?;
        Ok(reply.value)
    }

    /// [`VmPurgableControl`]: sets the state word; gives the state before.
    #[doc(alias = "vm_purgable_control")]
    pub fn set_purgeable(&self, address: u64, state: u32) -> Result<u32, Kern> {
        self.purgeable(address, purgeable::SET_STATE, state)
    }

    /// [`VmPurgableControl`]: gives the state.
    #[doc(alias = "vm_purgable_control")]
    pub fn get_purgeable(&self, address: u64) -> Result<u32, Kern> {
        self.purgeable(address, purgeable::GET_STATE, 0)
    }

    /// [`VmPurgableControl`]: empties all volatile memory of the map.
    #[doc(alias = "vm_purgable_control")]
    pub fn purge_all(&self) -> Result<(), Kern> {
        self.purgeable(0, purgeable::PURGE_ALL, 0).map(drop)
    }

    /// [`VmSwapout`]: of the map of a task that will not run for a while.
    #[doc(alias = "vm_map_swapout")]
    pub fn swap_out(&self) -> Result<(), Kern> {
        self.call(&VmSwapout {})
    }

    fn purgeable(&self, address: u64, control: u32, state: u32) -> Result<u32, Kern> {
        let reply = self.call(&VmPurgableControl {
            address,
            control,
            state,
        })?;
        Ok(reply.state)
    }
}

impl SendRight<MemoryEntry> {
    /// [`MachMemoryEntryPurgableControl`]: sets the state word; gives the state before.
    #[doc(alias = "mach_memory_entry_purgable_control")]
    pub fn set_purgeable(&self, state: u32) -> Result<u32, Kern> {
        let control = purgeable::SET_STATE;
        let reply = self.call(&MachMemoryEntryPurgableControl { control, state })?;
        Ok(reply.state)
    }

    /// [`MachMemoryEntryPurgableControl`]: gives the state.
    #[doc(alias = "mach_memory_entry_purgable_control")]
    pub fn get_purgeable(&self) -> Result<u32, Kern> {
        let control = purgeable::GET_STATE;
        let reply = self.call(&MachMemoryEntryPurgableControl { control, state: 0 })?;
        Ok(reply.state)
    }
}
