//! Guest suite: what drivers are promised.
//!
//! The devices are two that QEMU has: `edu`, made to teach drivers (it computes factorials, moves
//! bytes by DMA, and interrupts by its line or by MSI), and virtio's source of random bytes, which
//! interrupts by MSI-X. The machine has them for this suite alone.
#![no_std]
#![no_main]
#![deny(dead_code)]

mod accounts;
mod dma;
mod edu;
mod interrupts;
mod ports;

ipc::main!(main);

fn main(mut args: ipc::Args) -> Result<u32, ipc::Kern> {
    let all = args;
    if args.nth(1) == Some(accounts::ROLE) {
        return accounts::live().map(|()| accounts::DONE);
    }
    // Whoever opens a device changes for a moment what lies at which address, and QEMU lets writes of other
    // processors to devices go astray meanwhile: the other driver of this machine is done with that once it serves.
    let _ = ipc::bootstrap::wait_for::<()>("files")?;
    SUITE.run(all)
}

guest_test::suite! {
    name: "devices",
    cases: {
        interrupts: [
            a_line_interrupts_once_each_time_that_it_is_enabled,
            a_line_that_is_held_interrupts_again_until_the_device_is_served,
            a_line_has_one_holder_and_is_free_after_it,
            a_message_of_a_device_interrupts,
            a_queue_of_a_device_interrupts_by_its_table_of_messages,
            interrupts_that_nobody_waited_for_are_counted,
            a_line_interrupts_the_processor_that_it_is_sent_to,
            a_message_interrupts_the_processor_that_it_is_sent_to,
            an_interrupt_wakes_a_server_among_its_other_ports,
            what_is_no_line_and_no_device_port_is_refused,
        ],
        accounts: [
            tables_for_devices_are_paid_for_by_their_driver_until_it_ends,
        ],
        dma: [
            a_device_reads_and_writes_memory_that_was_allocated_for_it,
            memory_for_devices_is_contiguous_and_zero,
            a_device_does_not_reach_memory_that_it_was_not_shown,
            what_is_not_the_tasks_to_show_is_refused,
        ],
        ports: [
            configuration_space_is_read_and_written_in_every_width,
            two_threads_that_read_configuration_space_do_not_disturb_each_other,
            ports_are_read_and_written_in_every_width,
            ports_of_the_kernel_are_refused,
            a_right_to_a_range_is_good_for_its_ports_alone,
        ],
    },
}
