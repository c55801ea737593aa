//! Any task to the name service, on its bootstrap port: names, modules, and how tasks end.
//!
//! The port's payload tells the service who asks. Names are UTF-8, 1 to [`NAME_MAX`] bytes.

use crate::define::protocol;
use heapless::{String, Vec};

/// Longest name, in bytes.
pub const NAME_MAX: usize = 64;
/// Longest arguments of a module, in bytes.
pub const ARGUMENTS_MAX: usize = 1024;
/// Most names in one answer of `bootstrap_list`.
pub const LIST_MAX: usize = 32;

/// Longest note of `bootstrap_keep`, in bytes.
pub const NOTE_MAX: usize = 1024;
/// Most ports that are kept for one task.
pub const KEPT_MAX: usize = 256;

/// A name.
pub type Name = String<NAME_MAX>;

protocol! {
    /// Any task to the name service.
    #[derive(Clone)]
    protocol Bootstrap "bootstrap" at 4100, "any task" to "bootstrap, on a task's bootstrap port";

    /// Gives a port a name. The name is free again when the port dies.
    ///
    /// In order: KERN_INVALID_ARGUMENT: empty name. KERN_INVALID_RIGHT: no send right in the slot.
    /// KERN_NAME_EXISTS. KERN_RESOURCE_SHORTAGE.
    4101 bootstrap_register BootstrapRegister in body {
        /// The name.
        name: Name,
    }
    rights {
        /// A send right to the service's port.
        SERVICE,
    };

    /// Finds a port by name.
    ///
    /// KERN_INVALID_NAME: nothing has the name, and `wait` was not given.
    4102 bootstrap_look_up BootstrapLookUp in body {
        /// The name.
        name: Name,
        /// If nothing has the name yet, answer when something has.
        wait: bool,
    }
    reply BootstrapLookUpReply {}
    reply rights {
        /// A send right to the service's port.
        SERVICE,
    };

    /// Starts a module of the boot image as a new task, with the rights that the manifest gives
    /// to a module of its name, if it names one.
    ///
    /// In order: KERN_INVALID_NAME: no such module. KERN_INVALID_OBJECT: it is no valid program.
    /// KERN_RESOURCE_SHORTAGE.
    4103 bootstrap_start BootstrapStart in body {
        /// Name of the module.
        name: Name,
        /// Its arguments, separated by zero bytes.
        arguments: String<ARGUMENTS_MAX>,
    }
    reply BootstrapStartReply {
        /// Number of the new task, for `bootstrap_wait`.
        instance: u32,
    }
    reply rights {
        /// A send right to the task's control port.
        TASK,
        /// A send right to the task's map port.
        MAP,
    };

    /// Answers when a task that bootstrap started has ended; at once if it has.
    ///
    /// KERN_INVALID_ARGUMENT: no such task was ever started.
    4104 bootstrap_wait BootstrapWait in body {
        /// Number of the task.
        instance: u32,
    }
    reply BootstrapWaitReply {
        /// How it ended: the word of an `ExitStatus`.
        status: u64,
    };

    /// Lists the registered names, some at a time.
    4105 bootstrap_list BootstrapList in body {
        /// 0 at first, then what the answer before said.
        cursor: u32,
    }
    reply BootstrapListReply {
        /// Names, in order of registration; none: that was all.
        names: Vec<Name, LIST_MAX>,
        /// What to ask with next.
        next: u32,
    };

    /// Gives the boot image, to be read.
    ///
    /// KERN_RESOURCE_SHORTAGE.
    4106 bootstrap_image BootstrapImage in body {}
    reply BootstrapImageReply {}
    reply rights {
        /// A send right to the named entry of the image, which nobody may write.
        IMAGE,
    };

    /// Keeps a port for the task that is started in place of the sender when it ends: gives the
    /// right by which the sender asks for *port destroyed* on it. The receive right then goes to
    /// bootstrap when the task ends, with what is queued there, and to the next task by
    /// `bootstrap_kept`. A port that nobody has a send right to when it is destroyed is not kept.
    ///
    /// The manifest says whether and how often a task is started again (`restart`). If it is not, or
    /// has ended with status 0, the port dies.
    ///
    /// In order: KERN_NOT_SUPPORTED: the sender is not started again. KERN_RESOURCE_SHORTAGE: no
    /// memory, or [`KEPT_MAX`] ports are kept for it.
    4107 bootstrap_keep BootstrapKeep in body {
        /// The port's payload, by which bootstrap knows it again. What was kept under it before is
        /// forgotten.
        payload: u64,
        /// What the next task is to know of it.
        note: Vec<u8, NOTE_MAX>,
    }
    reply BootstrapKeepReply {}
    reply rights {
        /// A send-once right for *port destroyed*.
        NOTIFY,
    };

    /// Gives a port that was kept, each once, to a task that was started in place of another.
    ///
    /// KERN_INVALID_NAME: there is none (any more).
    4108 bootstrap_kept BootstrapKept in body {}
    reply BootstrapKeptReply {
        /// What was said of it.
        note: Vec<u8, NOTE_MAX>,
    }
    reply rights {
        /// The receive right.
        PORT,
    };
}
