//! Threads: their start and end, priorities, preemption, and what is theirs alone.

use alloc::sync::Arc;
use alloc::vec::Vec;
use core::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use guest_test::touch::{self, Vectors};
use guest_test::{Msg, Outcome, check, check_eq, has_several_processors, stretched};
use ipc::sync::{Condition, Mutex, Semaphore};
use ipc::time::{MILLISECOND, after, now, sleep};
use ipc::{Kern, SendRight, Untyped, task, thread, trap};

use crate::support::{port, spawn_waiting, stands, until};

pub(crate) fn a_thread_gives_its_result() -> Outcome {
    let shared = Arc::new(5_u64);
    let theirs = Arc::clone(&shared);
    let handle = thread::spawn(move || *theirs + 1)?;
    check_eq!(handle.join(), 6);
    check_eq!(Arc::strong_count(&shared), 1);
    Ok(())
}

pub(crate) fn many_threads_come_and_go() -> Outcome {
    for round in 0..8_u64 {
        let mut threads = Vec::new();
        for number in 0..16_u64 {
            threads.push(thread::spawn(move || round * 16 + number)?);
        }
        for (number, thread) in (0..).zip(threads) {
            check_eq!(thread.join(), round * 16 + number);
        }
    }
    Ok(())
}

pub(crate) fn a_more_important_thread_goes_first() -> Outcome {
    let order = Arc::new(Mutex::new(Vec::new()));
    let gate = Arc::new(Semaphore::new(0)?);
    let mut threads = Vec::new();
    for priority in [1, 5, 3] {
        let (order, gate) = (Arc::clone(&order), Arc::clone(&gate));
        let body = move || {
            let passed = gate.take();
            order.lock().push(priority);
            passed
        };
        threads.push(thread::spawn_with(thread::STACK_SIZE, priority, body)?);
    }
    // They wait at the gate, for which they need a processor, and then for the one that this thread keeps.
    check!(until(|| {
        sleep(MILLISECOND);
        gate.count() == -3
    }));
    check!(until(|| threads
        .iter()
        .all(|thread| stands(thread.thread()))));
    trap::thread_set_processor(0, Some(0))?;
    for thread in &threads {
        trap::thread_set_processor(thread.thread().name(), Some(0))?;
    }
    (0..3).for_each(|_| gate.give());
    for thread in threads {
        thread.join()?;
    }
    trap::thread_set_processor(0, None)?;
    check_eq!(*order.lock(), [5, 3, 1]);
    Ok(())
}

pub(crate) fn a_less_important_thread_takes_no_time() -> Outcome {
    let count = Arc::new(AtomicU64::new(0));
    let (theirs, stop) = (Arc::clone(&count), Arc::new(AtomicBool::new(false)));
    let stopped = Arc::clone(&stop);
    trap::thread_set_processor(0, Some(0))?;
    let spinner = thread::spawn_with(thread::STACK_SIZE, 1, move || {
        let _ = trap::thread_set_processor(0, Some(0));
        while !stopped.load(Ordering::Relaxed) {
            theirs.fetch_add(1, Ordering::Relaxed);
        }
    })?;
    for _ in 0..100 {
        trap::thread_yield();
    }
    check_eq!(count.load(Ordering::Relaxed), 0);
    // While this thread waits, the other has the processor; when the time is up, it has not.
    check!(until(|| {
        sleep(MILLISECOND);
        count.load(Ordering::Relaxed) > 0
    }));
    let seen = count.load(Ordering::Relaxed);
    trap::thread_yield();
    check_eq!(count.load(Ordering::Relaxed), seen);
    stop.store(true, Ordering::Relaxed);
    spinner.join();
    trap::thread_set_processor(0, None)?;
    Ok(())
}

pub(crate) fn threads_that_spin_take_turns() -> Outcome {
    let counts = Arc::new([const { AtomicU64::new(0) }; 3]);
    let done = Arc::new(AtomicBool::new(false));
    let mut threads = Vec::new();
    for own in 0..3 {
        let (counts, done) = (Arc::clone(&counts), Arc::clone(&done));
        threads.push(thread::spawn(move || {
            while !done.load(Ordering::Relaxed) {
                if let Some(count) = counts.get(own) {
                    count.fetch_add(1, Ordering::Relaxed);
                }
            }
        })?);
    }
    // This thread spins as well, and never gives way.
    let all = || counts.iter().all(|count| count.load(Ordering::Relaxed) > 0);
    let start = now();
    while !all() && now() < start + 1000 * MILLISECOND {
        core::hint::spin_loop();
    }
    check!(all());
    done.store(true, Ordering::Relaxed);
    threads.into_iter().for_each(thread::JoinHandle::join);
    Ok(())
}

/// Register contents that are different everywhere.
fn vectors(seed: u64) -> Vectors {
    core::array::from_fn(|register| {
        core::array::from_fn(|part| {
            let place = (register as u64) << 32 | part as u64;
            seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) ^ place
        })
    })
}

pub(crate) fn vector_registers_survive_preemption() -> Outcome {
    const ROUNDS: u64 = 2;
    let counts = Arc::new([const { AtomicU64::new(0) }; 2]);
    let ended = Arc::new(AtomicU64::new(0));
    let mut threads = Vec::new();
    for own in 0..2 {
        let (counts, ended) = (Arc::clone(&counts), Arc::clone(&ended));
        threads.push(thread::spawn(move || {
            let [first, second] = &*counts;
            let (mine, other) = if own == 0 {
                (first, second)
            } else {
                (second, first)
            };
            let loaded = vectors(own + 1);
            let found = touch::hold_vectors(&loaded, mine, other, ROUNDS);
            // The other may still wait to see this one run.
            ended.fetch_add(1, Ordering::Relaxed);
            while ended.load(Ordering::Relaxed) < 2 {
                mine.fetch_add(1, Ordering::Relaxed);
            }
            found == loaded
        })?);
    }
    for thread in threads {
        check!(thread.join());
    }
    Ok(())
}

pub(crate) fn vector_registers_are_no_way_to_other_tasks() -> Outcome {
    // A system call leaves them undefined: what comes back is nobody's.
    let loaded = vectors(9);
    let clear = touch::vectors_after_trap(&loaded);
    let strange = clear
        .iter()
        .zip(&loaded)
        .any(|(found, own)| *found != [0; 4] && found != own);
    check!(!strange);
    Ok(())
}

pub(crate) fn a_sleep_takes_its_time() -> Outcome {
    for milliseconds in [1, 3, 10] {
        let start = now();
        sleep(milliseconds * MILLISECOND);
        check!(now() - start >= milliseconds * MILLISECOND);
    }
    Ok(())
}

pub(crate) fn sleepers_wake_in_the_order_of_their_deadlines() -> Outcome {
    let order = Arc::new(Mutex::new(Vec::new()));
    let mut threads = Vec::new();
    // By then all of them sleep.
    let begin = after(stretched(20 * MILLISECOND));
    for milliseconds in [6, 2, 4] {
        let order = Arc::clone(&order);
        threads.push(thread::spawn(move || {
            let _ = trap::thread_set_processor(0, Some(0));
            let deadline = begin + stretched(milliseconds * MILLISECOND);
            sleep(deadline.saturating_sub(now()));
            order.lock().push(milliseconds);
            now() >= deadline
        })?);
    }
    for thread in threads {
        check!(thread.join());
    }
    let mut order = order.lock();
    if has_several_processors() {
        // A host that is busy can take the processor from one that woke for longer than they are apart.
        order.sort_unstable();
    }
    check_eq!(*order, [2, 4, 6]);
    Ok(())
}

pub(crate) fn a_thread_that_is_ended_leaves_the_others() -> Outcome {
    let port = port(0)?;
    let name = port.name();
    let waiter = spawn_waiting(move || Msg::receive_from(name).forever().code())?;
    trap::thread_terminate(waiter.thread().name())?;
    check_eq!(
        trap::thread_terminate(waiter.thread().name()),
        Err(Kern::InvalidArgument)
    );
    check!(!waiter.is_finished());
    // What is sent now waits for somebody else.
    Msg::send(&port.make_send()?, 4).go()?;
    check_eq!(Msg::receive(&port).go()?.info.id(), 4);
    Ok(())
}

pub(crate) fn the_end_of_a_thread_is_told() -> Outcome {
    let told = port(0)?;
    let thread = thread::spawn(|| ())?;
    thread.thread().watch(&told)?;
    let (_, [name, ..]) = crate::support::notice(&told, ipc::abi::notify::DEAD_NAME)?;
    check_eq!(name, thread.thread().name().into());
    trap::port_deallocate(thread.thread().name(), 1)?;
    thread.join();
    Ok(())
}

pub(crate) fn a_thread_needs_a_good_place_and_priority() -> Outcome {
    let own = task::own()?;
    let start = |ip, sp, priority| {
        // SAFETY: none of these is a thread that could begin.
        unsafe { task::start_thread(&own, ip, sp, 0, priority) }.err()
    };
    check_eq!(start(0x1_0000, 0x2_0000, 32), Some(Kern::InvalidValue));
    let kernel_half = 0xFFFF_8000_0000_0000;
    check_eq!(start(kernel_half, 0, 1), Some(Kern::InvalidAddress));
    check_eq!(start(0x1_0000, kernel_half, 1), Some(Kern::InvalidAddress));
    let port = port(0)?;
    let no_task = port.make_send()?;
    // SAFETY: there is no task.
    let none = unsafe { task::start_thread(&no_task, 0x1_0000, 0x2_0000, 0, 1) };
    check_eq!(none.err(), Some(Kern::InvalidTask));
    Ok(())
}

pub(crate) fn a_mutex_lets_one_in_at_a_time() -> Outcome {
    let shared = Arc::new(Mutex::new((0_u64, 0_u64)));
    let mut threads = Vec::new();
    for _ in 0..4 {
        let shared = Arc::clone(&shared);
        threads.push(thread::spawn(move || {
            for _ in 0..50 {
                let mut pair = shared.lock();
                pair.0 += 1;
                trap::thread_yield();
                pair.1 += 1;
            }
        })?);
    }
    while threads.iter().any(|thread| !thread.is_finished()) {
        let pair = shared.lock();
        check_eq!(pair.0, pair.1);
        drop(pair);
        trap::thread_yield();
    }
    threads.into_iter().for_each(thread::JoinHandle::join);
    check_eq!(*shared.lock(), (200, 200));
    Ok(())
}

pub(crate) fn a_condition_wakes_who_waits() -> Outcome {
    let shared = Arc::new((Mutex::new(0_u64), Condition::new()));
    let theirs = Arc::clone(&shared);
    let waiter = spawn_waiting(move || {
        let (value, changed) = &*theirs;
        let mut guard = value.lock();
        while *guard < 3 {
            guard = changed.wait(guard);
        }
        *guard
    })?;
    let (value, changed) = &*shared;
    for _ in 0..3 {
        check!(!waiter.is_finished());
        *value.lock() += 1;
        changed.notify_one();
        trap::thread_yield();
    }
    check_eq!(waiter.join(), 3);
    Ok(())
}

pub(crate) fn each_thread_has_its_own_buffer() -> Outcome {
    let port = port(0)?;
    let right = port.make_send()?;
    let (start, started) = (
        Arc::new(AtomicBool::new(false)),
        Arc::new(AtomicBool::new(false)),
    );
    let (theirs, done) = (Arc::clone(&start), Arc::clone(&started));
    let other = thread::spawn(move || {
        while !theirs.load(Ordering::Acquire) {
            trap::thread_yield();
        }
        let _ = Msg::new(0).body(b"other thread");
        done.store(true, Ordering::Release);
    })?;
    // From here on nothing else of this thread uses its buffer.
    let sent = Msg::send(&right, 1).body(b"first thread");
    start.store(true, Ordering::Release);
    while !started.load(Ordering::Acquire) {
        trap::thread_yield();
    }
    sent.go()?;
    other.join();
    let mut body = [0; 12];
    let received = Msg::receive(&port).go()?;
    check!(guest_test::message::take_body(&received, &mut body));
    check_eq!(body, *b"first thread");
    let _: SendRight<Untyped> = right;
    Ok(())
}

pub(crate) fn a_semaphore_hands_its_units_to_who_waits() -> Outcome {
    let units = Arc::new(Semaphore::new(2)?);
    let inside = Arc::new(AtomicU64::new(0));
    let most = Arc::new(AtomicU64::new(0));
    let mut threads = Vec::new();
    for _ in 0..6 {
        let (units, inside, most) = (units.clone(), inside.clone(), most.clone());
        threads.push(thread::spawn(move || -> Result<(), Kern> {
            for _ in 0..20 {
                units.take()?;
                let now = inside.fetch_add(1, Ordering::Relaxed) + 1;
                most.fetch_max(now, Ordering::Relaxed);
                trap::thread_yield();
                inside.fetch_sub(1, Ordering::Relaxed);
                units.give();
            }
            Ok(())
        })?);
    }
    for thread in threads {
        thread.join()?;
    }
    check_eq!(units.count(), 2);
    check!((1..=2).contains(&most.load(Ordering::Relaxed)));
    check!(units.try_take() && units.try_take() && !units.try_take());
    Ok(())
}

pub(crate) fn a_wait_for_a_unit_ends_at_its_deadline() -> Outcome {
    let units = Semaphore::new(0)?;
    let deadline = now() + 2 * MILLISECOND;
    check_eq!(units.take_until(deadline), Err(Kern::ReceiveTimedOut));
    check!(now() >= deadline);
    check_eq!(units.count(), 0);
    units.give();
    check_eq!(units.take_until(0), Ok(()));
    Ok(())
}

pub(crate) fn a_thread_that_ends_while_it_waits_takes_no_unit_along() -> Outcome {
    let units = Arc::new(Semaphore::new(0)?);
    let theirs = Arc::clone(&units);
    let waiting = spawn_waiting(move || theirs.take())?;
    check_eq!(units.count(), -1);
    trap::thread_terminate(waiting.thread().name())?;
    units.give();
    check_eq!(units.take(), Ok(()));
    check_eq!(units.count(), -1);
    Ok(())
}
