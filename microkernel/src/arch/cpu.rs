//! What this processor can do, and the control registers set accordingly.

use core::arch::x86_64::{__cpuid, __cpuid_count};

use x86_64::VirtAddr;
use x86_64::instructions::{hlt, interrupts};
use x86_64::registers::control::{Cr3, Cr3Flags, Cr4, Cr4Flags, Efer, EferFlags};
use x86_64::registers::model_specific::{LStar, Msr, SFMask, Star};
use x86_64::registers::rflags::RFlags;
use x86_64::registers::xcontrol::{XCr0, XCr0Flags};
use x86_64::structures::paging::PhysFrame;
use x86_64::{PhysAddr, registers};

use super::gdt::{KERNEL_CODE, KERNEL_DATA};

/// IA32_FS_BASE.
const FS_BASE: u32 = 0xC000_0100;

/// Features that decide something after start-up, or are worth a line on the console.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Features {
    /// Pages can be made non-executable.
    pub(crate) no_execute: bool,
    /// XSAVE; without it FXSAVE is used, and AVX stays off.
    pub(crate) xsave: bool,
    /// XSAVEOPT.
    pub(crate) xsaveopt: bool,
    /// XGETBV with index 1.
    pub(crate) xgetbv1: bool,
    /// AVX.
    pub(crate) avx: bool,
    smep: bool,
    smap: bool,
    umip: bool,
    rdcl_no: bool,
}

impl Features {
    /// Asks the processor.
    pub(crate) fn detect() -> Features {
        let leaf = |number: u32, sub: u32| {
            let top = __cpuid(number & 0x8000_0000).eax;
            (number <= top).then(|| __cpuid_count(number, sub))
        };
        let bit = |word: u32, bit: u32| word >> bit & 1 != 0;
        let one = __cpuid(1);
        let seven = leaf(7, 0);
        let seven_b = seven.map_or(0, |leaf| leaf.ebx);
        let extended = leaf(0x8000_0001, 0).map_or(0, |leaf| leaf.edx);
        let xsave = bit(one.ecx, 26);
        let save = if xsave {
            leaf(0xD, 1).map_or(0, |leaf| leaf.eax)
        } else {
            0
        };
        let capabilities = if bit(seven.map_or(0, |leaf| leaf.edx), 29) {
            // SAFETY: CPUID says that IA32_ARCH_CAPABILITIES exists; reading it has no effect.
            unsafe { Msr::new(0x10A).read() }
        } else {
            0
        };
        Features {
            no_execute: bit(extended, 20),
            xsave,
            xsaveopt: bit(save, 0),
            xgetbv1: bit(save, 2),
            avx: xsave && bit(one.ecx, 28),
            smep: bit(seven_b, 7),
            smap: bit(seven_b, 20),
            umip: bit(seven.map_or(0, |leaf| leaf.ecx), 2),
            rdcl_no: capabilities & 1 != 0,
        }
    }

    /// Switches on what is there, and says what is missing.
    pub(crate) fn switch_on(self) {
        let mut cr4 = Cr4Flags::PHYSICAL_ADDRESS_EXTENSION
            | Cr4Flags::OSFXSR
            | Cr4Flags::OSXMMEXCPT_ENABLE
            | Cr4Flags::PAGE_GLOBAL
            | Cr4Flags::MACHINE_CHECK_EXCEPTION;
        cr4.set(Cr4Flags::SUPERVISOR_MODE_EXECUTION_PROTECTION, self.smep);
        cr4.set(Cr4Flags::SUPERVISOR_MODE_ACCESS_PREVENTION, self.smap);
        cr4.set(Cr4Flags::USER_MODE_INSTRUCTION_PREVENTION, self.umip);
        cr4.set(Cr4Flags::OSXSAVE, self.xsave);
        // SAFETY: each bit is supported; none changes how the kernel's own mappings translate,
        // which are supervisor pages. FSGSBASE and PCIDE stay off.
        unsafe { Cr4::write(cr4) };
        if self.xsave {
            let mut state = XCr0Flags::X87 | XCr0Flags::SSE;
            state.set(XCr0Flags::AVX, self.avx);
            // SAFETY: OSXSAVE is on and the bits are supported, x87 among them.
            unsafe { XCr0::write(state) };
        }
        for (there, what) in [
            (self.no_execute, "NX: data pages are executable"),
            (
                self.smep && self.smap,
                "SMEP and SMAP: kernel bugs are easier to abuse",
            ),
            (
                self.rdcl_no,
                "RDCL_NO: a task may read kernel memory by speculation (Meltdown)",
            ),
        ] {
            if !there {
                log::info!("processor without {what}");
            }
        }
    }
}

/// Makes SYSCALL enter at `entry`.
pub(crate) fn set_system_call_entry(entry: u64) {
    let star = u64::from(KERNEL_CODE) << 32 | u64::from(KERNEL_DATA | 3) << 48;
    let mut star_register = Star::MSR;
    // SAFETY: the selectors are the descriptor table's; the entry is the kernel's stub for SYSCALL.
    unsafe {
        star_register.write(star);
        Efer::update(|efer| *efer |= EferFlags::SYSTEM_CALL_EXTENSIONS);
    }
    LStar::write(VirtAddr::new_truncate(entry));
    SFMask::write(
        RFlags::INTERRUPT_FLAG
            | RFlags::DIRECTION_FLAG
            | RFlags::TRAP_FLAG
            | RFlags::ALIGNMENT_CHECK
            | RFlags::NESTED_TASK,
    );
}

/// Loads the root page table at physical address `root`.
pub(crate) fn load_root(root: u64) {
    let frame = PhysFrame::containing_address(PhysAddr::new_truncate(root));
    // SAFETY: every root's kernel half is the one that `tables` built, which maps all that runs.
    unsafe { Cr3::write(frame, Cr3Flags::empty()) };
}

/// Physical address of the loaded root page table.
pub(crate) fn loaded_root() -> u64 {
    Cr3::read().0.start_address().as_u64()
}

/// Sets the FS base of ring 3.
#[inline(always)]
pub(crate) fn set_fs_base(base: u64) {
    let mut register = Msr::new(FS_BASE);
    // SAFETY: nothing of the kernel lies behind FS; who set the base has seen to it that it is
    // canonical.
    unsafe { register.write(base) };
}

/// The address of the last page fault.
pub(crate) fn fault_address() -> u64 {
    registers::control::Cr2::read_raw()
}

/// Stops for good.
pub(crate) fn halt() -> ! {
    interrupts::disable();
    loop {
        hlt();
    }
}
