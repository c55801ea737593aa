//! What drivers and the kernel agree on: where interrupts come from, and what signals one.

/// The line of an interrupt that has none: it is signalled by a write of the device (MSI, MSI-X).
pub const LINE_NONE: u64 = u64::MAX;

/// What a device writes, and where, to signal an interrupt: the entry of its MSI-X table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct InterruptMessage {
    /// Physical address, below 4 GiB.
    pub address: u32,
    /// The 32 bits written there.
    pub data: u32,
}

impl InterruptMessage {
    /// As one word: the address below, the data above.
    #[must_use]
    pub const fn to_word(self) -> u64 {
        self.address as u64 | (self.data as u64) << 32
    }

    /// From a word.
    #[must_use]
    pub const fn from_word(word: u64) -> InterruptMessage {
        InterruptMessage {
            address: (word & 0xFFFF_FFFF) as u32,
            data: (word >> 32) as u32,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_interrupt_message_survives_its_word() {
        let message = InterruptMessage {
            address: 0xFEE0_1000,
            data: 0x51,
        };
        assert_eq!(InterruptMessage::from_word(message.to_word()), message);
    }
}
