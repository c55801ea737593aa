//! What server and kernel counted, since they started.

use ipc::abi::trap::counter;
use ipc::{Kern, trap, vm};

/// Prints the counters.
pub(crate) fn print() -> Result<(), Kern> {
    let server = vm::own().statistics()?;
    ipc::println!(
        "server: {} faults ({} found their page resident), {} zero fills, {} copy-on-write breaks, \
         {} pages pushed to copies, {} answered with a code",
        server.faults,
        server.resident_hits,
        server.zero_fills,
        server.cow_breaks,
        server.copy_pushes,
        server.failures,
    );
    ipc::println!(
        "server: {} data requests, {} pages in, {} pages out, {} pages copied, {} shadows collapsed",
        server.data_requests,
        server.page_ins,
        server.page_outs,
        server.pages_copied,
        server.collapses,
    );
    ipc::println!(
        "server: {} of {} frames free; {} maps, {} entries, {} objects, {} copies, {} waiting",
        server.frames_free,
        server.frames,
        server.maps,
        server.entries,
        server.objects,
        server.copies,
        server.waiters,
    );
    let kernel = trap::host_statistics()?;
    let count = |index: usize| kernel.get(index).copied().unwrap_or(0);
    ipc::println!(
        "kernel: {} messages, {} faults, {} exceptions, {} entries, {} space switches, {} flushes; \
         {} of {} frames free",
        count(counter::MESSAGES),
        count(counter::FAULTS),
        count(counter::EXCEPTIONS),
        count(counter::KERNEL_ENTRIES),
        count(counter::SPACE_SWITCHES),
        count(counter::TLB_FLUSHES),
        count(counter::KERNEL_FRAMES_FREE),
        count(counter::KERNEL_FRAMES),
    );
    Ok(())
}
