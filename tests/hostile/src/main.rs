//! Guest suite: an unprivileged task that tries to break out.
//!
//! What must hold is the same for every case: whatever a task does, it gets a code or an exception,
//! everybody else goes on, and when it has ended everything that it had is back. The attacks run in
//! tasks of their own, so that they may end themselves: this program again, in a role ([`helper`]).
//! Every case is seeded, so that it does the same each time.
#![no_std]
#![no_main]
#![deny(dead_code)]

extern crate alloc;

mod balance;
mod cpu;
mod exhaustion;
mod helper;
mod messages;
mod pagers;
mod probe;
mod queues;
mod random;
mod registers;
mod traps;

use guest_test::assistant;
use ipc::Kern;

ipc::main!(main);

fn main(args: ipc::Args) -> Result<u32, Kern> {
    let mut words = args.skip(1);
    let role = words.next();
    let mut number = || words.next().and_then(|word| word.parse().ok()).unwrap_or(0);
    match role {
        Some(assistant::ROLE) => {
            assistant::serve(words.next().unwrap_or_default())?;
            Ok(0)
        }
        Some(traps::ROLE) => Ok(traps::attack(number(), number(), number())),
        Some(messages::ROLE) => messages::attack(number(), number(), number()),
        Some(exhaustion::ROLE) => exhaustion::attack(number()),
        Some(queues::ROLE) => queues::attack(number()),
        Some(registers::ROLE) => registers::stand(),
        Some(pagers::ROLE) => pagers::lie(words.next().unwrap_or_default()),
        _ => SUITE.run(args),
    }
}

guest_test::suite! {
    name: "hostile",
    cases: {
        traps: [
            any_trap_with_any_arguments_is_answered,
            a_task_that_harms_itself_harms_nobody_else,
            a_task_with_many_threads_in_traps_can_be_ended,
        ],
        messages: [
            any_message_to_ones_own_map_is_answered,
            any_message_to_the_map_of_another_task_is_answered,
            any_message_to_a_control_port_is_answered,
            any_message_to_an_unopened_control_port_is_answered,
            any_message_to_entries_copies_and_trays_is_answered,
            any_message_to_the_name_service_is_answered,
            any_message_to_a_task_or_thread_is_refused,
        ],
        cpu: [
            a_jump_to_anywhere_is_an_exception,
            a_return_to_anywhere_is_an_exception,
            a_stack_can_be_anywhere_in_a_trap,
            a_push_to_anywhere_is_an_exception,
            an_access_to_anywhere_is_an_exception,
            flags_are_no_way_into_the_kernel,
            single_steps_stop_at_every_instruction,
            privileged_instructions_are_exceptions,
            privileged_segments_are_exceptions,
            no_interrupt_can_be_called,
            odd_selectors_are_harmless,
            odd_vector_state_is_harmless,
            the_buffer_cannot_be_executed,
            the_window_of_buffers_cannot_be_mapped,
        ],
        registers: [
            a_thread_with_any_registers_harms_nobody,
            a_thread_with_any_registers_harms_nobody_again,
            a_stop_that_comes_late_does_not_stop_the_kernel,
            an_instruction_across_pages_fails_at_the_second,
            code_that_changes_itself_is_executed_as_it_is,
        ],
        exhaustion: [
            all_ports,
            all_port_sets,
            all_threads,
            all_messages_queued,
            all_memory,
            all_entries,
            all_copies,
            all_tasks,
            all_named_entries,
            all_trays,
            all_memory_objects,
            all_notifications,
        ],
        queues: [
            a_receive_right_never_lies_in_its_own_queue,
            queues_full_of_each_others_rights_are_gone_with_their_task,
            every_queue_has_an_end,
            a_crowd_that_waits_is_gone_with_its_task,
            tasks_that_hold_each_other_do_not_outlive_who_made_them,
        ],
        pagers: [
            a_slot_is_supplied_once,
            slots_out_of_range_are_refused,
            the_tray_of_another_object_gives_only_its_slots,
            what_is_no_tray_is_refused,
            a_page_that_was_supplied_cannot_be_changed_any_more,
            a_pager_that_says_anything_harms_only_its_clients,
            a_pager_that_dies_with_requests_open_is_an_error,
            a_silent_pager_costs_nobody_else_anything,
        ],
    },
}
