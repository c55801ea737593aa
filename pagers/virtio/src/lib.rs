//! Virtio devices for driver tasks, around the crate `virtio-drivers`.
//!
//! A driver task holds a right to the device port and is trusted with DMA (DESIGN, privileged
//! ports). [`pci`] finds a device and gives it addresses, [`msi`] lets it interrupt, [`hal`] is the one place that knows where
//! DMA memory and registers lie, [`ninep`] is the device behind which QEMU keeps a directory.
//! Buffers that a device sees lie in memory allocated for it; nothing else is ever shared, so that
//! no copying pool is needed and a stray device write cannot reach the heap.
#![no_std]

extern crate alloc;

pub mod hal;
pub mod msi;
pub mod ninep;
pub mod pci;

use core::fmt;

use ipc::Kern;
use virtio_drivers::transport::pci::VirtioPciError;
use virtio_drivers::transport::pci::bus::PciError;

/// Why a device cannot be used.
#[derive(Debug)]
pub enum Error {
    /// The machine has no such device.
    Missing,
    /// A register range of the device has no address, and there is none to give it.
    NoAddress,
    /// What the device says of itself makes no sense.
    Pci(VirtioPciError),
    /// The driver library refuses, or the device does not keep to the protocol.
    Device(virtio_drivers::Error),
    /// Memory or registers could not be had.
    Kern(Kern),
    /// The message is larger than the driver's buffer.
    TooLong,
    /// The device did not answer in time, and is not asked again.
    Silent,
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Error::Missing => f.write_str("no such device"),
            Error::NoAddress => f.write_str("the device has no address"),
            Error::Pci(error) => write!(f, "{error}"),
            Error::Device(error) => write!(f, "{error}"),
            Error::Kern(code) => write!(f, "{code}"),
            Error::TooLong => f.write_str("message too long"),
            Error::Silent => f.write_str("the device does not answer"),
        }
    }
}

impl From<Kern> for Error {
    fn from(code: Kern) -> Error {
        Error::Kern(code)
    }
}

impl From<virtio_drivers::Error> for Error {
    fn from(error: virtio_drivers::Error) -> Error {
        Error::Device(error)
    }
}

impl From<VirtioPciError> for Error {
    fn from(error: VirtioPciError) -> Error {
        Error::Pci(error)
    }
}

impl From<PciError> for Error {
    fn from(error: PciError) -> Error {
        Error::Pci(VirtioPciError::Pci(error))
    }
}
