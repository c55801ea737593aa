//! Ends of tasks on the console.

use ipc_abi::exception::{Exception, Kind};
use ipc_abi::kern_return::Kern;
use ipc_abi::notify::ExitStatus;
use kernel_core::Report;

use crate::console::say;
use crate::panic;

/// Prints a report; the end of the first task is also the machine's.
pub(crate) fn print(report: Report) {
    match report {
        Report::Unhandled {
            task, exception, ..
        } => unhandled(task.index(), exception),
        Report::Ended { task, status } => match ExitStatus::from_word(status) {
            ExitStatus::Exited(status) => {
                log::debug!("task {} ended: status {status}", task.index())
            }
            ExitStatus::Exception { .. } => log::debug!("task {} is gone", task.index()),
        },
        Report::RootEnded { status } => match ExitStatus::from_word(status) {
            ExitStatus::Exited(status) => {
                panic::stop(format_args!("the first task ended: status {status}"))
            }
            ExitStatus::Exception { kind, .. } => {
                panic::stop(format_args!("the first task ended by exception {kind}"))
            }
        },
    }
}

fn unhandled(task: u32, exception: Exception) {
    let Exception {
        kind,
        code,
        subcode,
        ip,
        ..
    } = exception;
    let name = kind.name();
    if kind == Kind::BadAccess {
        let code = Kern::from_raw((code & 0xFFFF_FFFF) as u32);
        say!("task {task} ended: {name} {code} at ip {ip:#x}, address {subcode:#x}");
    } else {
        let vector = panic::vector_name(code);
        say!("task {task} ended: {name} ({vector}) at ip {ip:#x}");
    }
}
