//! What the VM server, the only task that the kernel loads, finds when it starts.
//!
//! Its first thread begins with RDI = length in bytes of a [`BootInfo`] in its IPC buffer's body,
//! RSI = address of that buffer, and a stack. All memory that is not the kernel's is listed as
//! ranges of frames, owned by it and mapped in its physical window.

use crate::buffer::BODY_SIZE;

/// A run of page frames.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct FrameRange {
    /// Number of the first frame.
    pub first: u32,
    /// Frames.
    pub count: u32,
}

/// Most ranges that the information lists; smaller ones beyond that are left unused.
pub const RANGES_MAX: usize = 64;
/// Longest kernel command line, in bytes; the rest is cut.
pub const COMMAND_LINE_MAX: usize = 1024;

/// The information itself. Encoded as 64-bit little-endian words, see [`BootInfo::encode`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BootInfo<'a> {
    /// Physical address of the boot image, which lies in frames that the server owns.
    pub image_start: u64,
    /// Bytes of the boot image.
    pub image_size: u64,
    /// One past the highest frame number of memory.
    pub frame_limit: u32,
    /// Name of a send right to the host memory port.
    pub host_memory: u32,
    /// Name of a send right to the host control port.
    pub host_control: u32,
    /// Name of a send right to the device port.
    pub device: u32,
    /// Frames that are the server's: neither the image's, nor those of its own code and stack.
    pub free: &'a [FrameRange],
    /// The kernel's command line.
    pub command_line: &'a [u8],
}

/// The ranges of a decoded [`BootInfo`].
pub type Ranges = [FrameRange; RANGES_MAX];

const FIXED_WORDS: usize = 8;
const _: () = assert!(8 * (FIXED_WORDS + RANGES_MAX) + COMMAND_LINE_MAX <= BODY_SIZE);

impl<'a> BootInfo<'a> {
    /// Writes the information to `body` and says how many bytes it takes. Ranges and command line
    /// over their limits are cut.
    #[must_use]
    pub fn encode(&self, body: &mut [u8; BODY_SIZE]) -> usize {
        let free = self.free.get(..RANGES_MAX).unwrap_or(self.free);
        let line = self
            .command_line
            .get(..COMMAND_LINE_MAX)
            .unwrap_or(self.command_line);
        let fixed = [
            self.image_start,
            self.image_size,
            u64::from(self.frame_limit),
            u64::from(self.host_memory),
            u64::from(self.host_control),
            u64::from(self.device),
            free.len() as u64,
            line.len() as u64,
        ];
        let ranges = free
            .iter()
            .map(|range| u64::from(range.first) | u64::from(range.count) << 32);
        let mut length: usize = 0;
        for (chunk, word) in body
            .chunks_exact_mut(8)
            .zip(fixed.into_iter().chain(ranges))
        {
            chunk.copy_from_slice(&word.to_le_bytes());
            length = length.saturating_add(8);
        }
        let end = length.saturating_add(line.len());
        if let Some(place) = body.get_mut(length..end) {
            place.copy_from_slice(line);
        }
        end
    }

    /// Reads the information; `ranges` is where the list of frames is put. `None` if malformed.
    #[must_use]
    pub fn decode(body: &'a [u8], ranges: &'a mut Ranges) -> Option<BootInfo<'a>> {
        let word = |index: usize| {
            let start = index.checked_mul(8)?;
            let bytes = body.get(start..start.checked_add(8)?)?;
            Some(u64::from_le_bytes(bytes.try_into().ok()?))
        };
        let count = usize::try_from(word(6)?).ok()?;
        let line = usize::try_from(word(7)?).ok()?;
        for (index, range) in ranges.get_mut(..count)?.iter_mut().enumerate() {
            let packed = word(index.checked_add(FIXED_WORDS)?)?;
            *range = FrameRange {
                first: (packed & 0xFFFF_FFFF) as u32,
                count: (packed >> 32) as u32,
            };
        }
        let start = count.checked_add(FIXED_WORDS)?.checked_mul(8)?;
        Some(BootInfo {
            image_start: word(0)?,
            image_size: word(1)?,
            frame_limit: u32::try_from(word(2)?).ok()?,
            host_memory: u32::try_from(word(3)?).ok()?,
            host_control: u32::try_from(word(4)?).ok()?,
            device: u32::try_from(word(5)?).ok()?,
            free: ranges.get(..count)?,
            command_line: body.get(start..start.checked_add(line)?)?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn boot_information_round_trips() {
        let free = [
            FrameRange {
                first: 256,
                count: 10,
            },
            FrameRange {
                first: 4096,
                count: 1 << 20,
            },
        ];
        let info = BootInfo {
            image_start: 0x80_0000,
            image_size: 123_456,
            frame_limit: 1 << 18,
            host_memory: 1,
            host_control: 2,
            device: 3,
            free: &free,
            command_line: b"log=info demo",
        };
        let mut body = [0; BODY_SIZE];
        let length = info.encode(&mut body);
        let mut ranges = Ranges::from([FrameRange::default(); RANGES_MAX]);
        assert_eq!(BootInfo::decode(&body[..length], &mut ranges), Some(info));
        assert_eq!(BootInfo::decode(&body[..length - 1], &mut ranges), None);
    }
}
