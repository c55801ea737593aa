//! What kind of run: how much there is of what, and what may go wrong.

use serde::{Deserialize, Serialize};

use ipc_abi::types::CopyStrategy;

use crate::Random;
use crate::pager::Habits;
use crate::world::Unkind;

/// What kind of run.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
#[serde(default)]
pub struct Kind {
    /// Frames of memory.
    pub frames: u32,
    /// Pagers.
    pub pagers: u64,
    /// Pages of each task that most calls are about.
    pub pages: u64,
    /// Tasks at most.
    pub tasks: usize,
    /// Operations.
    pub operations: u64,
    /// Pagers fail, are silent, forget and die.
    pub faulty: bool,
    /// Memory may run out.
    pub pressure: bool,
    /// Pagers act most of the time, much of it of their own accord.
    pub paging: bool,
    /// Now and then the server can make no more records.
    pub starved: bool,
    /// Many calls are about shared maps.
    pub sharing: bool,
    /// Tasks may hold little of anything.
    pub limited: bool,
    /// A task puts memory into a ring of deferred reclamation.
    pub rings: bool,
    /// Tasks with rings fork, and some of their children lie.
    pub families: bool,
}

impl Default for Kind {
    fn default() -> Kind {
        Kind::PLAIN
    }
}

impl Kind {
    /// Much memory, pagers that work.
    pub const PLAIN: Kind = Kind {
        frames: 1024,
        pagers: 2,
        pages: 24,
        tasks: 4,
        operations: 300,
        faulty: false,
        pressure: false,
        paging: false,
        starved: false,
        sharing: false,
        limited: false,
        rings: false,
        families: false,
    };
    /// Few pages of pagers that take them back all the time.
    pub const PAGING: Kind = Kind {
        pages: 12,
        pagers: 1,
        paging: true,
        operations: 1000,
        ..Kind::PLAIN
    };
    /// Anonymous memory alone.
    pub const ANONYMOUS: Kind = Kind {
        pagers: 0,
        ..Kind::PLAIN
    };
    /// Pagers that fail in every way.
    pub const FAULTY: Kind = Kind {
        faulty: true,
        ..Kind::PLAIN
    };
    /// Few frames.
    pub const PRESSURE: Kind = Kind {
        frames: 56,
        pressure: true,
        ..Kind::PLAIN
    };
    /// A server without memory for its own records, now and then.
    pub const STARVED: Kind = Kind {
        pressure: true,
        faulty: true,
        starved: true,
        ..Kind::PLAIN
    };
    /// Everything that can go wrong, at once, with little of anything.
    pub const STORM: Kind = Kind {
        frames: 72,
        pages: 12,
        paging: true,
        operations: 1000,
        ..Kind::STARVED
    };
    /// Maps that are filled, sealed and shown.
    pub const SHARING: Kind = Kind {
        sharing: true,
        operations: 600,
        ..Kind::PLAIN
    };
    /// Tasks at their limits.
    pub const LIMITED: Kind = Kind {
        limited: true,
        pressure: true,
        operations: 600,
        ..Kind::PLAIN
    };
    /// A ring of deferred reclamation, and memory that runs short.
    pub const RINGS: Kind = Kind {
        rings: true,
        families: true,
        operations: 600,
        ..Kind::PRESSURE
    };
    /// More of everything, for longer.
    pub const LONG: Kind = Kind {
        rings: true,
        families: true,
        operations: 6000,
        pages: 40,
        pagers: 3,
        tasks: 6,
        ..Kind::PLAIN
    };
    /// The kinds by name.
    pub const NAMED: [(&str, Kind); 11] = [
        ("plain", Kind::PLAIN),
        ("anonymous", Kind::ANONYMOUS),
        ("paging", Kind::PAGING),
        ("faulty", Kind::FAULTY),
        ("pressure", Kind::PRESSURE),
        ("starved", Kind::STARVED),
        ("storm", Kind::STORM),
        ("sharing", Kind::SHARING),
        ("limited", Kind::LIMITED),
        ("rings", Kind::RINGS),
        ("long", Kind::LONG),
    ];

    /// A kind by its name.
    #[must_use]
    pub fn named(name: &str) -> Option<Kind> {
        let found = Kind::NAMED.iter().find(|(known, _)| *known == name)?;
        Some(found.1)
    }
}

/// A pager to begin with.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct PagerSetup {
    /// Slots of its tray for filling.
    pub slots: u32,
    /// Its objects.
    pub objects: Vec<Habits>,
}

/// All that is decided before the first operation.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Setup {
    /// The seed of the choices; nothing depends on it once they are written down.
    pub seed: u64,
    /// What kind of run.
    pub kind: Kind,
    /// How unkind the world is.
    pub unkind: Unkind,
    /// The pagers.
    pub pagers: Vec<PagerSetup>,
}

impl Setup {
    /// The setup of a seed, and the generator of the choices that follow.
    #[must_use]
    pub fn random(seed: u64, kind: Kind) -> (Setup, Random) {
        let mut random = Random::new(seed);
        let unkind = Unkind {
            lost_enters: [3, 20, 1_000_000][random.below(3) as usize],
            queue: 1 + random.below(12) as usize,
            late: random.once_in(3),
            slow: [0, 0, 2, 1][random.below(4) as usize],
        };
        let pagers = (0..kind.pagers)
            .map(|_| PagerSetup {
                slots: 1 + random.below(12) as u32,
                objects: (0..1 + random.below(3))
                    .map(|_| habits(&mut random, &kind))
                    .collect(),
            })
            .collect();
        let setup = Setup {
            seed,
            kind,
            unkind,
            pagers,
        };
        (setup, random)
    }
}

fn habits(random: &mut Random, kind: &Kind) -> Habits {
    let faulty = kind.faulty;
    let mut odds = |most: u64| match random.below(3) {
        0 => 0,
        _ => 1 + random.below(most),
    };
    let mut habits = Habits {
        error: if faulty { odds(8) } else { 0 },
        twice: odds(4),
        part: odds(3),
        locked: odds(4),
        precious: odds(4),
        refuse: odds(8),
        initiative: if kind.paging { 1 } else { odds(4) },
        nonsense: if faulty { odds(4) } else { 0 },
        silent: false,
        holes: odds(2) == 0,
        may_cache: odds(2) == 0,
        strategy: CopyStrategy::Delay,
        cluster: odds(8) as u32,
    };
    habits.silent = faulty && random.once_in(6);
    let strategies = [
        CopyStrategy::None,
        CopyStrategy::Call,
        CopyStrategy::Symmetric,
        CopyStrategy::Delay,
        CopyStrategy::Delay,
        CopyStrategy::Delay,
    ];
    habits.strategy = random.pick(&strategies).unwrap_or_default();
    habits
}
