//! Who pays for the tables by which an IOMMU lets devices reach memory: a driver, for as long as it lives.
//!
//! The driver is this program once more, in a task of its own, which is given a quota and allocations that
//! fail. The functions that it attaches are on buses that the machine does not have: nothing moves any bytes.

use guest_test::{Outcome, check_eq, patience};
use ipc::abi::layout::PAGE_SIZE;
use ipc::abi::notify::ExitStatus;
use ipc::abi::right::{Name, SpecialPort};
use ipc::abi::trap::counter;
use ipc::time::{MILLISECOND, now, sleep};
use ipc::{Kern, bootstrap, println, task, trap, vm};

/// The role of the driver.
pub(crate) const ROLE: &str = "role:driver";
/// Its exit status if all was as it has to be.
pub(crate) const DONE: u32 = 77;

/// Functions on different buses.
const FIRST: u16 = 0x4000;
const SECOND: u16 = 0x4100;
const THIRD: u16 = 0x4200;
/// Drivers that come and go.
const DRIVERS: usize = 8;
/// Frames that the kernel may use more for other things; the drivers have more between them.
const SLACK: u64 = 16;
const NONE: u64 = u64::MAX;

pub(crate) fn tables_for_devices_are_paid_for_by_their_driver_until_it_ends() -> Outcome {
    let drive = || -> Outcome {
        let started = bootstrap::start(ipc::task_name(), ROLE)?;
        check_eq!(bootstrap::wait(started.instance)?, ExitStatus::Exited(DONE));
        Ok(())
    };
    drive()?;
    let before = kernel_frames()?;
    for _ in 0..DRIVERS {
        drive()?;
    }
    let deadline = patience();
    while kernel_frames()? > before + SLACK && now() < deadline {
        sleep(20 * MILLISECOND);
    }
    guest_test::check!(kernel_frames()? <= before + SLACK);
    Ok(())
}

/// Frames that the kernel uses.
fn kernel_frames() -> Result<u64, Kern> {
    let counters = trap::host_statistics()?;
    let of = |index: usize| counters.get(index).copied().unwrap_or(0);
    Ok(of(counter::KERNEL_FRAMES) - of(counter::KERNEL_FRAMES_FREE))
}

/// The life of the driver.
pub(crate) fn live() -> Result<(), Kern> {
    let driver = Driver {
        host: trap::task_get_special_port(SpecialPort::HostControl)?,
        device: trap::task_get_special_port(SpecialPort::Device)?,
        task: task::own()?.into_name(),
    };
    driver.pays_for_functions()?;
    driver.has_nothing_beyond_its_quota()?;
    driver.survives_failing_allocations()
}

struct Driver {
    host: Name,
    device: Name,
    task: Name,
}

impl Driver {
    /// Frames that are charged to it.
    fn used(&self) -> Result<u64, Kern> {
        trap::task_get_quota(self.task).map(|(used, _)| used / PAGE_SIZE)
    }

    fn attach(&self, function: u16) -> Result<(), Kern> {
        trap::device_attach(self.device, function)
    }

    fn pays_for_functions(&self) -> Result<(), Kern> {
        let before = self.used()?;
        self.attach(FIRST)?;
        // The root of what its devices reach, and the table of the bus.
        expect("the first function", self.used()?, before + 2)?;
        self.attach(FIRST)?;
        expect("the same", self.used()?, before + 2)?;
        self.attach(SECOND)?;
        expect("another bus", self.used()?, before + 3)
    }

    fn has_nothing_beyond_its_quota(&self) -> Result<(), Kern> {
        let (address, _) = vm::own().device_memory_allocate(&self.right(), PAGE_SIZE)?;
        // SAFETY: the page was just allocated.
        unsafe { guest_test::touch::write(address, 1) };
        let (used, limit) = trap::task_get_quota(self.task)?;
        trap::task_set_quota(self.host, self.task, used)?;
        let attached = self.attach(THIRD);
        let shown = self.show(address);
        let after = trap::task_get_quota(self.task)?;
        trap::task_set_quota(self.host, self.task, limit)?;
        expect("attached", attached, Err(Kern::ResourceShortage))?;
        expect("shown", shown, Err(Kern::ResourceShortage))?;
        expect("quota", after, (used, used))?;
        self.show(address)?;
        expect("tables", self.used()?, used / PAGE_SIZE + 3)?;
        self.show(address)?;
        expect("the same", self.used()?, used / PAGE_SIZE + 3)
    }

    /// Another bus, and memory: which of their allocations fails, they are done after it.
    fn survives_failing_allocations(&self) -> Result<(), Kern> {
        let before = self.used()?;
        let failures = self.each(|| self.attach(THIRD))?;
        expect("failures", failures, 1)?;
        expect("tables", self.used()?, before + 1)
    }

    /// Tries something with each of its allocations failing; gives how many there are.
    fn each(&self, mut attempt: impl FnMut() -> Result<(), Kern>) -> Result<u64, Kern> {
        for left in 0.. {
            let before = self.used()?;
            trap::debug_fail_allocation(self.host, left)?;
            let result = attempt();
            let (_, failed) = trap::debug_fail_allocation(self.host, NONE)?;
            match result {
                Ok(()) => return Ok(left),
                Err(Kern::ResourceShortage) if failed => {
                    expect("after a failure", self.used()?, before)?;
                }
                Err(code) => return Err(code),
            }
        }
        Err(Kern::Failure)
    }

    fn right(&self) -> core::mem::ManuallyDrop<ipc::SendRight<ipc::Untyped>> {
        core::mem::ManuallyDrop::new(ipc::SendRight::from_name(self.device))
    }

    fn show(&self, address: u64) -> Result<(), Kern> {
        // SAFETY: no device is there that would write to it.
        unsafe { trap::device_show(self.device, address, 1) }
    }
}

fn expect<T: PartialEq + core::fmt::Debug>(what: &str, found: T, wanted: T) -> Result<(), Kern> {
    if found == wanted {
        return Ok(());
    }
    println!("driver: {what}: {found:?} and not {wanted:?}");
    Err(Kern::Failure)
}
