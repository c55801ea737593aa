//! Checks in this task's own map: memory allocated, copied, given back; and what each fault costs.

use ipc::abi::layout::PAGE_SIZE;
use ipc::abi::types::Prot;
use ipc::mapping::Options;
use ipc::protocol::files::Files;
use ipc::{Kern, Mapping, SendRight, vm};

use crate::cost::Samples;
use crate::digest::{Largest, hash_mapping};
use crate::report::Report;
use crate::share;

/// Pages of the memory that is checked.
const PAGES: u64 = 16;
/// How often each kind of fault is measured.
const ROUNDS: u32 = 32;

/// `vm_allocate` and `vm_deallocate`.
pub(crate) fn allocate(report: &mut Report) -> Result<(), Kern> {
    let memory = Mapping::allocate(PAGES * PAGE_SIZE)?;
    let address = memory.address();
    let mut zero = true;
    for page in 0..PAGES {
        zero &= word(&memory, page)? == 0;
    }
    report.check(zero, format_args!("vm_allocate: {PAGES} pages read zero"));

    for page in 0..PAGES {
        set_word(&memory, page, !page)?;
    }
    let mut kept = true;
    for page in 0..PAGES {
        kept &= word(&memory, page)? == !page;
    }
    report.check(
        kept,
        format_args!("vm_allocate: {PAGES} pages written and read back"),
    );

    let inside = |address: u64| {
        let region = vm::own().region(address);
        region.is_ok_and(|region| (region.address..region.address + region.size).contains(&address))
    };
    let before = inside(address);
    drop(memory);
    report.check(
        before && !inside(address),
        format_args!("vm_deallocate: vm_region no longer finds the memory"),
    );
    Ok(())
}

/// `vm_copy` of a file mapping.
pub(crate) fn copy_of_file(
    files: &SendRight<Files>,
    largest: Option<&Largest>,
    report: &mut Report,
) -> Result<(), Kern> {
    let Some(largest) = largest else {
        report.fail(format_args!(
            "vm_copy: the share has no file that is not empty"
        ));
        return Ok(());
    };
    let size = largest.head_size();
    let unchanged =
        |mapping: &Mapping| hash_mapping(mapping, size, &mut Samples::new("")).head == largest.head;
    let file = share::open(files, &largest.path)?;
    let mapping = file.map()?.ok_or(Kern::InvalidObject)?;
    let mut copy = Mapping::allocate(size)?;
    // Whole pages: what is copied in part is copied at once.
    let pages = size.next_multiple_of(PAGE_SIZE);
    let before = vm::own().statistics()?;
    vm::own().copy_range(mapping.address(), pages, copy.address())?;
    let after = vm::own().statistics()?;
    report.check(
        unchanged(&copy) && after.pages_copied == before.pages_copied,
        format_args!("vm_copy: the copy of a file mapping has its first {size} bytes; no page was copied for it"),
    );

    // SAFETY: nobody else knows the copy.
    let bytes = unsafe { copy.bytes_mut() };
    for page in bytes.chunks_mut(PAGE_SIZE as usize) {
        if let Some(byte) = page.first_mut() {
            *byte = !*byte;
        }
    }
    report.check(
        !unchanged(&copy) && unchanged(&mapping),
        format_args!("vm_copy: each page of the copy written, the mapping is unchanged"),
    );
    drop((copy, mapping, file));
    let again = share::open(files, &largest.path)?;
    let again = again.map()?.ok_or(Kern::InvalidObject)?;
    report.check(
        unchanged(&again),
        format_args!("vm_copy: the file, mapped anew, is unchanged"),
    );
    Ok(())
}

/// Instructions from a touch to the next instruction, for each kind of fault that needs no pager.
pub(crate) fn costs() -> Result<[Samples; 3], Kern> {
    Ok([zero_fills()?, residents()?, breaks()?])
}

fn zero_fills() -> Result<Samples, Kern> {
    let mut samples = Samples::new("fault, zero-fill write");
    for _ in 0..ROUNDS {
        let memory = Mapping::allocate(PAGE_SIZE)?;
        samples.time(|| set_word(&memory, 0, 1))?;
    }
    Ok(samples)
}

fn residents() -> Result<Samples, Kern> {
    let mut samples = Samples::new("fault, page resident, read");
    let memory = Mapping::allocate(PAGE_SIZE)?;
    set_word(&memory, 0, 1)?;
    let permission = u32::from(Prot::DEFAULT.bits());
    let (entry, size) = vm::own().memory_entry(PAGE_SIZE, memory.address(), permission, None)?;
    for _ in 0..ROUNDS {
        let view = Options::new(size).max_protection(Prot::DEFAULT);
        let view = view.entry(&entry).map()?;
        samples.time(|| word(&view, 0))?;
    }
    Ok(samples)
}

fn breaks() -> Result<Samples, Kern> {
    let mut samples = Samples::new("fault, copy-on-write break");
    for _ in 0..ROUNDS {
        let source = Mapping::allocate(PAGE_SIZE)?;
        set_word(&source, 0, 1)?;
        let copy = Mapping::allocate(PAGE_SIZE)?;
        vm::own().copy_range(source.address(), PAGE_SIZE, copy.address())?;
        samples.time(|| set_word(&copy, 0, 2))?;
        if word(&source, 0)? != 1 {
            return Err(Kern::Failure);
        }
    }
    Ok(samples)
}

/// The first word of a page of the mapping.
#[inline(always)]
pub(crate) fn word(memory: &Mapping, page: u64) -> Result<u64, Kern> {
    let mut bytes = [0; 8];
    memory.read(page * PAGE_SIZE, &mut bytes)?;
    Ok(u64::from_le_bytes(bytes))
}

/// Writes the first word of a page of the mapping.
#[inline(always)]
pub(crate) fn set_word(memory: &Mapping, page: u64, value: u64) -> Result<(), Kern> {
    memory.write(page * PAGE_SIZE, &value.to_le_bytes())
}
