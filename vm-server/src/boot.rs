//! From the kernel's hand-over to a server that can serve: heap, core, boot image, first client task.

use alloc::string::{String, ToString};
use alloc::vec::Vec;
use core::fmt;

use bootimg::{Image, Level, LoadPlan, Protection};
use ipc::buffer::Body;
use ipc::time::Clock;
use ipc::trap;
use ipc_abi::Kern;
use ipc_abi::boot::{BootInfo, FrameRange, RANGES_MAX};
use ipc_abi::buffer::BODY_SIZE;
use ipc_abi::layout::{PAGE_SIZE, PHYSICAL_WINDOW, USER_MIN};
use ipc_abi::right::{Name, SpecialPort};
use ipc_abi::trap::counter;
use ipc_abi::types::Prot;
use vm_core::effect::Effects;
use vm_core::event::{Event, MapId, RightId, Time};
use vm_core::object::page::Frame;
use vm_core::{Config, Core, Turn};

use crate::heap;
use crate::nested;
use crate::pmap::Spaces;
use crate::ports::Ports;
use crate::receive::NOTICES;
use crate::serve::{Hardware, Server};
use crate::stepper;
use crate::window::Window;

/// Band and priority of the first client task: below the server, above pagers.
const PRIORITY: u32 = 20;
const STACK_TOP: u64 = 0x7000_0000_0000;
const STACK_SIZE: u64 = 256 * 1024;
/// Frames that the heap begins with: this part of memory, for the records of the pages, and some more.
const HEAP_SHARE: u32 = 64;
const HEAP_LEAST: u32 = 512;

/// What is wrong, in words.
#[derive(Debug)]
pub(crate) struct Problem(String);

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Says what failed.
fn because<E: fmt::Display>(what: &str) -> impl FnOnce(E) -> Problem + '_ {
    move |error| Problem(alloc::format!("{what}: {error}"))
}

/// The hand-over, copied out of the IPC buffer.
pub(crate) struct Given {
    /// Physical address and bytes of the boot image.
    pub(crate) image: (u64, u64),
    pub(crate) frame_limit: u32,
    pub(crate) host_memory: Name,
    pub(crate) host_control: Name,
    pub(crate) device: Name,
    pub(crate) free: heapless::Vec<FrameRange, RANGES_MAX>,
}

/// Makes a server, and the first client task. `argument` is what the first thread began with: the length
/// of the hand-over, or the address of the arguments of a server below another.
///
/// # Errors
/// What is wrong with the hand-over or the image, or that memory does not suffice.
pub(crate) fn start(argument: u64) -> Result<Server, Problem> {
    let nested = argument > BODY_SIZE as u64;
    let mut given = if nested {
        nested::take_memory(argument).map_err(because("cannot get memory"))?
    } else {
        read(argument).ok_or_else(|| Problem("the boot information is malformed".into()))?
    };
    take_heap(&mut given)?;
    if nested {
        nested::take_image(&mut given, argument).map_err(because("cannot get the boot image"))?;
    }
    let mut server = make_server(&given).map_err(because("cannot set up"))?;
    let free: Vec<FrameRange> = given.free.iter().copied().collect();
    for FrameRange { first, count } in free {
        if let Some(answer) = server.handle(Event::AddFrames { first, count }) {
            server.send_now(answer);
        }
    }
    start_bootstrap(&mut server, &given)?;
    stepper::start(server.notices).map_err(because("cannot start the stepper"))?;
    Ok(server)
}

/// Reads the hand-over. Nothing may be printed before: that would use the buffer.
fn read(length: u64) -> Option<Given> {
    let body = Body::borrow();
    let bytes = body.get(..usize::try_from(length).ok()?.min(BODY_SIZE))?;
    let mut ranges = [FrameRange::default(); RANGES_MAX];
    let info = BootInfo::decode(bytes, &mut ranges)?;
    Some(Given {
        image: (info.image_start, info.image_size),
        frame_limit: info.frame_limit,
        host_memory: info.host_memory,
        host_control: info.host_control,
        device: info.device,
        free: info.free.iter().copied().collect(),
    })
}

impl Given {
    /// Takes frames side by side out of the largest free range, and leaves some of it.
    pub(crate) fn take_run(&mut self, count: u32) -> Option<FrameRange> {
        let largest = self.free.iter_mut().max_by_key(|range| range.count);
        let range = largest.filter(|range| range.count > count)?;
        range.count -= count;
        Some(FrameRange {
            first: range.first + range.count,
            count,
        })
    }
}

/// Takes the frames of the heap out of the largest free range.
fn take_heap(given: &mut Given) -> Result<(), Problem> {
    let frames: u32 = given.free.iter().map(|range| range.count).sum();
    // There are records for all frames up to the highest.
    let wanted = frames.max(given.frame_limit) / HEAP_SHARE + HEAP_LEAST;
    let Some(heap) = given.take_run(wanted) else {
        return Err(Problem(
            "there is not enough memory for the server's heap".into(),
        ));
    };
    // SAFETY: the kernel says that the frames are the server's, and the range above no longer
    // holds them.
    unsafe { heap::give(heap) };
    Ok(())
}

fn make_server(given: &Given) -> Result<Server, Kern> {
    let processors = trap::host_statistics()?[counter::PROCESSORS];
    let ports = Ports::new(processors > 1)?;
    let notices = trap::port_allocate(NOTICES)?;
    trap::port_move_member(notices, ports.set())?;
    trap::host_set_memory_low(given.host_memory, notices)?;
    let config = Config {
        device: Some(RightId(given.device)),
        host: Some(RightId(given.host_control)),
        in_order: processors < 2,
        ..Config::for_frames(given.frame_limit)
    };
    Ok(Server {
        core: Core::new(config)?,
        hardware: Hardware {
            window: Window::new(given.frame_limit),
            spaces: Spaces::default(),
        },
        ports,
        effects: Effects::new()?,
        urgent: Effects::new()?,
        host_memory: given.host_memory,
        host_control: given.host_control,
        notices,
        clock: Clock::set(),
        wake: Time::NEVER,
        below: Vec::new(),
        collecting: false,
        later: Vec::new(),
        refused: 0,
        stepper: None,
        processors,
        step: Time::NEVER,
    })
}

/// Loads the task of level `bootstrap` and gives it its rights.
fn start_bootstrap(server: &mut Server, given: &Given) -> Result<(), Problem> {
    let (start, size) = given.image;
    // SAFETY: the kernel says that the image lies in frames of the server's, and they go to an
    // object that nobody may write.
    let bytes: &'static [u8] = unsafe {
        let base = core::ptr::with_exposed_provenance((PHYSICAL_WINDOW + start) as usize);
        core::slice::from_raw_parts(base, size as usize)
    };
    let image = Image::parse(bytes).map_err(because("the boot image"))?;
    let manifest = image.manifest().map_err(because("the boot image"))?;
    let task = manifest
        .tasks()
        .find(|task| task.level == Level::Bootstrap)
        .ok_or_else(|| Problem("the manifest names no task of level bootstrap".to_string()))?;
    let file = image
        .file(task.file)
        .ok_or_else(|| Problem(alloc::format!("the boot image has no {}", task.file)))?;
    let plan =
        LoadPlan::parse(file, USER_MIN..STACK_TOP - STACK_SIZE).map_err(because(task.file))?;
    let mut arguments = alloc::vec![0; PAGE_SIZE as usize];
    ipc::args::write(core::iter::once(task.name), &mut arguments)
        .ok_or_else(|| Problem("the arguments of bootstrap do not fit".to_string()))?;
    let map = server.core.boot_map().map_err(because("bootstrap"))?;
    fill(server, map, &plan, &arguments).map_err(because("cannot load bootstrap"))?;
    launch(server, map, &plan, given).map_err(because("cannot start bootstrap"))
}

fn fill(
    server: &mut Server,
    map: MapId,
    plan: &LoadPlan<'_>,
    arguments: &[u8],
) -> Result<(), Kern> {
    let mut turn = Turn {
        now: Time(0),
        machine: &mut server.hardware,
        effects: &mut server.effects,
    };
    let core = &mut server.core;
    for segment in plan.segments() {
        let protection = match segment.protection {
            Protection::Read => Prot::READ,
            Protection::ReadWrite => Prot::DEFAULT,
            Protection::ReadExecute => Prot::READ.union(Prot::EXECUTE),
        };
        let size = segment.pages * PAGE_SIZE;
        core.boot_memory(
            &mut turn,
            map,
            segment.address,
            size,
            protection,
            segment.data,
        )?;
    }
    let bottom = STACK_TOP - STACK_SIZE;
    core.boot_memory(&mut turn, map, bottom, STACK_SIZE, Prot::DEFAULT, &[])?;
    core.boot_memory(
        &mut turn,
        map,
        STACK_TOP,
        PAGE_SIZE,
        Prot::DEFAULT,
        arguments,
    )
}

/// Makes the task, gives it the privileged ports and the image, and starts it.
fn launch(server: &mut Server, map: MapId, plan: &LoadPlan<'_>, given: &Given) -> Result<(), Kern> {
    let (task, _) = server.create_task(map)?;
    let (start, size) = given.image;
    let image = server
        .core
        .boot_image(Frame((start / PAGE_SIZE) as u32), size)?;
    let entry = server.ports.get_or_make(image)?;
    trap::port_make_send(entry)?;
    trap::task_set_special_port(task, SpecialPort::Bootstrap, entry)?;
    trap::port_deallocate(entry, 1)?;
    trap::task_set_special_port(task, SpecialPort::HostControl, given.host_control)?;
    trap::task_set_special_port(task, SpecialPort::Device, given.device)?;
    trap::task_set_band(given.host_control, task, PRIORITY)?;
    // SAFETY: the task shares no memory with the server.
    unsafe { trap::thread_create(task, plan.entry(), STACK_TOP, STACK_TOP, PRIORITY)? };
    Ok(())
}
