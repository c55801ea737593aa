//! The model machine: frames with bytes, address spaces with translations, nothing else.
//!
//! It does what the kernel and the physical window do, and is as unkind as they may be: free frames
//! hold rubbish, and an Enter with an old epoch is dropped.

use std::collections::BTreeMap;

use ipc_abi::translation;
use ipc_abi::types::Prot;
use vm_core::effect::{Enter, EnterRun};
use vm_core::event::MapId;
use vm_core::machine::{Machine, Pass, Revoke, Seen};
use vm_core::object::page::Frame;

use crate::flat::PAGE;

/// One translation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Translation {
    /// What it leads to.
    pub frame: Frame,
    /// With which rights.
    pub protection: Prot,
    /// It was used.
    pub referenced: bool,
    /// It was written through.
    pub dirty: bool,
}

/// An address space.
#[derive(Debug, Default)]
struct Space {
    pages: BTreeMap<u64, Translation>,
    epoch: u64,
    /// Its task has ended: nobody uses its translations any more, and none is entered.
    ended: bool,
    /// The server has given it up.
    given_up: bool,
}

/// Something that is wrong with the machine on purpose, to see that it is found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Flaw {
    /// The copy of a frame lacks its last byte.
    ShortCopy,
    /// Revoking a range leaves its last page as it is.
    ShortRevoke,
}

/// The machine.
#[derive(Debug)]
pub struct Model {
    frames: Vec<Option<Box<[u8]>>>,
    spaces: BTreeMap<u64, Space>,
    /// Calls so far; a revoke counts each element.
    pub work: u64,
    /// Pages that were passed with a place to be shown, so often.
    passed: u64,
    /// What is wrong with it.
    pub flaw: Option<Flaw>,
}

impl Model {
    /// A machine with frames below `limit`, all full of rubbish.
    #[must_use]
    pub fn new(limit: u32) -> Model {
        Model {
            frames: (0..limit).map(|_| None).collect(),
            spaces: BTreeMap::new(),
            work: 0,
            passed: 0,
            flaw: None,
        }
    }

    /// The bytes of a frame.
    pub fn frame(&mut self, frame: Frame) -> &mut [u8] {
        self.frames[frame.0 as usize].get_or_insert_with(|| vec![0xA5; PAGE].into_boxed_slice())
    }

    /// Fills a frame with rubbish, as a frame that was given to somebody else may be.
    pub fn spoil(&mut self, frame: Frame) {
        self.frame(frame).fill(0x5A);
    }

    /// Enters translations, unless they are out of date.
    pub fn enter(&mut self, enter: &Enter) {
        self.enter_pages(
            (enter.map, enter.epoch),
            (enter.address, enter.protection),
            enter.frames(),
        );
    }

    /// The same of a run with its frames.
    pub fn enter_run(&mut self, run: &EnterRun, frames: &[Frame]) {
        self.enter_pages((run.map, run.epoch), (run.address, run.protection), frames);
    }

    /// Enters the translation that an answer to a fault carries.
    pub fn enter_one(&mut self, map: MapId, enter: &translation::Enter) {
        let frame = Frame(enter.frame);
        self.enter_pages(
            (map, enter.epoch),
            (enter.address, enter.protection),
            &[frame],
        );
    }

    fn enter_pages(
        &mut self,
        (map, epoch): (MapId, u64),
        (address, protection): (u64, Prot),
        frames: &[Frame],
    ) {
        let space = self.spaces.entry(map.to_word()).or_default();
        if space.ended || epoch < space.epoch {
            return;
        }
        for (page, frame) in (address >> 12..).zip(frames) {
            let translation = Translation {
                frame: *frame,
                protection,
                referenced: false,
                dirty: false,
            };
            space.pages.insert(page, translation);
        }
    }

    /// Drops the translation of a page, as a kernel that is short of memory may.
    pub fn drop_translation(&mut self, map: MapId, page: u64) {
        if let Some(space) = self.spaces.get_mut(&map.to_word()) {
            space.pages.remove(&page);
        }
    }

    /// The bytes of the page at a page number, if a touch with these rights would not fault; they
    /// are as good as touched.
    pub fn page(&mut self, map: MapId, page: u64, needed: Prot) -> Option<&mut [u8]> {
        let space = self.spaces.get_mut(&map.to_word())?;
        let translation = space.pages.get_mut(&page)?;
        if !translation.protection.contains(needed) {
            return None;
        }
        translation.referenced = true;
        translation.dirty |= needed.contains(Prot::WRITE);
        let frame = translation.frame;
        Some(self.frame(frame))
    }

    /// The maps that have an address space here.
    pub fn maps(&self) -> impl Iterator<Item = MapId> + '_ {
        self.spaces
            .keys()
            .filter_map(|word| MapId::from_word(*word))
    }

    /// The translation of a page.
    #[must_use]
    pub fn translation(&self, map: MapId, page: u64) -> Option<Translation> {
        self.spaces.get(&map.to_word())?.pages.get(&page).copied()
    }

    /// Every translation of a map.
    pub fn translations(&self, map: MapId) -> impl Iterator<Item = (u64, Translation)> + '_ {
        let space = self.spaces.get(&map.to_word());
        space
            .into_iter()
            .flat_map(|space| space.pages.iter().map(|(page, to)| (*page, *to)))
    }

    /// The task of an address space has ended.
    pub fn end(&mut self, map: MapId) {
        let space = self.spaces.entry(map.to_word()).or_default();
        if space.given_up {
            self.spaces.remove(&map.to_word());
            return;
        }
        space.ended = true;
        space.pages.clear();
    }

    /// The server gives an address space up. If the task has not ended, it lives on, with its epoch.
    pub fn forget(&mut self, map: MapId) {
        let space = self.spaces.entry(map.to_word()).or_default();
        if space.ended {
            self.spaces.remove(&map.to_word());
        } else {
            space.given_up = true;
        }
    }

    /// Touches a byte as a thread of the map's task would: `None` is a fault. With `value` it is
    /// written, else read.
    pub fn touch(&mut self, map: MapId, address: u64, value: Option<u8>) -> Option<u8> {
        let needed = match value {
            Some(_) => Prot::WRITE,
            None => Prot::READ,
        };
        let page = self.page(map, address >> 12, needed)?;
        let byte = &mut page[address as usize % PAGE];
        if let Some(value) = value {
            *byte = value;
        }
        Some(*byte)
    }
}

fn lower(translation: &mut Translation, keep: Prot, seen: &mut Seen) -> bool {
    seen.referenced |= translation.referenced;
    seen.dirty |= translation.dirty;
    translation.protection &= keep;
    translation.protection.is_empty()
}

impl Machine for Model {
    fn zero(&mut self, frame: Frame) {
        self.work += 1;
        self.frame(frame).fill(0);
    }

    fn copy(&mut self, from: Frame, to: Frame) {
        self.work += 1;
        let mut bytes = self.frame(from).to_vec();
        if self.flaw == Some(Flaw::ShortCopy) {
            bytes[PAGE - 1] = self.frame(to)[PAGE - 1];
        }
        self.frame(to).copy_from_slice(&bytes);
    }

    fn load(&mut self, frame: Frame, offset: usize, bytes: &mut [u8]) {
        self.work += 1;
        bytes.copy_from_slice(&self.frame(frame)[offset..offset + bytes.len()]);
    }

    fn store(&mut self, frame: Frame, offset: usize, bytes: &[u8]) {
        self.work += 1;
        self.frame(frame)[offset..offset + bytes.len()].copy_from_slice(bytes);
    }

    fn copy_bytes(&mut self, from: (Frame, usize), to: (Frame, usize), count: usize) {
        self.work += 1;
        let bytes = self.frame(from.0)[from.1..from.1 + count].to_vec();
        self.frame(to.0)[to.1..to.1 + count].copy_from_slice(&bytes);
    }

    fn is_zero(&mut self, frame: Frame) -> bool {
        self.work += 1;
        self.frame(frame).iter().all(|byte| *byte == 0)
    }

    fn revoke(&mut self, elements: &[Revoke]) -> Seen {
        self.work += elements.len() as u64;
        let mut seen = Seen::default();
        for element in elements {
            match *element {
                Revoke::Page {
                    map,
                    epoch,
                    address,
                    frame,
                    keep,
                } => {
                    // Also a space in which nothing is entered yet has its epoch.
                    let space = self.spaces.entry(map.to_word()).or_default();
                    space.epoch = space.epoch.max(epoch);
                    let page = address >> 12;
                    if let Some(found) = space.pages.get_mut(&page)
                        && found.frame == frame
                        && lower(found, keep, &mut seen)
                    {
                        space.pages.remove(&page);
                    }
                }
                Revoke::Range {
                    map,
                    epoch,
                    start,
                    end,
                    keep,
                } => {
                    // Also a space in which nothing is entered yet has its epoch.
                    let space = self.spaces.entry(map.to_word()).or_default();
                    space.epoch = space.epoch.max(epoch);
                    let short = u64::from(self.flaw == Some(Flaw::ShortRevoke));
                    let range = start >> 12..(end >> 12) - short;
                    let mut gone = Vec::new();
                    for (page, found) in space.pages.range_mut(range) {
                        if lower(found, keep, &mut seen) {
                            gone.push(*page);
                        }
                    }
                    for page in gone {
                        space.pages.remove(&page);
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
        let place = (pages.address, Prot::DEFAULT);
        self.enter_pages((pages.map, pages.epoch), place, pages.fresh);
        let Some(shown) = pages.shown else {
            return true;
        };
        self.passed += 1;
        // Where there is no page table nothing is shown.
        if self.passed % 8 == 7 {
            return false;
        }
        let mut all = true;
        let frames = &pages.frames[shown.first as usize..][..shown.count as usize];
        for (page, frame) in (shown.address >> 12..).zip(frames) {
            let place = (page << 12, shown.protection);
            match self.translation(shown.map, page) {
                Some(_) => all = false,
                None => self.enter_pages((shown.map, u64::MAX), place, &[*frame]),
            }
        }
        all
    }
}
