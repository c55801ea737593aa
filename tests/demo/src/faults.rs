//! Checks of accesses that go wrong: one that a handler repairs, and one whose pager dies.

use ipc::abi::exception::Kind;
use ipc::abi::layout::PAGE_SIZE;
use ipc::abi::notify::ExitStatus;
use ipc::mapping::Options;
use ipc::protocol::files::Files;
use ipc::protocol::memory_object::MemoryObject;
use ipc::{Kern, Mapping, ReceiveRight, SendRight, Untyped, bootstrap, server, task};
use pagers::{Answer, Attributes, Object, Pager, Service, Want};

use crate::cost::Samples;
use crate::digest::{Largest, hash_mapping};
use crate::memory::{set_word, word};
use crate::report::Report;
use crate::watch::Watch;
use crate::{NAME, share};

/// The role that touches unmapped memory.
pub(crate) const TOUCHER: &str = "toucher";
/// The role of the pager that dies.
pub(crate) const DYING: &str = "dying-pager";
/// The role that touches the page on which it dies.
pub(crate) const VICTIM: &str = "victim";

/// The name that the toucher waits for: it appears when its exceptions are watched.
const GO_TOUCHER: &str = "demo.toucher";
/// The same for the victim.
const GO_VICTIM: &str = "demo.victim";
/// The name of the dying pager's object.
const OBJECT: &str = "demo.dying";

const PAGES: u64 = 32;
/// The page on which the pager dies.
const FATAL: u64 = 20;
/// How it ends.
const DYING_STATUS: u32 = 7;
/// An address far from everything that is mapped.
const UNMAPPED: u64 = 0x5000_0001_2000 + 8;

/// An access to unmapped memory, repaired by this task on behalf of the other.
pub(crate) fn repaired(report: &mut Report) -> Result<(), Kern> {
    let exceptions = ReceiveRight::<Untyped>::new(0)?;
    let toucher = bootstrap::start(NAME, TOUCHER)?;
    task::set_exception_port(&toucher.task, Some(&exceptions.make_send()?))?;
    bootstrap::register(GO_TOUCHER, exceptions.make())?;
    let mut watch = Watch::and_repair(toucher.map);
    server::serve(&mut watch, &exceptions)?;
    drop(exceptions);
    let status = bootstrap::wait(toucher.instance)?;
    let expected = watch.exception.is_some_and(|exception| {
        exception.kind == Kind::BadAccess
            && exception.code == u64::from(Kern::InvalidAddress.raw())
            && exception.subcode == UNMAPPED
    });
    report.check(
        expected,
        format_args!("exception: EXC_BAD_ACCESS, KERN_INVALID_ADDRESS at {UNMAPPED:#x} came to the handler task"),
    );
    report.check(
        watch.repaired && status == ExitStatus::Exited(0),
        format_args!("exception: repaired by vm_allocate in the other task's map, which went on"),
    );
    Ok(())
}

/// Touches unmapped memory, as soon as somebody watches.
pub(crate) fn toucher() -> Result<u32, Kern> {
    share::find::<Untyped>(GO_TOUCHER)?;
    let page = UNMAPPED & !(PAGE_SIZE - 1);
    // SAFETY: nothing is there yet; the handler allocates the page at the first touch, and it is
    // nobody else's.
    let memory = unsafe { Mapping::from_raw(page, PAGE_SIZE) };
    let mut bytes = [0xFF; 8];
    memory.read(UNMAPPED - page, &mut bytes)?;
    let zero = bytes == [0; 8];
    set_word(&memory, 0, 1)?;
    Ok(if zero && word(&memory, 0)? == 1 { 0 } else { 2 })
}

/// A pager that dies in the middle, over a request: who waits for it gets an exception, everybody
/// else goes on. Gives what the faults before cost.
pub(crate) fn dying_pager(
    files: &SendRight<Files>,
    largest: Option<&Largest>,
    report: &mut Report,
) -> Result<Samples, Kern> {
    let mut samples = Samples::new("fault, page supplied by a pager, one page");
    let pager = bootstrap::start(NAME, DYING)?;
    let object = share::find::<MemoryObject>(OBJECT)?;
    let view = map_dying(&object)?;
    let mut right = true;
    for page in 0..FATAL {
        right &= samples.time(|| word(&view, page))? == contents(page);
    }
    report.check(
        right,
        format_args!("pager task: {FATAL} pages supplied, each as the pager made it"),
    );

    let exceptions = ReceiveRight::<Untyped>::new(0)?;
    let victim = bootstrap::start(NAME, VICTIM)?;
    task::set_exception_port(&victim.task, Some(&exceptions.make_send()?))?;
    bootstrap::register(GO_VICTIM, exceptions.make())?;
    let mut watch = Watch::for_a_while();
    server::serve(&mut watch, &exceptions)?;
    let status = bootstrap::wait(pager.instance)?;
    report.check(
        status == ExitStatus::Exited(DYING_STATUS),
        format_args!("dying pager: it ended over the request for page {FATAL}"),
    );
    let code = watch
        .exception
        .map(|exception| (exception.kind, exception.code));
    let memory_error = u64::from(Kern::MemoryError.raw());
    let status = bootstrap::wait(victim.instance)?;
    report.check(
        code == Some((Kind::BadAccess, memory_error))
            && matches!(status, ExitStatus::Exception { code, .. } if u64::from(code) == memory_error),
        format_args!("dying pager: the task that touched the page got KERN_MEMORY_ERROR, and no zeros"),
    );
    let mut kept = true;
    for page in 0..FATAL {
        kept &= word(&view, page)? == contents(page);
    }
    report.check(
        kept,
        format_args!("dying pager: its pages that are in memory still read"),
    );
    if let Some(largest) = largest {
        let file = share::open(files, &largest.path)?;
        let mapping = file.map()?.ok_or(Kern::InvalidObject)?;
        let size = largest.head_size();
        let hashes = hash_mapping(&mapping, size, &mut Samples::new(""));
        report.check(
            hashes.head == largest.head,
            format_args!("dying pager: the file pager and this task go on"),
        );
    }
    Ok(samples)
}

fn map_dying(object: &SendRight<MemoryObject>) -> Result<Mapping, Kern> {
    Options::new(PAGES * PAGE_SIZE)
        .object(object)
        .read_only()
        .map()
}

/// The first word of each page of the dying pager's object.
fn contents(page: u64) -> u64 {
    !page << 8
}

/// The pager that dies.
struct Dying;

impl Pager for Dying {
    fn attributes(&self, _object: &Object) -> Attributes {
        Attributes {
            cluster: 1,
            ..Attributes::default()
        }
    }

    fn data_request(&mut self, _object: &Object, want: &mut Want<'_>) -> Answer {
        for (number, page) in want.pages() {
            if number == FATAL {
                ipc::exit(DYING_STATUS);
            }
            page.fill(0);
            if let Some(word) = page.first_chunk_mut() {
                *word = contents(number).to_le_bytes();
            }
        }
        Answer::Supply
    }
}

/// Runs the pager that dies.
pub(crate) fn dying() -> Result<u32, Kern> {
    let mut service = Service::new(Dying)?;
    let size = PAGES * PAGE_SIZE;
    service.publish(OBJECT, Object { key: 0, size })?;
    service.serve()?;
    Ok(0)
}

/// Touches the page on which the pager dies. To come back from that is a failure.
pub(crate) fn victim() -> Result<u32, Kern> {
    share::find::<Untyped>(GO_VICTIM)?;
    let view = map_dying(&share::find(OBJECT)?)?;
    word(&view, FATAL)?;
    Ok(2)
}
