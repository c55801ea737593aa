//! Interrupts of devices, for drivers.
//!
//! An interrupt tells its port once each time that it is enabled: a driver enables it, waits, serves
//! the device, and enables it again. What comes in between is counted, not lost.
//!
//! ```ignore
//! let (interrupt, message) = Interrupt::signalled(&device)?;
//! // ... write `message` to the device's MSI-X table ...
//! loop {
//!     interrupt.enable()?;
//!     serve_the_device();
//!     interrupt.wait(FOREVER)?;
//! }
//! ```

use ipc_abi::device::{InterruptMessage, LINE_NONE};
use ipc_abi::message::{Info, option};
use ipc_abi::notify::INTERRUPT;
use ipc_abi::{Kern, kern_return};

use crate::right::{ReceiveRight, SendRight, Untyped};
use crate::trap;

/// An interrupt of a device. Dropping it gives line and vector back.
#[derive(Debug)]
pub struct Interrupt {
    right: SendRight<Untyped>,
    bell: ReceiveRight<Untyped>,
}

impl Interrupt {
    /// The interrupt of a line of the interrupt controllers, as PCI's Interrupt Line register has it.
    /// A line has one holder. It starts disabled.
    ///
    /// # Errors
    /// KERN_INVALID_HOST: `device` is not the device port; KERN_INVALID_ARGUMENT: no such line;
    /// KERN_NO_ACCESS: it is taken; KERN_RESOURCE_SHORTAGE.
    pub fn line(device: &SendRight<Untyped>, line: u8) -> Result<Interrupt, Kern> {
        Interrupt::create(device, line.into()).map(|(interrupt, _)| interrupt)
    }

    /// An interrupt that the device signals by a write to memory (MSI, MSI-X), and what it has to
    /// write. It starts disabled.
    ///
    /// # Errors
    /// KERN_INVALID_HOST: `device` is not the device port; KERN_RESOURCE_SHORTAGE: no memory, or no
    /// vector is left.
    pub fn signalled(device: &SendRight<Untyped>) -> Result<(Interrupt, InterruptMessage), Kern> {
        let (interrupt, message) = Interrupt::create(device, LINE_NONE)?;
        Ok((interrupt, InterruptMessage::from_word(message)))
    }

    fn create(device: &SendRight<Untyped>, line: u64) -> Result<(Interrupt, u64), Kern> {
        let bell = ReceiveRight::new(0)?;
        let (name, message) = trap::interrupt_create(device.name(), line, bell.name())?;
        let right = SendRight::from_name(name);
        Ok((Interrupt { right, bell }, message))
    }

    /// Lets the next interrupt be told. Those that came since the last one are told at once; a line
    /// that the device still holds interrupts at once.
    ///
    /// # Errors
    /// KERN_INVALID_NAME: the right is gone.
    pub fn enable(&self) -> Result<(), Kern> {
        trap::interrupt_enable(self.right.name())
    }

    /// Has it come to the processor of this number from now on. A device that signals by messages is to
    /// write what this gives.
    ///
    /// # Errors
    /// KERN_INVALID_NAME: the right is gone; KERN_INVALID_VALUE: no such processor.
    pub fn set_processor(&self, processor: u64) -> Result<InterruptMessage, Kern> {
        let message = trap::interrupt_set_processor(self.right.name(), processor)?;
        Ok(InterruptMessage::from_word(message))
    }

    /// Waits until the interrupt has come, or until `deadline`, in nanoseconds since boot. Gives how
    /// often it came since it was told last.
    ///
    /// # Errors
    /// MACH_RCV_TIMED_OUT; MACH_RCV_INTERRUPTED: the thread was aborted.
    pub fn wait(&self, deadline: u64) -> Result<u64, Kern> {
        self.wait_where(deadline).map(|(count, _)| count)
    }

    /// As [`Interrupt::wait`]; gives also the number of the processor that it came to last.
    ///
    /// # Errors
    /// As there.
    pub fn wait_where(&self, deadline: u64) -> Result<(u64, u64), Kern> {
        loop {
            let received = trap::exchange(&trap::Send {
                options: option::RECEIVE,
                destination: 0,
                receive: self.bell.name(),
                info: Info(0),
                send_deadline: 0,
                receive_deadline: deadline,
                notify: 0,
                words: [0; 6],
            });
            kern_return::from_raw(received.outcome.code())?;
            // Nobody else has a right to the port, so that nothing else comes.
            if received.info.is_kernel() && received.info.id() == INTERRUPT {
                let [count, processor, ..] = received.words;
                return Ok((count, processor));
            }
        }
    }

    /// The port that the messages come to, for a set that is waited on together with others
    /// ([`crate::server::Notice::Interrupt`]).
    #[must_use]
    pub const fn bell(&self) -> &ReceiveRight<Untyped> {
        &self.bell
    }
}
