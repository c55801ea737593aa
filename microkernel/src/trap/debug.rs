//! Traps for people who watch: console, counters, and the end of the run.

use core::sync::atomic::Ordering;

use ipc_abi::Kern;
use ipc_abi::buffer::BODY_SIZE;
use ipc_abi::trap::counter;

use super::{Answer, Arguments, NOTHING};
use crate::arch::apic;
use crate::arch::context::Saved;
use crate::arch::exit::{End, exit};
use crate::arch::percpu;
use crate::console;
use crate::frames::buffer::Buffer;
use crate::frames::failing;
use crate::world::World;

/// `console_write(length)`
pub(super) fn console_write(world: &mut World, [length, ..]: Arguments) -> Answer {
    let length = usize::try_from(length).map_err(|_| Kern::InvalidArgument)?;
    if length > BODY_SIZE {
        return Err(Kern::InvalidArgument.into());
    }
    if let Some(buffer) = caller_buffer(world) {
        let mut text = [0; BODY_SIZE];
        let text = text.get_mut(..length).unwrap_or(&mut []);
        buffer.read_body(text);
        console::write(text);
    }
    Ok(NOTHING)
}

/// `host_shutdown(host_control, status)`
pub(super) fn shutdown(world: &mut World, [host_control, status, ..]: Arguments) -> Answer {
    world.kernel.check_host_control(host_control)?;
    log::debug!("shutdown with status {status}");
    exit(match status {
        0 => End::Success,
        status => End::Failure(u32::try_from(status).unwrap_or(u32::MAX)),
    })
}

/// `host_statistics() -> count`
pub(super) fn statistics(world: &mut World, _: Arguments) -> Answer {
    let hardware = &world.hardware;
    let (frames, free) = hardware.memory.kernel_frames();
    let mut words = [0u64; counter::COUNT];
    words[counter::KERNEL_ENTRIES] = percpu::entries();
    words[counter::SPACE_SWITCHES] = percpu::space_switches();
    words[counter::TLB_FLUSHES] = percpu::flushes();
    let (messages, faults) = percpu::fast_counts();
    words[counter::MESSAGES] = hardware.counters.messages + messages;
    words[counter::FAULTS] = hardware.counters.faults + faults;
    words[counter::EXCEPTIONS] = hardware.counters.exceptions;
    words[counter::KERNEL_FRAMES] = frames;
    words[counter::KERNEL_FRAMES_FREE] = free;
    words[counter::PROCESSORS] = percpu::count() as u64;
    words[counter::PROCESSOR] = percpu::here().number() as u64;
    let [tasks, threads, ports, ..] = world.kernel.population().map(u64::from);
    words[counter::TASKS] = tasks;
    words[counter::THREADS] = threads;
    words[counter::PORTS] = ports;
    words[counter::NON_MASKABLE] = apic::NON_MASKABLES.load(Ordering::Relaxed);
    let mut bytes = [0; 8 * counter::COUNT];
    for (chunk, word) in bytes.chunks_exact_mut(8).zip(words) {
        chunk.copy_from_slice(&word.to_le_bytes());
    }
    if let Some(buffer) = caller_buffer(world) {
        buffer.write_body(&bytes);
    }
    Ok([counter::COUNT as u64, 0])
}

/// `debug_fail_allocation(host_control, left) -> made, failed`
pub(super) fn fail_allocation(world: &mut World, [host_control, left, ..]: Arguments) -> Answer {
    world.kernel.check_host_control(host_control)?;
    let running = world.kernel.running().ok_or(Kern::Failure)?;
    let (made, failed) = failing::arm(running.context.0, left);
    Ok([made, u64::from(failed)])
}

fn caller_buffer(world: &World) -> Option<Buffer> {
    world
        .kernel
        .running()
        .map(|running| Saved::of(running.context).buffer())
}
