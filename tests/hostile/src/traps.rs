//! Every trap with every kind of argument, from a task that may harm itself.
//!
//! The attacker keeps a pool of names, good, stale and forged, and makes traps without regard to
//! what they mean. What it must not do in its tame form is end before it has made all of them.

use core::arch::naked_asm;

use guest_test::{Outcome, check, check_eq, has_several_processors, stretched};
use ipc::abi::buffer::{KINDS, VALUES};
use ipc::abi::message::option;
use ipc::abi::notify::ExitStatus;
use ipc::abi::right::{Disposition, SpecialPort};
use ipc::abi::trap::Trap;
use ipc::buffer::Body;
use ipc::time::{MILLISECOND, SECOND, after};
use ipc::{task, trap, vm};

use crate::balance::{Balance, all_is_well};
use crate::helper::{DONE, Helper};
use crate::random::Random;

/// The role of an attacker. Its numbers: seed, traps, and 1 if it may do what ends it.
pub(crate) const ROLE: &str = "attack:traps";

/// How much is tried.
struct Effort {
    attackers: u64,
    /// How many of them are to make all of their traps: some stop themselves before.
    enough: u32,
    /// Traps of each.
    traps: u64,
}

/// Two million traps in all, or nearly.
const EFFORT: Effort = Effort {
    attackers: 40,
    enough: 34,
    traps: 50_000,
};
/// Several processors run at the speed of a host.
const EFFORT_OF_SEVERAL: Effort = Effort {
    attackers: 5,
    enough: 3,
    traps: 25_000,
};
/// Names that an attacker remembers.
const POOL: usize = 48;

pub(crate) fn any_trap_with_any_arguments_is_answered() -> Outcome {
    let mut before = Balance::now()?;
    let Effort {
        attackers,
        enough,
        traps,
    } = if has_several_processors() {
        EFFORT_OF_SEVERAL
    } else {
        EFFORT
    };
    let mut done = 0;
    for seed in 1..=attackers {
        if seed == 2 {
            // The kernel keeps what its tables have grown by.
            before = Balance::now()?;
        }
        let helper = Helper::start(ROLE, &[seed, traps, 0])?;
        // One that has stopped itself after all is ended.
        match helper.wait_until(after(stretched(SECOND / 2))) {
            Ok(status) => done += u32::from(status == ExitStatus::Exited(DONE)),
            Err(_) => helper.end()?,
        }
        all_is_well()?;
    }
    check!(
        done >= enough,
        "only {done} of {attackers} attackers made all of their traps"
    );
    before.is_back()
}

pub(crate) fn a_task_that_harms_itself_harms_nobody_else() -> Outcome {
    let before = Balance::at_rest()?;
    for seed in 100..112 {
        let helper = Helper::start(ROLE, &[seed, 4000, 1])?;
        // It may have ended its only thread, or wait for ever.
        if helper.wait_until(after(80 * MILLISECOND)).is_err() {
            helper.end()?;
        }
        all_is_well()?;
    }
    before.is_back()
}

pub(crate) fn a_task_with_many_threads_in_traps_can_be_ended() -> Outcome {
    let before = Balance::at_rest()?;
    for seed in 200..204 {
        let helper = Helper::start(ROLE, &[seed, u64::MAX, 2])?;
        check_eq!(helper.wait_until(after(60 * MILLISECOND)).ok(), None);
        helper.end()?;
        all_is_well()?;
    }
    before.is_back()
}

/// The registers of a trap, in and out.
#[repr(C)]
#[derive(Clone, Copy, Default)]
struct Registers {
    rax: u64,
    rdi: u64,
    rsi: u64,
    rdx: u64,
    r8: u64,
    r9: u64,
    r10: u64,
    words: [u64; 6],
}

/// Makes a trap with these registers, and leaves those that it gives back.
///
/// # Safety
/// None that can be kept: the caller is ready to end of it.
#[unsafe(naked)]
unsafe extern "sysv64" fn enter(registers: &mut Registers) {
    naked_asm!(
        "push rbx",
        "push rbp",
        "push r12",
        "push r13",
        "push r14",
        "push r15",
        "push rdi",
        "mov r11, rdi",
        "mov rax, [r11]",
        "mov rdi, [r11 + 8]",
        "mov rsi, [r11 + 16]",
        "mov rdx, [r11 + 24]",
        "mov r8, [r11 + 32]",
        "mov r9, [r11 + 40]",
        "mov r10, [r11 + 48]",
        "mov rbx, [r11 + 56]",
        "mov rbp, [r11 + 64]",
        "mov r12, [r11 + 72]",
        "mov r13, [r11 + 80]",
        "mov r14, [r11 + 88]",
        "mov r15, [r11 + 96]",
        "syscall",
        "mov r11, [rsp]",
        "mov [r11], rax",
        "mov [r11 + 8], rdi",
        "mov [r11 + 16], rsi",
        "mov [r11 + 24], rdx",
        "pop rdi",
        "pop r15",
        "pop r14",
        "pop r13",
        "pop r12",
        "pop rbp",
        "pop rbx",
        "ret",
    )
}

/// What threads of the attacker do that it starts by the way.
#[unsafe(naked)]
unsafe extern "C" fn wander() -> ! {
    naked_asm!(
        "mov r15d, 64",
        "2:",
        "mov eax, {yield_}",
        "syscall",
        "mov eax, {receive}",
        "mov esi, 0x300",
        "xor r9d, r9d",
        "syscall",
        "dec r15d",
        "jnz 2b",
        "3:",
        "mov eax, {terminate}",
        "xor edi, edi",
        "syscall",
        "jmp 3b",
        yield_ = const Trap::ThreadYield as u32,
        receive = const option::RECEIVE,
        terminate = const Trap::ThreadTerminate as u32,
    )
}

/// An attacker at work.
struct Attacker {
    random: Random,
    pool: [u64; POOL],
    task: u64,
    buffer: *mut u64,
    clock: u64,
    /// It may do what ends or stops it.
    wild: bool,
}

/// The attacker's life: `count` traps. `form` 0: tame; 1: wild; 2: for ever, with more threads.
pub(crate) fn attack(seed: u64, count: u64, form: u64) -> u32 {
    let name = |right: Result<u32, ipc::Kern>| right.map_or(0, u64::from);
    let mut attacker = Attacker {
        random: Random::new(seed),
        pool: [0; POOL],
        task: name(trap::task_get_special_port(SpecialPort::TaskSelf)),
        buffer: Body::borrow().as_mut_ptr().cast(),
        clock: 0,
        wild: form == 1,
    };
    let child = vm::own().create_task(false);
    let copy = vm::own().copy_in(attack as *const () as u64 & !0xFFF, 4096, false);
    let entry = vm::own().memory_entry(8192, 0, 0x2_0003, None);
    let first = [
        attacker.task,
        name(trap::task_get_special_port(SpecialPort::Map)),
        name(trap::task_get_special_port(SpecialPort::Bootstrap)),
        child.as_ref().map_or(0, |child| child.task.name().into()),
        child.as_ref().map_or(0, |child| child.map.name().into()),
        copy.as_ref().map_or(0, |copy| copy.name().into()),
        entry.as_ref().map_or(0, |(entry, _)| entry.name().into()),
        name(trap::port_allocate(1)),
        name(trap::port_set_allocate()),
    ];
    for (place, name) in attacker.pool.iter_mut().zip(first) {
        *place = name;
    }
    if form == 2 {
        for _ in 0..16 {
            let own = task::own().map_or(0, |task| task.name());
            // SAFETY: the code uses no stack.
            let _ = unsafe { trap::thread_create(own, wander as *const () as u64, 0, 0, 31) };
        }
    }
    for _ in 0..count {
        attacker.round();
    }
    DONE
}

impl Attacker {
    /// A trap without regard to what runs by FS: the base is put back after each.
    fn enter(&mut self, registers: &mut Registers) {
        // SAFETY: this task is made to be harmed; nothing but registers and the buffer is touched
        // in the kernel, and memory only through messages to its map.
        unsafe { enter(registers) };
        let mut base = Registers {
            rax: Trap::ThreadSetTls as u64,
            rdi: self.buffer as u64,
            ..Registers::default()
        };
        // SAFETY: as above; this is the value that the runtime set.
        unsafe { enter(&mut base) };
    }

    fn name(&mut self) -> u64 {
        self.random.pick(&self.pool.clone())
    }

    fn remember(&mut self, name: u64) {
        let place = 9 + self.random.below(POOL as u64 - 9) as usize;
        if let Some(place) = self.pool.get_mut(place) {
            *place = name;
        }
    }

    /// Any argument: a name, one that was good once, one that is nearly good, a number.
    fn argument(&mut self) -> u64 {
        match self.random.below(8) {
            0 => self.random.extreme(),
            1 => self.name() ^ 1 << self.random.below(64),
            2 => self
                .name()
                .wrapping_add(self.random.below(3))
                .wrapping_sub(1),
            3 => self.random.below(2048),
            _ => self.name(),
        }
    }

    fn round(&mut self) {
        let arguments: [u64; 6] = core::array::from_fn(|_| self.argument());
        if self.random.once_in(4) {
            self.litter();
        }
        if self.random.once_in(2) {
            self.message(arguments);
        } else {
            self.trap(arguments);
        }
    }

    /// Puts rubbish into the buffer: a body, something like a batch of translations, rights.
    fn litter(&mut self) {
        let mut words = [0; 16];
        for word in &mut words {
            *word = self.argument();
        }
        if self.random.once_in(2) {
            words[0] = self.name() | (1 + self.random.below(6)) << 32 | self.random.below(8) << 40;
            words[1] = 0x40_0000 + (self.random.below(1024) << 12);
            words[3] = self.random.below(5);
        }
        let kinds = [0, 16, 17, 18, 19, 20, 21, 255];
        for (index, word) in words.into_iter().enumerate() {
            let kind = self.random.pick(&kinds);
            // SAFETY: all of these places lie in this thread's buffer, in front of the words of the
            // runtime, and nobody has borrowed it.
            unsafe {
                self.buffer.add(index).write(word);
                let slot = index % 8;
                self.buffer.byte_add(VALUES + 8 * slot).write(word);
                self.buffer.byte_add(KINDS + slot).cast::<u8>().write(kind);
            }
        }
    }

    fn message(&mut self, arguments: [u64; 6]) {
        let options = match self.random.below(10) {
            0 => option::SEND,
            1 => option::CALL,
            2 => option::REPLY,
            3 => option::RECEIVE,
            4 => option::SEND | option::RECEIVE,
            5 => option::REPLY | option::RECEIVE,
            6 => option::SEND | option::NOTIFY,
            7 => option::SEND | option::RECEIVE | option::NOTIFY,
            8 => self.random.word() & 0xFF00,
            _ => self.random.word() & !0xFF,
        };
        // Nobody answers, so that a tame attacker waits a little at most.
        let deadline = match self.random.below(64) {
            0 => self.clock + 20_000,
            1 if self.wild => u64::MAX,
            2 if self.wild => self.random.word(),
            _ => 0,
        };
        let info = self.random.below(16)
            | self.random.below(4004) << 32
            | if self.random.once_in(4) {
                self.random.below(10) << 44
            } else {
                0
            }
            | if self.random.once_in(32) {
                self.random.word()
            } else {
                0
            };
        let [destination, from, notify, ..] = arguments;
        let id = info as u32;
        // A good request to its own map ends it too soon: that is the business of another case.
        if !self.wild && (3800..3900).contains(&id) {
            return;
        }
        let mut registers = Registers {
            rax: options,
            rdi: destination,
            rsi: from,
            rdx: info,
            r8: deadline,
            r9: deadline,
            r10: notify,
            words: arguments,
        };
        self.enter(&mut registers);
        let Registers {
            rax, rsi: token, ..
        } = registers;
        if rax as u32 == 0 && token != 0 {
            // A call of its own thread, or a kernel's: an answer, or one to a token that is not.
            let mut answer = Registers {
                rax: option::REPLY,
                rdi: token ^ u64::from(self.random.once_in(2)),
                rdx: self.random.below(3),
                ..Registers::default()
            };
            self.enter(&mut answer);
        }
    }

    fn trap(&mut self, mut arguments: [u64; 6]) {
        let number = self.random.below(256) as u8;
        let trap = if self.random.once_in(16) {
            Trap::from_raw(number)
        } else {
            let index = self.random.below(Trap::ALL.len() as u64) as usize;
            Trap::ALL.get(index).copied()
        };
        let [first, second, ..] = arguments;
        match trap {
            Some(Trap::Msg) => return,
            // What the console is told is read by people.
            Some(Trap::ConsoleWrite) => arguments[0] = first.max(4001),
            Some(Trap::TaskTerminate) if !self.wild && first == self.task => return,
            // It may know its own thread by name.
            Some(Trap::TaskSuspend | Trap::ThreadSuspend) if !self.wild => return,
            Some(Trap::ThreadTerminate) if !self.wild && first == 0 => return,
            Some(Trap::PortDeallocate) if !self.wild && first == self.task => return,
            Some(Trap::PortDeallocate) => arguments[1] = second % 4,
            // Ports and threads are used up in another file.
            Some(Trap::PortAllocate | Trap::PortSetAllocate | Trap::ThreadCreate)
                if !self.random.once_in(8) =>
            {
                return;
            }
            Some(Trap::PortDestroy) if !self.random.once_in(4) => return,
            Some(Trap::ThreadCreate) => {
                if !self.wild && first == self.task || self.random.once_in(2) {
                    arguments[1] = wander as *const () as u64;
                }
                arguments[4] = self.random.below(40);
            }
            Some(Trap::TaskGetSpecialPort) => arguments[0] = self.random.below(10),
            Some(Trap::TaskSetSpecialPort) => arguments[1] = self.random.below(10),
            Some(Trap::PmapBatch) if self.random.once_in(2) => {
                arguments[0] = 32 + 8 * self.random.below(8);
            }
            _ => {}
        }
        let [rdi, rsi, rdx, r10, r8, r9] = arguments;
        let mut registers = Registers {
            rax: match trap {
                Some(trap) => trap as u64,
                // No such trap, or bits above the number.
                None if self.random.once_in(2) => u64::from(number).max(84),
                None => self.random.word() | 0x1_0000,
            },
            rdi,
            rsi,
            rdx,
            r8,
            r9,
            r10,
            words: arguments,
        };
        self.enter(&mut registers);
        let Registers { rax, rdi, .. } = registers;
        match trap {
            Some(Trap::ClockGet) => self.clock = rdi,
            Some(
                Trap::PortAllocate
                | Trap::PortSetAllocate
                | Trap::ThreadCreate
                | Trap::TaskGetSpecialPort,
            ) if rax == 0 => self.remember(rdi),
            _ => {}
        }
    }
}

/// For other files: a right to pass in any way.
pub(crate) const DISPOSITIONS: [Disposition; 7] = [
    Disposition::None,
    Disposition::MoveReceive,
    Disposition::MoveSend,
    Disposition::MoveSendOnce,
    Disposition::CopySend,
    Disposition::MakeSend,
    Disposition::MakeSendOnce,
];
