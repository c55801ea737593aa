//! Interrupts as messages: by line, by message, by a table of messages.

use guest_test::{Failure, Msg, Outcome, check, check_eq, has_several_processors, patience};
use ipc::abi::device::{InterruptMessage, LINE_NONE};
use ipc::abi::message::{FOREVER, POLL};
use ipc::abi::notify;
use ipc::interrupt::Interrupt;
use ipc::right::Source;
use ipc::{Kern, PortSet, ReceiveRight, SendRight, Untyped, trap};
use virtio::hal::{DevicePort, TaskHal};
use virtio::{msi, pci};
use virtio_drivers::queue::VirtQueue;
use virtio_drivers::transport::pci::PciTransport;
use virtio_drivers::transport::{DeviceType, Transport};

use crate::edu::{self, Edu};

pub(crate) fn a_line_interrupts_once_each_time_that_it_is_enabled() -> Outcome {
    let edu = Edu::open()?;
    let interrupt = edu.line_interrupt()?;
    for number in 3..6_u32 {
        interrupt.enable()?;
        edu.compute(number);
        check_eq!(interrupt.wait(FOREVER)?, 1);
        check_eq!(edu.computed(), Some((1..=number).product()));
        check!(edu.acknowledge() != 0);
        check_eq!(interrupt.wait(POLL), Err(Kern::ReceiveTimedOut));
    }
    Ok(())
}

pub(crate) fn a_line_that_is_held_interrupts_again_until_the_device_is_served() -> Outcome {
    let edu = Edu::open()?;
    let interrupt = edu.line_interrupt()?;
    interrupt.enable()?;
    edu.raise();
    check_eq!(interrupt.wait(patience())?, 1);
    // It is masked while the driver is at work, so that nothing comes though the line is held.
    check_eq!(interrupt.wait(POLL), Err(Kern::ReceiveTimedOut));
    interrupt.enable()?;
    check_eq!(interrupt.wait(patience())?, 1);
    check!(edu.acknowledge() != 0);
    interrupt.enable()?;
    check_eq!(interrupt.wait(POLL), Err(Kern::ReceiveTimedOut));
    Ok(())
}

pub(crate) fn a_line_has_one_holder_and_is_free_after_it() -> Outcome {
    let edu = Edu::open()?;
    for _ in 0..3 {
        let interrupt = edu.line_interrupt()?;
        check_eq!(edu.line_interrupt().err(), Some(Kern::NoAccess));
        interrupt.enable()?;
        // The line is held when its interrupt goes: the next holder finds it so.
        edu.raise();
        check_eq!(interrupt.wait(patience())?, 1);
        drop(interrupt);
    }
    check!(edu.acknowledge() != 0);
    Ok(())
}

pub(crate) fn a_message_of_a_device_interrupts() -> Outcome {
    let edu = Edu::open()?;
    let (interrupt, message) = Interrupt::signalled(&edu.right())?;
    edu.signal(message)?;
    for number in 3..6_u32 {
        interrupt.enable()?;
        edu.compute(number);
        check_eq!(interrupt.wait(FOREVER)?, 1);
        check_eq!(edu.computed(), Some((1..=number).product()));
        check!(edu.acknowledge() != 0);
    }
    edu.signal_by_line();
    Ok(())
}

pub(crate) fn interrupts_that_nobody_waited_for_are_counted() -> Outcome {
    let edu = Edu::open()?;
    let (interrupt, message) = Interrupt::signalled(&edu.right())?;
    edu.signal(message)?;
    for _ in 0..5 {
        edu.raise();
        // Two that the processor has not taken yet would be one to it.
        trap::thread_yield();
    }
    check_eq!(interrupt.wait(POLL), Err(Kern::ReceiveTimedOut));
    interrupt.enable()?;
    check_eq!(interrupt.wait(patience())?, 5);
    check!(edu.acknowledge() != 0);
    edu.signal_by_line();
    Ok(())
}

/// Sends an interrupt to each processor, and looks where it comes.
fn each_processor(
    edu: &Edu,
    interrupt: &Interrupt,
    mut told: impl FnMut(InterruptMessage) -> Outcome,
) -> Outcome {
    let mut processors = 0;
    for number in 0.. {
        match interrupt.set_processor(number) {
            Ok(message) => told(message)?,
            Err(code) => {
                check_eq!(code, Kern::InvalidValue);
                break;
            }
        }
        processors += 1;
        for _ in 0..3 {
            interrupt.enable()?;
            edu.raise();
            check_eq!(interrupt.wait_where(patience())?, (1, number));
            check!(edu.acknowledge() != 0);
        }
    }
    check_eq!(processors > 1, has_several_processors());
    check_eq!(interrupt.set_processor(u64::MAX), Err(Kern::InvalidValue));
    Ok(())
}

pub(crate) fn a_line_interrupts_the_processor_that_it_is_sent_to() -> Outcome {
    let edu = Edu::open()?;
    let interrupt = edu.line_interrupt()?;
    each_processor(&edu, &interrupt, |message| {
        check_eq!(message.to_word(), 0);
        Ok(())
    })?;
    // The next holder has it where it was at first.
    drop(interrupt);
    let interrupt = edu.line_interrupt()?;
    interrupt.enable()?;
    edu.raise();
    check_eq!(interrupt.wait_where(patience())?, (1, 0));
    check!(edu.acknowledge() != 0);
    Ok(())
}

pub(crate) fn a_message_interrupts_the_processor_that_it_is_sent_to() -> Outcome {
    let edu = Edu::open()?;
    let (interrupt, first) = Interrupt::signalled(&edu.right())?;
    check_eq!(interrupt.set_processor(0)?, first);
    each_processor(&edu, &interrupt, |message| edu.signal(message))?;
    edu.signal_by_line();
    Ok(())
}

pub(crate) fn an_interrupt_wakes_a_server_among_its_other_ports() -> Outcome {
    let edu = Edu::open()?;
    let (interrupt, message) = Interrupt::signalled(&edu.right())?;
    edu.signal(message)?;
    let set = PortSet::new()?;
    let other = ReceiveRight::<Untyped>::new(0x07E5)?;
    let asker = other.make_send()?;
    interrupt.bell().set_attributes(0xBE11, 0)?;
    set.insert(interrupt.bell())?;
    set.insert(&other)?;
    interrupt.enable()?;
    edu.raise();
    let take = || Msg::receive_from(set.source_name()).until(patience()).go();
    let told = take()?;
    check_eq!(told.info.id(), notify::INTERRUPT);
    check_eq!(told.payload, 0xBE11);
    check_eq!(told.words[0], 1);
    check_eq!(Msg::send(&asker, 1).code(), None);
    check_eq!(take()?.payload, 0x07E5);
    check!(edu.acknowledge() != 0);
    edu.signal_by_line();
    Ok(())
}

pub(crate) fn what_is_no_line_and_no_device_port_is_refused() -> Outcome {
    let device = DevicePort::open()?;
    let bell = ReceiveRight::<Untyped>::new(0)?;
    let create = |device, line, bell| trap::interrupt_create(device, line, bell).err();
    let port = device.right().name();
    check_eq!(create(bell.name(), 4, bell.name()), Some(Kern::InvalidHost));
    check_eq!(create(0, LINE_NONE, bell.name()), Some(Kern::InvalidHost));
    for line in [240, 1 << 16, 1 << 32, LINE_NONE - 1] {
        check_eq!(create(port, line, bell.name()), Some(Kern::InvalidArgument));
    }
    check_eq!(create(port, LINE_NONE, port), Some(Kern::InvalidCapability));
    check_eq!(create(port, LINE_NONE, 0), Some(Kern::InvalidCapability));
    for name in [0, port, bell.name(), u32::MAX] {
        check_eq!(trap::interrupt_enable(name), Err(Kern::InvalidName));
        let sent = trap::interrupt_set_processor(name, 0);
        check_eq!(sent, Err(Kern::InvalidName));
    }
    let right = SendRight::<Untyped>::special(ipc::abi::right::SpecialPort::TaskSelf)?;
    check_eq!(trap::interrupt_enable(right.name()), Err(Kern::InvalidName));
    Ok(())
}

const QUEUE: u16 = 0;
/// Random bytes that are asked for at once.
const BYTES: usize = 64;

pub(crate) fn a_queue_of_a_device_interrupts_by_its_table_of_messages() -> Outcome {
    let device = DevicePort::open()?;
    let mut root = pci::root(device);
    let found = pci::find(&root, DeviceType::EntropySource);
    let function = *found
        .first()
        .ok_or("the machine has no source of random bytes")?;
    let missing = |_| Failure::from("the device cannot be used");
    pci::prepare(&mut root, function).map_err(missing)?;
    let (interrupt, message) = Interrupt::signalled(&device.right())?;
    let mut transport =
        PciTransport::new::<TaskHal, _>(&mut root, function).map_err(|_| "no transport")?;
    transport.begin_init(Feature::all());
    msi::enable_msix(device, function, message).map_err(missing)?;
    msi::signal_queue(device, function, QUEUE).map_err(missing)?;
    let queue = VirtQueue::<TaskHal, 4>::new(&mut transport, QUEUE, false, false);
    let mut queue = queue.map_err(|_| "no queue")?;
    transport.finish_init();
    let mut memory = edu::memory(BYTES)?;
    for _ in 0..3 {
        interrupt.enable()?;
        memory.bytes().fill(0);
        let bytes = memory.bytes().get_mut(..BYTES).unwrap_or(&mut []);
        let buffers: &mut [&mut [u8]] = &mut [bytes];
        // SAFETY: the buffer is memory for devices; it is looked at after the device gave it back.
        let token = unsafe { queue.add(&[], buffers) }.map_err(|_| "the queue is full")?;
        transport.notify(QUEUE);
        check_eq!(interrupt.wait(FOREVER)?, 1);
        check!(queue.can_pop());
        // SAFETY: the buffer that was added under this token.
        let length = unsafe { queue.pop_used(token, &[], buffers) };
        check!(length.is_ok_and(|length| length > 0));
        check!(memory.bytes().iter().any(|byte| *byte != 0));
    }
    Ok(())
}

bitflags::bitflags! {
    /// What this driver understands of what a device can offer.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    struct Feature: u64 {
        /// The device keeps to version 1 of the standard.
        const VERSION_1 = 1 << 32;
        /// The device goes through the platform's IOMMU.
        const ACCESS_PLATFORM = 1 << 33;
    }
}
