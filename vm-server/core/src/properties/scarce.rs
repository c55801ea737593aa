//! What has to do with pagers, with room for ever fewer records of each kind, or ever fewer frames: it is
//! done, or refused and nothing of it is left; nobody waits for what does not come any more once there
//! is room again, though no time passes.
//!
//! The pager hears what is said to it meanwhile, and answers when there is room. The calls that need no
//! pager are those of [`super::sweep`].

extern crate std;

use std::format;
use std::string::String;
use std::vec;
use std::vec::Vec;

use ipc_abi::Kern;
use ipc_abi::layout::PAGE_SIZE;
use ipc_abi::types::{Advice, CopyStrategy, Prot, Return};
use ipc_protocol::memory_object::Request as ToPager;
use ipc_protocol::memory_object_control::{
    MEMORY_OBJECT_DATA_FLUSH, MemoryObjectChangeAttributes, MemoryObjectCopyMade,
    MemoryObjectLockRequest, Request as ToServer, VM_PROT_NO_CHANGE,
};
use ipc_protocol::vm_map::{self, Request};
use ipc_protocol::{copy, vm_wire};

use crate::Config;
use crate::Core;
use crate::call::Call;
use crate::effect::Answer;
use crate::event::{Event, MapId, NO_RIGHTS, PortOf, PortRef, RightId, Rights, Token};
use crate::frames::Class;
use crate::object::page::Frame;
use crate::sim::{Pager, Touch, World};
use crate::talk;

const HOST: RightId = RightId(77);
const PORT: RightId = RightId(70);
const OTHER: RightId = RightId(71);
/// Pages of the object.
const PAGES: u64 = 8;
/// Room for so many records, or fewer.
const MOST: u32 = 5;
/// The kind that is no kind of record.
const FRAMES: usize = Core::KINDS;

/// What is done while there is no room.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Deed {
    Read(u64),
    Write(u64),
    Copy,
    CopyIn,
    Settle,
    Fork,
    Sync,
    PageOut,
    Wire,
    Unmap,
    MapOther,
    Return,
    Flush,
    Change,
    Ready,
    /// The same, while somebody waits for a page.
    ReadyWaited,
}

const DEEDS: [Deed; 18] = [
    Deed::Read(1),
    Deed::Read(6),
    Deed::Write(0),
    Deed::Write(5),
    Deed::Copy,
    Deed::CopyIn,
    Deed::Settle,
    Deed::Fork,
    Deed::Sync,
    Deed::PageOut,
    Deed::Wire,
    Deed::Unmap,
    Deed::MapOther,
    Deed::Return,
    Deed::Flush,
    Deed::Change,
    Deed::Ready,
    Deed::ReadyWaited,
];

struct Scene {
    world: World,
    pager: Pager,
    /// The pager of the other object.
    other: Pager,
    map: MapId,
    at: u64,
    /// Anonymous memory.
    to: u64,
    /// A copy of the object's memory.
    copy: PortOf,
    /// First byte of each page of the object.
    bytes: Vec<u8>,
    /// A thread that waits for a page.
    waits: Option<Token>,
    /// Frames that are out of reach.
    hoard: Vec<Frame>,
    what: String,
}

impl Scene {
    fn new(strategy: CopyStrategy, what: String) -> Scene {
        let mut world = World::with(Config {
            host: Some(HOST),
            reserve: 0,
            ahead: u32::MAX,
            ..Config::for_frames(200)
        });
        world.check_every = 0;
        let bytes: Vec<u8> = (1..=PAGES as u8).collect();
        let page = |byte: &u8| vec![*byte; PAGE_SIZE as usize];
        let data = bytes.iter().flat_map(page).collect();
        let mut pager = Pager::new(&mut world, PORT, 4, data);
        pager.ready.copy_strategy = strategy as u32;
        let other = Pager::new(&mut world, OTHER, 4, vec![1; PAGE_SIZE as usize]);
        let map = world.map();
        let at = world.map_object(map, PORT, PAGES * PAGE_SIZE);
        let to = world.allocate(map, PAGES * PAGE_SIZE);
        let mut scene = Scene {
            world,
            pager,
            other,
            map,
            at,
            to,
            copy: PortOf::Map(map),
            bytes,
            waits: None,
            hoard: Vec::new(),
            what,
        };
        scene.rest(Vec::new());
        for page in 0..4 {
            let write = page >= 2;
            let byte = 100 + page as u8;
            assert_eq!(scene.touch(page, write.then_some(byte)), Ok(()));
            if write {
                scene.bytes[page as usize] = byte;
            }
        }
        let token = scene.copyin();
        let answer = scene.answer(token).unwrap();
        scene.copy = answer.right.unwrap();
        scene.rest(Vec::new());
        scene
    }

    fn cap(&mut self, kind: usize, left: u32) {
        if kind != FRAMES {
            return self.world.core.cap(kind, left);
        }
        while self.world.core.free_frames() > left
            && let Some(frame) = self.world.core.frame_any(Class::Kernel)
        {
            self.hoard.push(frame);
        }
    }

    fn uncap(&mut self) {
        self.world.core.uncap();
        for frame in core::mem::take(&mut self.hoard) {
            self.world.core.frame_free(frame);
        }
    }

    /// Steps for a while; hears what is said.
    fn toil(&mut self) -> Vec<(RightId, talk::Message)> {
        let mut heard = Vec::new();
        for _ in 0..24 {
            heard.extend(self.said());
            if self.world.core.wants_step() {
                self.world.event(Event::Step);
            }
        }
        heard
    }

    /// What is said to the pagers, of which the core has told as the shell is told: nobody asks otherwise.
    fn said(&mut self) -> Vec<(RightId, talk::Message)> {
        let mut heard = Vec::new();
        for port in [PORT, OTHER] {
            if self.world.talks.contains(&port.0) {
                let said = self.world.said_to(port);
                heard.extend(said.into_iter().map(|message| (port, message)));
            }
        }
        heard
    }

    /// Answers what was heard, and all that follows, until everybody rests.
    fn rest(&mut self, mut heard: Vec<(RightId, talk::Message)>) {
        for _ in 0..10_000 {
            for (port, message) in core::mem::take(&mut heard) {
                let pager = match port {
                    PORT => &mut self.pager,
                    _ => &mut self.other,
                };
                pager.hear(&mut self.world, message);
                self.answer_copy();
            }
            heard = self.said();
            if !heard.is_empty() {
                continue;
            }
            if !self.world.core.wants_step() {
                return;
            }
            self.world.event(Event::Step);
        }
        panic!("{}: no rest", self.what);
    }

    /// The pager makes no copies: then the server does.
    fn answer_copy(&mut self) {
        while let Some(said) = self.pager.inbox.pop_front() {
            if let ToPager::MemoryObjectCopy(wanted) = said {
                let made = MemoryObjectCopyMade {
                    request: wanted.request,
                    result: 5,
                };
                let said = ToServer::MemoryObjectCopyMade(made);
                self.pager.say(&mut self.world, said, NO_RIGHTS);
            }
        }
    }

    fn send(&mut self, request: Request, right: PortRef) -> Token {
        let mut rights: Rights = NO_RIGHTS;
        rights[0] = right;
        self.world.send(Call::Map(self.map, request), rights)
    }

    fn copyin(&mut self) -> Token {
        let request = Request::VmCopyin(vm_map::VmCopyin {
            address: self.at,
            size: PAGES * PAGE_SIZE,
            src_destroy: false,
        });
        self.send(request, PortRef::None)
    }

    /// The answer to a call, with whatever help it takes.
    fn answer(&mut self, token: Token) -> Answer {
        for _ in 0..20 {
            if let Some(answer) = self.world.answer(token) {
                return answer;
            }
            self.rest(Vec::new());
        }
        panic!("{}: never answered", self.what);
    }

    fn touch(&mut self, page: u64, byte: Option<u8>) -> Result<(), Kern> {
        self.touch_at(self.at + page * PAGE_SIZE, byte)
    }

    fn touch_at(&mut self, address: u64, byte: Option<u8>) -> Result<(), Kern> {
        for _ in 0..20 {
            let done = match byte {
                None => self.world.read(self.map, address, &mut [0]),
                Some(byte) => self.world.write(self.map, address, &[byte]),
            };
            match done {
                Ok(()) => return Ok(()),
                Err(Some(code)) => return Err(code),
                Err(None) => self.rest(Vec::new()),
            }
        }
        panic!("{}: page {address:#x} never comes", self.what);
    }

    fn lock(&mut self, flags: u32) -> Option<Token> {
        let request = MemoryObjectLockRequest {
            offset: 0,
            size: PAGES * PAGE_SIZE,
            should_return: Return::All as u32,
            flags,
            lock_value: VM_PROT_NO_CHANGE,
            request: 1,
        };
        let control = self.pager.control?;
        let call = Call::Control(control, ToServer::MemoryObjectLockRequest(request));
        Some(self.world.send(call, NO_RIGHTS))
    }

    /// Begins to do something. Gives the token of a call that is to be answered, or that of a touch.
    fn begin(&mut self, deed: Deed) -> (Option<Token>, Option<Touch>) {
        let (address, size) = (self.at, PAGES * PAGE_SIZE);
        let token = match deed {
            Deed::Read(page) | Deed::Write(page) => {
                let access = match deed {
                    Deed::Read(_) => Prot::READ,
                    _ => Prot::WRITE,
                };
                let touch = self
                    .world
                    .touch(self.map, address + page * PAGE_SIZE, access);
                return (None, Some(touch));
            }
            Deed::Copy => {
                let destination = self.to;
                let request = vm_map::VmCopy {
                    source: address,
                    size,
                    destination,
                };
                self.send(Request::VmCopy(request), PortRef::None)
            }
            Deed::CopyIn => self.copyin(),
            Deed::Settle => {
                let PortOf::Copy(copy) = self.copy else {
                    panic!("a copy");
                };
                let request = copy::Request::CopySettle(copy::CopySettle { timeout: u64::MAX });
                self.world.send(Call::Copy(copy, request), NO_RIGHTS)
            }
            Deed::Fork => {
                let request = vm_map::TaskCreate { inherit: true };
                self.send(Request::TaskCreate(request), PortRef::None)
            }
            Deed::Sync => {
                let flags = vm_map::VM_SYNC_SYNCHRONOUS;
                let request = vm_map::VmMsync {
                    address,
                    size,
                    flags,
                };
                self.send(Request::VmMsync(request), PortRef::None)
            }
            Deed::PageOut => {
                let behavior = Advice::PageOut as u32;
                let request = vm_map::VmBehaviorSet {
                    address,
                    size,
                    behavior,
                };
                self.send(Request::VmBehaviorSet(request), PortRef::None)
            }
            Deed::Wire => {
                let access = Prot::DEFAULT.bits().into();
                let request = vm_wire::VmWire {
                    address,
                    size,
                    access,
                };
                let request = Request::Wire(vm_wire::Request::VmWire(request));
                self.send(request, PortRef::Foreign(HOST))
            }
            Deed::Unmap => {
                let request = vm_map::VmDeallocate { address, size };
                self.send(Request::VmDeallocate(request), PortRef::None)
            }
            Deed::MapOther => {
                let request = vm_map::VmMap {
                    address: self.to + 64 * PAGE_SIZE,
                    flags: 0,
                    max_protection: 3,
                    ..vm_map::VmMap::anywhere(PAGE_SIZE)
                };
                self.send(Request::VmMap(request), PortRef::Foreign(OTHER))
            }
            Deed::Return => return (self.lock(0), None),
            Deed::Flush => return (self.lock(MEMORY_OBJECT_DATA_FLUSH), None),
            Deed::Change => {
                let request = MemoryObjectChangeAttributes {
                    may_cache: true,
                    copy_strategy: CopyStrategy::None as u32,
                    request: 1,
                };
                let said = ToServer::MemoryObjectChangeAttributes(request);
                let control = self.pager.control.unwrap();
                self.world.send(Call::Control(control, said), NO_RIGHTS)
            }
            Deed::Ready | Deed::ReadyWaited => {
                // The pager has given up the object; it is asked to open it again.
                let control = self.pager.control.take().unwrap();
                self.world.event(Event::NoSenders {
                    port: PortOf::Control(control),
                    made: u32::MAX,
                });
                return (None, self.waits.map(Touch::Waits));
            }
        };
        (Some(token), None)
    }

    /// Looks at every page of the object, as far as it is mapped.
    fn look(&mut self) {
        for page in 0..PAGES {
            let what = self.what.clone();
            assert_eq!(self.touch(page, None), Ok(()), "{what}, page {page}");
            let byte = self.world.byte(self.map, self.at + page * PAGE_SIZE);
            assert_eq!(byte, self.bytes[page as usize], "{what}, page {page}");
        }
    }

    /// Everything ends; nothing may be left.
    fn clear(mut self) {
        let (trays, maps) = {
            let core = &self.world.core;
            let trays: Vec<PortOf> = core.trays.iter().map(|(id, _)| PortOf::Tray(id)).collect();
            let maps: Vec<MapId> = core.maps.iter().map(|(id, _)| id).collect();
            (trays, maps)
        };
        let copies: Vec<PortOf> = {
            let copies = self.world.core.copies.iter();
            copies.map(|(id, _)| PortOf::Copy(id)).collect()
        };
        let made = u32::MAX;
        for port in copies.into_iter().chain(trays) {
            self.world.event(Event::NoSenders { port, made });
        }
        for map in maps {
            self.world.event(Event::TaskEnded(map));
        }
        for port in [PORT, OTHER] {
            self.world.event(Event::DeadName(port));
        }
        let controls: Vec<PortOf> = {
            let controls = self.world.core.controls.iter();
            controls.map(|(id, _)| PortOf::Control(id)).collect()
        };
        for port in controls {
            self.world.event(Event::NoSenders { port, made });
        }
        self.world.settle();
        let left = self.world.core.census();
        assert!(left.is_empty(), "{}: {left:?}", self.what);
        let free = self.world.core.free_frames();
        assert_eq!(free, left.frames, "{}", self.what);
    }
}

/// Does something with room for so few records, or frames. Says whether it was refused.
fn starve(strategy: CopyStrategy, deed: Deed, kind: usize, left: u32) -> bool {
    let what = format!("{deed:?}, {strategy:?}, {left} of kind {kind}");
    let mut scene = Scene::new(strategy, what.clone());
    if deed == Deed::ReadyWaited {
        match scene
            .world
            .touch(scene.map, scene.at + 6 * PAGE_SIZE, Prot::READ)
        {
            Touch::Waits(token) => scene.waits = Some(token),
            // It was brought to be copied.
            Touch::Done(_) => return false,
            other => panic!("{what}: {other:?}"),
        }
        // The pager has the request, and forgets it.
        scene.said();
    }
    scene.cap(kind, left);
    let (token, touch) = scene.begin(deed);
    let heard = scene.toil();
    scene.uncap();
    scene.rest(heard);
    scene.world.core.check_invariants().unwrap();
    let said = match (token, touch) {
        (Some(token), _) => scene.answer(token).map(drop),
        (None, Some(Touch::Fails(code))) => Err(code),
        (None, Some(Touch::Waits(token))) => match scene.world.resumed.remove(&token.0.get()) {
            Some(said) => said,
            None => panic!("{what}: the thread waits for ever"),
        },
        _ => Ok(()),
    };
    if let Err(code) = said {
        assert_eq!(code, Kern::ResourceShortage, "{what}");
        let again = if deed == Deed::ReadyWaited {
            Deed::Read(6)
        } else {
            deed
        };
        let (token, _) = scene.begin(again);
        if let Some(token) = token {
            let again = scene.answer(token);
            assert!(again.is_ok(), "{what}: {again:?} with room");
        }
        scene.rest(Vec::new());
    }
    scene.world.core.check_invariants().unwrap();
    if deed == Deed::MapOther {
        assert_eq!(
            scene.touch_at(scene.to + 64 * PAGE_SIZE, None),
            Ok(()),
            "{what}"
        );
    }
    if deed != Deed::Unmap {
        scene.look();
    }
    scene.clear();
    said.is_err()
}

/// How often something was refused, by kind of record.
fn sweep(strategy: CopyStrategy) -> Vec<u32> {
    let mut refused = vec![0; FRAMES + 1];
    for deed in DEEDS {
        for (kind, count) in refused.iter_mut().enumerate() {
            for left in 0..MOST {
                *count += u32::from(starve(strategy, deed, kind, left));
            }
        }
    }
    std::println!("{strategy:?}: {refused:?}");
    refused
}

fn sweep_all(strategy: CopyStrategy) {
    let refused = sweep(strategy);
    assert!(refused.iter().sum::<u32>() > 30, "{refused:?}");
}

#[test]
fn what_needs_a_pager_without_room_is_done_or_refused() {
    sweep_all(CopyStrategy::Delay);
}

#[test]
fn what_is_copied_by_pages_without_room_is_done_or_refused() {
    sweep_all(CopyStrategy::None);
}

#[test]
fn what_pagers_copy_without_room_is_done_or_refused() {
    sweep_all(CopyStrategy::Call);
}

#[test]
fn what_is_copied_by_shadows_without_room_is_done_or_refused() {
    sweep_all(CopyStrategy::Symmetric);
}
