//! `cargo xtask docs`: the reference pages, printed from the tables that the code is made of.
//!
//! `docs/traps.md` comes from the table of traps, `docs/protocols.md` from the catalogue of messages.
//! `cargo xtask check` fails when a page is not what the tables print now.

use std::fmt::Write as _;
use std::fs;
use std::path::Path;

use anyhow::{Context, Result, bail};
use ipc_abi::trap::{Reference, Trap};
use ipc_protocol::CATALOGUES;
use ipc_protocol::define::{Catalogue, Entry, Field, Form, Slot};

use crate::build;

/// A page: where it lies, and how it is printed.
type Page = (&'static str, fn() -> String);

const PAGES: [Page; 2] = [("docs/traps.md", traps), ("docs/protocols.md", protocols)];

/// Registers of the arguments of a trap, in order.
const REGISTERS: [&str; 6] = ["RDI", "RSI", "RDX", "R10", "R8", "R9"];

/// Writes the pages. The result is the status to exit with.
///
/// # Errors
/// A page that cannot be written.
pub fn docs() -> Result<u8> {
    for (name, print) in PAGES {
        let path = build::root().join(name);
        fs::write(&path, print()).with_context(|| format!("cannot write {}", path.display()))?;
        println!("wrote {name}");
    }
    Ok(0)
}

/// Compares the pages with what the tables print.
///
/// # Errors
/// A page that is missing or differs, and how to mend it.
pub(crate) fn check(root: &Path) -> Result<()> {
    let stale: Vec<&str> = PAGES
        .iter()
        .filter(|(name, print)| fs::read_to_string(root.join(name)).ok() != Some(print()))
        .map(|(name, _)| *name)
        .collect();
    if !stale.is_empty() {
        bail!(
            "{} differ from the tables: run `cargo xtask docs`",
            stale.join(", ")
        );
    }
    Ok(())
}

/// The text of a table's entry: its lines without the blank before each.
fn text(lines: &[&str]) -> String {
    let lines: Vec<&str> = lines
        .iter()
        .map(|line| line.strip_prefix(' ').unwrap_or(line))
        .collect();
    lines.join("\n")
}

/// The same on one line, for a table.
fn cell(lines: &[&str]) -> String {
    text(lines).replace('\n', " ").replace('|', "\\|")
}

fn traps() -> String {
    let mut page = String::from(
        "# Traps\n\nPrinted by `cargo xtask docs` from the table in `ipc/abi/src/trap.rs`.\n\n\
         A trap is SYSCALL with its number in the low byte of RAX. The answer has a code in RAX (0:\n\
         success) and up to two words in RDI and RSI. `msg` has its own register use, described in\n\
         `ipc/abi/src/message.rs`.\n",
    );
    for trap in Trap::ALL {
        push_trap(&mut page, *trap as u8, &trap.reference());
    }
    page
}

fn push_trap(page: &mut String, number: u8, trap: &Reference) {
    let arguments: Vec<String> = trap
        .arguments
        .iter()
        .zip(REGISTERS)
        .map(|(name, register)| format!("{name}: {register}"))
        .collect();
    let results: Vec<String> = trap
        .results
        .iter()
        .zip(REGISTERS)
        .map(|(name, register)| format!("{name}: {register}"))
        .collect();
    let arrow = if results.is_empty() {
        String::new()
    } else {
        format!(" -> {}", results.join(", "))
    };
    // Writing to a string cannot fail.
    let _ = write!(
        page,
        "\n## {number} {}\n\n`{}({}){arrow}`\n\n{}\n",
        trap.name,
        trap.name,
        arguments.join(", "),
        text(trap.text),
    );
}

fn protocols() -> String {
    let mut page = String::from(
        "# Protocols\n\nPrinted by `cargo xtask docs` from the tables in `ipc/protocol/src`.\n\n\
         The id of an answer is the request's plus 100, and its first word is a code. A payload *in\n\
         words* has one field in each register word; *in the body* it is encoded by postcard. Any\n\
         message may be sent one way; then there is no answer.\n",
    );
    for catalogue in CATALOGUES {
        push_protocol(&mut page, catalogue);
    }
    page
}

fn push_protocol(page: &mut String, protocol: &Catalogue) {
    let _ = write!(
        page,
        "\n## {}\n\nFrom {} to {}.\n\n{}\n",
        protocol.name,
        protocol.from,
        protocol.to,
        text(protocol.doc)
    );
    for entry in protocol.entries {
        push_message(page, entry);
    }
}

fn push_message(page: &mut String, message: &Entry) {
    let form = match message.form {
        Form::Words => "in words",
        Form::Body => "in the body",
    };
    let _ = write!(
        page,
        "\n### {} {} ({form})\n\n{}\n",
        message.id,
        message.name,
        text(message.doc)
    );
    push_fields(page, "Request", message.fields, message.rights);
    push_fields(page, "Answer", message.reply, message.reply_rights);
}

fn push_fields(page: &mut String, title: &str, fields: &[Field], rights: &[Slot]) {
    if fields.is_empty() && rights.is_empty() {
        return;
    }
    let _ = write!(page, "\n| {title} | type | meaning |\n|---|---|---|\n");
    for field in fields {
        let _ = writeln!(
            page,
            "| `{}` | {} | {} |",
            field.name,
            field.kind,
            cell(field.doc)
        );
    }
    for (slot, right) in rights.iter().enumerate() {
        let _ = writeln!(
            page,
            "| `{}` | right {slot} | {} |",
            right.name,
            cell(right.doc)
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_trap_and_message_is_on_its_page() {
        let page = traps();
        for trap in Trap::ALL {
            assert!(page.contains(&format!("## {} {}\n", *trap as u8, trap.reference().name)));
        }
        let page = protocols();
        for entry in CATALOGUES.iter().flat_map(|protocol| protocol.entries) {
            assert!(page.contains(&format!("### {} {} (", entry.id, entry.name)));
        }
    }
}
