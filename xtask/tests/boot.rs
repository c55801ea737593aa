//! How a run ends: tiny kernels, made here byte by byte, that print, report, hang or crash.
//!
//! They boot as the real one does (an ELF file with a PVH note), so that what is tested is the
//! whole of `boot::boot`: the emulator's command line, the serial line, the report, the time limit.
//! Where there is no QEMU there is nothing to test; `cargo xtask test` brings it before it starts.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::path::PathBuf;
use std::time::{Duration, Instant};

use xtask::boot as machine;
use xtask::install;
use xtask::qemu::{self, Machine, Outcome};

/// Where the kernels are loaded and entered, in 32-bit mode.
const BASE: u32 = 0x10_0000;

/// Instructions that send `text` to the serial port.
fn print(text: &str) -> Vec<u8> {
    let mut code = vec![0x66, 0xba, 0xf8, 0x03]; // mov dx, 0x3f8
    for byte in text.bytes() {
        code.extend([0xb0, byte, 0xee]); // mov al, byte; out dx, al
    }
    code
}

/// Instructions that end the run with `value`.
fn report(value: u8) -> Vec<u8> {
    vec![0x66, 0xba, 0xf4, 0x00, 0xb0, value, 0xee] // mov dx, 0xf4; mov al, value; out dx, al
}

/// Instructions that do nothing for ever.
const HANG: [u8; 2] = [0xeb, 0xfe];

/// An ELF file whose PVH note names the first byte of `code` as the entry.
fn kernel(code: &[u8]) -> Vec<u8> {
    let note_at: u64 = 64 + 2 * 56;
    let code_at: u64 = 0x1000;
    let mut file = Vec::new();
    file.extend(b"\x7fELF\x02\x01\x01\0\0\0\0\0\0\0\0\0");
    file.extend([2, 0, 62, 0, 1, 0, 0, 0]); // ET_EXEC, EM_X86_64, EV_CURRENT
    for word in [u64::from(BASE), 64, 0] {
        file.extend(word.to_le_bytes()); // e_entry, e_phoff, e_shoff
    }
    file.extend([0, 0, 0, 0, 64, 0, 56, 0, 2, 0, 0, 0, 0, 0, 0, 0]);
    let length = code.len() as u64;
    segment(
        &mut file,
        1,
        5,
        [
            code_at,
            u64::from(BASE),
            u64::from(BASE),
            length,
            length,
            0x1000,
        ],
    );
    segment(&mut file, 4, 4, [note_at, 0, 0, 20, 20, 4]);
    for word in [4, 4, 18] {
        file.extend(u32::to_le_bytes(word)); // length of name, of contents; PHYS32_ENTRY
    }
    file.extend(b"Xen\0");
    file.extend(BASE.to_le_bytes());
    file.resize(code_at as usize, 0);
    file.extend(code);
    file
}

fn segment(file: &mut Vec<u8>, kind: u32, flags: u32, words: [u64; 6]) {
    file.extend(kind.to_le_bytes());
    file.extend(flags.to_le_bytes());
    words
        .iter()
        .for_each(|word| file.extend(word.to_le_bytes()));
}

/// Boots `code` under the name of its test; gives the end and all that was printed.
fn boot(name: &str, code: &[u8], limit: Duration) -> Option<(machine::End, String)> {
    if !install::is_here(qemu::PROGRAM) {
        eprintln!("no QEMU here: not tested");
        return None;
    }
    let folder = PathBuf::from(env!("CARGO_TARGET_TMPDIR"));
    let path = folder.join(format!("{name}.elf"));
    std::fs::write(&path, kernel(code)).unwrap();
    let machine = Machine::new(&path, &path);
    let mut text = String::new();
    let end = machine::boot(&machine, Some(limit), &mut |piece| {
        text.push_str(&String::from_utf8_lossy(piece));
    });
    Some((end.unwrap(), text))
}

const LONG: Duration = Duration::from_secs(60);

#[test]
fn a_guest_that_reports_success_is_a_success() {
    let code = [print("one\ntwo\n"), report(0x10), HANG.into()].concat();
    let Some((end, text)) = boot("success", &code, LONG) else {
        return;
    };
    assert_eq!(end.outcome, Outcome::Success);
    assert_eq!(text, "one\ntwo\n");
    assert_eq!(end.last_words, ["one", "two"]);
}

#[test]
fn a_guest_that_reports_failure_gives_its_code() {
    let code = [print("bad"), report(0x20 | 7), HANG.into()].concat();
    let Some((end, _)) = boot("failure", &code, LONG) else {
        return;
    };
    assert_eq!(end.outcome, Outcome::Failure(7));
    assert_eq!(end.outcome.exit_code(), 7);
    assert_eq!(end.last_words, ["bad"], "a line without an end is kept too");
}

#[test]
fn a_guest_that_hangs_is_stopped_at_the_limit() {
    let code = [print("here I stay\n"), HANG.into()].concat();
    let started = Instant::now();
    let Some((end, _)) = boot("hang", &code, Duration::from_secs(4)) else {
        return;
    };
    assert_eq!(end.outcome, Outcome::TimedOut(4));
    assert_eq!(end.last_words, ["here I stay"]);
    assert!(started.elapsed() < Duration::from_secs(20));
}

#[test]
fn a_triple_fault_is_a_failure() {
    // lidt [BASE + 8]; int3: the six bytes at BASE + 8 are an empty table.
    let table = (BASE + 8).to_le_bytes();
    let code = [&[0x0f, 0x01, 0x1d][..], &table, &[0xcc], &[0; 6]].concat();
    let Some((end, _)) = boot("crash", &code, LONG) else {
        return;
    };
    assert_eq!(end.outcome, Outcome::NoReport);
    assert_ne!(end.outcome.exit_code(), 0);
}
