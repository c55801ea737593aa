//! The client of a world below: does a little of everything, reports it, and goes on for ever.

use guest_test::{Msg, touch};
use ipc::abi::layout::PAGE_SIZE;
use ipc::abi::right::SpecialPort;
use ipc::protocol::memory_object::MemoryObject;
use ipc::{Kern, Mapping, SendRight, Untyped, bootstrap, mapping, task, vm};
use pagers::{Answer, Object, Pager, Service, Want};

use crate::server::{Below, DONE, HELLO};

/// The role of the pager.
pub(crate) const PAGER: &str = "role:pager";
const PAGER_NAME: &str = "nested-pager";
const PAGER_PAGES: u64 = 16;
const PAGES: u64 = 128;

/// A world that is not the first: whom to tell, and how many there are to be below.
pub(crate) struct World {
    reporter: SendRight<Untyped>,
    depth: u64,
}

/// In the first world the device port is the kernel's, and takes no messages.
pub(crate) fn reporter() -> Option<World> {
    let reporter = SendRight::<Untyped>::special(SpecialPort::Device).ok()?;
    let answer = Msg::call(&reporter, HELLO).go().ok()?;
    let [depth, ..] = answer.words;
    Some(World { reporter, depth })
}

impl World {
    pub(crate) fn live(&self) -> ! {
        let (step, code) = match self.work() {
            Ok(()) => (0, 0),
            Err((step, code)) => (step, u64::from(code.raw())),
        };
        let report = Msg::send(&self.reporter, DONE);
        // Nobody to tell is nobody to tell.
        let _ = report.words([step, code, 0, 0, 0, 0]).forever().go();
        loop {
            let _ = memory();
        }
    }

    fn work(&self) -> Result<(), (u64, Kern)> {
        memory().map_err(|code| (1, code))?;
        fork().map_err(|code| (2, code))?;
        paged().map_err(|code| (3, code))?;
        if self.depth > 0 {
            let free = vm::own()
                .statistics()
                .map_err(|code| (4, code))?
                .frames_free;
            let below = Below::start(free / 2).map_err(|_| (5, Kern::Failure))?;
            below.wait(self.depth - 1).map_err(|_| (6, Kern::Failure))?;
            // It ends with this world.
            core::mem::forget(below);
        }
        Ok(())
    }
}

/// Fresh memory is zero, and keeps what is written.
fn memory() -> Result<(), Kern> {
    let memory = Mapping::allocate(PAGES * PAGE_SIZE)?;
    for page in 0..PAGES {
        let address = memory.address() + page * PAGE_SIZE;
        // SAFETY: the memory is this function's.
        unsafe { touch::write(address, page + 1) };
    }
    for page in 0..PAGES {
        let mut word = [0; 8];
        memory.read(page * PAGE_SIZE, &mut word)?;
        if u64::from_le_bytes(word) != page + 1 {
            return Err(Kern::MemoryFailure);
        }
        memory.read(page * PAGE_SIZE + 8, &mut word)?;
        if word != [0; 8] {
            return Err(Kern::MemoryError);
        }
    }
    Ok(())
}

/// A child has the memory as it was.
fn fork() -> Result<(), Kern> {
    let memory = Mapping::allocate(4 * PAGE_SIZE)?;
    memory.write(PAGE_SIZE, &[7; 8])?;
    let child = vm::own().create_task(true)?;
    memory.write(PAGE_SIZE, &[8; 8])?;
    let copy = child.map.copy_in(memory.address(), 4 * PAGE_SIZE, false)?;
    let seen = mapping::Options::new(4 * PAGE_SIZE)
        .copy_object(&copy)
        .copied()
        .map()?;
    let mut word = [0; 8];
    seen.read(PAGE_SIZE, &mut word)?;
    task::terminate(&child.task, 0)?;
    match word {
        [7, 7, 7, 7, 7, 7, 7, 7] => Ok(()),
        _ => Err(Kern::MemoryFailure),
    }
}

struct Numbers;

impl Pager for Numbers {
    fn data_request(&mut self, _object: &Object, want: &mut Want<'_>) -> Answer {
        for (number, page) in want.pages() {
            page.fill(number as u8 + 1);
        }
        Answer::Supply
    }
}

/// The life of the pager.
pub(crate) fn pager() -> Result<(), Kern> {
    let mut service = Service::new(Numbers)?;
    let object = Object {
        key: 0,
        size: PAGER_PAGES * PAGE_SIZE,
    };
    service.publish(PAGER_NAME, object)?;
    service.serve()
}

/// Memory of a pager of this world.
fn paged() -> Result<(), Kern> {
    let _pager = bootstrap::start(ipc::task_name(), PAGER)?;
    let object = bootstrap::wait_for::<MemoryObject>(PAGER_NAME)?;
    let memory = mapping::Options::new(PAGER_PAGES * PAGE_SIZE)
        .object(&object)
        .map()?;
    for page in 0..PAGER_PAGES {
        let mut byte = [0];
        memory.read(page * PAGE_SIZE + 99, &mut byte)?;
        if u64::from(byte[0]) != page + 1 {
            return Err(Kern::MemoryFailure);
        }
    }
    Ok(())
}
