//! The device port, and rights to some of the I/O ports that it stands for.
//!
//! A right to a range is a port of its own, made from the device port or a right to a wider range, and is
//! good for the I/O ports of its range and nothing else: no interrupts, no configuration space, no memory.
//! It says itself what it covers, so there is nothing to look up, and it ends with its last send right.

use crate::{account, kernel::Kernel, port::Object};
use core::ops::RangeInclusive;
use ipc_abi::{Kern, right::Name};

impl Kernel {
    /// The I/O ports that the running task's `name` is good for.
    ///
    /// # Errors
    /// KERN_INVALID_HOST: it is neither the device port nor a right to a range.
    pub fn io_ports(&self, name: u64) -> Result<RangeInclusive<u16>, Kern> {
        let me = self.running().ok_or(Kern::InvalidHost)?;
        match self.object(me.task, name) {
            Some(Object::Device) => Ok(0..=u16::MAX),
            Some(Object::IoPorts { first, last, .. }) => Ok(first..=last),
            _ => Err(Kern::InvalidHost),
        }
    }

    /// Trap `device_restrict`.
    ///
    /// # Errors
    /// As the trap's.
    pub fn device_restrict(&mut self, device: u64, first: u64, count: u64) -> Result<Name, Kern> {
        let held = self.io_ports(device)?;
        let last = count
            .checked_sub(1)
            .and_then(|more| first.checked_add(more));
        let last = last.ok_or(Kern::InvalidArgument)?;
        let (Ok(first), Ok(last)) = (u16::try_from(first), u16::try_from(last)) else {
            return Err(Kern::InvalidArgument);
        };
        if !held.contains(&first) || !held.contains(&last) {
            return Err(Kern::NoAccess);
        }
        let maker = self.caller()?.task;
        self.ports.reserve(1)?;
        self.tasks.at_mut(maker).names.reserve(1)?;
        self.account(maker).charge(account::PORT)?;
        let port = self.ports.add(Object::IoPorts { first, last, maker })?;
        self.give_send(maker, port)
    }
}
