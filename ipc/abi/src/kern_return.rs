//! The codes that calls answer with: Mach's numbers and names, with what each means here.
//!
//! [`Kern`] is the *error* half: success is `Ok`, so an error code can never be mistaken for one.
//! On the wire success is 0. Codes from 0x8000 are Pagoda's own.

macro_rules! codes {
    ($($(#[doc = $doc:literal])+ $name:ident = $value:literal, $mach:literal;)+) => {
        /// Why a call failed. `as u32` is the number on the wire; success is 0 and not among them.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        #[repr(u32)]
        pub enum Kern {
            $($(#[doc = $doc])+ #[doc(alias = $mach)] $name = $value,)+
        }

        impl Kern {
            /// Every code, in order of number.
            pub const ALL: &[Kern] = &[$(Kern::$name),+];

            /// Mach's name of the code, as reports print it.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self { $(Kern::$name => $mach,)+ }
            }

            /// The code with this number; an unknown number reads as [`Kern::Failure`].
            #[must_use]
            pub const fn from_raw(raw: u32) -> Kern {
                match raw { $($value => Kern::$name,)+ _ => Kern::Failure }
            }
        }
    };
}

codes! {
    /// The address is not valid, or not mapped.
    InvalidAddress = 1, "KERN_INVALID_ADDRESS";
    /// The memory is mapped, but not with the rights that the access needs.
    ProtectionFailure = 2, "KERN_PROTECTION_FAILURE";
    /// The range is taken, or no hole is large enough.
    NoSpace = 3, "KERN_NO_SPACE";
    /// An argument is malformed.
    InvalidArgument = 4, "KERN_INVALID_ARGUMENT";
    /// The call failed for a reason that has no code of its own.
    Failure = 5, "KERN_FAILURE";
    /// Memory, a quota or a table is used up; nothing has changed.
    ResourceShortage = 6, "KERN_RESOURCE_SHORTAGE";
    /// The task does not hold the receive right.
    NotReceiver = 7, "KERN_NOT_RECEIVER";
    /// The caller lacks the access that the call needs.
    NoAccess = 8, "KERN_NO_ACCESS";
    /// The backing memory was destroyed.
    MemoryFailure = 9, "KERN_MEMORY_FAILURE";
    /// The pager could not bring the data.
    MemoryError = 10, "KERN_MEMORY_ERROR";
    /// The port is in the set already.
    AlreadyInSet = 11, "KERN_ALREADY_IN_SET";
    /// The port is in no set.
    NotInSet = 12, "KERN_NOT_IN_SET";
    /// The name is taken.
    NameExists = 13, "KERN_NAME_EXISTS";
    /// The operation was aborted.
    Aborted = 14, "KERN_ABORTED";
    /// The name denotes nothing.
    InvalidName = 15, "KERN_INVALID_NAME";
    /// The right is not to a task, or the task has ended.
    InvalidTask = 16, "KERN_INVALID_TASK";
    /// The name denotes a right of the wrong kind.
    InvalidRight = 17, "KERN_INVALID_RIGHT";
    /// A value is out of range.
    InvalidValue = 18, "KERN_INVALID_VALUE";
    /// User references would overflow.
    UrefsOverflow = 19, "KERN_UREFS_OVERFLOW";
    /// The capability is not valid.
    InvalidCapability = 20, "KERN_INVALID_CAPABILITY";
    /// The task holds the right already under another name.
    RightExists = 21, "KERN_RIGHT_EXISTS";
    /// The right is not the host port that the call needs.
    InvalidHost = 22, "KERN_INVALID_HOST";
    /// The page is present already.
    MemoryPresent = 23, "KERN_MEMORY_PRESENT";
    /// The object is not one that the call works on.
    InvalidObject = 29, "KERN_INVALID_OBJECT";
    /// The object has ended.
    Terminated = 37, "KERN_TERMINATED";
    /// The call exists, but not for these arguments.
    NotSupported = 46, "KERN_NOT_SUPPORTED";
    /// The deadline passed.
    OperationTimedOut = 49, "KERN_OPERATION_TIMED_OUT";
    /// Waiting would be needed, and the caller said not to.
    WouldBlock = 0x8001, "KERN_WOULD_BLOCK";
    /// There is no trap with this number.
    InvalidTrap = 0x8002, "KERN_INVALID_TRAP";
    /// The message to send is malformed.
    SendInvalidData = 0x1000_0002, "MACH_SEND_INVALID_DATA";
    /// The destination is not a live port that the sender has a right to.
    SendInvalidDest = 0x1000_0003, "MACH_SEND_INVALID_DEST";
    /// The send deadline passed while the queue was full.
    SendTimedOut = 0x1000_0004, "MACH_SEND_TIMED_OUT";
    /// The send was aborted.
    SendInterrupted = 0x1000_0007, "MACH_SEND_INTERRUPTED";
    /// The reply token is stale or not the sender's.
    SendInvalidReply = 0x1000_0009, "MACH_SEND_INVALID_REPLY";
    /// A right in the message is not one that the sender can pass so.
    SendInvalidRight = 0x1000_000A, "MACH_SEND_INVALID_RIGHT";
    /// The notify port of the send is not valid.
    SendInvalidNotify = 0x1000_000B, "MACH_SEND_INVALID_NOTIFY";
    /// The kernel has no memory for the message.
    SendNoBuffer = 0x1000_000D, "MACH_SEND_NO_BUFFER";
    /// The name to receive from is no receive right or port set.
    ReceiveInvalidName = 0x1000_4002, "MACH_RCV_INVALID_NAME";
    /// The receive deadline passed.
    ReceiveTimedOut = 0x1000_4003, "MACH_RCV_TIMED_OUT";
    /// The receive was aborted.
    ReceiveInterrupted = 0x1000_4005, "MACH_RCV_INTERRUPTED";
    /// The port moved or joined a set while being waited on.
    ReceivePortChanged = 0x1000_4006, "MACH_RCV_PORT_CHANGED";
    /// The port (or, for a call, the task that had to answer) died.
    ReceivePortDied = 0x1000_4009, "MACH_RCV_PORT_DIED";
    /// The message's rights do not fit the receiver's name space; the message stays queued.
    ReceiveNoSpace = 0x1000_400B, "MACH_RCV_HEADER_ERROR";
    /// A message does not decode as its type: too short, too long, or a field out of its range.
    MigTypeError = 0xFFFF_FED4, "MIG_TYPE_ERROR";
    /// No message has this id.
    MigBadId = 0xFFFF_FED1, "MIG_BAD_ID";
    /// A message carries the wrong number of rights.
    MigBadArguments = 0xFFFF_FED0, "MIG_BAD_ARGUMENTS";
}

/// The wire form of a result: 0 for success.
#[must_use]
pub const fn to_raw<T: Copy>(result: Result<T, Kern>) -> u32 {
    match result {
        Ok(_) => 0,
        Err(code) => code.raw(),
    }
}

/// Reads a wire code: 0 is success.
///
/// # Errors
/// The code itself, when it is not 0.
pub const fn from_raw(raw: u32) -> Result<(), Kern> {
    if raw == 0 {
        Ok(())
    } else {
        Err(Kern::from_raw(raw))
    }
}

impl Kern {
    /// The number on the wire.
    #[must_use]
    pub const fn raw(self) -> u32 {
        self as u32
    }
}

impl core::fmt::Display for Kern {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str(self.name())
    }
}

impl core::error::Error for Kern {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_code_reads_back_from_its_number() {
        for code in Kern::ALL {
            assert_eq!(Kern::from_raw(code.raw()), *code);
            assert_eq!(from_raw(code.raw()), Err(*code));
        }
        assert_eq!(from_raw(0), Ok(()));
        assert_eq!(to_raw(Ok(())), 0);
    }

    #[test]
    fn an_unknown_number_is_a_failure_never_a_success() {
        assert_eq!(from_raw(0x7777_7777), Err(Kern::Failure));
    }
}
