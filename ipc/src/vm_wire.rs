//! Wired memory and limits: the calls of [`vm_wire`](ipc_protocol::vm_wire) as methods of the right to
//! a map.
//!
//! All that change something need the host control port, which a task has if the manifest says so. Units, rules and errors
//! are with the messages.

use crate::right::{SendRight, Untyped};
use ipc_abi::Kern;
use ipc_abi::boot::FrameRange;
use ipc_abi::message::FOREVER;
use ipc_abi::types::Prot;
use ipc_protocol::vm_map::Map;
use ipc_protocol::vm_wire::{
    VmGiveFrames, VmGiveFramesReply, VmLimits, VmLimitsReply, VmSetLimits, VmWire, VmWireAll,
};

impl SendRight<Map> {
    /// [`VmWire`]: makes `size` bytes at `address` resident for `access`, and keeps them so. Nests.
    ///
    /// Errors, in order: KERN_INVALID_HOST, KERN_INVALID_ARGUMENT (range), KERN_INVALID_ADDRESS (a
    /// hole), KERN_PROTECTION_FAILURE, KERN_FAILURE (65535 wirings), KERN_RESOURCE_SHORTAGE,
    /// KERN_MEMORY_ERROR (R131-144). Nothing is wired then that was not.
    #[doc(alias = "vm_wire")]
    pub fn wire(
        &self,
        host: &SendRight<Untyped>,
        address: u64,
        size: u64,
        access: Prot,
    ) -> Result<(), Kern> {
        let request = VmWire {
            address,
            size,
            access: access.bits().into(),
        };
        self.call_with(&request, [host.copy()], FOREVER).map(drop)
    }

    /// [`VmWire`] without access: takes one wiring off the range; what is not wired is passed over.
    ///
    /// Errors, in order: KERN_INVALID_HOST, KERN_INVALID_ARGUMENT (range), KERN_INVALID_ADDRESS
    /// (nothing mapped at the start; R144).
    #[doc(alias = "vm_wire")]
    pub fn unwire(&self, host: &SendRight<Untyped>, address: u64, size: u64) -> Result<(), Kern> {
        self.wire(host, address, size, Prot::NONE)
    }

    /// [`VmWireAll`]: with [`VM_WIRE_CURRENT`] what is mapped, with [`VM_WIRE_FUTURE`] what will be;
    /// without flags ends both.
    ///
    /// Errors, in order: KERN_INVALID_HOST, KERN_INVALID_ARGUMENT (flags), then as [`Self::wire`].
    ///
    /// [`VM_WIRE_CURRENT`]: ipc_protocol::vm_wire::VM_WIRE_CURRENT
    /// [`VM_WIRE_FUTURE`]: ipc_protocol::vm_wire::VM_WIRE_FUTURE
    #[doc(alias = "vm_wire_all")]
    pub fn wire_all(&self, host: &SendRight<Untyped>, flags: u32) -> Result<(), Kern> {
        self.call_with(&VmWireAll { flags }, [host.copy()], FOREVER)
            .map(drop)
    }

    /// [`VmSetLimits`]: what the map may hold.
    ///
    /// Errors: KERN_INVALID_HOST.
    #[doc(alias = "vm_set_limits")]
    pub fn set_limits(&self, host: &SendRight<Untyped>, limits: &VmSetLimits) -> Result<(), Kern> {
        self.call_with(limits, [host.copy()], FOREVER).map(drop)
    }

    /// [`VmGiveFrames`]: gives frames to the task, which is a memory server from then on. Gives the
    /// first frame and the count, and the task's host memory port.
    ///
    /// Errors: KERN_INVALID_HOST, KERN_INVALID_ARGUMENT, KERN_RESOURCE_SHORTAGE.
    #[doc(alias = "vm_give_frames")]
    pub fn give_frames(
        &self,
        host: &SendRight<Untyped>,
        count: u32,
    ) -> Result<(FrameRange, SendRight<Untyped>), Kern> {
        let (reply, mut rights) =
            self.call_with(&VmGiveFrames { count }, [host.copy()], FOREVER)?;
        let VmGiveFramesReply { first, count } = reply;
        let memory = rights.take_send(VmGiveFramesReply::MEMORY)?;
        Ok((FrameRange { first, count }, memory))
    }

    /// [`VmLimits`]: what the map may hold, and what it holds.
    #[doc(alias = "vm_limits")]
    pub fn limits(&self) -> Result<VmLimitsReply, Kern> {
        self.call(&VmLimits {})
    }
}
