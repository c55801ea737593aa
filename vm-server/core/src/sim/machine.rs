//! The model's hardware: frames with bytes, and address spaces with translations.

extern crate std;

use std::collections::BTreeMap;
use std::vec;
use std::vec::Vec;

use ipc_abi::layout::PAGE_SIZE;
use ipc_abi::types::Prot;

use crate::event::MapId;
use crate::machine::{Machine, Pass, Revoke, Seen};
use crate::object::page::Frame;
use crate::range::page_of;

/// A translation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Translation {
    /// The frame.
    pub(crate) frame: Frame,
    /// Rights.
    pub(crate) protection: Prot,
}

/// One address space.
#[derive(Clone, Debug, Default)]
pub(crate) struct Space {
    /// Translations by page number.
    pub(crate) pages: BTreeMap<u64, Translation>,
    /// The epoch of the last revoke.
    pub(crate) epoch: u64,
}

/// Frames and address spaces.
#[derive(Debug)]
pub(crate) struct Model {
    frames: Vec<Vec<u8>>,
    /// Spaces by the map's handle word.
    pub(crate) spaces: BTreeMap<u64, Space>,
    /// Frames zeroed and copied, elements revoked.
    pub(crate) work: Work,
}

/// What the machine was made to do.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Work {
    /// Frames filled with zeros.
    pub(crate) zeroed: u64,
    /// Frames copied.
    pub(crate) copied: u64,
    /// Elements of revokes.
    pub(crate) revoked: u64,
}

impl Model {
    pub(super) fn new(frames: u32) -> Model {
        Model {
            // Fresh memory holds what was there before, never zeros.
            frames: vec![vec![0xA5; PAGE_SIZE as usize]; frames as usize],
            spaces: BTreeMap::new(),
            work: Work::default(),
        }
    }

    fn bytes(&mut self, frame: Frame) -> &mut [u8] {
        &mut self.frames[frame.0 as usize]
    }

    /// Enters pages side by side where nothing is mapped; says whether that was so everywhere.
    fn fill(&mut self, map: MapId, address: u64, (frames, protection): (&[Frame], Prot)) -> bool {
        let space = self.spaces.entry(map.to_word()).or_default();
        let mut all = true;
        for (page, frame) in (page_of(address)..).zip(frames) {
            let frame = *frame;
            let vacant = !space.pages.contains_key(&page);
            let place = space.pages.entry(page);
            place.or_insert(Translation { frame, protection });
            all &= vacant;
        }
        all
    }
}

impl Machine for Model {
    fn zero(&mut self, frame: Frame) {
        self.work.zeroed += 1;
        self.bytes(frame).fill(0);
    }

    fn copy(&mut self, from: Frame, to: Frame) {
        assert_ne!(from, to, "a frame copied to itself");
        self.work.copied += 1;
        let bytes = self.frames[from.0 as usize].clone();
        self.bytes(to).copy_from_slice(&bytes);
    }

    fn load(&mut self, frame: Frame, offset: usize, bytes: &mut [u8]) {
        bytes.copy_from_slice(&self.frames[frame.0 as usize][offset..offset + bytes.len()]);
    }

    fn store(&mut self, frame: Frame, offset: usize, bytes: &[u8]) {
        self.bytes(frame)[offset..offset + bytes.len()].copy_from_slice(bytes);
    }

    fn copy_bytes(&mut self, from: (Frame, usize), to: (Frame, usize), count: usize) {
        let bytes = self.frames[from.0.0 as usize][from.1..from.1 + count].to_vec();
        self.bytes(to.0)[to.1..to.1 + count].copy_from_slice(&bytes);
    }

    fn is_zero(&mut self, frame: Frame) -> bool {
        self.bytes(frame).iter().all(|byte| *byte == 0)
    }

    fn revoke(&mut self, elements: &[Revoke]) -> Seen {
        assert!(
            elements.len() <= crate::machine::REVOKE_MAX,
            "too many at once"
        );
        let mut seen = Seen::default();
        for element in elements {
            self.work.revoked += 1;
            match *element {
                Revoke::Page {
                    map,
                    epoch,
                    address,
                    frame,
                    keep,
                } => {
                    let space = self.spaces.entry(map.to_word()).or_default();
                    assert!(epoch >= space.epoch, "epochs do not go back");
                    space.epoch = epoch;
                    let page = page_of(address);
                    if space.pages.get(&page).is_some_and(|t| t.frame == frame) {
                        lower(space, page, keep, &mut seen);
                    }
                }
                Revoke::Range {
                    map,
                    epoch,
                    start,
                    end,
                    keep,
                } => {
                    let space = self.spaces.entry(map.to_word()).or_default();
                    assert!(epoch >= space.epoch, "epochs do not go back");
                    space.epoch = epoch;
                    let range = page_of(start)..page_of(end);
                    let pages: Vec<u64> = space.pages.range(range).map(|(page, _)| *page).collect();
                    for page in pages {
                        lower(space, page, keep, &mut seen);
                    }
                }
            }
        }
        seen
    }

    fn pass(&mut self, pages: &Pass<'_>) -> bool {
        for revoke in pages.revokes() {
            self.revoke(&[revoke]);
        }
        self.fill(pages.map, pages.address, (pages.fresh, Prot::DEFAULT));
        pages.shown.is_none_or(|shown| {
            let frames = &pages.frames[shown.first as usize..][..shown.count as usize];
            self.fill(shown.map, shown.address, (frames, shown.protection))
        })
    }
}

fn lower(space: &mut Space, page: u64, keep: Prot, seen: &mut Seen) {
    if let Some(translation) = space.pages.get_mut(&page) {
        seen.referenced = true;
        seen.dirty |= translation.protection.contains(Prot::WRITE);
        translation.protection &= keep;
        if translation.protection.is_empty() {
            space.pages.remove(&page);
        }
    }
}
