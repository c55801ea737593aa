//! Names of port rights, and how a right travels in a message.

/// A task's name for a right. 0 is no name.
pub type Name = u32;

/// The name that denotes nothing.
pub const NULL: Name = 0;

/// What the sender of a message wants done with a right (Mach's dispositions and numbers).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Disposition {
    /// The slot carries nothing; it arrives as [`ArrivedKind::None`].
    None = 0,
    /// The receive right moves to the receiver.
    MoveReceive = 16,
    /// One of the sender's user references to a send right moves.
    MoveSend = 17,
    /// The send-once right moves.
    MoveSendOnce = 18,
    /// The receiver gets a send right of its own; the sender keeps its.
    CopySend = 19,
    /// A send right is made from the sender's receive right; raises the make-send count.
    MakeSend = 20,
    /// A send-once right is made from the sender's receive right.
    MakeSendOnce = 21,
}

impl Disposition {
    /// Reads the byte that a sender wrote.
    #[must_use]
    pub const fn from_raw(raw: u8) -> Option<Disposition> {
        Some(match raw {
            0 => Disposition::None,
            16 => Disposition::MoveReceive,
            17 => Disposition::MoveSend,
            18 => Disposition::MoveSendOnce,
            19 => Disposition::CopySend,
            20 => Disposition::MakeSend,
            21 => Disposition::MakeSendOnce,
            _ => return None,
        })
    }
}

/// What a right is when it has arrived.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum ArrivedKind {
    /// Nothing was sent in this slot.
    None = 0,
    /// A receive right; the value is its name.
    Receive = 1,
    /// A send right; the value is its name, which has one more user reference.
    Send = 2,
    /// A send-once right; the value is its name.
    SendOnce = 3,
    /// The port was dead on arrival; the value is a dead name.
    Dead = 4,
    /// A send or send-once right to a port whose receive right the receiver holds: the value is
    /// that port's payload, and the right has been given back.
    Own = 5,
    /// As [`ArrivedKind::Own`], and it was the last send right to a port that is told so in this way (see
    /// `port_allocate`): nothing is queued at it either, so that nobody but the receiver can reach it.
    OwnLast = 6,
}

impl ArrivedKind {
    /// Reads the byte that the kernel wrote.
    #[must_use]
    pub const fn from_raw(raw: u8) -> Option<ArrivedKind> {
        Some(match raw {
            0 => ArrivedKind::None,
            1 => ArrivedKind::Receive,
            2 => ArrivedKind::Send,
            3 => ArrivedKind::SendOnce,
            4 => ArrivedKind::Dead,
            5 => ArrivedKind::Own,
            6 => ArrivedKind::OwnLast,
            _ => return None,
        })
    }
}

/// A port that the kernel keeps for a task, found by index instead of name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum SpecialPort {
    /// The task's own control port.
    TaskSelf = 1,
    /// The task's address map at its VM server; the kernel sends the task's faults here too.
    Map = 2,
    /// The name service.
    Bootstrap = 3,
    /// Where exceptions that no thread port takes are sent. Can be set, not read.
    Exception = 4,
    /// Privileged: frames, page tables, donation.
    HostMemory = 5,
    /// Privileged: tasks, special ports, shutdown.
    HostControl = 6,
    /// Privileged: I/O ports and device frames.
    Device = 7,
}

impl SpecialPort {
    /// How many indices there are, 0 included.
    pub const COUNT: usize = 8;

    /// Reads an index that a task gave.
    #[must_use]
    pub const fn from_raw(raw: u64) -> Option<SpecialPort> {
        Some(match raw {
            1 => SpecialPort::TaskSelf,
            2 => SpecialPort::Map,
            3 => SpecialPort::Bootstrap,
            4 => SpecialPort::Exception,
            5 => SpecialPort::HostMemory,
            6 => SpecialPort::HostControl,
            7 => SpecialPort::Device,
            _ => return None,
        })
    }
}
