//! What comes into the core: one message, kernel notice, timer or step.
//!
//! Port names are resolved by the shell: a right to one of the server's own ports is the record
//! behind it ([`PortOf`]), any other is an opaque [`RightId`]. A right that comes in an event is the
//! core's from then on; it keeps it, or gives it back with `Effect::Release`.

use core::num::NonZeroU64;

use ipc_abi::types::Prot;

use crate::id::Id;

/// Handle of an address map.
pub type MapId = Id<crate::map::Map>;
/// Handle of a memory object.
pub type ObjectId = Id<crate::object::Object>;
/// Handle of a control port: one attachment of a pager to an object.
pub type ControlId = Id<crate::object::pager::Control>;
/// Handle of a tray.
pub type TrayId = Id<crate::tray::Tray>;

/// Nanoseconds of the kernel's clock.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct Time(pub u64);

impl Time {
    /// Never.
    pub const NEVER: Time = Time(u64::MAX);

    /// This long after; never, if that is beyond the clock.
    #[must_use]
    pub const fn after(self, nanoseconds: u64) -> Time {
        Time(self.0.saturating_add(nanoseconds))
    }
}

/// The shell's name of a right to somebody else's port. Two rights to one port have one name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct RightId(pub u32);

/// The record behind one of the server's own ports. Its word is the port's payload.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PortOf {
    /// A task's map port: vm_ calls and faults.
    Map(MapId),
    /// A memory object's control port.
    Control(ControlId),
    /// A named entry.
    Entry(Id<crate::named_entry::NamedEntry>),
    /// A copy.
    Copy(Id<crate::copy::Copy>),
    /// A tray.
    Tray(TrayId),
    /// The read-only port of a map: questions, copies of it and read-only remapping.
    MapRead(MapId),
}

const KIND_SHIFT: u32 = 28;
const INDEX: u64 = (1 << KIND_SHIFT) - 1;

impl PortOf {
    /// As a payload: index in bits 0..28, kind in 28..32, generation above. Never 0.
    #[must_use]
    pub const fn to_payload(self) -> u64 {
        let (kind, word) = match self {
            PortOf::Map(id) => (1, id.to_word()),
            PortOf::Control(id) => (2, id.to_word()),
            PortOf::Entry(id) => (3, id.to_word()),
            PortOf::Copy(id) => (4, id.to_word()),
            PortOf::Tray(id) => (5, id.to_word()),
            PortOf::MapRead(id) => (6, id.to_word()),
        };
        word | kind << KIND_SHIFT
    }

    /// Reads a payload; `None`: not one of the core's.
    #[must_use]
    pub const fn from_payload(payload: u64) -> Option<PortOf> {
        let word = payload & !(0xF << KIND_SHIFT);
        debug_assert!(word & 0xFFFF_FFFF <= INDEX);
        macro_rules! of {
            ($kind:ident) => {
                match Id::from_word(word) {
                    Some(id) => Some(PortOf::$kind(id)),
                    None => None,
                }
            };
        }
        match payload >> KIND_SHIFT & 0xF {
            1 => of!(Map),
            2 => of!(Control),
            3 => of!(Entry),
            4 => of!(Copy),
            5 => of!(Tray),
            6 => of!(MapRead),
            _ => None,
        }
    }
}

/// A right as it arrived in a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PortRef {
    /// Nothing was sent in this slot.
    None,
    /// One of the server's own ports.
    Own(PortOf),
    /// A send right to somebody else's port.
    Foreign(RightId),
    /// A dead name, or a kind of right that no request takes.
    Dead(RightId),
}

/// The rights of one message, by slot.
pub type Rights = [PortRef; 8];

/// No rights.
pub const NO_RIGHTS: Rights = [PortRef::None; 8];

/// Whom an answer goes to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Token(pub NonZeroU64);

/// Whom an answer goes to, if anybody waits for one.
pub type ReplyTo = Option<Token>;

/// A page fault. Always the kernel's own call, so always with a token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fault {
    /// Whose fault port: the map.
    pub map: MapId,
    /// What was touched, to the byte.
    pub address: u64,
    /// One of READ, WRITE, EXECUTE.
    pub access: Prot,
    /// Whom to answer.
    pub token: Token,
}

/// One event.
#[derive(Clone, Debug, PartialEq)]
pub enum Event {
    /// A thread touched memory.
    Fault(Fault),
    /// A request on one of the server's ports.
    Call {
        /// What is asked; its variant agrees with the kind of the port.
        call: crate::call::Call,
        /// The rights that it carries.
        rights: Rights,
        /// Whom to answer.
        reply: ReplyTo,
    },
    /// A right's port died.
    DeadName(RightId),
    /// Nobody holds a send right to this port any more. `made`: its make-send count then; an older
    /// notice than the last right that was made is void.
    NoSenders {
        /// Which port.
        port: PortOf,
        /// Send rights that had been made when the notice was sent.
        made: u32,
    },
    /// The call or fault of this token is void.
    Cancelled(Token),
    /// The task of this map has ended; its translations are gone or irrelevant.
    TaskEnded(MapId),
    /// The task of this map is suspended: it can do without translations, and its ring.
    TaskSuspended(MapId),
    /// Frames for the core: free memory, contents unknown.
    AddFrames {
        /// First frame.
        first: u32,
        /// Frames.
        count: u32,
    },
    /// The kernel would like this many frames.
    KernelShort(u32),
    /// The queue of this right's port is full: nothing is said to it until `Possible`.
    Full(RightId),
    /// The queue has room again.
    Possible(RightId),
    /// Time has passed.
    Tick,
    /// Go on with what is unfinished.
    Step,
    /// There is nothing else to do: prepare zeroed frames.
    Idle,
}

#[cfg(test)]
mod tests {
    use super::*;
    use core::num::NonZeroU32;

    #[test]
    fn payloads_read_back_with_their_kind() {
        let map = MapId::new(77, NonZeroU32::new(5).unwrap());
        let port = PortOf::Map(map);
        assert_eq!(PortOf::from_payload(port.to_payload()), Some(port));
        let tray = PortOf::Tray(TrayId::new(77, NonZeroU32::new(5).unwrap()));
        assert_ne!(tray.to_payload(), port.to_payload());
        assert_eq!(PortOf::from_payload(tray.to_payload()), Some(tray));
        let read = PortOf::MapRead(map);
        assert_eq!(PortOf::from_payload(read.to_payload()), Some(read));
        assert_eq!(PortOf::from_payload(0), None);
    }
}
