//! Guest suite: memory servers below the VM server.
//!
//! The image has the VM server once more, as a module. A case starts it as a task that gets half of the frames there
//! are; it starts its own bootstrap from the same image, and that this program again, which finds that it is
//! not in the first world ([`inner`]) and does what clients do. Then the whole world is ended, and
//! everything has to be back. Other cases run a task that is a memory server itself and breaks every rule
//! ([`harm`]), or makes each trap with each of its allocations failing ([`sweep`]).
#![no_std]
#![no_main]
#![deny(dead_code)]

extern crate alloc;

mod balance;
mod harm;
mod inner;
mod server;
mod sweep;
mod worlds;

use ipc::Kern;

ipc::main!(main);

fn main(mut args: ipc::Args) -> Result<u32, Kern> {
    let all = args;
    match args.nth(1) {
        Some(inner::PAGER) => inner::pager().map(|()| 0),
        Some(harm::ROLE) => harm::live().map(|()| harm::DONE),
        Some(sweep::ROLE) => sweep::live().map(|()| harm::DONE),
        _ => match inner::reporter() {
            Some(world) => world.live(),
            None => SUITE.run(all),
        },
    }
}

guest_test::suite! {
    name: "nested",
    cases: {
        worlds: [
            a_server_below_serves_its_tasks_and_everything_comes_back,
            a_server_below_a_server_below_ends_with_it,
            two_servers_side_by_side_do_not_know_of_each_other,
            a_server_can_be_ended_at_any_moment,
            answers_are_whole_while_frames_come_back,
        ],
        harm: [
            a_memory_server_that_breaks_every_rule_is_refused,
        ],
        sweep: [
            whichever_allocation_fails_a_trap_has_changed_nothing,
        ],
    },
}
