//! What calls and faults cost in a map that has many entries.
//!
//! A field is `n` mappings of one page each with a hole after it, so that no two become one. For
//! each size it is made, worked on at random places, inherited by a task, and given back, each of
//! which is told as `grow.WHAT.n`.

use ipc::abi::layout::PAGE_SIZE;
use ipc::abi::types::{MapFlags, Prot};
use ipc::vm::{self, OwnMap};
use ipc::{Kern, task as tasks};

use guest_test::touch;

use crate::SETTLE;
use crate::probe::{self, Bench, Row};

/// The sizes of a field.
const SIZES: [u64; 4] = [10, 1000, 10_000, 60_000];
/// Where it lies.
const BASE: u64 = 0x2000_0000_0000;
/// From one mapping to the next.
const STRIDE: u64 = 2 * PAGE_SIZE;
/// Samples of what is done at random places.
const SAMPLES: u32 = 300;

/// Numbers that look random and are the same in each run.
struct Places {
    word: u64,
    n: u64,
}

impl Places {
    const fn of(n: u64) -> Places {
        Places {
            word: 88_172_645,
            n,
        }
    }

    /// The address of a mapping.
    fn next(&mut self) -> u64 {
        self.word ^= self.word << 13;
        self.word ^= self.word >> 7;
        self.word ^= self.word << 17;
        BASE + self.word % self.n * STRIDE
    }
}

fn allocate_at(map: &OwnMap, address: u64) -> Result<(), Kern> {
    map.allocate_at(address, PAGE_SIZE, MapFlags::empty())
        .map(|_| ())
}

/// Measures whatever of the keys contains `filter`. Says whether all went well.
pub(crate) fn measure(filter: &str) -> bool {
    let wanted = |n: u64| {
        let named = |what: &&str| alloc::format!("{what}.{n}").contains(filter);
        KEYS.iter().any(named)
    };
    let mut well = true;
    for n in SIZES.into_iter().filter(|n| wanted(*n)) {
        let tell = |what: &str, row: Row| {
            let key = alloc::format!("{what}.{n}");
            if key.contains(filter) {
                row.print_as(&key);
            }
        };
        if let Err(code) = field(n, Teller { profiled: "", tell }) {
            ipc::println!("bench: grow, {n} mappings: a call answered {code}");
            well = false;
        }
    }
    well
}

/// Repeats one of them for a profile, or does it once; in a field of the size that the key ends with.
pub(crate) fn profile(key: &str) -> Result<(), Kern> {
    let (what, n) = key.rsplit_once('.').ok_or(Kern::InvalidArgument)?;
    let n = n.parse().map_err(|_| Kern::InvalidArgument)?;
    if !KEYS.contains(&what) {
        return Err(Kern::InvalidArgument);
    }
    let tell = |_: &str, _: Row| ();
    field(
        n,
        Teller {
            profiled: what,
            tell,
        },
    )
}

/// How the parts of a field are measured, and who is told.
struct Teller<'a, F> {
    /// The part that is watched from outside, after which the rest is left out; empty: none.
    profiled: &'a str,
    tell: F,
}

impl<F: Fn(&str, Row)> Teller<'_, F> {
    /// What is repeated. Says whether that was all.
    fn repeat(
        &self,
        what: &str,
        once: impl FnMut(&mut probe::Probe) -> Result<(), Kern>,
    ) -> Result<bool, Kern> {
        if self.profiled == what {
            Bench::for_profile(1).repeat(once)?;
            return Ok(true);
        }
        let mut bench = Bench::new(1, SAMPLES);
        bench.repeat(once)?;
        (self.tell)(what, bench.row("")?);
        Ok(false)
    }

    /// What is done once, for each of `n`. Says whether that was all.
    fn single(&self, what: &str, n: u64, once: impl FnOnce()) -> (bool, Row) {
        if self.profiled == what {
            probe::watched();
        }
        (self.profiled == what, probe::single(n, once))
    }
}

const KEYS: [&str; 7] = [
    "grow.create",
    "grow.allocate_deallocate_anywhere",
    "grow.deallocate_allocate_fixed_random",
    "grow.write_fault_random",
    "grow.protect_random",
    "grow.fork",
    "grow.deallocate_all",
];

/// One field, from its making to its end.
fn field<F: Fn(&str, Row)>(n: u64, teller: Teller<'_, F>) -> Result<(), Kern> {
    let map = vm::own();
    let [create, anywhere, fixed, fault, protect, fork, end] = KEYS;
    let mut made = Ok(());
    let (all, row) = teller.single(create, n, || {
        made = (0..n).try_for_each(|place| allocate_at(&map, BASE + place * STRIDE));
    });
    made?;
    if all {
        return Ok(());
    }
    (teller.tell)(create, row);
    let all = teller.repeat(anywhere, |probe| {
        probe.time(|| {
            let address = map.allocate(PAGE_SIZE)?;
            map.deallocate(address, PAGE_SIZE)
        })
    })?;
    if all || at_random(&map, n, &teller, [fixed, fault, protect])? {
        return Ok(());
    }
    let mut child = Err(Kern::Failure);
    let (all, row) = teller.single(fork, n, || child = map.create_task(true));
    if all {
        return Ok(());
    }
    tasks::terminate(&child?.task, 0)?;
    // The end of the child's map is not part of what comes next.
    ipc::time::sleep(SETTLE);
    (teller.tell)(fork, row);
    let mut ended = Ok(());
    let (_, row) = teller.single(end, n, || ended = map.deallocate(BASE, n * STRIDE));
    (teller.tell)(end, row);
    ended
}

/// What is done at random places of a field. Says whether that was all.
fn at_random<F: Fn(&str, Row)>(
    map: &OwnMap,
    n: u64,
    teller: &Teller<'_, F>,
    [fixed, fault, protect]: [&str; 3],
) -> Result<bool, Kern> {
    let mut places = Places::of(n);
    let all = teller.repeat(fixed, |probe| {
        let address = places.next();
        probe.time(|| {
            map.deallocate(address, PAGE_SIZE)?;
            allocate_at(map, address)
        })
    })?;
    if all {
        return Ok(true);
    }
    let mut places = Places::of(n);
    let all = teller.repeat(fault, |probe| {
        let address = places.next();
        // A page that was written by an earlier sample goes first.
        map.deallocate(address, PAGE_SIZE)?;
        allocate_at(map, address)?;
        // SAFETY: the page was just mapped, and nothing refers to it.
        probe.time(|| unsafe { touch::write(address, 1) });
        Ok(())
    })?;
    if all {
        return Ok(true);
    }
    let mut places = Places::of(n);
    let mut writable = true;
    let mut address = BASE;
    let all = teller.repeat(protect, |probe| {
        // Each place loses the right to be written, and then gets it back.
        if writable {
            address = places.next();
        }
        writable = !writable;
        let protection = if writable { Prot::DEFAULT } else { Prot::READ };
        probe.time(|| map.protect(address, PAGE_SIZE, protection))
    })?;
    if !all {
        map.protect(address, PAGE_SIZE, Prot::DEFAULT)?;
    }
    Ok(all)
}
