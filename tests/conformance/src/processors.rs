//! Several processors: threads run at once, and what one does to another is seen at once.
//!
//! With one processor there is nothing to see; a case then ends at once.

use alloc::sync::Arc;
use alloc::vec::Vec;
use core::hint::spin_loop;
use core::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use guest_test::{Msg, Outcome, check, check_eq, patience};
use ipc::abi::layout::PAGE_SIZE;
use ipc::abi::trap::counter;
use ipc::time::{MILLISECOND, now, sleep};
use ipc::{Kern, Mapping, control, thread, trap, vm};

use crate::support::{port, set_word, word};

/// How many processors there are, if there are several.
fn several() -> Outcome<Option<u64>> {
    let count = trap::host_statistics()?[counter::PROCESSORS];
    Ok((count > 1).then_some(count))
}

/// The processor that this thread runs on.
fn processor() -> Outcome<u64> {
    Ok(trap::host_statistics()?[counter::PROCESSOR])
}

/// Waits without a trap, so that nobody else gets this processor.
fn spin_until(done: impl Fn() -> bool) -> bool {
    let deadline = patience();
    while !done() {
        if (0..1000).any(|_| {
            spin_loop();
            done()
        }) {
            return true;
        }
        if now() >= deadline {
            return false;
        }
    }
    true
}

/// A thread that counts without a trap until it is told to stop.
struct Spinner {
    count: Arc<AtomicU64>,
    stop: Arc<AtomicBool>,
    handle: thread::JoinHandle<()>,
}

impl Spinner {
    fn start() -> Outcome<Spinner> {
        let count = Arc::new(AtomicU64::new(0));
        let stop = Arc::new(AtomicBool::new(false));
        let (theirs, stopped) = (Arc::clone(&count), Arc::clone(&stop));
        let handle = thread::spawn(move || {
            while !stopped.load(Ordering::Relaxed) {
                theirs.fetch_add(1, Ordering::Relaxed);
            }
        })?;
        let spinner = Spinner {
            count,
            stop,
            handle,
        };
        check!(spin_until(|| spinner.count() > 0));
        Ok(spinner)
    }

    fn count(&self) -> u64 {
        self.count.load(Ordering::Relaxed)
    }

    /// Whether it counts on while this thread keeps its own processor.
    fn counts(&self) -> bool {
        let before = self.count();
        spin_until(|| self.count() != before)
    }

    /// Whether it has stopped.
    fn stands_still(&self) -> bool {
        let (before, end) = (self.count(), now() + MILLISECOND);
        while now() < end {
            spin_loop();
        }
        self.count() == before
    }

    fn end(self) {
        self.stop.store(true, Ordering::Relaxed);
        self.handle.join();
    }
}

pub(crate) fn threads_run_at_once() -> Outcome {
    if several()?.is_none() {
        return Ok(());
    }
    let turn = Arc::new(AtomicU64::new(0));
    let theirs = Arc::clone(&turn);
    let other = thread::spawn(move || {
        (0..1000).all(|round| {
            let came = spin_until(|| theirs.load(Ordering::Acquire) == 2 * round + 1);
            theirs.store(2 * round + 2, Ordering::Release);
            came
        })
    })?;
    for round in 0..1000 {
        turn.store(2 * round + 1, Ordering::Release);
        check!(spin_until(|| turn.load(Ordering::Acquire) == 2 * round + 2));
    }
    check!(other.join());
    Ok(())
}

pub(crate) fn a_message_wakes_who_waits_while_its_sender_goes_on() -> Outcome {
    if several()?.is_none() {
        return Ok(());
    }
    let inbox = Arc::new(port(1)?);
    let right = inbox.make_send()?;
    let seen = Arc::new(AtomicU64::new(0));
    let (theirs, their_inbox) = (Arc::clone(&seen), Arc::clone(&inbox));
    let receiver = thread::spawn(move || {
        for number in 1..=100 {
            if Msg::receive(&*their_inbox).go().is_ok() {
                theirs.store(number, Ordering::Release);
            }
        }
    })?;
    for number in 1..=100 {
        Msg::send(&right, 7).go()?;
        check!(spin_until(|| seen.load(Ordering::Acquire) == number));
    }
    receiver.join();
    Ok(())
}

pub(crate) fn what_is_taken_back_is_gone_on_every_processor() -> Outcome {
    if several()?.is_none() {
        return Ok(());
    }
    let source = Arc::new(Mapping::allocate(PAGE_SIZE)?);
    set_word(&source, 0, 1)?;
    let stop = Arc::new(AtomicBool::new(false));
    let (theirs, stopped) = (Arc::clone(&source), Arc::clone(&stop));
    let writer = thread::spawn(move || {
        let mut value = 1_u64;
        while !stopped.load(Ordering::Relaxed) {
            value += 1;
            if theirs.write(0, &value.to_le_bytes()).is_err() {
                return 0;
            }
        }
        value
    })?;
    check!(spin_until(
        || word(&source, 0).is_ok_and(|value| value > 100)
    ));
    // The copy takes the right to write from the page that the other processor writes to.
    for _ in 0..40 {
        let copy = Mapping::allocate(PAGE_SIZE)?;
        vm::own().copy_range(source.address(), PAGE_SIZE, copy.address())?;
        let value = word(&copy, 0)?;
        check!(spin_until(|| {
            word(&source, 0).is_ok_and(|other| other > value + 10)
        }));
        check_eq!(word(&copy, 0)?, value);
    }
    stop.store(true, Ordering::Relaxed);
    check!(writer.join() > 0);
    Ok(())
}

pub(crate) fn a_thread_that_runs_elsewhere_is_ended() -> Outcome {
    if several()?.is_none() {
        return Ok(());
    }
    for _ in 0..10 {
        let spinner = Spinner::start()?;
        check!(spinner.counts());
        trap::thread_terminate(spinner.handle.thread().name())?;
        check!(spinner.stands_still());
    }
    Ok(())
}

pub(crate) fn a_thread_that_runs_elsewhere_is_suspended() -> Outcome {
    if several()?.is_none() {
        return Ok(());
    }
    let spinner = Spinner::start()?;
    for _ in 0..10 {
        check!(spinner.counts());
        control::suspend_thread(spinner.handle.thread())?;
        check!(spinner.stands_still());
        control::resume_thread(spinner.handle.thread())?;
    }
    spinner.end();
    Ok(())
}

pub(crate) fn a_thread_goes_where_it_is_pinned() -> Outcome {
    let count = trap::host_statistics()?[counter::PROCESSORS];
    for round in 0..3 * count {
        trap::thread_set_processor(0, Some(round % count))?;
        for _ in 0..10 {
            check_eq!(processor()?, round % count);
            trap::thread_yield();
        }
    }
    check_eq!(
        trap::thread_set_processor(0, Some(count)),
        Err(Kern::InvalidValue)
    );
    trap::thread_set_processor(0, None)?;
    Ok(())
}

pub(crate) fn a_pinned_thread_stays_through_calls_and_sleep() -> Outcome {
    let Some(count) = several()? else {
        return Ok(());
    };
    let mut threads = Vec::new();
    for number in 0..2 * count {
        threads.push(thread::spawn(move || -> Outcome<bool> {
            trap::thread_set_processor(0, Some(number % count))?;
            for _ in 0..20 {
                // Calls to the VM server, and waiting for it.
                let memory = Mapping::allocate(PAGE_SIZE)?;
                set_word(&memory, 0, number)?;
                sleep(MILLISECOND / 10);
                if processor()? != number % count || word(&memory, 0)? != number {
                    return Ok(false);
                }
            }
            Ok(true)
        })?);
    }
    for thread in threads {
        check!(thread.join()?);
    }
    Ok(())
}

pub(crate) fn memory_is_made_and_given_back_on_all_processors_at_once() -> Outcome {
    let count = trap::host_statistics()?[counter::PROCESSORS];
    let mut threads = Vec::new();
    for number in 0..2 * count {
        threads.push(thread::spawn(move || -> Outcome<bool> {
            for round in 0..30 {
                let memory = Mapping::allocate(4 * PAGE_SIZE)?;
                for page in 0..4 {
                    if word(&memory, page)? != 0 {
                        return Ok(false);
                    }
                    set_word(&memory, page, number << 32 | round << 8 | page)?;
                }
                for page in 0..4 {
                    if word(&memory, page)? != number << 32 | round << 8 | page {
                        return Ok(false);
                    }
                }
            }
            Ok(true)
        })?);
    }
    for thread in threads {
        check!(thread.join()?);
    }
    Ok(())
}
