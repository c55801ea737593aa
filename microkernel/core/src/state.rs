//! A thread's registers, read and set by others: what may be set, and when.
//!
//! Nothing is set that the processor could refuse when the thread goes on, for then it would refuse
//! it to the kernel: addresses are of the user half, flags are the task's own, the image of the vector
//! registers has a header and an MXCSR without reserved bits. A thread is looked at only while it
//! waits or is suspended: whoever runs, or is about to, has other registers by the time of the answer.

use crate::{
    kernel::{Kernel, ThreadId},
    machine::Machine,
    thread::State,
};
use ipc_abi::{
    Kern,
    state::{Debug, Flavor, General, USER_FLAGS, VECTOR_HEADER, VECTOR_MXCSR, VECTOR_SIZE},
};

/// One past the last address of the user half.
const USER_HALF_END: u64 = 1 << 47;
/// Flags that are always set in ring 3: interrupts are on, and a bit that has no meaning.
const FIXED_FLAGS: u64 = 0x202;

/// An image of the vector registers.
pub type Vector = [u8; VECTOR_SIZE];

/// The bytes of the image that are software's: the debug registers lie there.
pub const VECTOR_SOFTWARE: core::ops::Range<usize> = 464..512;

/// What a processor's vector registers can be set to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct VectorLimits {
    /// The components that it has, by their bits in the header: x87, SSE, AVX.
    pub components: u64,
    /// The bits of MXCSR that it has.
    pub mxcsr: u32,
}

/// General registers as they are set, if they may be.
///
/// # Errors
/// KERN_INVALID_ADDRESS.
pub const fn checked_general(state: General) -> Result<General, Kern> {
    if state.rip >= USER_HALF_END || state.fs_base >= USER_HALF_END {
        return Err(Kern::InvalidAddress);
    }
    Ok(General {
        flags: state.flags & USER_FLAGS | FIXED_FLAGS,
        ..state
    })
}

/// Whether a control word of debug registers has any address watched.
#[must_use]
pub const fn watches(control: u64) -> bool {
    control & 0xFF != 0
}

/// Debug registers as they are set, if they may be. What is not watched says nothing.
///
/// # Errors
/// KERN_INVALID_ARGUMENT: a reserved bit, I/O ports, the debug registers themselves, or an instruction
/// of another length than 1; KERN_INVALID_ADDRESS.
pub fn checked_debug(state: Debug) -> Result<Debug, Kern> {
    // Bit 10 is always set; 8 and 9 mean nothing any more; 13 would watch the registers.
    if state.control & !0xFFFF_07FF != 0 {
        return Err(Kern::InvalidArgument);
    }
    let mut control = state.control & 0xFF;
    let places = [(0, 16), (2, 20), (4, 24), (6, 28)];
    for ((enable, condition), address) in places.into_iter().zip(state.addresses()) {
        if address >= USER_HALF_END {
            return Err(Kern::InvalidAddress);
        }
        if state.control >> enable & 3 == 0 {
            continue;
        }
        let (access, length) = (
            state.control >> condition & 3,
            state.control >> condition >> 2 & 3,
        );
        if access == 2 || access == 0 && length != 0 {
            return Err(Kern::InvalidArgument);
        }
        control |= (access | length << 2) << condition;
    }
    Ok(Debug {
        status: state.status & Debug::STATUS,
        control,
        ..state
    })
}

/// Checks an image, and puts initial values where its header says that they are.
///
/// # Errors
/// KERN_INVALID_ARGUMENT: a component that the processor has not, a reserved bit.
pub fn check_vector(image: &mut Vector, limits: VectorLimits) -> Result<(), Kern> {
    let (legacy, rest) = image.split_at(VECTOR_HEADER);
    let mxcsr = legacy
        .get(VECTOR_MXCSR..)
        .and_then(|bytes| bytes.first_chunk());
    let mxcsr = u32::from_le_bytes(mxcsr.copied().unwrap_or([0xFF; 4]));
    let header = rest.first_chunk::<64>().copied().unwrap_or([0xFF; 64]);
    let (components, reserved) = header.split_at(8);
    let components = components.first_chunk().copied().unwrap_or([0xFF; 8]);
    let components = u64::from_le_bytes(components);
    let undefined = components & !limits.components != 0
        || mxcsr & !limits.mxcsr != 0
        || reserved.iter().any(|byte| *byte != 0);
    if undefined {
        return Err(Kern::InvalidArgument);
    }
    settle_vector(image, components);
    Ok(())
}

/// Puts initial values where a component's bit is clear, and zeros where software's bytes are. MXCSR
/// belongs to no component.
pub fn settle_vector(image: &mut Vector, components: u64) {
    let mut clear = |range: core::ops::Range<usize>| {
        if let Some(bytes) = image.get_mut(range) {
            bytes.fill(0);
        }
    };
    clear(416..VECTOR_HEADER);
    if components & 1 == 0 {
        clear(0..VECTOR_MXCSR);
        clear(32..160);
    }
    if components & 2 == 0 {
        clear(160..416);
    }
    if components & 4 == 0 {
        clear(576..VECTOR_SIZE);
    }
    if components & 1 == 0
        && let Some([low, high, ..]) = image.first_chunk_mut::<2>()
    {
        (*low, *high) = (0x7F, 3);
    }
}

impl Kernel {
    /// Trap `thread_get_state`: the bytes.
    ///
    /// # Errors
    /// As the trap's.
    pub fn thread_get_state(
        &self,
        machine: &mut impl Machine,
        thread: u64,
        flavor: u64,
    ) -> Result<u64, Kern> {
        let me = self.caller()?;
        let (thread, flavor) = self.still(thread, flavor)?;
        let of = self.threads.at(thread).context;
        match flavor {
            Flavor::General => {
                let bytes = machine.general(of).to_bytes();
                machine.write_body(me.context, &bytes);
            }
            Flavor::Debug => {
                let bytes = machine.debug(of).to_bytes();
                machine.write_body(me.context, &bytes);
            }
            Flavor::Vector => {
                let image = machine.vector(of);
                machine.write_body(me.context, &image);
            }
        }
        Ok(flavor.size() as u64)
    }

    /// Trap `thread_set_state`.
    ///
    /// # Errors
    /// As the trap's.
    pub fn thread_set_state(
        &mut self,
        machine: &mut impl Machine,
        thread: u64,
        flavor: u64,
        length: u64,
    ) -> Result<(), Kern> {
        let me = self.caller()?;
        let (thread, flavor) = self.still(thread, flavor)?;
        if length != flavor.size() as u64 {
            return Err(Kern::InvalidArgument);
        }
        let mut image: Vector = [0; VECTOR_SIZE];
        let bytes = image.get_mut(..flavor.size()).unwrap_or(&mut []);
        machine.read_body(me.context, bytes);
        let record = self.threads.at(thread);
        let (of, stopped) = (record.context, record.state.get() == State::Stopped);
        match flavor {
            Flavor::General => {
                let state = General::from_bytes(bytes).ok_or(Kern::InvalidArgument)?;
                let state = checked_general(state)?;
                if stopped {
                    machine.make_whole(of);
                }
                machine.set_general(of, &state);
            }
            Flavor::Debug => {
                let state = Debug::from_bytes(bytes).ok_or(Kern::InvalidArgument)?;
                let state = checked_debug(state)?;
                machine.set_debug(of, &state);
                let record = self.threads.at_mut(thread);
                record.watched = watches(state.control);
                record.rank.set(record.true_rank());
            }
            Flavor::Vector => {
                check_vector(&mut image, machine.vector_limits())?;
                if stopped {
                    machine.make_whole(of);
                }
                machine.set_vector(of, &image);
            }
        }
        Ok(())
    }

    /// Whether a thread is suspended and another processor has not brought what it does to an end yet.
    #[must_use]
    pub fn is_leaving(&self, thread: u64) -> bool {
        let Ok(thread) = self.thread_or_caller(thread) else {
            return false;
        };
        let record = self.threads.at(thread);
        record.is_suspended() && record.state.get() == State::Running
    }

    /// The thread and the flavor that a trap names, if the thread stands still.
    fn still(&self, thread: u64, flavor: u64) -> Result<(ThreadId, Flavor), Kern> {
        let me = self.caller()?;
        let thread = self.resolve_thread(me.task, thread)?;
        let flavor = Flavor::from_raw(flavor).ok_or(Kern::InvalidArgument)?;
        if thread == me.thread {
            return Err(Kern::InvalidArgument);
        }
        match self.threads.at(thread).state.get() {
            State::Running | State::Ready | State::Aside => Err(Kern::Failure),
            _ => Ok((thread, flavor)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: VectorLimits = VectorLimits {
        components: 7,
        mxcsr: 0xFFFF,
    };

    fn image() -> Vector {
        let mut image = [0x55; VECTOR_SIZE];
        image[24..28].copy_from_slice(&0x1F80_u32.to_le_bytes());
        image[512..576].fill(0);
        image[512] = 7;
        image
    }

    #[test]
    fn general_registers_stay_in_the_user_half_and_flags_the_tasks_own() {
        let state = General {
            rip: USER_HALF_END - 1,
            rsp: u64::MAX,
            flags: u64::MAX,
            ..General::default()
        };
        let set = checked_general(state).unwrap();
        assert_eq!((set.rsp, set.flags), (u64::MAX, USER_FLAGS | 0x202));
        // Neither IOPL, VM, VIF nor VIP.
        assert_eq!(set.flags & 0x1A_3000, 0);
        let off = General { flags: 0, ..state };
        assert_eq!(checked_general(off).unwrap().flags, 0x202);
        for address in [USER_HALF_END, 1 << 63, u64::MAX] {
            let lost = General {
                rip: address,
                ..state
            };
            assert_eq!(checked_general(lost), Err(Kern::InvalidAddress));
            let lost = General {
                fs_base: address,
                ..state
            };
            assert_eq!(checked_general(lost), Err(Kern::InvalidAddress));
        }
    }

    #[test]
    fn only_memory_of_the_user_half_is_watched() {
        let state = Debug {
            address0: 0x1000,
            address3: USER_HALF_END - 1,
            status: u64::MAX,
            // Instructions at 0, writes of 4 bytes at 3; what 1 would watch is not on.
            control: 0xD020_0000 | 0x400 | 1 << 6 | 1,
            ..Debug::default()
        };
        let set = checked_debug(state).unwrap();
        assert_eq!((set.control, set.status), (0xD000_0041, 0xE00F));
        assert!(watches(set.control) && !watches(0xD000_0000));
        let refused = |control| checked_debug(Debug { control, ..state });
        // Watching the registers, reserved bits, ports, a long instruction.
        for control in [1 << 13, 1 << 11, 1 << 14, 1 << 32, 0x2_0001, 0x4_0001] {
            assert_eq!(refused(control), Err(Kern::InvalidArgument), "{control:x}");
        }
        for address1 in [USER_HALF_END, u64::MAX] {
            let lost = Debug { address1, ..state };
            assert_eq!(checked_debug(lost), Err(Kern::InvalidAddress));
        }
    }

    #[test]
    fn an_image_of_vector_registers_has_no_reserved_bit() {
        let mut good = image();
        assert_eq!(check_vector(&mut good, LIMITS), Ok(()));
        assert_eq!(
            (good[0], good[200], good[464], good[600]),
            (0x55, 0x55, 0, 0x55)
        );
        let refused = |place: usize, byte: u8, limits| {
            let mut image = image();
            image[place] = byte;
            check_vector(&mut image, limits) == Err(Kern::InvalidArgument)
        };
        assert!(refused(512, 8, LIMITS) && refused(519, 0x80, LIMITS));
        assert!(refused(520, 1, LIMITS) && refused(527, 0x80, LIMITS));
        assert!((528..576).all(|place| refused(place, 1, LIMITS)));
        assert!(refused(26, 1, LIMITS) && refused(27, 0x80, LIMITS));
        let old = VectorLimits {
            components: 3,
            mxcsr: 0xFFBF,
        };
        assert!(refused(512, 4, old) && refused(24, 0xC0, old) && !refused(512, 3, old));
    }

    #[test]
    fn what_an_images_header_leaves_out_gets_initial_values() {
        let mut bare = image();
        bare[512] = 0;
        assert_eq!(check_vector(&mut bare, LIMITS), Ok(()));
        let mut expected = [0; VECTOR_SIZE];
        expected[0..2].copy_from_slice(&0x37F_u16.to_le_bytes());
        expected[24..28].copy_from_slice(&0x1F80_u32.to_le_bytes());
        expected[28..32].fill(0x55);
        assert_eq!(bare, expected);
    }
}
