//! The first task: the VM server, the only program that the kernel loads itself.
//!
//! [`Program::read`] checks the boot image and finds the server in it; [`Program::take_memory`]
//! divides the machine's memory between kernel and server; [`Program::start`] builds the server's
//! task. Its address space:
//!
//! ```text
//! 7FFF_C000_0000  IPC buffers
//! 4000_0000_0000  physical window: every frame that the server owns, boot image included
//! 3FFF_FFF0_0000  end of the stack of 64 KiB; the page below the stack stays empty
//!                 the program's segments, each with just its rights
//! ```
//!
//! Program and stack lie in frames of the kernel's, so that the window, which is writable, does not
//! show them: the server cannot overwrite its own code, and donating it away is not possible.

use core::fmt;

use bootimg::{ElfError, Image, ImageError, Level, LoadPlan, Protection, Segment};
use ipc_abi::Kern;
use ipc_abi::boot::{BootInfo, FrameRange, RANGES_MAX};
use ipc_abi::buffer::BODY_SIZE;
use ipc_abi::layout::{PAGE_SIZE, PHYSICAL_WINDOW, USER_MIN};
use ipc_abi::types::Prot;
use kernel_core::addr::{Frame, PhysAddr, UserAddr};
use kernel_core::memory_map::{self, FrameRanges};
use kernel_core::owner::OwnerId;
use kernel_core::{Boot, SpaceId, ThreadStart};

use super::{Handover, LOW_MEMORY};
use crate::arch::context::Saved;
use crate::arch::tables::{self, KernelHalf};
use crate::frames::{self, Depth};
use crate::pmap::{Memory, direct_map};
use crate::world::World;

/// Priority of the server's thread.
const PRIORITY: u64 = 24;
const STACK_END: u64 = PHYSICAL_WINDOW - (1 << 20);
const STACK_PAGES: u64 = 16;
/// The server's segments lie below its stack.
const PROGRAM_END: u64 = STACK_END - (1 << 20);

/// Why the machine cannot start. The text is one line that says what is wrong.
#[derive(Clone, Copy, Debug)]
pub(crate) enum BootError {
    /// The loader brought none.
    NoImage,
    /// The image does not lie in memory.
    ImageOutside {
        /// Its physical address.
        start: u64,
        /// Its bytes.
        size: u64,
    },
    /// The image is malformed.
    Image(ImageError<'static>),
    /// The manifest names no task of level `server`.
    NoServer,
    /// The server's program is malformed.
    Elf(&'static str, ElfError),
    /// There is not enough memory, or it is in too many pieces.
    Memory(&'static str),
    /// The kernel refused a step of building the task.
    Step(&'static str, Kern),
}

impl fmt::Display for BootError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            BootError::NoImage => write!(f, "no boot image (give one with -initrd)"),
            BootError::ImageOutside { start, size } => {
                write!(
                    f,
                    "boot image: {size} bytes at {start:#x} are not in memory"
                )
            }
            BootError::Image(error) => write!(f, "{error}"),
            BootError::NoServer => {
                write!(
                    f,
                    "boot image: the manifest names no task of level `server`"
                )
            }
            BootError::Elf(file, error) => write!(f, "boot image: `{file}`: {error}"),
            BootError::Memory(what) => write!(f, "{what}"),
            BootError::Step(what, code) => write!(f, "cannot {what} the VM server: {code}"),
        }
    }
}

/// The VM server as it lies in the boot image.
pub(crate) struct Program {
    plan: LoadPlan<'static>,
    image: (u64, u64),
}

/// What is left for the server.
pub(crate) struct ServerMemory {
    /// Free frames.
    free: FrameRanges,
    /// Frames of the boot image.
    image: FrameRange,
}

impl Program {
    /// Finds and checks the server in the boot image.
    ///
    /// # Errors
    /// The first thing that is wrong with image, manifest or program.
    pub(crate) fn read(handover: &Handover) -> Result<Program, BootError> {
        let (start, size) = handover.image.ok_or(BootError::NoImage)?;
        let bytes =
            image_bytes(handover, start, size).ok_or(BootError::ImageOutside { start, size })?;
        let image = Image::parse(bytes).map_err(BootError::Image)?;
        let manifest = image.manifest().map_err(BootError::Image)?;
        let server = manifest
            .tasks()
            .find(|task| task.level == Level::Server)
            .ok_or(BootError::NoServer)?;
        let elf = image.file(server.file).ok_or(BootError::NoServer)?;
        let plan = LoadPlan::parse(elf, USER_MIN..PROGRAM_END)
            .map_err(|error| BootError::Elf(server.file, error))?;
        Ok(Program {
            plan,
            image: (start, size),
        })
    }

    /// Takes the kernel's pool and gives all other memory to the server.
    ///
    /// # Errors
    /// What there is too little of.
    pub(crate) fn take_memory(
        &self,
        handover: &Handover,
        half: &KernelHalf,
    ) -> Result<ServerMemory, BootError> {
        let (start, size) = self.image;
        let end = start.saturating_add(size);
        let memory = memory_map::usable(handover.ranges.iter().copied());
        let mut free = handover.free(Some(half.tables));
        let image = frames_around(start, end);
        let extra = self.plan.pages().saturating_add(STACK_PAGES);
        let extra =
            u32::try_from(extra).map_err(|_| BootError::Memory("the VM server is too large"))?;
        frames::init(&mut free, &memory, image, extra).map_err(BootError::Memory)?;
        Ok(ServerMemory { free, image })
    }

    /// Builds the server's task and starts its thread.
    ///
    /// # Errors
    /// Which step failed, and why.
    pub(crate) fn start(
        &self,
        world: &mut World,
        handover: &Handover,
        own: &ServerMemory,
    ) -> Result<(), BootError> {
        let memory = &mut world.hardware.memory;
        let space = memory
            .space_new(OwnerId::FIRST_SERVER, None)
            .map_err(step("make a space for"))?;
        for segment in self.plan.segments() {
            load_segment(memory, space, segment).map_err(step("load"))?;
        }
        make_stack(memory, space).map_err(step("make a stack for"))?;
        show_all(memory, space, own).map_err(step("map memory for"))?;
        let boot = world.kernel.boot(space).map_err(step("make a task for"))?;
        let mut body = [0; BODY_SIZE];
        let length = self.describe(handover, own, &boot).encode(&mut body);
        let start = ThreadStart {
            ip: self.plan.entry(),
            sp: STACK_END,
            argument: length as u64,
            priority: PRIORITY,
            suspended: 0,
        };
        let thread = world
            .kernel
            .boot_thread(&mut world.hardware, boot.task, start)
            .map_err(step("make a thread for"))?;
        if let Some(context) = world.kernel.context(thread) {
            Saved::of(context).buffer().write_body(&body);
        }
        Ok(())
    }

    fn describe<'a>(
        &self,
        handover: &'a Handover,
        own: &'a ServerMemory,
        boot: &Boot,
    ) -> BootInfo<'a> {
        let left = memory_map::total(own.free.get(RANGES_MAX..).unwrap_or(&[]));
        if left > 0 {
            log::info!("memory in too many pieces: {left} frames stay unused");
        }
        BootInfo {
            image_start: self.image.0,
            image_size: self.image.1,
            frame_limit: frames::owners().limit(),
            host_memory: boot.host_memory,
            host_control: boot.host_control,
            device: boot.device,
            free: &own.free,
            command_line: &handover.command_line,
        }
    }
}

fn step(what: &'static str) -> impl Fn(Kern) -> BootError {
    move |code| BootError::Step(what, code)
}

/// The image's bytes, if all of them lie in usable memory above the firmware's.
fn image_bytes(handover: &Handover, start: u64, size: u64) -> Option<&'static [u8]> {
    let memory = memory_map::usable(handover.ranges.iter().copied());
    let frames = frames_around(start, start.checked_add(size)?);
    let inside = |range: &FrameRange| {
        range.first <= frames.first
            && frames.first.saturating_add(frames.count) <= range.first.saturating_add(range.count)
    };
    if start < LOW_MEMORY || !memory.iter().any(inside) {
        return None;
    }
    let (kernel_start, kernel_end) = tables::kernel_extent();
    if start < kernel_end && kernel_start < start.saturating_add(size) {
        return None;
    }
    let length = usize::try_from(size).ok()?;
    // SAFETY: the bytes lie in usable memory, which the direct map shows; neither kernel image, its
    // tables (`tables::build` keeps clear of the image) nor pool is there, and the server, which
    // gets the frames, does not run before the program is loaded.
    Some(unsafe { direct_map::bytes(PhysAddr::new(start)?, length) })
}

fn frames_around(start: u64, end: u64) -> FrameRange {
    let first = start / PAGE_SIZE;
    let number = |page: u64| u32::try_from(page).unwrap_or(u32::MAX);
    FrameRange {
        first: number(first),
        count: number(end.div_ceil(PAGE_SIZE).saturating_sub(first)),
    }
}

fn load_segment(memory: &mut Memory, space: SpaceId, segment: &Segment<'_>) -> Result<(), Kern> {
    let rights = match segment.protection {
        Protection::Read => Prot::READ,
        Protection::ReadWrite => Prot::DEFAULT,
        Protection::ReadExecute => Prot::READ.union(Prot::EXECUTE),
    };
    let mut pages = segment.data.chunks(PAGE_SIZE as usize);
    for page in 0..segment.pages {
        let data = pages.next().unwrap_or(&[]);
        map_page(
            memory,
            space,
            segment.address + page * PAGE_SIZE,
            data,
            rights,
        )?;
    }
    Ok(())
}

fn make_stack(memory: &mut Memory, space: SpaceId) -> Result<(), Kern> {
    for page in 1..=STACK_PAGES {
        map_page(
            memory,
            space,
            STACK_END - page * PAGE_SIZE,
            &[],
            Prot::DEFAULT,
        )?;
    }
    Ok(())
}

/// Maps a fresh page that begins with `data` (at most a page) and goes on with zeros.
fn map_page(
    memory: &mut Memory,
    space: SpaceId,
    address: u64,
    data: &[u8],
    rights: Prot,
) -> Result<(), Kern> {
    let address = UserAddr::new(address).ok_or(Kern::InvalidAddress)?;
    let frame = frames::allocate(Depth::Normal).ok_or(Kern::ResourceShortage)?;
    // SAFETY: the frame was just taken from the pool.
    unsafe { direct_map::fill(frame, data) };
    memory.map_own(space, address, frame, rights)
}

fn show_all(memory: &mut Memory, space: SpaceId, own: &ServerMemory) -> Result<(), Kern> {
    for range in own.free.iter().chain([&own.image]) {
        let first = Frame::new(range.first).ok_or(Kern::InvalidAddress)?;
        memory.show(space, first, range.count)?;
    }
    Ok(())
}
