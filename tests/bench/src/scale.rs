//! What several processors are good for: independent tasks that do the same at once.
//!
//! Figures are of wall time, in ticks of the time stamp counter for each operation of all tasks
//! together, so they say something only beside those of the same machine with one processor: `cargo
//! xtask bench scale` boots both. (Nanoseconds are ticks by a scale that each boot measures anew.) A round is short, and the best of many counts, since other work of the host can only
//! make one longer. The tasks are not pinned: calls and faults keep a pair on its processor.

use alloc::format;
use alloc::vec::Vec;
use core::hint::black_box;

use guest_test::message::arrived;
use guest_test::{Msg, touch};
use ipc::abi::layout::PAGE_SIZE;
use ipc::abi::right::{Disposition, Name};
use ipc::abi::trap::counter;
use ipc::abi::types::{MapFlags, Prot};
use ipc::mapping::Options;
use ipc::protocol::memory_entry::MemoryEntry;
use ipc::time::{MILLISECOND, after, sleep, ticks};
use ipc::{Kern, ReceiveRight, SendRight, Untyped, trap, vm};

use crate::fault;
use crate::ipc_rt;
use crate::partner::{Partner, Role};
use crate::probe::Row;

/// Rounds of each measurement, the first of which do not count.
const ROUNDS: usize = 100;
const WARM_UP: usize = 4;

/// Operations of a task in a round, which fits into what a busy host gives a thread at a time.
const CALLS: u64 = 400;
const FAULTS: u64 = 200;

/// Between the preparations of a round and its start: what they left unfinished is done then.
const SETTLE: u64 = 10 * MILLISECOND;
/// From the word to the start, so that all tasks have heard it.
const START: u64 = 2 * MILLISECOND;

/// Where the pages lie, of which every second one is touched.
const PAGES: u64 = 0x4500_0000_0000;

/// What a task does.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Work {
    /// Calls a server of its own.
    Calls,
    /// Touches pages that are resident, and not translated.
    Resident,
    /// Writes to new memory.
    ZeroFill,
}

const WORKS: [(&str, Work); 3] = [
    ("scale.calls", Work::Calls),
    ("scale.fault_resident", Work::Resident),
    ("scale.fault_zero_fill", Work::ZeroFill),
];

impl Work {
    const fn count(self) -> u64 {
        match self {
            Work::Calls => CALLS,
            Work::Resident | Work::ZeroFill => FAULTS,
        }
    }
}

/// Messages to a worker; each is answered by one to the port that came with the first.
const PREPARE: u32 = 1;
const BEGIN: u32 = 2;

/// Measures the operations whose key contains `filter`; says whether none failed.
pub(crate) fn measure(filter: &str) -> bool {
    let mut good = true;
    for (key, work) in WORKS.iter().filter(|(key, _)| key.contains(filter)) {
        if let Err(code) = all(key, *work) {
            ipc::println!("bench: {key}: a call answered {code}");
            good = false;
        }
    }
    good
}

/// One task alone, then as many as there are processors.
fn all(key: &str, work: Work) -> Result<(), Kern> {
    let processors = trap::host_statistics()?[counter::PROCESSORS];
    if processors > 1 {
        Team::start(work, 1)?.measure(&format!("{key}.alone"))?;
    }
    Team::start(work, processors)?.measure(key)
}

/// Tasks at work, each with the task that it calls.
struct Team {
    work: Work,
    report: ReceiveRight<Untyped>,
    workers: Vec<Partner>,
    servers: Vec<Partner>,
}

impl Team {
    fn start(work: Work, size: u64) -> Result<Team, Kern> {
        let report = ReceiveRight::new(0)?;
        let mut team = Team {
            work,
            report,
            workers: Vec::new(),
            servers: Vec::new(),
        };
        for _ in 0..size {
            let worker = Partner::start(Role::Worker)?;
            let server = Partner::start(Role::Echo)?;
            let kind = WORKS.iter().position(|(_, known)| *known == work);
            Msg::send(&worker.port, 0)
                .word(kind.unwrap_or(0) as u64)
                .rights(&[
                    (team.report.name(), Disposition::MakeSend),
                    (server.port.name(), Disposition::CopySend),
                ])
                .go()?;
            team.workers.push(worker);
            team.servers.push(server);
        }
        Ok(team)
    }

    fn measure(self, key: &str) -> Result<(), Kern> {
        let mut samples = Vec::new();
        for round in 0..ROUNDS + WARM_UP {
            if self.work != Work::Calls {
                self.each(PREPARE, 0)?;
                sleep(SETTLE);
            }
            let (begin, end) = self.each(BEGIN, after(START))?;
            if round >= WARM_UP {
                samples.push(end.saturating_sub(begin));
            }
        }
        samples.sort_unstable();
        let count = self.workers.len() as u64 * self.work.count();
        let of = |sample: Option<&u64>| sample.copied().unwrap_or(0) as f64 / count as f64;
        let median = of(samples.get(samples.len() / 2));
        let spread = [of(samples.first()), median, of(samples.last())];
        Row::spread("ticks", samples.len() as u32, spread).print_as(key);
        Ok(())
    }

    /// Has each worker do something; gives when the first began and the last ended.
    fn each(&self, what: u32, word: u64) -> Result<(u64, u64), Kern> {
        for worker in &self.workers {
            Msg::send(&worker.port, what).word(word).go()?;
        }
        let (mut first, mut last) = (u64::MAX, 0);
        for _ in &self.workers {
            let received = Msg::receive(&self.report).forever().go()?;
            let [code, begin, end, ..] = received.words;
            ipc::abi::kern_return::from_raw(code as u32)?;
            first = first.min(begin);
            last = last.max(end);
        }
        Ok((first, last))
    }
}

/// The part of a worker, which receives from `port`.
///
/// # Errors
/// What the kernel or the VM server answers.
pub(crate) fn work(port: &ReceiveRight<Untyped>) -> Result<(), Kern> {
    let first = Msg::receive(port).forever().go()?;
    let [(report, _), (server, _)] = arrived();
    let report = SendRight::<Untyped>::from_name(report as Name);
    let server = SendRight::<Untyped>::from_name(server as Name);
    let [kind, ..] = first.words;
    let work = WORKS.get(kind as usize).map(|(_, work)| *work);
    let work = work.ok_or(Kern::InvalidArgument)?;
    let entry = fault::resident_entry(1)?;
    loop {
        let received = Msg::receive(port).forever().go()?;
        let [start, ..] = received.words;
        let mut begin = 0;
        let result = if received.info.id() == PREPARE {
            prepare(work, &entry)
        } else {
            ipc::sync::park_until(start);
            begin = ticks();
            go(work, &server)
        };
        let end = ticks();
        let code = u64::from(ipc::abi::kern_return::to_raw(result));
        Msg::send(&report, 0)
            .words([code, begin, end, 0, 0, 0])
            .go()?;
    }
}

/// Addresses of the pages to touch.
fn pages() -> impl Iterator<Item = u64> {
    (0..FAULTS).map(|number| PAGES + 2 * number * PAGE_SIZE)
}

fn prepare(work: Work, entry: &SendRight<MemoryEntry>) -> Result<(), Kern> {
    let map = vm::own();
    map.deallocate(PAGES, 2 * FAULTS * PAGE_SIZE)?;
    for page in pages() {
        if work == Work::Resident {
            let view = Options::new(PAGE_SIZE).entry(entry);
            view.max_protection(Prot::DEFAULT).at(page).map_in(&map)?;
        } else {
            map.allocate_at(page, PAGE_SIZE, MapFlags::empty())?;
        }
    }
    Ok(())
}

fn go(work: Work, server: &SendRight<Untyped>) -> Result<(), Kern> {
    match work {
        Work::Calls => {
            for _ in 0..CALLS {
                ipc_rt::call_once(server)?;
            }
        }
        Work::Resident => pages().for_each(|page| _ = black_box(touch::read(black_box(page)))),
        // SAFETY: `prepare` has allocated the pages, and nothing refers to them.
        Work::ZeroFill => pages().for_each(|page| unsafe { touch::write(black_box(page), 1) }),
    }
    Ok(())
}
