//! The `msg` trap: send, receive, call, reply.

use ipc_abi::trap::Trap;
use kernel_core::{Flow, Msg};

use super::repeat;
use crate::arch::context::Saved;
use crate::trace;
use crate::world::World;

/// Hands the registers to kernel-core, which gives the results, now or later.
pub(super) fn msg(world: &mut World, caller: Saved) {
    let msg = caller.with(|registers| Msg {
        options: registers.rax,
        destination: registers.rdi,
        source: registers.rsi,
        info: registers.rdx,
        send_deadline: registers.r8,
        receive_deadline: registers.r9,
        notify: registers.r10,
    });
    match world.kernel.msg(&mut world.hardware, &msg) {
        // Whoever waits has its results when another record says so: a switch, or a message to it.
        Flow::Next => trace::trap_end_if_running(world, Trap::Msg as u8, caller),
        Flow::Again => repeat(caller),
    }
}
