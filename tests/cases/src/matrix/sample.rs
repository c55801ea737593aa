//! Some of the matrix, by chance, in whatever a case can be run against: a task in the whole system, too.

use alloc::format;
use alloc::vec::Vec;

use ipc_abi::Kern;
use ipc_abi::types::{Inherit, Prot};
use ipc_protocol::vm_map::{MAP_MEM_VM_COPY, MAP_MEM_VM_SHARE, Reply, Request};
use ipc_protocol::{vm_advice, vm_inspect, vm_share, vm_wire};
use random::Random;

use super::groups::{Calls, addresses, sizes};
use super::{AREA, After, COUNT, Done, GIVEN, P, Page, Pages, Right, Tried};
use super::{are_known, filled, ground, run as add_run, runs};
use crate::failure::{Failure, Outcome, holds, same};
use crate::vm::{BOTH, FIXED, READ, Said, Task, Vm};

/// Calls that are tried on one ground, if all are refused.
const TRIES: u32 = 40;
/// Grounds.
const GROUNDS: u32 = 12;

/// A task with the ground, and another that looks at its memory.
struct Scene<'v, V: Vm> {
    task: Task<'v, V>,
    viewer: Task<'v, V>,
    pages: Pages,
    given: Vec<(Right, V::Port)>,
}

/// Tries calls of a group.
///
/// # Errors
/// A call that answers or does what the rules do not say.
pub fn run<V: Vm>(vm: &V, calls: Calls, seed: u64) -> Outcome {
    let faults = Default::default();
    let mut random = Random::new(seed);
    for _ in 0..GROUNDS {
        let task = |port| Task {
            vm,
            port,
            faults: &faults,
        };
        let mut scene = Scene::new(task(vm.fork(None)?), task(vm.fork(None)?))?;
        let mut after = After::Same;
        for _ in 0..TRIES {
            let Some(tried) = chosen(&mut random, calls, &scene.pages) else {
                continue;
            };
            after = scene
                .try_one(&tried)
                .map_err(|failure| Failure::new(format!("seed {seed}: {tried:x?}: {failure}")))?;
            if after != After::Same {
                break;
            }
        }
        if after != After::Unknown {
            scene.compare_bytes()?;
        }
        drop(scene);
        vm.clean()?;
    }
    Ok(())
}

/// A call of the group, on one of its ranges.
fn chosen(random: &mut Random, calls: Calls, pages: &Pages) -> Option<Tried> {
    let address = random.pick(&addresses())?;
    let size = random.pick(&sizes(address))?;
    let mut all = calls(pages, address, size);
    let number = random.below(all.len() as u64) as usize;
    Some(all.swap_remove(number))
}

impl<'v, V: Vm> Scene<'v, V> {
    fn new(task: Task<'v, V>, viewer: Task<'v, V>) -> Outcome<Scene<'v, V>> {
        viewer.allocate(AREA, 2 * COUNT * P, FIXED)?;
        task.allocate(AREA, COUNT * P, FIXED)?;
        for (number, page) in filled() {
            // Elsewhere in its page: then the bytes are copied, and the page is not shared.
            viewer.put(AREA + 1, &page.bytes)?;
            task.write_from(number * P, &viewer, AREA + 1, P)?;
        }
        let (pages, calls) = ground();
        let scene = Scene {
            task,
            viewer,
            pages,
            given: Vec::new(),
        };
        for request in calls {
            send(&scene.task, &request, None)?;
        }
        scene.compare()?;
        Ok(scene)
    }

    /// The right that a call is given: made when it is needed first.
    fn give(&mut self, right: Right) -> Outcome<Option<V::Port>> {
        if let Some((_, port)) = self.given.iter().find(|(given, _)| *given == right) {
            return Ok(Some(port.clone()));
        }
        let task = &self.task;
        let entry = |permission| task.entry(GIVEN, AREA, permission, None);
        let port = match right {
            Right::None => return Ok(None),
            Right::Map => task.port.clone(),
            Right::ReadMap => task.read_port()?,
            Right::Host => task.vm.host(),
            Right::Copy => task.copy_in(AREA, GIVEN, false)?,
            Right::Entry => entry(BOTH)?.0,
            Right::ReadEntry => entry(READ)?.0,
            Right::Share => entry(BOTH | MAP_MEM_VM_SHARE)?.0,
            Right::Snapshot => entry(READ | MAP_MEM_VM_COPY)?.0,
            Right::Foreign => task.vm.object()?,
            Right::Dead => {
                let object = task.vm.object()?;
                task.vm.destroy(&object);
                object
            }
        };
        self.given.push((right, port.clone()));
        Ok(Some(port))
    }

    fn try_one(&mut self, tried: &Tried) -> Outcome<After> {
        let right = self.give(tried.right)?;
        let said = send(&self.task, &tried.request, right.as_ref());
        let after = tried.judge(&mut self.pages, said)?;
        if let Ok(Done::Dispositions(to, first, count)) = &tried.wanted {
            let told = self.view(*to, 4 * count)?;
            holds("the dispositions", are_known(&self.pages, *first, &told))?;
        }
        if after != After::Unknown {
            self.compare()?;
        }
        Ok(after)
    }

    /// Compares what is mapped with what has to be.
    fn compare(&self) -> Outcome {
        let mut found = Vec::new();
        let mut at = 0;
        // To the end of the map: a case's thread never runs in it.
        while let Ok(region) = self.task.region(at) {
            let rights = |bits: u32| Prot::from_bits_truncate(bits as u8);
            let inheritance = Inherit::from_raw(region.inheritance).ok_or(Kern::Failure)?;
            let (current, most) = (rights(region.protection), rights(region.max_protection));
            at = region.end();
            add_run(
                &mut found,
                (region.address, at, (current, most, inheritance)),
            );
        }
        same("what is mapped", found, runs(&self.pages))
    }

    /// Compares what the pages hold that can be read.
    fn compare_bytes(&self) -> Outcome {
        let is_readable = |(_, page): &(&u64, &Page)| page.current.contains(Prot::READ);
        for (number, page) in self.pages.iter().filter(is_readable) {
            let bytes = self.view(number * P, P)?;
            holds(&format!("page {number:x} is right"), bytes == page.bytes)?;
        }
        Ok(())
    }

    /// Bytes of the task, by way of the other, so that nothing has to be mapped in it.
    fn view(&self, address: u64, size: u64) -> Outcome<Vec<u8>> {
        let viewer = &self.viewer;
        self.task
            .read_overwrite(address, size, &viewer.port, AREA)?;
        Ok(viewer.bytes(AREA, size as usize)?)
    }
}

/// Makes a request of the matrix.
fn send<V: Vm>(task: &Task<'_, V>, request: &Request, right: Option<&V::Port>) -> Said<Reply> {
    let (vm, to) = (task.vm, &task.port);
    macro_rules! plain {
        ($message:expr, $reply:expr) => {
            vm.call(to, $message, &[]).map(|(reply, _)| $reply(reply))
        };
    }
    macro_rules! with_right {
        ($message:expr, $reply:expr) => {
            vm.call(to, $message, &[right])
                .map(|(reply, _)| $reply(reply))
        };
    }
    match request {
        Request::VmAllocate(message) => plain!(message, Reply::VmAllocate),
        Request::VmDeallocate(message) => plain!(message, Reply::VmDeallocate),
        Request::VmProtect(message) => plain!(message, Reply::VmProtect),
        Request::VmInherit(message) => plain!(message, Reply::VmInherit),
        Request::VmBehaviorSet(message) => plain!(message, Reply::VmBehaviorSet),
        Request::VmMsync(message) => plain!(message, Reply::VmMsync),
        Request::VmRegion(message) => plain!(message, Reply::VmRegion),
        Request::VmCopy(message) => plain!(message, Reply::VmCopy),
        Request::VmCopyin(message) => plain!(message, Reply::VmCopyin),
        Request::VmMap(message) => with_right!(message, Reply::VmMap),
        Request::VmReadOverwrite(message) => with_right!(message, Reply::VmReadOverwrite),
        Request::VmWrite(message) => with_right!(message, Reply::VmWrite),
        Request::MachMakeMemoryEntry(message) => {
            with_right!(message, Reply::MachMakeMemoryEntry)
        }
        Request::Wire(vm_wire::Request::VmWire(message)) => {
            with_right!(message, |said| Reply::Wire(vm_wire::Reply::VmWire(said)))
        }
        Request::Share(vm_share::Request::VmRemap(message)) => {
            with_right!(message, |said| Reply::Share(vm_share::Reply::VmRemap(said)))
        }
        Request::Share(vm_share::Request::VmRemapNew(message)) => {
            with_right!(message, |said| Reply::Share(vm_share::Reply::VmRemapNew(
                said
            )))
        }
        Request::Inspect(vm_inspect::Request::VmRegionRecurse(message)) => {
            plain!(message, |said| Reply::Inspect(
                vm_inspect::Reply::VmRegionRecurse(said)
            ))
        }
        Request::Inspect(vm_inspect::Request::VmPageQuery(message)) => {
            plain!(message, |said| Reply::Inspect(
                vm_inspect::Reply::VmPageQuery(said)
            ))
        }
        Request::Inspect(vm_inspect::Request::VmPageRangeQuery(message)) => {
            with_right!(message, |said| Reply::Inspect(
                vm_inspect::Reply::VmPageRangeQuery(said)
            ))
        }
        Request::Advice(vm_advice::Request::VmMachineAttribute(message)) => {
            plain!(message, |said| Reply::Advice(
                vm_advice::Reply::VmMachineAttribute(said)
            ))
        }
        // The matrix has no other.
        _ => Err(Kern::NotSupported),
    }
}
