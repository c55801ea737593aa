//! Threads and tasks that are suspended, resumed, broken off safely, and asked what they do.

use alloc::sync::Arc;
use core::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use guest_test::assistant::Command;
use guest_test::{Assistant, Msg, Outcome, check, check_eq, stretched};
use ipc::abi::info::RunState;
use ipc::abi::layout::PAGE_SIZE;
use ipc::abi::message::Info;
use ipc::abi::reclaim;
use ipc::protocol::vm_advice::MachVmDeferredReclamationBufferAllocate;
use ipc::time::{MILLISECOND, after, now, sleep};
use ipc::{Kern, SendRight, Untyped, control, task, thread, trap};

use crate::support::{port, spawn_waiting, until};

/// A thread that counts until it is told to stop.
struct Counter {
    count: Arc<AtomicU64>,
    stop: Arc<AtomicBool>,
    handle: thread::JoinHandle<()>,
}

impl Counter {
    fn start() -> Result<Counter, Kern> {
        let (count, stop) = (
            Arc::new(AtomicU64::new(0)),
            Arc::new(AtomicBool::new(false)),
        );
        let (theirs, stopped) = (Arc::clone(&count), Arc::clone(&stop));
        let handle = thread::spawn(move || {
            while !stopped.load(Ordering::Relaxed) {
                theirs.fetch_add(1, Ordering::Relaxed);
                trap::thread_yield();
            }
        })?;
        Ok(Counter {
            count,
            stop,
            handle,
        })
    }

    fn thread(&self) -> &SendRight<Untyped> {
        self.handle.thread()
    }

    /// Whether it counts on, given the time to.
    fn counts(&self) -> bool {
        let before = self.count.load(Ordering::Relaxed);
        sleep(2 * MILLISECOND);
        self.count.load(Ordering::Relaxed) != before
    }

    /// Whether it begins to count on.
    fn goes_on(&self) -> bool {
        until(|| self.counts())
    }

    fn end(self) {
        self.stop.store(true, Ordering::Relaxed);
        self.handle.join();
    }
}

pub(crate) fn the_time_of_a_thread_that_runs_is_counted_and_stays_with_its_task() -> Outcome {
    const ENOUGH: u64 = 50 * MILLISECOND;
    // A sample stands for about 10 ms, and may be the first of a moment ago.
    const SLACK: u64 = 30 * MILLISECOND;
    let start = now();
    let inbox = port(0)?;
    let release = inbox.make_send()?;
    let waiter = spawn_waiting(move || Msg::receive(&inbox).forever().code())?;
    let counter = Counter::start()?;
    check!(until(|| {
        sleep(10 * MILLISECOND);
        control::thread_info(counter.thread()).is_ok_and(|info| info.time >= ENOUGH)
    }));
    let ran = control::thread_info(counter.thread())?.time;
    check!(ran <= now() - start + SLACK);
    check!(control::thread_info(waiter.thread())?.time < ran);
    counter.end();
    check!(control::task_info(&task::own()?)?.time >= ran);
    check_eq!(Msg::send(&release, 1).code(), None);
    check_eq!(waiter.join(), None);
    Ok(())
}

pub(crate) fn a_suspended_thread_stands_still_until_it_is_resumed_as_often() -> Outcome {
    let counter = Counter::start()?;
    check!(counter.goes_on());
    control::suspend_thread(counter.thread())?;
    control::suspend_thread(counter.thread())?;
    check!(!counter.counts());
    let info = control::thread_info(counter.thread())?;
    check_eq!((info.state, info.suspended), (RunState::Stopped, 2));
    control::resume_thread(counter.thread())?;
    check!(!counter.counts());
    control::resume_thread(counter.thread())?;
    check!(counter.goes_on());
    check_eq!(control::resume_thread(counter.thread()), Err(Kern::Failure));
    counter.end();
    Ok(())
}

pub(crate) fn a_thread_that_suspends_itself_is_resumed_by_another() -> Outcome {
    let gone_on = Arc::new(AtomicBool::new(false));
    let theirs = Arc::clone(&gone_on);
    let handle = spawn_waiting(move || {
        let suspended = control::suspend_self();
        theirs.store(true, Ordering::Relaxed);
        suspended
    })?;
    let stopped = || {
        let info = control::thread_info(handle.thread());
        info.is_ok_and(|info| info.state == RunState::Stopped)
    };
    check!(until(stopped));
    check!(!gone_on.load(Ordering::Relaxed));
    control::resume_thread(handle.thread())?;
    check_eq!(handle.join(), Ok(()));
    check!(gone_on.load(Ordering::Relaxed));
    Ok(())
}

pub(crate) fn a_message_waits_with_the_suspended_thread_that_it_came_to() -> Outcome {
    let port = port(0)?;
    let name = port.name();
    let server = spawn_waiting(move || {
        let received = Msg::receive_from(name).forever().go()?;
        Msg::reply(received.token).info(Info::short(9)).go()?;
        Ok::<u64, Kern>(received.words[0])
    })?;
    control::suspend_thread(server.thread())?;
    let right = port.make_send()?;
    let asked = Arc::new(AtomicBool::new(false));
    let theirs = Arc::clone(&asked);
    let client = spawn_waiting(move || {
        let answer = Msg::call(&right, 5).word(77).go();
        theirs.store(true, Ordering::Relaxed);
        answer.map(|answer| answer.info.id())
    })?;
    sleep(2 * MILLISECOND);
    check!(!server.is_finished() && !asked.load(Ordering::Relaxed));
    control::resume_thread(server.thread())?;
    check_eq!(server.join(), Ok(77));
    check_eq!(client.join(), Ok(9));
    Ok(())
}

pub(crate) fn the_deadline_of_a_suspended_thread_passes() -> Outcome {
    let port = port(0)?;
    let name = port.name();
    let waiter = spawn_waiting(move || {
        Msg::receive_from(name)
            .until(after(stretched(30 * MILLISECOND)))
            .code()
    })?;
    control::suspend_thread(waiter.thread())?;
    sleep(stretched(40 * MILLISECOND));
    check!(!waiter.is_finished());
    control::resume_thread(waiter.thread())?;
    check_eq!(waiter.join(), Some(Kern::ReceiveTimedOut));
    Ok(())
}

pub(crate) fn a_suspended_thread_can_be_ended() -> Outcome {
    let counter = Counter::start()?;
    control::suspend_thread(counter.thread())?;
    trap::thread_terminate(counter.thread().name())?;
    check_eq!(
        control::resume_thread(counter.thread()),
        Err(Kern::InvalidArgument)
    );
    check_eq!(
        control::thread_info(counter.thread()).err(),
        Some(Kern::InvalidArgument)
    );
    Ok(())
}

pub(crate) fn a_safe_abort_leaves_who_waits_for_an_answer() -> Outcome {
    let port = port(0)?;
    let right = port.make_send()?;
    let caller = spawn_waiting(move || Msg::call(&right, 5).go().map(|answer| answer.info.id()))?;
    check_eq!(
        control::abort_thread_safely(caller.thread()),
        Err(Kern::Failure)
    );
    let received = Msg::receive(&port).go()?;
    check_eq!(
        control::abort_thread_safely(caller.thread()),
        Err(Kern::Failure)
    );
    Msg::reply(received.token).info(Info::short(6)).go()?;
    check_eq!(caller.join(), Ok(6));
    let name = port.name();
    let waiter = spawn_waiting(move || Msg::receive_from(name).forever().code())?;
    control::abort_thread_safely(waiter.thread())?;
    check_eq!(waiter.join(), Some(Kern::ReceiveInterrupted));
    Ok(())
}

pub(crate) fn a_suspended_task_answers_nothing_until_it_is_resumed() -> Outcome {
    let assistant = Assistant::start()?;
    let task = &assistant.started.task;
    let before = control::task_info(task)?;
    check!(before.threads > 0 && before.suspended == 0);
    control::suspend_task(task)?;
    control::suspend_task(task)?;
    check_eq!(control::task_info(task)?.suspended, 2);
    let asked = assistant.ask(Command::MakePort, [5, 0])?;
    sleep(2 * MILLISECOND);
    check!(asked.is_stuck());
    control::resume_task(task)?;
    sleep(2 * MILLISECOND);
    check!(asked.is_stuck());
    control::resume_task(task)?;
    check!(asked.said()?.result.is_ok());
    check_eq!(control::resume_task(task), Err(Kern::Failure));
    Ok(())
}

pub(crate) fn a_suspended_task_is_swapped_out() -> Outcome {
    const PAGES: u64 = 20;
    let assistant = Assistant::start()?;
    let (map, task) = (&assistant.started.map, &assistant.started.task);
    let kept = map.allocate(PAGES * PAGE_SIZE)?;
    let freed = map.allocate(PAGES * PAGE_SIZE)?;
    for page in 0..PAGES {
        assistant.write(kept + page * PAGE_SIZE, page + 1)?;
        assistant.write(freed + page * PAGE_SIZE, page + 1)?;
    }
    // What it has put into its ring goes at once (C0492).
    let (len, max_len) = (16, 16);
    let request = MachVmDeferredReclamationBufferAllocate { len, max_len };
    let ring = map.call(&request)?.address;
    let entry = reclaim::Entry {
        address: freed,
        size: (PAGES * PAGE_SIZE) as u32,
        behavior: reclaim::Behavior::Deallocate as u32,
    };
    let place = ring + reclaim::entry_offset(0, len);
    let [first, second] = entry.to_words();
    for (at, word) in [
        (place, first),
        (place + 8, second),
        (ring + reclaim::TAIL, 1),
    ] {
        assistant.write(at, word)?;
    }
    let before = map.task_vm_info()?;
    control::suspend_task(task)?;
    let gone = || {
        let now = map.task_vm_info();
        now.is_ok_and(|now| before.phys_footprint - now.phys_footprint == PAGES * PAGE_SIZE)
    };
    check!(until(gone));
    control::resume_task(task)?;
    for page in 0..PAGES {
        check_eq!(assistant.read(kept + page * PAGE_SIZE)?, page + 1);
    }
    check_eq!(assistant.read(ring + reclaim::HEAD)?, 1);
    Ok(())
}

pub(crate) fn the_threads_of_a_task_can_be_named() -> Outcome {
    let own = task::own()?;
    let before = control::task_threads(&own)?.len();
    let counters = [Counter::start()?, Counter::start()?];
    let found = control::task_threads(&own)?;
    check_eq!(found.len(), before + 2);
    for counter in &counters {
        check!(
            found
                .iter()
                .any(|thread| thread.name() == counter.thread().name())
        );
    }
    check_eq!(control::task_info(&own)?.threads, found.len() as u64);
    drop(found);
    counters.into_iter().for_each(Counter::end);
    Ok(())
}

pub(crate) fn only_control_ports_name_threads_and_tasks() -> Outcome {
    let port = port(0)?;
    let (none, own) = (port.make_send()?, task::own()?);
    for name in [&none, &own] {
        check_eq!(control::suspend_thread(name), Err(Kern::InvalidArgument));
        check_eq!(control::resume_thread(name), Err(Kern::InvalidArgument));
        check_eq!(
            control::abort_thread_safely(name),
            Err(Kern::InvalidArgument)
        );
        check_eq!(
            control::thread_info(name).err(),
            Some(Kern::InvalidArgument)
        );
    }
    check_eq!(control::suspend_task(&none), Err(Kern::InvalidTask));
    check_eq!(control::resume_task(&none), Err(Kern::InvalidTask));
    check_eq!(control::task_info(&none).err(), Some(Kern::InvalidTask));
    check_eq!(control::task_threads(&none).err(), Some(Kern::InvalidTask));
    Ok(())
}
