//! The `msg` trap: send, receive, call, reply.

use kernel_core::{Flow, Msg};

use super::repeat;
use crate::arch::context::Saved;
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
        Flow::Next => {}
        Flow::Again => repeat(caller),
    }
}
