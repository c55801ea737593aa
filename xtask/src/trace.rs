//! The trace of a run: from the kernel's records to one JSON object a line.
//!
//! The kernel writes fixed-size records (`ipc_abi::trace`) to the debug console, and QEMU puts
//! them into a file. What a record's fields mean depends on its kind, so that each kind has names
//! of its own for them here:
//!
//! | kind | fields |
//! |---|---|
//! | `trap` | `number`, `rax`, `rdi` |
//! | `trap_end` | `rax`, `rdi` |
//! | `fault` | `access`, `address`, `ip` |
//! | `fault_end` | `code` |
//! | `message` | `info`, `to` (thread) |
//! | `queued` | `info`, `port` |
//! | `switch` | `to` (thread), `task` |
//! | `exception` | `exception`, `code`, `subcode` |
//! | `interrupt` | `vector` |
//!
//! Every object has `time` (time stamp counter: instructions, unless the run was made with
//! `--no-icount`), `thread` and `kind` as well. Addresses are hexadecimal strings, all else are
//! numbers.

use std::fs::{self, File};
use std::io::{BufReader, BufWriter, ErrorKind, Read, Write};
use std::path::Path;

use anyhow::{Context, Result};
use ipc_abi::trace::{Kind, RECORD_SIZE, Record};
use serde_json::{Map, Value, json};

/// Makes sure that the trace can be written to `target`, before the run that it is of.
///
/// # Errors
/// The file cannot be made.
pub fn check_target(target: &Path) -> Result<()> {
    fs::OpenOptions::new()
        .create(true)
        .append(true)
        .open(target)
        .with_context(|| format!("--trace {}: cannot be written", target.display()))?;
    Ok(())
}

/// Writes the records of the file `raw` to `target`, one JSON object a line.
///
/// # Errors
/// A file cannot be read or written. A record of unknown kind is no error: its line says so.
pub fn convert(raw: &Path, target: &Path) -> Result<()> {
    let from = File::open(raw).with_context(|| format!("no trace in {}", raw.display()))?;
    let to = File::create(target)
        .with_context(|| format!("--trace {}: cannot be written", target.display()))?;
    let count = convert_stream(BufReader::new(from), BufWriter::new(to))?;
    eprintln!("{count} events in {}", target.display());
    Ok(())
}

fn convert_stream(mut from: impl Read, mut to: impl Write) -> Result<u64> {
    let mut count = 0;
    let mut bytes = [0; RECORD_SIZE];
    loop {
        match from.read_exact(&mut bytes) {
            Ok(()) => writeln!(to, "{}", to_json(bytes))?,
            // A guest that is stopped in the middle of a record leaves a part of one.
            Err(error) if error.kind() == ErrorKind::UnexpectedEof => break,
            Err(error) => return Err(error.into()),
        }
        count += 1;
    }
    to.flush()?;
    Ok(count)
}

fn to_json(bytes: [u8; RECORD_SIZE]) -> Value {
    let Some(record) = Record::from_bytes(bytes) else {
        let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
        return json!({ "kind": "unknown", "bytes": hex });
    };
    let (kind, fields) = describe(&record);
    let mut object = Map::new();
    object.insert("time".into(), record.time.into());
    object.insert("thread".into(), record.thread.into());
    object.insert("kind".into(), kind.into());
    object.extend(
        fields
            .into_iter()
            .map(|(name, value)| (name.to_owned(), value)),
    );
    Value::Object(object)
}

/// The kind's word, and the record's fields under the names that they have for this kind.
fn describe(record: &Record) -> (&'static str, Vec<(&'static str, Value)>) {
    let detail = Value::from(record.detail);
    let (first, second) = (Value::from(record.first), Value::from(record.second));
    let hex = |address: u64| Value::from(format!("{address:#x}"));
    match record.kind {
        Kind::Trap => (
            "trap",
            vec![("number", detail), ("rax", first), ("rdi", second)],
        ),
        Kind::TrapEnd => ("trap_end", vec![("rax", first), ("rdi", second)]),
        Kind::Fault => (
            "fault",
            vec![
                ("access", detail),
                ("address", hex(record.first)),
                ("ip", hex(record.second)),
            ],
        ),
        Kind::FaultEnd => ("fault_end", vec![("code", first)]),
        Kind::Message => ("message", vec![("info", first), ("to", second)]),
        Kind::Queued => ("queued", vec![("info", first), ("port", second)]),
        Kind::Switch => ("switch", vec![("to", first), ("task", second)]),
        Kind::Exception => (
            "exception",
            vec![("exception", detail), ("code", first), ("subcode", second)],
        ),
        Kind::Interrupt => ("interrupt", vec![("vector", detail)]),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(kind: Kind) -> Record {
        Record {
            time: 7,
            kind,
            detail: 2,
            thread: 3,
            first: 0x1000,
            second: 5,
        }
    }

    #[test]
    fn each_record_becomes_one_line_and_a_cut_one_none() {
        let mut raw = record(Kind::Fault).to_bytes().to_vec();
        raw.extend(record(Kind::Switch).to_bytes());
        raw.extend([1, 2, 3]);
        let mut text = Vec::new();
        assert_eq!(convert_stream(raw.as_slice(), &mut text).unwrap(), 2);
        let lines: Vec<Value> = String::from_utf8(text)
            .unwrap()
            .lines()
            .map(|line| serde_json::from_str(line).unwrap())
            .collect();
        assert_eq!(
            lines[0],
            json!({"time": 7, "thread": 3, "kind": "fault", "access": 2, "address": "0x1000", "ip": "0x5"})
        );
        assert_eq!(lines[1]["to"], 0x1000);
    }

    #[test]
    fn an_unknown_record_is_shown_as_it_is() {
        assert_eq!(to_json([0xff; RECORD_SIZE])["kind"], "unknown");
    }
}
