//! A pager that is started again when it ends, in a task of its own: this program in another role.
//!
//! It keeps what it is given in its own memory, so that who has it later shows which instance got it.

use alloc::format;
use alloc::vec::Vec;

use guest_test::{Assistant, Outcome};
use ipc::abi::layout::PAGE_SIZE;
use ipc::bootstrap::{self, Started};
use ipc::mapping::Options;
use ipc::protocol::memory_object::MemoryObject;
use ipc::{Kern, ReceiveRight, SendRight, Untyped, trap};
use pagers::{Answer, Object, ObjectId, PAGE, Pager, Service, Want};

/// The role, and the module of the image that plays it and is started again.
pub(crate) const ROLE: &str = "keeper";

/// How often it is started again, as the image says.
pub(crate) const TIMES: u32 = 3;

/// Pages of its objects.
pub(crate) const PAGES: u64 = 8;
/// The first instance never answers for this page.
pub(crate) const SILENT: u64 = 6;
/// Each instance ends with a status when it is asked for this page,
pub(crate) const FATAL: u64 = 5;
/// or without one for this.
pub(crate) const LAST: u64 = 7;

/// What it says of the object that the next instance knows, and of the one that it does not.
const KNOWN: &[u8] = b"known";
const FORGOTTEN: &[u8] = b"forgotten";

/// The first word of a page that nobody has written.
pub(crate) const fn word_of(page: u64) -> u64 {
    0xCE9E_0000 + page
}

struct Keeper {
    is_first: bool,
    stored: Vec<(u64, Vec<u8>)>,
}

impl Pager for Keeper {
    const SLOTS: u32 = 8;

    fn data_request(&mut self, object: &Object, want: &mut Want<'_>) -> Answer {
        let number = want.offset / PAGE as u64;
        match number {
            SILENT if self.is_first => sleep(),
            FATAL => ipc::exit(3),
            LAST => ipc::exit(0),
            _ => {}
        }
        let stored = self.stored.iter().rev();
        let mut stored = stored.filter(|(at, _)| *at == place(object, number));
        let page = want.bytes.get_mut(..PAGE).unwrap_or_default();
        match stored.next() {
            Some((_, bytes)) => page.copy_from_slice(bytes),
            None => {
                page.fill(0);
                if let Some(first) = page.first_chunk_mut() {
                    *first = word_of(number).to_le_bytes();
                }
            }
        }
        Answer::SupplyFirst(1)
    }

    fn data_return(&mut self, object: &Object, first: u64, pages: &[u8]) -> Result<(), Kern> {
        for (number, page) in (first..).zip(pages.chunks_exact(PAGE)) {
            self.stored.push((place(object, number), page.to_vec()));
        }
        Ok(())
    }

    fn adopt(&mut self, note: &[u8], _id: ObjectId) -> Option<Object> {
        (note == KNOWN).then_some(object(1))
    }
}

const fn object(key: u64) -> Object {
    Object {
        key,
        size: PAGES * PAGE_SIZE,
    }
}

/// A page among those of all objects.
const fn place(object: &Object, page: u64) -> u64 {
    object.key * PAGES + page
}

/// Waits for what does not come.
fn sleep() -> ! {
    let quiet = ReceiveRight::<Untyped>::new(0);
    loop {
        if let Ok(quiet) = &quiet {
            let _ = guest_test::Msg::receive(quiet).until(u64::MAX).go();
        }
        trap::thread_yield();
    }
}

/// The role: serves an object under `name`, and two others that only notes tell of.
pub(crate) fn serve(name: &str) -> Result<(), Kern> {
    let is_first = bootstrap::look_up::<Untyped>(name).is_err();
    let stored = Vec::new();
    let mut service = Service::new(Keeper { is_first, stored })?;
    if is_first {
        for note in [KNOWN, FORGOTTEN] {
            let id = service.objects.create_kept(object(1), note)?;
            let right = service.objects.right(id)?;
            bootstrap::register(&noted(name, note), right.give())?;
        }
    }
    service.publish(name, object(0))?;
    service.serve()
}

fn noted(name: &str, note: &[u8]) -> alloc::string::String {
    format!("{name}.{}", core::str::from_utf8(note).unwrap_or_default())
}

/// A keeper, its first instance, and what an assistant maps of it.
pub(crate) struct Kept {
    pub(crate) started: Started,
    pub(crate) object: SendRight<MemoryObject>,
    pub(crate) address: u64,
    pub(crate) known: u64,
    pub(crate) forgotten: u64,
}

impl Kept {
    /// Starts one whose objects have these names, and maps them.
    pub(crate) fn start(name: &str, assistant: &Assistant) -> Outcome<Kept> {
        let started = bootstrap::start(ROLE, &format!("{ROLE}\0{name}"))?;
        let map = &assistant.started.map;
        let mapped = |object: &SendRight<MemoryObject>| {
            let options = Options::new(PAGES * PAGE_SIZE);
            options.object(object).map_in(map)
        };
        let object = bootstrap::wait_for(name)?;
        let address = mapped(&object)?;
        let known = mapped(&bootstrap::wait_for(&noted(name, KNOWN))?)?;
        let forgotten = mapped(&bootstrap::wait_for(&noted(name, FORGOTTEN))?)?;
        Ok(Kept {
            started,
            object,
            address,
            known,
            forgotten,
        })
    }

    /// The address of a page of the first object.
    pub(crate) const fn page(&self, page: u64) -> u64 {
        self.address + page * PAGE_SIZE
    }
}
