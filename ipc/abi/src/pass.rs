//! Pages that go from a pager's slots to who waits for them: one trap takes them out of one space, puts
//! others in their places, and shows them in another space ([`crate::trap::Trap::PmapPass`]).
//!
//! The start of the IPC buffer's body has a word of 32 bits for each page: the number of the frame that is
//! expected in its slot. Where others take their places, the numbers of those are at [`FRESH`].

use crate::types::Prot;

/// Most pages of a pass.
pub const PASS_MAX: usize = 64;
/// Where in the body the words of the others begin, in bytes.
pub const FRESH: usize = 4 * PASS_MAX;

/// What is passed: the arguments of the trap.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pass {
    /// Name of the space that the pages leave.
    pub from: u32,
    /// Name of the space in which they are shown; means nothing if none is.
    pub to: u32,
    /// Address of the first page that leaves.
    pub address: u64,
    /// Pages, 1 to [`PASS_MAX`].
    pub count: u32,
    /// Whether others take their places, readable and writable.
    pub fresh: bool,
    /// The epoch from now on of the space that they leave.
    pub epoch: u64,
    /// Which of them is the first that is shown.
    pub first: u32,
    /// How many are shown, side by side in one page table; 0: none.
    pub shown: u32,
    /// Address at which the first of these is shown.
    pub at: u64,
    /// The rights with which they are shown.
    pub rights: Prot,
}

impl Pass {
    /// As arguments.
    #[inline]
    #[must_use]
    pub const fn to_words(self) -> [u64; 6] {
        [
            self.from as u64 | (self.to as u64) << 32,
            self.address & !0xFFF | (self.count & 0xFFF) as u64,
            self.fresh as u64,
            self.epoch,
            self.first as u64 | (self.shown as u64) << 32,
            self.at & !0xFFF | self.rights.bits() as u64,
        ]
    }

    /// From arguments; `None`: bits that mean nothing are set, there is no page or too many, or what is
    /// shown is not among them, has no rights, or is not in one page table.
    #[inline]
    #[must_use]
    pub fn from_words(words: [u64; 6]) -> Option<Pass> {
        let [spaces, slots, fresh, epoch, which, shown] = words;
        let pass = Pass {
            from: spaces as u32,
            to: (spaces >> 32) as u32,
            address: slots & !0xFFF,
            count: (slots & 0xFFF) as u32,
            fresh: fresh != 0,
            epoch,
            first: which as u32,
            shown: (which >> 32) as u32,
            at: shown & !0xFFF,
            rights: Prot::from_bits((shown & 0xFF) as u8).filter(|_| shown & 0xF00 == 0)?,
        };
        let counted = 0 < pass.count && pass.count as usize <= PASS_MAX;
        let among = pass.first.checked_add(pass.shown)? <= pass.count;
        let place = pass.at >> 12 & 511;
        let together = place.saturating_add(pass.shown.into()) <= 512;
        let seen = pass.shown == 0 || together && !pass.rights.is_empty();
        (fresh <= 1 && counted && among && seen).then_some(pass)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PASS: Pass = Pass {
        from: 5,
        to: u32::MAX,
        address: 0x7000_0000_1000,
        count: 64,
        fresh: true,
        epoch: u64::MAX,
        first: 60,
        shown: 4,
        at: 0x1F_C000,
        rights: Prot::READ,
    };

    #[test]
    fn a_pass_round_trips() {
        for pass in [
            PASS,
            Pass {
                fresh: false,
                first: 0,
                shown: 0,
                rights: Prot::NONE,
                ..PASS
            },
        ] {
            assert_eq!(Pass::from_words(pass.to_words()), Some(pass));
        }
    }

    #[test]
    fn what_makes_no_sense_is_refused() {
        let wrong = [
            Pass { count: 0, ..PASS },
            Pass { count: 65, ..PASS },
            Pass { first: 61, ..PASS },
            Pass {
                first: u32::MAX,
                ..PASS
            },
            Pass {
                rights: Prot::NONE,
                ..PASS
            },
            Pass {
                at: 0x1F_D000,
                ..PASS
            },
        ];
        for pass in wrong {
            assert_eq!(Pass::from_words(pass.to_words()), None, "{pass:?}");
        }
        for (word, bit) in [(2, 1), (5, 3), (5, 11)] {
            let mut words = PASS.to_words();
            words[word] |= 1 << bit;
            assert_eq!(Pass::from_words(words), None, "{word} {bit}");
        }
    }
}
