//! The 9P server of the host, behind a virtio device.

use file_store::ninep::Error;
use file_store::session::Transport;
use virtio::hal::DevicePort;
use virtio::ninep::NineP;

/// Carries the session's messages through the device.
pub(crate) struct Device(NineP);

impl Device {
    /// Opens the device with this mount tag, for messages of up to `message_max` bytes.
    pub(crate) fn open(tag: &str, message_max: usize) -> Result<Device, virtio::Error> {
        NineP::open(DevicePort::open()?, tag, message_max).map(Device)
    }
}

impl Transport for Device {
    fn exchange(
        &mut self,
        request: &[u8],
        head: &mut [u8],
        body: &mut [u8],
    ) -> Result<usize, Error> {
        self.0.exchange(request, head, body).map_err(|error| {
            ipc::println!("file-pager: {error}");
            Error::Transport
        })
    }
}
