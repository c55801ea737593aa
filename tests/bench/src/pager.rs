//! Pages that a pager in another task makes and brings.

use ipc::abi::layout::PAGE_SIZE;
use ipc::mapping::Options;
use ipc::protocol::memory_object::MemoryObject;
use ipc::{Kern, SendRight};
use pagers::{Answer, Attributes, Object, Pager, Service, Want};

use guest_test::touch;

use crate::partner::{Partner, Role};
use crate::probe::Bench;

/// Bytes of the object that a pager serves: more than any operation touches.
const SIZE: u64 = 1 << 40;

/// Writes each page full of its number.
struct Counting<const CLUSTER: u32>;

impl<const CLUSTER: u32> Pager for Counting<CLUSTER> {
    const SLOTS: u32 = if CLUSTER < 16 { 32 } else { 2 * CLUSTER };

    fn data_request(&mut self, _object: &Object, want: &mut Want<'_>) -> Answer {
        for (number, page) in want.pages() {
            page.fill(number as u8);
        }
        Answer::Supply
    }

    fn attributes(&self, _object: &Object) -> Attributes {
        Attributes {
            cluster: CLUSTER,
            ..Attributes::default()
        }
    }
}

/// The same, but what its slots are asked for first lies in them already.
struct Prepared<const CLUSTER: u32> {
    /// Pages that were not asked for yet, of those that lie in slots.
    left: u64,
}

/// Slots of a pager that prepares them: as many as a tray has, so that none is filled again while what
/// was prepared lasts.
const PREPARED: u32 = 1024;

impl<const CLUSTER: u32> Pager for Prepared<CLUSTER> {
    const SLOTS: u32 = PREPARED;

    fn prepare(&mut self, slots: &mut [u8]) {
        for (number, page) in slots.chunks_exact_mut(PAGE_SIZE as usize).enumerate() {
            page.fill(number as u8);
            self.left += 1;
        }
    }

    fn data_request(&mut self, _object: &Object, want: &mut Want<'_>) -> Answer {
        let pages = (want.bytes.len() / PAGE_SIZE as usize) as u64;
        if self.left < pages {
            self.left = 0;
            for (number, page) in want.pages() {
                page.fill(number as u8);
            }
        }
        self.left = self.left.saturating_sub(pages);
        Answer::Supply
    }

    fn attributes(&self, _object: &Object) -> Attributes {
        Attributes {
            cluster: CLUSTER,
            ..Attributes::default()
        }
    }
}

/// Serves an object under a name, of a pager that writes what it is asked for.
pub(crate) fn serve<const CLUSTER: u32>(name: &str) -> Result<(), Kern> {
    serve_by(Counting::<CLUSTER>, name)
}

/// Serves an object under a name, of a pager that has written it before.
pub(crate) fn serve_prepared<const CLUSTER: u32>(name: &str) -> Result<(), Kern> {
    serve_by(Prepared::<CLUSTER> { left: 0 }, name)
}

fn serve_by<P: Pager>(pager: P, name: &str) -> Result<(), Kern> {
    let mut service = Service::new(pager)?;
    service.publish(name, Object { key: 0, size: SIZE })?;
    service.serve()
}

/// Touches pages that were never there, `pages` at a time.
fn sweep(bench: &mut Bench, role: Role, pages: u64) -> Result<(), Kern> {
    let partner = Partner::start(role)?;
    let object: &SendRight<MemoryObject> = &partner.object();
    let size = u64::from(bench.calls()) * pages * PAGE_SIZE;
    let view = Options::new(size).object(object).read_only().map()?;
    let mut next = view.address();
    let mut number = 0_u64;
    bench.repeat(|probe| {
        let first = next;
        next += pages * PAGE_SIZE;
        let last = probe.time(|| {
            let places = (0..pages).map(|page| first + page * PAGE_SIZE);
            places.fold(0, |_, place| touch::read(place))
        });
        number += pages;
        // The last page read has to hold its own number, everywhere.
        if last == ((number - 1) & 0xFF) * 0x0101_0101_0101_0101 {
            Ok(())
        } else {
            Err(Kern::Failure)
        }
    })
}

/// One page a request.
pub(crate) fn one(bench: &mut Bench) -> Result<(), Kern> {
    sweep(bench, Role::Pager1, 1)
}

/// Sixteen pages a request.
pub(crate) fn sixteen(bench: &mut Bench) -> Result<(), Kern> {
    sweep(bench, Role::Pager16, 16)
}

/// Sixty-four pages a request.
pub(crate) fn sixty_four(bench: &mut Bench) -> Result<(), Kern> {
    sweep(bench, Role::Pager64, 64)
}

/// Sixteen pages a request, which lie in the pager's slots already.
pub(crate) fn prepared_sixteen(bench: &mut Bench) -> Result<(), Kern> {
    sweep(bench, Role::Prepared16, 16)
}

/// Sixty-four pages a request, which lie in the pager's slots already.
pub(crate) fn prepared_sixty_four(bench: &mut Bench) -> Result<(), Kern> {
    sweep(bench, Role::Prepared64, 64)
}
