//! Memory made resident for good, and let go.

use guest_test::touch;
use ipc::abi::layout::PAGE_SIZE;
use ipc::abi::right::SpecialPort;
use ipc::abi::types::Prot;
use ipc::{Kern, Mapping, SendRight, vm};

use crate::probe::Bench;

/// 16 MiB that are resident, wired and unwired.
pub(crate) fn wire_unwire(bench: &mut Bench) -> Result<(), Kern> {
    let size = 16 << 20;
    let host = SendRight::special(SpecialPort::HostControl)?;
    let memory = Mapping::allocate(size)?;
    let (map, address) = (vm::own(), memory.address());
    for page in 0..size / PAGE_SIZE {
        // SAFETY: mapped, and nothing refers to it.
        unsafe { touch::write(address + page * PAGE_SIZE, 1) };
    }
    bench.repeat(|probe| {
        probe.time(|| {
            map.wire(&host, address, size, Prot::DEFAULT)?;
            map.unwire(&host, address, size)
        })
    })
}
