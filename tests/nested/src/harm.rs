//! A memory server that means harm: a task of this program that has frames of its own and the traps of a
//! server, and breaks each rule of frames and translations. Whatever is refused is checked by what it changed: a
//! frame that is mapped cannot be given away, one that is not can.

use core::fmt::Debug;

use guest_test::{Outcome, check_eq};
use ipc::abi::layout::{KERNEL_DEVICES, PHYSICAL_WINDOW, USER_MIN};
use ipc::abi::notify::ExitStatus;
use ipc::abi::right::{Name, SpecialPort};
use ipc::abi::translation::{Op, RUN_HEADER, Run, SKIPPED};
use ipc::abi::types::Prot;
use ipc::buffer::Body;
use ipc::{Kern, SendRight, Untyped, bootstrap, println, trap, vm};

use crate::balance::Balance;

/// The role of the server.
pub(crate) const ROLE: &str = "role:harm";
/// Its status when all was as it should be.
pub(crate) const DONE: u32 = 0x600D;

const FRAMES: u32 = 64;

pub(crate) fn a_memory_server_that_breaks_every_rule_is_refused() -> Outcome {
    let attack = || -> Outcome {
        let started = bootstrap::start(ipc::task_name(), ROLE)?;
        check_eq!(bootstrap::wait(started.instance)?, ExitStatus::Exited(DONE));
        Ok(())
    };
    attack()?;
    let before = Balance::settled()?;
    for _ in 0..3 {
        attack()?;
        before.is_back()?;
    }
    Ok(())
}

/// Ends the attack unless something is as expected.
fn expect<T: PartialEq + Debug>(what: &str, found: T, expected: T) -> Result<(), Kern> {
    if found == expected {
        return Ok(());
    }
    println!("harm: {what}: {found:?} and not {expected:?}");
    Err(Kern::Failure)
}

/// The life of the server.
pub(crate) fn live() -> Result<(), Kern> {
    let host = SendRight::<Untyped>::special(SpecialPort::HostControl)?;
    let (frames, memory) = vm::own().give_frames(&host, FRAMES)?;
    let memory = memory.into_name();
    let harm = Harm {
        memory,
        space: trap::space_create(memory)?,
        first: frames.first,
    };
    harm.frames_of_others()?;
    harm.mapped_frames()?;
    harm.old_epochs()?;
    harm.wrong_frames()?;
    harm.numbers_without_end()?;
    harm.owners_below()?;
    harm.windows()?;
    harm.donations()
}

struct Harm {
    memory: Name,
    /// A space of this server's.
    space: Name,
    /// Its first frame.
    first: u32,
}

const PLACE: u64 = USER_MIN;

impl Harm {
    fn run(&self, op: Op) -> Run {
        Run {
            space: self.space,
            op,
            protection: if op == Op::Enter {
                Prot::DEFAULT
            } else {
                Prot::NONE
            },
            uncached: false,
            address: PLACE,
            epoch: 1,
            count: 1,
            done: 0,
        }
    }

    fn enter(&self, frame: u32) -> Result<u32, Kern> {
        batch(self.run(Op::Enter), frame)
    }

    fn remove(&self, frame: u32) -> Result<u32, Kern> {
        batch(self.run(Op::Remove), frame)
    }

    fn donate(&self, frame: u32) -> Result<(), Kern> {
        // SAFETY: nothing in this task uses the frames.
        unsafe { trap::frame_donate(self.memory, frame, 1) }
    }

    fn frames_of_others(&self) -> Result<(), Kern> {
        for frame in [0, 1, self.first - 1, self.first + FRAMES] {
            let found = (frame, self.enter(frame).map(drop));
            let refused = (frame, Err(Kern::NoAccess));
            expect("another's frame is entered", found, refused)?;
            let found = (frame, self.donate(frame));
            expect("another's frame is given", found, refused)?;
        }
        let limit = vm::own().statistics()?.frames as u32;
        for frame in (0..2 * limit).step_by(509) {
            if frame < self.first || frame >= self.first + FRAMES {
                let found = self.enter(frame).map(drop);
                expect("some frame is entered", found, Err(Kern::NoAccess))?;
            }
        }
        for device in KERNEL_DEVICES {
            let mut run = self.run(Op::Enter);
            run.uncached = true;
            let found = batch(run, device.first).map(drop);
            expect("an APIC is entered", found, Err(Kern::NoAccess))?;
        }
        let mut run = self.run(Op::Enter);
        run.uncached = true;
        let found = batch(run, self.first).map(drop);
        expect("memory is entered uncached", found, Err(Kern::NoAccess))
    }

    fn mapped_frames(&self) -> Result<(), Kern> {
        expect("enter", self.enter(self.first).map(drop), Ok(()))?;
        let found = self.donate(self.first);
        expect("a mapped frame is given", found, Err(Kern::Failure))?;
        // With frames before and behind it that are not mapped: nothing of it is given.
        // SAFETY: nothing in this task uses the frames.
        let found = unsafe { trap::frame_donate(self.memory, self.first, FRAMES) };
        expect("all frames are given", found, Err(Kern::Failure))?;
        self.remove(self.first).map(drop)
    }

    fn old_epochs(&self) -> Result<(), Kern> {
        let mut run = self.run(Op::RemoveRange);
        run.epoch = 9;
        ranges(run)?;
        // Decided before the range was removed: dropped without a word.
        expect("an old decision", self.enter(self.first).map(drop), Ok(()))?;
        let found = self.remove(self.first)?;
        expect("an old decision", found, SKIPPED)?;
        let mut run = self.run(Op::Enter);
        run.epoch = 9;
        batch(run, self.first)?;
        // A revoke does not take the space back to an older one.
        let mut run = self.run(Op::Remove);
        run.epoch = 3;
        let found = batch(run, self.first)? & 0x3FFF_FFFF;
        expect("remove", found, self.first)?;
        self.enter(self.first)?;
        let found = self.remove(self.first)?;
        expect("an epoch that went back", found, SKIPPED)
    }

    fn enter_now(&self, frame: u32) -> Result<(), Kern> {
        let mut run = self.run(Op::Enter);
        run.epoch = u64::MAX;
        batch(run, frame).map(drop)
    }

    fn wrong_frames(&self) -> Result<(), Kern> {
        self.enter_now(self.first)?;
        for frame in [self.first + 1, self.first - 1, 0] {
            expect("a wrong frame", self.remove(frame)?, SKIPPED)?;
        }
        expect("still there", self.donate(self.first), Err(Kern::Failure))?;
        // Another takes its place: it is counted no more.
        self.enter_now(self.first + 1)?;
        let found = self.donate(self.first + 1);
        expect("what was put in place", found, Err(Kern::Failure))?;
        let found = self.remove(self.first + 1)? & 0x3FFF_FFFF;
        expect("remove", found, self.first + 1)
    }

    fn numbers_without_end(&self) -> Result<(), Kern> {
        for (first, count) in [
            (u32::MAX, u32::MAX),
            (self.first, u32::MAX),
            (u32::MAX, 1),
            (self.first, 0),
        ] {
            // SAFETY: nothing in this task uses the frames.
            let found = unsafe { trap::frame_donate(self.memory, first, count) };
            expect("numbers", found, Err(Kern::InvalidArgument))?;
            // SAFETY: as above.
            let found = unsafe { trap::frame_give(self.memory, self.memory, first, count) };
            expect("numbers", found, Err(Kern::InvalidArgument))?;
        }
        for op in [Op::RemoveRange, Op::LowerRange] {
            for (address, count) in [
                (!0xFFF, 1),
                (PLACE, u32::MAX),
                (1 << 47, u32::MAX),
                (!0xFFF - (1 << 40), u32::MAX),
            ] {
                let mut run = self.run(op);
                (run.address, run.count) = (address, count);
                let found = ranges(run);
                let refused = matches!(found, Err(Kern::InvalidAddress | Kern::InvalidArgument));
                let inside = address == PLACE && count == u32::MAX;
                expect("a range without end", refused || inside, true)?;
            }
        }
        let mut run = self.run(Op::Enter);
        run.count = u32::MAX;
        let found = batch(run, self.first).map(drop);
        expect("frames without end", found, Err(Kern::InvalidArgument))
    }

    fn owners_below(&self) -> Result<(), Kern> {
        let window = trap::space_create(self.memory)?;
        let below = trap::owner_create(self.memory, window)?;
        let again = trap::owner_create(self.memory, window);
        expect("two windows", again, Err(Kern::InvalidArgument))?;
        let other = trap::space_create(below)?;
        let found = trap::owner_create(self.memory, other);
        expect(
            "a window in another's space",
            found,
            Err(Kern::InvalidArgument),
        )?;
        let enter_other = |frame| {
            let mut run = self.run(Op::Enter);
            (run.space, run.epoch) = (other, u64::MAX);
            batch(run, frame).map(drop)
        };
        let found = enter_other(self.first);
        expect("a space of another owner", found, Err(Kern::NoAccess))?;
        self.enter_now(self.first)?;
        // SAFETY: nothing in this task uses the frames.
        let give = |frame| unsafe { trap::frame_give(self.memory, below, frame, 1) };
        expect(
            "a mapped frame is given",
            give(self.first),
            Err(Kern::Failure),
        )?;
        self.remove(self.first)?;
        expect("given", give(self.first), Ok(()))?;
        expect("given twice", give(self.first), Err(Kern::NoAccess))?;
        let found = self.enter_now(self.first);
        expect("what was given away", found, Err(Kern::NoAccess))?;
        expect("its new owner", enter_other(self.first), Ok(()))?;
        let found = self.donate(self.first);
        expect("another's frame", found, Err(Kern::NoAccess))?;
        // SAFETY: as above.
        let found = unsafe { trap::frame_give(below, self.memory, self.first, 1) };
        expect("upwards", found, Err(Kern::InvalidArgument))?;
        let found = trap::owner_destroy(below, self.memory);
        expect("destroys what is above", found, Err(Kern::InvalidArgument))?;
        expect("destroyed", trap::owner_destroy(self.memory, below), Ok(()))?;
        // Its spaces go in steps, then its frame comes back.
        let mut back = 0;
        while back == 0 {
            // SAFETY: the body is not borrowed.
            let (ranges, _) = unsafe { trap::owner_collect(self.memory) }?;
            back += ranges;
            trap::thread_yield();
        }
        expect("mine again", self.enter_now(self.first), Ok(()))?;
        self.remove(self.first).map(drop)
    }

    fn windows(&self) -> Result<(), Kern> {
        let window = trap::space_create(self.memory)?;
        let below = trap::owner_create(self.memory, window)?;
        // SAFETY: nothing in this task uses the frames.
        unsafe { trap::frame_give(self.memory, below, self.first, 2) }?;
        let place = PHYSICAL_WINDOW + u64::from(self.first) * 4096;
        let at_window = |op| {
            let mut run = self.run(op);
            (run.space, run.address, run.epoch) = (window, place, u64::MAX);
            run
        };
        let found = batch(at_window(Op::Enter), self.first + 3).map(drop);
        expect("in a window", found, Err(Kern::InvalidAddress))?;
        let found = batch(at_window(Op::Remove), self.first)?;
        expect("a page of a window", found, SKIPPED)?;
        let found = batch(at_window(Op::Harvest), self.first)?;
        expect("a page of a window", found, SKIPPED)?;
        ranges(at_window(Op::RemoveRange))?;
        let found = batch(at_window(Op::Enter), self.first + 3).map(drop);
        expect("still a window", found, Err(Kern::InvalidAddress))?;
        trap::port_deallocate(below, 1)?;
        trap::port_deallocate(window, 1)
    }

    fn donations(&self) -> Result<(), Kern> {
        let last = self.first + FRAMES - 1;
        expect("given", self.donate(last), Ok(()))?;
        expect("given twice", self.donate(last), Err(Kern::NoAccess))?;
        let found = self.enter_now(last);
        expect("the kernel's now", found, Err(Kern::NoAccess))?;
        // What was given can come back, and no more.
        let mut back = 0;
        // SAFETY: the body is not borrowed.
        while let Ok(ranges) = unsafe { trap::frame_reclaim(self.memory, 1000) } {
            back += ranges;
        }
        expect("more than was given", back <= 1, true)
    }
}

/// Runs a batch of one run that names one frame; gives what became of that.
pub(crate) fn batch(run: Run, frame: u32) -> Result<u32, Kern> {
    let mut body = Body::borrow();
    body[..RUN_HEADER].copy_from_slice(&run.to_bytes());
    body[RUN_HEADER..RUN_HEADER + 8].fill(0);
    body[RUN_HEADER..RUN_HEADER + 4].copy_from_slice(&frame.to_le_bytes());
    drop(body);
    // SAFETY: the spaces are not this task's.
    unsafe { trap::pmap_batch(RUN_HEADER + 8) }?;
    let body = Body::borrow();
    let mut word = [0; 4];
    word.copy_from_slice(&body[RUN_HEADER..RUN_HEADER + 4]);
    Ok(u32::from_le_bytes(word))
}

/// Runs a batch of one run that names no frames.
fn ranges(run: Run) -> Result<(), Kern> {
    let mut body = Body::borrow();
    body[..RUN_HEADER].copy_from_slice(&run.to_bytes());
    drop(body);
    // SAFETY: the spaces are not this task's.
    unsafe { trap::pmap_batch(RUN_HEADER) }.map(drop)
}
