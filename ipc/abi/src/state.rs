//! A thread's registers, as `thread_get_state` and `thread_set_state` pass them in the IPC buffer's
//! body.
//!
//! There are three *flavors*, with Mach's numbers. General registers and debug registers are 64-bit
//! words; the vector registers are an image as XSAVE writes it: 512 bytes of x87 and SSE, the header,
//! the upper halves of the AVX registers. 48 bytes of it that the processor leaves to software (from
//! 464) are zero.

/// Which registers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u64)]
pub enum Flavor {
    /// [`General`] (Mach's x86_THREAD_STATE64).
    General = 4,
    /// [`struct@Debug`] (x86_DEBUG_STATE64).
    Debug = 11,
    /// An image of [`VECTOR_SIZE`] bytes (x86_AVX_STATE64).
    Vector = 17,
}

impl Flavor {
    /// Reads a number that a task gave.
    #[must_use]
    pub const fn from_raw(raw: u64) -> Option<Flavor> {
        Some(match raw {
            4 => Flavor::General,
            11 => Flavor::Debug,
            17 => Flavor::Vector,
            _ => return None,
        })
    }

    /// Bytes that it takes.
    #[must_use]
    pub const fn size(self) -> usize {
        match self {
            Flavor::General => General::SIZE,
            Flavor::Debug => Debug::SIZE,
            Flavor::Vector => VECTOR_SIZE,
        }
    }
}

/// Bytes of a vector image.
pub const VECTOR_SIZE: usize = 832;
/// Offset of MXCSR in it.
pub const VECTOR_MXCSR: usize = 24;
/// Offset of its header: the bits of the components that are not as after reset, then zeros.
pub const VECTOR_HEADER: usize = 512;

/// The flags that a task's instructions may change, and so whoever sets its registers.
pub const USER_FLAGS: u64 = 0x25_4DD5;
/// The flag that has the thread stop after its next instruction.
pub const SINGLE_STEP: u64 = 0x100;

/// Reads little-endian words.
fn words<const N: usize>(bytes: &[u8]) -> Option<[u64; N]> {
    let mut words = [0; N];
    let mut chunks = bytes.chunks_exact(8);
    for word in &mut words {
        *word = u64::from_le_bytes(chunks.next()?.try_into().ok()?);
    }
    Some(words)
}

/// Writes little-endian words.
fn bytes<const N: usize>(words: &[u64], into: &mut [u8; N]) {
    for (chunk, word) in into.chunks_exact_mut(8).zip(words) {
        chunk.copy_from_slice(&word.to_le_bytes());
    }
}

macro_rules! registers {
    ($(#[doc = $doc:literal])+ $name:ident: $count:literal; $($(#[doc = $field_doc:literal])+ $field:ident,)+) => {
        $(#[doc = $doc])+
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
        pub struct $name {
            $($(#[doc = $field_doc])+ pub $field: u64,)+
        }

        impl $name {
            /// How many words it is.
            pub const WORDS: usize = $count;
            /// Bytes that it takes.
            pub const SIZE: usize = 8 * $count;

            /// As bytes of a body.
            #[must_use]
            pub fn to_bytes(self) -> [u8; $count * 8] {
                let mut into = [0; $count * 8];
                bytes::<{ $count * 8 }>(&[$(self.$field),+], &mut into);
                into
            }

            /// From bytes of a body; `None`: too few.
            #[must_use]
            pub fn from_bytes(bytes: &[u8]) -> Option<$name> {
                let [$($field),+] = words::<$count>(bytes)?;
                Some($name { $($field),+ })
            }
        }
    };
}

registers! {
    /// The general registers. Segment registers are the same for all threads, and GS base is 0.
    General: 19;
    /// RAX.
    rax,
    /// RBX.
    rbx,
    /// RCX.
    rcx,
    /// RDX.
    rdx,
    /// RDI.
    rdi,
    /// RSI.
    rsi,
    /// RBP.
    rbp,
    /// RSP.
    rsp,
    /// R8.
    r8,
    /// R9.
    r9,
    /// R10.
    r10,
    /// R11.
    r11,
    /// R12.
    r12,
    /// R13.
    r13,
    /// R14.
    r14,
    /// R15.
    r15,
    /// The next instruction.
    rip,
    /// The flags. Set, only those of [`USER_FLAGS`] are looked at.
    flags,
    /// What an address with the prefix FS is relative to.
    fs_base,
}

registers! {
    /// The debug registers.
    Debug: 6;
    /// DR0: an address.
    address0,
    /// DR1: an address.
    address1,
    /// DR2: an address.
    address2,
    /// DR3: an address.
    address3,
    /// DR6: what the last debug exception was about.
    status,
    /// DR7: which of the addresses count, and for what.
    control,
}

impl Debug {
    /// The bits of [`Debug::status`] that say something: which address was met, that an instruction
    /// was stepped over.
    pub const STATUS: u64 = 0xE00F;
    /// The bit of [`Debug::status`] for a single step.
    pub const STEPPED: u64 = 1 << 14;

    /// The four addresses.
    #[must_use]
    pub const fn addresses(self) -> [u64; 4] {
        [self.address0, self.address1, self.address2, self.address3]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn registers_round_trip_in_the_order_of_their_names() {
        let general = General {
            rax: 1,
            rip: 2,
            fs_base: 3,
            ..General::default()
        };
        let bytes = general.to_bytes();
        assert_eq!((bytes[0], bytes[16 * 8], bytes[18 * 8]), (1, 2, 3));
        assert_eq!(General::from_bytes(&bytes), Some(general));
        assert_eq!(General::from_bytes(&bytes[..151]), None);
        let debug = Debug {
            control: 7,
            ..Debug::default()
        };
        assert_eq!(Debug::from_bytes(&debug.to_bytes()), Some(debug));
    }
}
