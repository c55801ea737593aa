//! The virtio 9P device: carries 9P messages to the host and back.
//!
//! One message is under way at a time. Request and reply lie in two buffers of DMA memory that stay
//! for the driver's life; what is read is copied once, from there to where it is wanted. The used
//! ring is polled, and the processor offered to others between two looks. `virtio-drivers` has a
//! device of this kind, but one that spins until the answer comes, for ever if it does not come.

use alloc::string::String;

use virtio_drivers::queue::VirtQueue;
use virtio_drivers::transport::pci::PciTransport;
use virtio_drivers::transport::pci::bus::DeviceFunction;
use virtio_drivers::transport::{DeviceType, Transport};

use crate::Error;
use crate::hal::{DevicePort, Memory, TaskHal};
use crate::pci::{self, Root};

bitflags::bitflags! {
    /// What this driver understands of what a device can offer.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    struct Feature: u64 {
        /// The device has a mount tag.
        const MOUNT_TAG = 1;
        /// The device keeps to version 1 of the standard.
        const VERSION_1 = 1 << 32;
        /// The device goes through the platform's IOMMU.
        const ACCESS_PLATFORM = 1 << 33;
    }
}

const QUEUE: u16 = 0;
/// Two descriptors are in use at most: request and reply.
const QUEUE_SIZE: usize = 4;
/// Longest request.
const REQUEST_MAX: usize = 8192;
/// Longest wait for an answer, in nanoseconds: the host's disk may have to spin up.
const PATIENCE: u64 = 30_000_000_000;

/// A 9P device, open.
pub struct NineP {
    // Dropped first: it resets the device, which then no longer knows the memory below.
    transport: PciTransport,
    queue: VirtQueue<TaskHal, QUEUE_SIZE>,
    request: Memory,
    reply: Memory,
    silent: bool,
}

impl NineP {
    /// Opens the device with this mount tag. `reply_max`: longest reply, in bytes.
    ///
    /// # Errors
    /// [`Error::Missing`]: no device has the tag. Otherwise why the last one that was tried cannot
    /// be used.
    pub fn open(device: DevicePort, tag: &str, reply_max: usize) -> Result<NineP, Error> {
        let mut root = pci::root(device);
        let mut outcome = Err(Error::Missing);
        for function in pci::find(&root, DeviceType::_9P) {
            match open_function(&mut root, function, tag, reply_max) {
                Ok(Some(found)) => return Ok(found),
                Ok(None) => {}
                Err(error) => outcome = Err(error),
            }
        }
        outcome
    }

    /// Sends a message and waits for the reply, whose first bytes go to `head` and the rest to
    /// `body`. Gives the length of the reply.
    ///
    /// # Errors
    /// [`Error::TooLong`]: the message, or the room for the reply, is over a limit.
    /// [`Error::Silent`]: no answer, now or before. [`Error::Device`]: it broke the protocol.
    pub fn exchange(
        &mut self,
        request: &[u8],
        head: &mut [u8],
        body: &mut [u8],
    ) -> Result<usize, Error> {
        if self.silent {
            return Err(Error::Silent);
        }
        let room = head.len().saturating_add(body.len());
        let message = self.request.bytes().get_mut(..request.len());
        let message = message.ok_or(Error::TooLong)?;
        message.copy_from_slice(request);
        let length = self.carry(request.len(), room)?;
        let reply = self.reply.bytes().get(..length).ok_or(Error::TooLong)?;
        let (front, rest) = reply.split_at(length.min(head.len()));
        for (place, from) in [(head, front), (body, rest)] {
            let place = place.get_mut(..from.len()).ok_or(Error::TooLong)?;
            place.copy_from_slice(from);
        }
        Ok(length)
    }

    /// Lets the device take the request and fill at most `room` bytes of the reply.
    fn carry(&mut self, length: usize, room: usize) -> Result<usize, Error> {
        let message = self.request.bytes().get(..length).ok_or(Error::TooLong)?;
        let reply = self.reply.bytes().get_mut(..room).ok_or(Error::TooLong)?;
        let inputs: &[&[u8]] = &[message];
        let outputs: &mut [&mut [u8]] = &mut [reply];
        // SAFETY: both slices lie in memory of this driver, which `self` borrows until the device is
        // done with them; if it is never done, `silent` keeps everybody away from them, and they are
        // freed only after the transport has reset the device.
        let token = unsafe { self.queue.add(inputs, outputs)? };
        if self.queue.should_notify() {
            self.transport.notify(QUEUE);
        }
        if wait(&self.queue).is_err() {
            self.silent = true;
            return Err(Error::Silent);
        }
        // SAFETY: these are the slices that were added under this token.
        let used = unsafe { self.queue.pop_used(token, inputs, outputs) };
        self.silent = used.is_err();
        usize::try_from(used?).map_err(|_| Error::TooLong)
    }
}

fn wait(queue: &VirtQueue<TaskHal, QUEUE_SIZE>) -> Result<(), Error> {
    let start = ipc::time::now();
    while !queue.can_pop() {
        ipc::trap::thread_yield();
        if ipc::time::now().saturating_sub(start) > PATIENCE {
            return Err(Error::Silent);
        }
    }
    Ok(())
}

fn open_function(
    root: &mut Root,
    function: DeviceFunction,
    tag: &str,
    reply_max: usize,
) -> Result<Option<NineP>, Error> {
    pci::prepare(root, function)?;
    let mut transport = PciTransport::new::<TaskHal, _>(root, function)?;
    transport.begin_init(Feature::all());
    let queue = VirtQueue::new(&mut transport, QUEUE, false, false)?;
    transport.finish_init();
    if mount_tag(&transport)? != tag {
        return Ok(None);
    }
    Ok(Some(NineP {
        transport,
        queue,
        request: Memory::new(REQUEST_MAX)?,
        reply: Memory::new(reply_max)?,
        silent: false,
    }))
}

/// The device's name for what it shares. Bytes that are no text make a tag that nobody asks for.
fn mount_tag(transport: &PciTransport) -> Result<String, Error> {
    let tag = transport.read_consistent(|| {
        let length: u16 = transport.read_config_space(0)?;
        (0..usize::from(length))
            .map(|index| transport.read_config_space::<u8>(index.saturating_add(2)))
            .collect::<Result<alloc::vec::Vec<u8>, _>>()
    })?;
    Ok(String::from_utf8(tag).unwrap_or_default())
}
