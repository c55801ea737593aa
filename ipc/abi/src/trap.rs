//! Every trap, once: number, arguments, results, errors.
//!
//! A trap is SYSCALL with the number in the low byte of RAX. The `msg` trap has its own register
//! use ([`crate::message`]). All others take up to six words in RDI, RSI, RDX, R10, R8, R9 and
//! answer with a code in RAX (0: success) and up to two words in RDI and RSI. RCX and R11 are lost,
//! and so is every vector register: to its caller a trap is a function call. Names are 32-bit; a
//! word with higher bits set is no name. No argument is a pointer: whatever is longer than words
//! lies in the thread's IPC buffer.

/// For `thread_set_processor`: no processor in particular.
pub const ANY_PROCESSOR: u64 = u64::MAX;

macro_rules! traps {
    ($($(#[doc = $doc:literal])+ $name:ident = $number:literal, $call:ident($($arg:ident),*) $(-> $($result:ident),+)?;)+) => {
        /// Numbers of the traps.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        #[repr(u8)]
        pub enum Trap {
            $($(#[doc = $doc])+ $name = $number,)+
        }

        impl Trap {
            /// Every trap, in order of number.
            pub const ALL: &[Trap] = &[$(Trap::$name),+];

            /// The trap with this number.
            #[must_use]
            pub const fn from_raw(raw: u8) -> Option<Trap> {
                Some(match raw { $($number => Trap::$name,)+ _ => return None })
            }

            /// Its entry in the reference: name, arguments and results as written, text.
            #[must_use]
            pub const fn reference(self) -> Reference {
                match self {
                    $(Trap::$name => Reference {
                        name: stringify!($call),
                        arguments: &[$(stringify!($arg)),*],
                        results: &[$($(stringify!($result)),+)?],
                        text: &[$($doc),+],
                    },)+
                }
            }
        }
    };
}

/// One trap as the reference prints it.
#[derive(Clone, Copy, Debug)]
pub struct Reference {
    /// Name of the trap.
    pub name: &'static str,
    /// Names of the argument words, in register order.
    pub arguments: &'static [&'static str],
    /// Names of the result words, in register order.
    pub results: &'static [&'static str],
    /// The text, a line each.
    pub text: &'static [&'static str],
}

traps! {
    /// Sends, receives, or both: see the message module.
    Msg = 0, msg();

    /// Makes a port and its receive right. `payload`: the word that every message received through
    /// the port carries. `set`: a port set that it joins, or 0. `limit`: as for port_set_attributes.
    /// `told`: 1 if the port itself is to be told when it has no senders any more, as by
    /// port_request_notification, or 0; 2 as 1, but the last send right that comes back in a message while
    /// nothing is queued at the port arrives as ArrivedKind::OwnLast, and no other notice is sent of it.
    /// Errors, in order: KERN_INVALID_NAME, KERN_INVALID_RIGHT: the set is none. KERN_INVALID_VALUE:
    /// `limit` above the highest, or `told` above 2.
    /// KERN_RESOURCE_SHORTAGE.
    PortAllocate = 1, port_allocate(payload, set, limit, told) -> name;
    /// Makes an empty port set. Errors: KERN_RESOURCE_SHORTAGE.
    PortSetAllocate = 2, port_set_allocate() -> name;
    /// Destroys the receive right (the port dies: senders find a dead name, queued messages are
    /// destroyed, waiting callers get MACH_RCV_PORT_DIED) or the port set of this name.
    /// A send right under the same name becomes a dead name. Errors: KERN_INVALID_NAME;
    /// KERN_INVALID_RIGHT: neither receive right nor set.
    PortDestroy = 3, port_destroy(name);
    /// Gives back `count` user references to the send, send-once or dead-name right of this name.
    /// Errors: KERN_INVALID_NAME; KERN_INVALID_RIGHT: no such right; KERN_INVALID_VALUE: fewer
    /// references than that, or 0.
    PortDeallocate = 4, port_deallocate(name, count);
    /// Adds a send right to the receive right of this name (one user reference more; raises the
    /// make-send count). Errors: KERN_INVALID_NAME; KERN_INVALID_RIGHT: no receive right;
    /// KERN_UREFS_OVERFLOW.
    PortMakeSend = 5, port_make_send(name);
    /// Puts a port into a set, taking it out of all sets that it was in (`set` 0: only that). A port
    /// that a thread waits on directly wakes it with MACH_RCV_PORT_CHANGED. Errors:
    /// KERN_INVALID_NAME; KERN_INVALID_RIGHT: no receive right, or no set; KERN_NOT_IN_SET: `set` is 0
    /// and the port is in none; KERN_RESOURCE_SHORTAGE.
    PortMoveMember = 6, port_move_member(name, set);
    /// Asks to be told once (`request`: see notify::Request) by a message to `notify`: a receive right
    /// of the caller, or a send-once right, which is used up. `notify` 0 only takes an earlier request
    /// of this kind back. `previous` is that one's right: the port's own name if it is the caller's,
    /// else the name of a send-once right; 0: there was none. A dead name is told at once. *No
    /// senders*: told at once if there are none and the make-send count is `sync` or more. *Send
    /// possible*: with a `sync` told as soon as there is room, perhaps at once; with 0 not before a send
    /// with option NOTIFY and without a notify port has found none. Errors: KERN_INVALID_VALUE: unknown
    /// request; KERN_INVALID_NAME; KERN_INVALID_RIGHT; KERN_INVALID_CAPABILITY: `notify` is neither;
    /// KERN_RESOURCE_SHORTAGE.
    PortRequestNotification = 7, port_request_notification(name, request, notify, sync) -> previous;
    /// Sets payload and queue limit (1 to 1024; 0 leaves it) of a receive right. Errors:
    /// KERN_INVALID_NAME; KERN_INVALID_RIGHT; KERN_INVALID_VALUE: limit too large.
    PortSetAttributes = 8, port_set_attributes(name, payload, limit);
    /// Changes the user references of one kind of right (`right`: see port::RightKind) that a name of
    /// `task` (0: the caller) denotes by `delta`, a signed word. A receive right, send-once right or
    /// set has one, which -1 takes: the receive right and the set as by port_destroy. Errors:
    /// KERN_INVALID_VALUE: unknown kind; KERN_INVALID_TASK; KERN_INVALID_NAME; KERN_INVALID_RIGHT: the
    /// name denotes no such right; KERN_INVALID_VALUE: there are not so many references, or the kind
    /// has only one; KERN_UREFS_OVERFLOW.
    PortModRefs = 9, port_mod_refs(task, name, right, delta);
    /// The user references of one kind of right of a name; 0 if it denotes no such right. Errors:
    /// KERN_INVALID_VALUE: unknown kind; KERN_INVALID_TASK; KERN_INVALID_NAME.
    PortGetRefs = 10, port_get_refs(task, name, right) -> references;
    /// What a name denotes and what is asked for about it: see port::PortType. Errors:
    /// KERN_INVALID_TASK; KERN_INVALID_NAME.
    PortType = 11, port_type(task, name) -> kinds;
    /// Writes names of `task` and their types to the IPC buffer's body, a word each (see
    /// port::NameEntry), from the place `from` (at first 0) on; with a `set`, only those of its
    /// members. Gives how many, and the place to go on from (0: that was all). Few or none may come
    /// before the end. Errors: KERN_INVALID_TASK; KERN_INVALID_NAME: the set; KERN_INVALID_RIGHT: it is
    /// none.
    PortNames = 12, port_names(task, set, from) -> count, next;
    /// Writes the status of a receive right to the IPC buffer's body: see port::PortStatus. Gives how
    /// many words. Errors: KERN_INVALID_TASK; KERN_INVALID_NAME; KERN_INVALID_RIGHT: no receive right.
    PortGetStatus = 13, port_get_status(task, name) -> count;
    /// Sets the make-send count of a receive right. Errors: KERN_INVALID_TASK; KERN_INVALID_NAME;
    /// KERN_INVALID_RIGHT: no receive right.
    PortSetMakeSend = 14, port_set_make_send(task, name, count);
    /// Puts a port into a set besides those that it is in (at most 64). A port that a thread waits on
    /// directly wakes it with MACH_RCV_PORT_CHANGED. Errors: KERN_INVALID_NAME; KERN_INVALID_RIGHT: no
    /// receive right, or no set; KERN_ALREADY_IN_SET; KERN_RESOURCE_SHORTAGE.
    PortInsertMember = 15, port_insert_member(name, set);

    /// Makes a task in the address space `space` (a name of a space without a task), whose faults
    /// and end are told to the port of `map` (a send right of the caller, which becomes the task's
    /// special port Map). The task has no thread, and ends (with status 0) when nobody can reach it to
    /// give it one: when rights to it are left only with itself, or with tasks of which the same is
    /// true. Gives the task's control port. Errors: KERN_INVALID_HOST: not the host control port;
    /// KERN_INVALID_ARGUMENT: no space, or taken; KERN_INVALID_RIGHT: no send right;
    /// KERN_RESOURCE_SHORTAGE.
    TaskCreate = 16, task_create(host_control, space, map) -> task;
    /// Ends a task: its threads, its rights, its space's translations. The work is done in steps.
    /// `status` goes with the dead-name and task-ended messages. Ending oneself does not return.
    /// Errors: KERN_INVALID_TASK.
    TaskTerminate = 17, task_terminate(task, status);
    /// Gives `task` a special port: a send right that the caller holds under `name` is copied
    /// (0: takes the port away). Errors: KERN_INVALID_TASK; KERN_INVALID_ARGUMENT: unknown index, or
    /// TaskSelf or Map; KERN_INVALID_RIGHT.
    TaskSetSpecialPort = 18, task_set_special_port(task, index, name);
    /// The caller's own special port of this index: a send right, one user reference more. Errors:
    /// KERN_INVALID_ARGUMENT: unknown index, or Exception; KERN_INVALID_NAME: none set;
    /// KERN_RESOURCE_SHORTAGE.
    TaskGetSpecialPort = 19, task_get_special_port(index) -> name;
    /// Suspends a task: counts, and keeps all of its threads, also those that are made later, from
    /// running until it is resumed as often. What its threads wait for may come meanwhile. Suspends
    /// some threads at a time; `more`, 0 at first, is the kernel's note that it is to go on. Errors:
    /// KERN_INVALID_TASK; KERN_FAILURE: suspended too often.
    TaskSuspend = 20, task_suspend(task, more);
    /// Takes back one `task_suspend`. Threads that are suspended themselves stay so. `more` as there.
    /// Errors: KERN_INVALID_TASK; KERN_FAILURE: it is not suspended.
    TaskResume = 21, task_resume(task, more);
    /// Writes names of the control ports (send rights, one user reference more) of threads of a task
    /// to the IPC buffer's body as 64-bit words, at most 64. Gives their number, and the `cursor`
    /// (0 at first) that the next ones are asked for with; 0: there are no more. Errors:
    /// KERN_INVALID_TASK; KERN_RESOURCE_SHORTAGE.
    TaskThreads = 22, task_threads(task, cursor) -> count, cursor;
    /// Writes what is known of a task to the IPC buffer's body as 64-bit words, see `info::TaskInfo`.
    /// Gives their number. Errors: KERN_INVALID_TASK.
    TaskInfo = 23, task_info(task) -> count;
    /// Sets the handler of the exceptions in `mask` (bit n: kind n) of a thread, or of a task for what
    /// no thread of it handles: a send right of the caller is copied (0: there is none any more).
    /// `behavior`: see `exception::Behavior`. Errors: KERN_INVALID_ARGUMENT: `target` is no control port
    /// of a thread or live task, or an unknown bit; KERN_INVALID_RIGHT.
    ExceptionPortsSet = 29, exception_ports_set(target, mask, behavior, name);
    /// As `exception_ports_set`, and gives the handlers that were there, as `exception_ports_get` does.
    /// Errors: as both.
    ExceptionPortsSwap = 30, exception_ports_swap(target, mask, behavior, name) -> count;
    /// Gives the handlers of the exceptions in `mask` of a thread or task: their number, and for each
    /// a word of the IPC buffer's body (`exception::Handler`) and a send right (one user reference
    /// more) in the right slot of that number. Errors: KERN_INVALID_ARGUMENT: `target` is no control
    /// port of a thread or live task, or an unknown bit; KERN_RESOURCE_SHORTAGE.
    ExceptionPortsGet = 31, exception_ports_get(target, mask) -> count;
    /// Bytes of the kernel's memory that are charged to a task, and how many may be (its quota;
    /// 2^64 - 1: all there is). A new task is given 16 MiB, or an eighth of what its maker has left if
    /// that is less; what a task may have counts as used by its maker. Errors: KERN_INVALID_TASK.
    TaskGetQuota = 26, task_get_quota(task) -> used, limit;
    /// Sets the quota of a task, in bytes. Errors: KERN_INVALID_HOST: not the host control port;
    /// KERN_INVALID_TASK; KERN_INVALID_VALUE: less than it uses; KERN_RESOURCE_SHORTAGE: its maker
    /// may not have as much more.
    TaskSetQuota = 27, task_set_quota(host_control, task, limit);

    /// Makes a thread that starts at `ip` with stack pointer `sp`, `argument` in RDI and its IPC
    /// buffer's address in RSI, all other registers clear. Its priority is the lower of `priority`
    /// (0 to 31, higher runs first) and the task's band. `suspended` (0 or 1) is its suspend count.
    /// Gives the thread's control port. Errors: KERN_INVALID_TASK; KERN_INVALID_ADDRESS: ip or sp
    /// outside the user half; KERN_INVALID_VALUE: priority, suspended; KERN_RESOURCE_SHORTAGE.
    ThreadCreate = 32, thread_create(task, ip, sp, argument, priority, suspended) -> thread;
    /// Ends a thread (0: the caller). The task goes on without it, even if it was the last. Errors:
    /// KERN_INVALID_ARGUMENT: no thread port.
    ThreadTerminate = 33, thread_terminate(thread);
    /// Breaks off what the thread waits in: a send with MACH_SEND_INTERRUPTED, a receive or call with
    /// MACH_RCV_INTERRUPTED, a fault by repeating it. Errors: KERN_INVALID_ARGUMENT.
    ThreadAbort = 34, thread_abort(thread);
    /// Sets the FS base of the caller. Errors: KERN_INVALID_ADDRESS: outside the user half.
    ThreadSetTls = 35, thread_set_tls(base);
    /// Lets another ready thread of the same priority run.
    ThreadYield = 36, thread_yield();
    /// Sets a thread's exception port: a send right of the caller is copied (0: takes it away).
    /// Errors: KERN_INVALID_ARGUMENT: no thread port; KERN_INVALID_RIGHT.
    ThreadSetExceptionPort = 37, thread_set_exception_port(thread, name);
    /// Sets the band of a task: the highest priority (0 to 31) of its threads. Errors:
    /// KERN_INVALID_HOST: not the host control port; KERN_INVALID_TASK; KERN_INVALID_VALUE.
    TaskSetBand = 38, task_set_band(host_control, task, band);
    /// Suspends a thread (0: the caller): counts, and keeps it from running until it is resumed as
    /// often. What it waits for may come meanwhile, a message too: it finds it when it goes on. Errors:
    /// KERN_INVALID_ARGUMENT: no thread port; KERN_FAILURE: suspended too often.
    ThreadSuspend = 39, thread_suspend(thread);
    /// Takes back one `thread_suspend`. Errors: KERN_INVALID_ARGUMENT; KERN_FAILURE: it is not
    /// suspended.
    ThreadResume = 40, thread_resume(thread);
    /// As `thread_abort`, if the thread can repeat what is broken off: not if it waits for the answer
    /// to a call that it has made. Errors: KERN_INVALID_ARGUMENT; KERN_FAILURE: it waits for an
    /// answer, and goes on doing so.
    ThreadAbortSafely = 41, thread_abort_safely(thread);
    /// Writes registers of a thread, which has to be suspended or to wait, to the IPC buffer's body:
    /// see `state::Flavor`. Gives the bytes. Registers that a system call loses are as it leaves
    /// them. Errors: KERN_INVALID_ARGUMENT: no thread port, the caller, unknown flavor;
    /// KERN_FAILURE: the thread is neither suspended nor does it wait.
    ThreadGetState = 42, thread_get_state(thread, flavor) -> length;
    /// Sets registers of a thread, which has to be suspended or to wait, from `length` bytes of the
    /// IPC buffer's body. In a `msg` trap what it waits for comes over them: `thread_abort` it
    /// first. Bits of the flags that are not the task's are left out. Errors: KERN_INVALID_ARGUMENT:
    /// no thread port, the caller, unknown flavor, another length, a reserved bit, watching I/O ports or
    /// debug registers; KERN_FAILURE: the thread is neither suspended nor does it wait;
    /// KERN_INVALID_ADDRESS: RIP, FS base or an address to be watched is outside the user half.
    ThreadSetState = 43, thread_set_state(thread, flavor, length);
    /// Writes what is known of a thread (0: the caller) to the IPC buffer's body as 64-bit words, see
    /// `info::ThreadInfo`. Gives their number. Errors: KERN_INVALID_ARGUMENT.
    ThreadInfo = 44, thread_info(thread) -> count;

    /// Has a thread (0: the caller) run only on the processor of this number, or on any again
    /// ([`ANY_PROCESSOR`]). A caller that is sent away goes on there. Errors:
    /// KERN_INVALID_ARGUMENT: no thread port; KERN_INVALID_VALUE: no such processor.
    ThreadSetProcessor = 47, thread_set_processor(thread, processor);

    /// Makes an empty address space. Its name is a send right whose last reference's end destroys
    /// the space, once no task is in it. Errors: KERN_INVALID_HOST: not the host memory port;
    /// KERN_RESOURCE_SHORTAGE.
    SpaceCreate = 48, space_create(host_memory) -> space;
    /// Runs a batch of translations of `length` bytes in the IPC buffer's body. Gives how many runs
    /// are done; repeating the batch is harmless. Errors: KERN_INVALID_ARGUMENT: a run is malformed;
    /// KERN_INVALID_NAME: a space is no space of the caller's; KERN_INVALID_ADDRESS: outside the
    /// part of the user half that tasks map; KERN_NO_ACCESS: a frame that is not the caller's to
    /// enter; KERN_RESOURCE_SHORTAGE: no frame for a page table.
    PmapBatch = 49, pmap_batch(length) -> runs;
    /// Gives `count` frames to the kernel. They leave the physical window. Errors:
    /// KERN_INVALID_HOST; KERN_INVALID_ARGUMENT: count 0, or no such frames; KERN_NO_ACCESS: a frame
    /// is not the caller's; KERN_FAILURE: a frame is still mapped.
    FrameDonate = 50, frame_donate(host_memory, first, count);
    /// Names the port (a receive right of the caller) that KERNEL_MEMORY_LOW goes to. Errors:
    /// KERN_INVALID_HOST; KERN_INVALID_CAPABILITY.
    HostSetMemoryLow = 51, host_set_memory_low(host_memory, notify);
    /// Makes an owner of frames below that of `host_memory`, without any frames yet. `space`, a space of
    /// the caller's owner, is the one in which it will see them: the space of the task that it is for.
    /// Gives its host memory port. It ends, and all below it, when it is destroyed, when nobody has a
    /// right to that port, and with the task in `space`: then the tasks in its spaces end, the spaces go,
    /// and OWNER_ENDED is sent. Errors: KERN_INVALID_HOST: not a host memory port; KERN_INVALID_ARGUMENT:
    /// `space` is no space of this owner's, or has a physical window; KERN_RESOURCE_SHORTAGE.
    OwnerCreate = 52, owner_create(host_memory, space) -> owner;
    /// Gives `count` frames to an owner right below. They leave the physical window for the other's, and
    /// are zeroed. Errors: KERN_INVALID_HOST; KERN_INVALID_ARGUMENT: `owner` is no host memory port of an
    /// owner right below, count 0, or no such frames; KERN_NO_ACCESS: a frame is not the caller's;
    /// KERN_FAILURE: a frame is still mapped; KERN_RESOURCE_SHORTAGE: no frame for page tables; those
    /// before may have been given.
    FrameGive = 53, frame_give(host_memory, owner, first, count);
    /// Ends an owner right below, and all below that. Errors: KERN_INVALID_HOST; KERN_INVALID_ARGUMENT:
    /// `owner` is no host memory port of an owner right below.
    OwnerDestroy = 54, owner_destroy(host_memory, owner);
    /// Takes back frames of owners right below that have ended, and of all below those. Writes ranges of
    /// frames to the IPC buffer's body, as pairs of 32-bit words, first frame and count: they are in the
    /// physical window again, their contents unknown. Gives the number of ranges (0 is possible), and
    /// whether there may be `more`. Errors: KERN_INVALID_HOST; KERN_RESOURCE_SHORTAGE: no frame for page
    /// tables.
    OwnerCollect = 55, owner_collect(host_memory) -> ranges, more;
    /// Takes back up to `count` of the frames that were given to the kernel, and that it can do without:
    /// not the same ones. Writes ranges as `owner_collect` does, at most 64. Errors: KERN_INVALID_HOST;
    /// KERN_RESOURCE_SHORTAGE: there are none.
    FrameReclaim = 56, frame_reclaim(host_memory, count) -> ranges;
    /// Reduces one page to the rights `keep` (0: unmaps it), if it maps `frame`: as a batch of one run of
    /// one page. `seen` is the word that a batch writes: the frame with what was seen of its use, or
    /// `translation::SKIPPED`. Errors: KERN_INVALID_ARGUMENT: no rights, an address inside a page, or no
    /// frame number; KERN_INVALID_ADDRESS: outside the part of the user half that tasks map;
    /// KERN_INVALID_NAME: no space of the caller's.
    PmapTake = 57, pmap_take(space, keep, address, epoch, frame) -> seen;
    /// Passes pages side by side from one space to another, as `pass::Pass` words it, with the frames' numbers in
    /// the IPC buffer's body. A page leaves its place if that maps the frame named for it; if others take the
    /// places, whatever was there goes. When no processor uses them there any more, those that are to be shown
    /// are entered where nothing is mapped. What is not the caller's to enter, or lacks a page table, is left
    /// out. Gives how many are shown. Errors: KERN_INVALID_ARGUMENT: `pass::Pass` has no such words;
    /// KERN_INVALID_ADDRESS: outside the part of the user half that tasks map; KERN_INVALID_NAME: a space is no
    /// space of the caller's.
    PmapPass = 58, pmap_pass(spaces, pages, fresh, epoch, which, shown) -> entered;

    /// Reads (`write` 0) or writes an I/O port of `width` 1, 2 or 4 bytes. `device`: the device port, or
    /// a right of `device_restrict`. Errors: KERN_INVALID_HOST: neither; KERN_INVALID_ARGUMENT: width, or
    /// port over 0xFFFF; KERN_NO_ACCESS: one of the bytes is outside of the right's range, or is a port
    /// that the kernel itself uses.
    DevicePortIo = 64, device_port_io(device, port, width, write, value) -> value;
    /// Makes an interrupt of a device a message: INTERRUPT to `notify`, a receive right of the caller.
    /// `line`: a line of the interrupt controllers (as PCI's Interrupt Line register has it), or
    /// device::LINE_NONE for one that the device signals by a write to memory; `message` is then what
    /// to put in its MSI-X table (device::InterruptMessage), else 0. The name is a send right; the end
    /// of the last one gives the interrupt back. It starts disabled. Errors: KERN_INVALID_HOST: not
    /// the device port; KERN_INVALID_ARGUMENT: no such line; KERN_INVALID_CAPABILITY: `notify` is no
    /// receive right; KERN_NO_ACCESS: the line is the kernel's, or taken; KERN_RESOURCE_SHORTAGE: no
    /// memory, or no vector.
    InterruptCreate = 65, interrupt_create(device, line, notify) -> interrupt, message;
    /// Lets an interrupt be told once. Those that came since it was told last are told at once, but
    /// of a line that the device holds, which was masked meanwhile. Errors: KERN_INVALID_NAME: no
    /// interrupt.
    InterruptEnable = 66, interrupt_enable(interrupt);
    /// Attaches a device's function (its bus, device and function number, 8, 5 and 3 bits) to the
    /// caller's task: from now on it reaches what the task shows to its devices, and nothing else, until
    /// the task ends. Errors: KERN_INVALID_HOST: not the device port; KERN_INVALID_ARGUMENT: no such
    /// number; KERN_NOT_SUPPORTED: the machine has no IOMMU, and every device reaches all memory;
    /// KERN_NO_ACCESS: another task has the function; KERN_RESOURCE_SHORTAGE.
    DeviceAttach = 67, device_attach(device, function);
    /// Shows the caller's memory (1 to 512 pages, which are resident and which it may write) to its
    /// devices, for reading and writing, at its physical addresses. They lose a page when any
    /// translation of it is taken back. Errors: KERN_INVALID_HOST: not the device port;
    /// KERN_INVALID_ARGUMENT: address or number of pages; KERN_INVALID_ADDRESS: outside the user half,
    /// or a page is not mapped; KERN_NOT_SUPPORTED: the machine has no IOMMU; KERN_FAILURE: no
    /// function is attached; KERN_PROTECTION_FAILURE: a page is read-only; KERN_NO_ACCESS: it is no
    /// memory of the task's server; KERN_RESOURCE_SHORTAGE.
    DeviceShow = 68, device_show(device, address, pages);
    /// Reads (`write` 0) or writes `width` 1, 2 or 4 bytes of the configuration space of a PCI function
    /// (numbered as for `device_attach`) at `register`, in one piece: the two I/O ports behind it are the
    /// kernel's, so that drivers do not get into each other's way. What no function answers reads as
    /// ones. Errors: KERN_INVALID_HOST: not the device port; KERN_INVALID_ARGUMENT: width, no such
    /// function number, or a register that is not aligned to the width or over 255.
    DeviceConfigIo = 69, device_config_io(device, function, register, width, write, value) -> value;
    /// Has an interrupt come to the processor of this number from now on; until then it comes to
    /// processor 0. Gives what the device is to write for that (as `interrupt_create` does; 0: it has a
    /// line, which follows by itself). What the device has written before still comes where it did.
    /// Errors: KERN_INVALID_NAME: no interrupt; KERN_INVALID_VALUE: no such processor.
    InterruptSetProcessor = 70, interrupt_set_processor(interrupt, processor) -> message;
    /// Makes a right to `count` I/O ports from `first` on, and to nothing else, of the device port or a
    /// right of this kind: a send right, to be given to a driver. It ends with the last one. Errors:
    /// KERN_INVALID_HOST: neither; KERN_INVALID_ARGUMENT: no ports, or ports over 0xFFFF; KERN_NO_ACCESS:
    /// some are outside of `device`'s own range; KERN_RESOURCE_SHORTAGE.
    DeviceRestrict = 71, device_restrict(device, first, count) -> right;

    /// Nanoseconds since boot, and the frequency of the time stamp counter in Hz.
    ClockGet = 80, clock_get() -> nanoseconds, frequency;
    /// Writes `length` bytes of the IPC buffer's body to the console. Errors:
    /// KERN_INVALID_ARGUMENT: more than the body holds.
    ConsoleWrite = 81, console_write(length);
    /// Ends the machine with a status (0: success). Errors: KERN_INVALID_HOST: not the host control
    /// port.
    HostShutdown = 82, host_shutdown(host_control, status);
    /// Writes the kernel's counters to the IPC buffer's body as 64-bit words, see `counter`; gives
    /// their number.
    HostStatistics = 83, host_statistics() -> count;
    /// Lets one of the kernel's allocations fail: the one after `left` others that traps of the calling
    /// thread make from now on (2^64 - 1: none). Gives how many were made since the last time that it
    /// said so, and 1 if one of them failed. For tests. Errors: KERN_INVALID_HOST: not the host control
    /// port.
    DebugFailAllocation = 90, debug_fail_allocation(host_control, left) -> made, failed;

    /// Gives a right of the caller to `task` (0: the caller itself), as a message would (`disposition`:
    /// see right::Disposition), and gives the name that it has there: a receive or send right to a port
    /// that the task knows has the name that it knows, also if the port is its own. Errors:
    /// KERN_INVALID_VALUE: no disposition; KERN_INVALID_TASK; KERN_INVALID_NAME; KERN_INVALID_RIGHT: the
    /// name denotes no right that can be given so; KERN_UREFS_OVERFLOW; KERN_RESOURCE_SHORTAGE.
    PortInsertRight = 96, port_insert_right(task, name, disposition) -> name;
    /// Takes a right out of `task`, as port_insert_right would give it: `name` is the task's,
    /// the result the caller's. Errors: the same.
    PortExtractRight = 97, port_extract_right(task, name, disposition) -> name;
    /// Takes a port out of one of its sets. Errors: KERN_INVALID_NAME; KERN_INVALID_RIGHT: no receive
    /// right, or no set; KERN_NOT_IN_SET.
    PortExtractMember = 98, port_extract_member(name, set);
}

/// Indices of the words of `host_statistics`.
pub mod counter {
    /// Entries into the kernel: traps, faults, interrupts.
    pub const KERNEL_ENTRIES: usize = 0;
    /// Loads of CR3.
    pub const SPACE_SWITCHES: usize = 1;
    /// Flushes of translations: single pages, and whole spaces other than by a switch.
    pub const TLB_FLUSHES: usize = 2;
    /// Messages handed over, replies and the kernel's own included.
    pub const MESSAGES: usize = 3;
    /// Page faults of ring 3.
    pub const FAULTS: usize = 4;
    /// Exception messages.
    pub const EXCEPTIONS: usize = 5;
    /// Frames that the kernel has in all.
    pub const KERNEL_FRAMES: usize = 6;
    /// Frames of those that are free.
    pub const KERNEL_FRAMES_FREE: usize = 7;
    /// Processors of the machine.
    pub const PROCESSORS: usize = 8;
    /// The number of the one that the caller runs on.
    pub const PROCESSOR: usize = 9;
    /// Tasks.
    pub const TASKS: usize = 10;
    /// Threads.
    pub const THREADS: usize = 11;
    /// Ports, dead ones that there are still names of included.
    pub const PORTS: usize = 12;
    /// Non-maskable interrupts.
    pub const NON_MASKABLE: usize = 13;
    /// How many there are.
    pub const COUNT: usize = 14;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_unique_and_read_back() {
        for trap in Trap::ALL {
            assert_eq!(Trap::from_raw(*trap as u8), Some(*trap));
        }
        assert_eq!(Trap::from_raw(255), None);
    }
}
