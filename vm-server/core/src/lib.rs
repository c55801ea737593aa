//! The Mach VM as a pure state machine: events in, effects out.
//!
//! ```text
//!   Event --> Core::handle --> Effects          maps ---- entries --+
//!               |      ^                                            v
//!         Machine   Supplies                    named entries --> objects <-- copies
//!   (zero, copy, revoke)  (zeroed frames)                        |  |   \
//!                                                          shadow  pages  pager -- requests
//!   Core::next_message / sent: what pagers are told                            \-- tray
//! ```
//!
//! Nothing here touches hardware, traps or time; all state is in [`Core`], in slabs of records that
//! name each other by index or by generational handle. An event does a bounded amount of work; what
//! is left over is done by `Event::Step` while [`Core::wants_step`].
//!
//! | part | what |
//! |---|---|
//! | [`event`], [`effect`], [`machine`] | the whole interface |
//! | [`map`], `call::vm_map` | address maps and the calls on them |
//! | [`account`] | what maps may hold |
//! | [`object`], [`tray`] | memory objects, their pages and pagers |
//! | [`copy`], [`named_entry`] | memory that has a port |
//! | [`fault`] | what a fault decides, in order |
//! | [`reclaim`] | memory that tasks do without for now |
//! | [`op`] | work in steps, and who waits for what |
//! | [`talk`] | what pagers are still to be told |
//! | [`inspect`], [`invariants`] | looking at the state from outside, and the rules that it keeps |
#![no_std]
#![forbid(unsafe_code)]
#![allow(
    rustdoc::private_intra_doc_links,
    reason = "this documentation is for whoever works on the crate"
)]
#![deny(clippy::indexing_slicing, clippy::arithmetic_side_effects)]
#![cfg_attr(
    test,
    allow(
        clippy::indexing_slicing,
        clippy::arithmetic_side_effects,
        reason = "a test may fail"
    )
)]

extern crate alloc;

pub mod account;
mod boot;
pub mod call;
pub mod copy;
pub mod effect;
pub mod event;
pub mod fault;
mod frames;
mod handle;
pub mod id;
pub mod inspect;
pub mod invariants;
pub mod machine;
pub mod map;
pub mod named_entry;
pub mod object;
pub mod op;
#[cfg(test)]
mod properties;
pub mod range;
pub mod reclaim;
#[cfg(test)]
mod sim;
pub mod slab;
pub mod stats;
pub mod talk;
mod touched;
mod translation;
pub mod tray;

use alloc::vec::Vec;

use ipc_abi::Kern;

use crate::effect::Effects;
use crate::event::{RightId, Time};
use crate::machine::Revoke;
use crate::object::page::Pages;
use crate::object::pages::{Nodes, Tree};
use crate::op::wait::{List, Tokens, Waiters};
use crate::slab::{NIL, Slab};

/// What the server is started with.
#[derive(Clone, Copy, Debug)]
pub struct Config {
    /// One past the highest frame number of memory.
    pub frame_limit: u32,
    /// The shell's right to the device port: who shows it may map device frames.
    pub device: Option<RightId>,
    /// The shell's right to the host control port: who shows it may wire memory and set limits.
    pub host: Option<RightId>,
    /// How long a wait on a pager may last, in nanoseconds.
    pub pager_timeout: u64,
    /// How much longer it may last if the pager was lost meanwhile, in nanoseconds.
    pub pager_restart: u64,
    /// What a map may hold that nobody set limits for.
    pub limits: account::Limits,
    /// What all maps together may hold.
    pub whole: account::Whole,
    /// Free frames that clients leave for those who free frames.
    pub reserve: u32,
    /// Free frames beyond those, without which no page is filled before somebody touches it.
    pub ahead: u32,
    /// Tasks may have rings of deferred reclamation.
    pub reclaims: bool,
    /// What an event is answered with is carried out before the next event. If not, a page that an answer
    /// is to replace is taken back first: an earlier answer, which comes late, could bring it again.
    pub in_order: bool,
}

impl Config {
    /// Limits that a machine of this size starts with.
    #[must_use]
    pub const fn for_frames(frame_limit: u32) -> Config {
        Config {
            frame_limit,
            device: None,
            host: None,
            pager_timeout: 300_000_000_000,
            pager_restart: 30_000_000_000,
            limits: account::Limits::for_frames(frame_limit),
            whole: account::Whole::for_frames(frame_limit),
            reclaims: true,
            in_order: true,
            reserve: frame_limit / 64,
            ahead: frame_limit / 8,
        }
    }
}

/// What an event is handled with.
pub struct Turn<'a, M> {
    /// The time of the event.
    pub now: Time,
    /// What takes effect at once.
    pub machine: &'a mut M,
    /// What is to be done afterwards.
    pub effects: &'a mut Effects,
}

/// The whole state.
pub struct Core {
    pub(crate) config: Config,
    pub(crate) maps: Slab<map::Map>,
    pub(crate) entries: Slab<map::entry::Entry>,
    pub(crate) objects: Slab<object::Object>,
    pub(crate) pagers: Slab<object::pager::Pager>,
    pub(crate) controls: Slab<object::pager::Control>,
    pub(crate) requests: Slab<object::pager::Request>,
    pub(crate) trays: Slab<tray::Tray>,
    pub(crate) copies: Slab<copy::Copy>,
    pub(crate) asked: Slab<copy::asked::Asked>,
    pub(crate) named: Slab<named_entry::NamedEntry>,
    pub(crate) reserved: Slab<map::reserve::Reserved>,
    pub(crate) ops: Slab<op::Op>,
    pub(crate) waiters: Waiters,
    pub(crate) tokens: Tokens,
    /// Waiters with deadlines of their own, by time.
    pub(crate) deadlines: Tree,
    /// Pagers whose objects' pages are held, by time.
    pub(crate) held: Tree,
    /// The next place in it.
    pub(crate) held_next: u64,
    pub(crate) loans: Slab<object::loan::Loan>,
    pub(crate) notes: Slab<talk::Note>,
    /// Notes of pagers that are to be told nothing any more.
    pub(crate) dropped: talk::Notes,
    pub(crate) nodes: Nodes,
    pub(crate) pages: Pages,
    /// Where a batch of revocations gathers; empty between two.
    pub(crate) revokes: Vec<Revoke>,
    /// Memory object ports: name to index of the pager, as a pending slot.
    pub(crate) ports: Tree,
    /// The pager that was told something last: the next thing to say is most likely its too.
    pub(crate) told: Option<id::Id<object::pager::Pager>>,
    /// Woken faults and operations, in order.
    pub(crate) ready_faults: List,
    /// See `ready_faults`.
    pub(crate) ready_ops: List,
    /// Those whose lists were woken, before they have their turns.
    pub(crate) woken: List,
    /// Who waits for free frames.
    pub(crate) short: List,
    /// The ends of the list of all waiters by age, but for those who have been given more time.
    pub(crate) oldest_waiter: u32,
    /// See `oldest_waiter`.
    pub(crate) newest_waiter: u32,
    /// The ends of the list of those, oldest and newest.
    pub(crate) again: (u32, u32),
    /// The ends of the list of all loans by age.
    pub(crate) oldest_loan: u32,
    /// See `oldest_loan`.
    pub(crate) newest_loan: u32,
    /// Maps with a ring of deferred reclamation.
    pub(crate) rings: u32,
    /// An operation goes over all rings, for want of frames.
    pub(crate) reclaiming: bool,
    /// Objects whose contents may go when frames run short.
    pub(crate) purge: object::purgeable::Queues,
    /// When the shell was last asked to wake the core.
    pub(crate) clock: Time,
    /// Objects that nobody holds, whose pages are being freed.
    pub(crate) dying_objects: u32,
    /// Maps whose entries are being removed.
    pub(crate) dying_maps: u32,
    /// Objects whose shadow chains may be shortened.
    pub(crate) collapsing: object::collapse::Candidates,
    /// Places at which translations were taken back in the present step of an operation.
    pub(crate) revoked: u32,
    /// Trays with empty slots, or that nobody uses any more.
    pub(crate) trays_to_fill: u32,
    /// Frame behind the last run of free frames that was taken.
    pub(crate) run_end: u32,
    /// Pages that are wired, in all maps.
    pub(crate) wired: u64,
    /// Hidden maps.
    pub(crate) hidden_maps: u32,
    /// The map whose call is being handled.
    pub(crate) caller: Option<event::MapId>,
    /// It came through a copy or a memory entry that the map's task made.
    pub(crate) lent: bool,
    /// The last question to a pager, while nobody but its asker knows of it, and what was found for it.
    pub(crate) dialogue: Option<fault::question::Dialogue>,
    /// The event is a fault, whose answer is carried out before anything else happens.
    pub(crate) answering: bool,
    pub(crate) stats: stats::Stats,
    /// Nothing is done the quick way, for tests that compare the two or mix them.
    #[cfg(any(test, feature = "touched"))]
    pub(crate) slowly: bool,
}

/// Most records of each kind: memory is what really limits them.
const RECORDS: u32 = 1 << 24;

impl Core {
    /// A core without memory: frames come by `Event::AddFrames`.
    ///
    /// # Errors
    /// `KERN_RESOURCE_SHORTAGE`: no memory for the page records.
    pub fn new(config: Config) -> Result<Core, Kern> {
        Ok(Core {
            config,
            maps: Slab::new(RECORDS),
            entries: Slab::new(RECORDS),
            objects: Slab::new(RECORDS),
            pagers: Slab::new(RECORDS),
            controls: Slab::new(RECORDS),
            requests: Slab::new(RECORDS),
            trays: Slab::new(RECORDS),
            copies: Slab::new(RECORDS),
            asked: Slab::new(RECORDS),
            named: Slab::new(RECORDS),
            reserved: Slab::new(RECORDS),
            ops: Slab::new(RECORDS),
            waiters: Slab::new(RECORDS),
            tokens: Tokens::EMPTY,
            deadlines: Tree::EMPTY,
            held: Tree::EMPTY,
            held_next: 0,
            loans: Slab::new(RECORDS),
            notes: Slab::new(RECORDS),
            dropped: talk::Notes::EMPTY,
            nodes: Slab::new(RECORDS),
            pages: Pages::new(config.frame_limit)?,
            revokes: translation::list()?,
            ports: Tree::EMPTY,
            told: None,
            ready_faults: List::EMPTY,
            ready_ops: List::EMPTY,
            woken: List::EMPTY,
            short: List::EMPTY,
            oldest_waiter: NIL,
            newest_waiter: NIL,
            again: (NIL, NIL),
            oldest_loan: NIL,
            newest_loan: NIL,
            rings: 0,
            reclaiming: false,
            purge: object::purgeable::Queues::EMPTY,
            clock: Time::NEVER,
            dying_objects: NIL,
            dying_maps: NIL,
            collapsing: object::collapse::Candidates::NONE,
            revoked: 0,
            trays_to_fill: NIL,
            run_end: 0,
            wired: 0,
            hidden_maps: 0,
            caller: None,
            lent: false,
            dialogue: None,
            answering: false,
            stats: stats::Stats::default(),
            #[cfg(any(test, feature = "touched"))]
            slowly: false,
        })
    }
}
