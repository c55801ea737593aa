//! What is asked of every source file, and cargo does not ask.
//!
//! - It opens with `//!`.
//! - It has at most 700 lines; from 500 on there is a warning.
//! - It has `unsafe` only if `docs/unsafe.md` lists it, by its path in backticks. A file that is
//!   listed and has none is a fault as well: the list tells where to look, and must not grow stale.
//!   (That each block has its SAFETY comment is checked by clippy.)
//! - The crates that are pure say `#![forbid(unsafe_code)]`.
//!
//! Whether a file has `unsafe` is asked of its code, without comments and literals.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

/// A file may not have more lines than this.
const MOST_LINES: usize = 700;
/// A file with more lines than this is pointed out.
const MANY_LINES: usize = 500;

/// The list of files that may have `unsafe`, from the root of the workspace.
const INVENTORY: &str = "docs/unsafe.md";

/// Folders with the crates that hold state and decide, and touch no hardware.
const PURE: [&str; 5] = [
    "ipc/abi",
    "ipc/protocol",
    "microkernel/core",
    "vm-server/core",
    "bootimg",
];

/// Checks all files of the workspace.
///
/// # Errors
/// The number of faults; each has been shown.
pub(crate) fn check(root: &Path) -> Result<()> {
    let mut faults = Vec::new();
    let inventory = match fs::read_to_string(root.join(INVENTORY)) {
        Ok(text) => listed(&text),
        Err(error) => {
            faults.push(format!("{INVENTORY}: cannot be read: {error}"));
            BTreeSet::new()
        }
    };
    let mut with_unsafe = BTreeSet::new();
    for path in sources(root)? {
        let name = path
            .strip_prefix(root)
            .unwrap_or(&path)
            .display()
            .to_string();
        let text = fs::read_to_string(&path).with_context(|| name.clone())?;
        faults.extend(check_file(&name, &text));
        if has_unsafe(&text) {
            if !inventory.contains(&name) {
                faults.push(format!(
                    "{name}: has `unsafe`, and {INVENTORY} does not list it"
                ));
            }
            with_unsafe.insert(name);
        }
    }
    for name in inventory.difference(&with_unsafe) {
        faults.push(format!(
            "{INVENTORY}: lists `{name}`, which has no `unsafe`"
        ));
    }
    for folder in PURE {
        let name = format!("{folder}/src/lib.rs");
        let text = fs::read_to_string(root.join(&name)).with_context(|| name.clone())?;
        if !text.contains("#![forbid(unsafe_code)]") {
            faults.push(format!(
                "{name}: a pure crate says `#![forbid(unsafe_code)]`"
            ));
        }
    }
    for fault in &faults {
        eprintln!("{fault}");
    }
    if faults.is_empty() {
        Ok(())
    } else {
        bail!("{} faults", faults.len())
    }
}

fn check_file(name: &str, text: &str) -> Vec<String> {
    let mut faults = Vec::new();
    if !text.starts_with("//!") {
        faults.push(format!(
            "{name}: does not open with `//!`: one line of what it is"
        ));
    }
    let lines = text.lines().count();
    if lines > MOST_LINES {
        faults.push(format!("{name}: {lines} lines; the most is {MOST_LINES}"));
    } else if lines > MANY_LINES {
        eprintln!("warning: {name}: {lines} lines");
    }
    faults
}

/// All Rust files below `root`, but for what builds have made.
fn sources(root: &Path) -> Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    let mut folders = vec![root.to_path_buf()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).with_context(|| folder.display().to_string())? {
            let path = entry?.path();
            let name = path
                .file_name()
                .unwrap_or_default()
                .to_string_lossy()
                .into_owned();
            if path.is_dir() {
                // A cache of builds says so by this file, wherever it is.
                if !name.starts_with('.') && !path.join("CACHEDIR.TAG").exists() {
                    folders.push(path);
                }
            } else if name.ends_with(".rs") {
                found.push(path);
            }
        }
    }
    found.sort();
    Ok(found)
}

/// The paths in backticks that name Rust files.
fn listed(text: &str) -> BTreeSet<String> {
    let quoted = text.split('`').skip(1).step_by(2);
    quoted
        .filter(|word| word.ends_with(".rs") && word.contains('/'))
        .map(str::to_owned)
        .collect()
}

fn has_unsafe(text: &str) -> bool {
    let is_part = |c: char| c.is_alphanumeric() || c == '_';
    code(text)
        .split(|c| !is_part(c))
        .any(|word| word == "unsafe")
}

/// The text without comments and without the contents of literals.
fn code(text: &str) -> String {
    let mut code = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(c) = rest.chars().next() {
        let length = skipped(rest);
        if length > 0 {
            code.push(' ');
            rest = rest.get(length..).unwrap_or_default();
        } else {
            code.push(c);
            rest = rest.get(c.len_utf8()..).unwrap_or_default();
        }
    }
    code
}

/// Bytes of the comment or literal that starts here; 0 if none does.
fn skipped(text: &str) -> usize {
    if text.starts_with("//") {
        return text.find('\n').unwrap_or(text.len());
    }
    if text.starts_with("/*") {
        return block_comment(text);
    }
    if text.starts_with("r\"") || text.starts_with("r#") {
        return raw_string(text);
    }
    if text.starts_with('"') {
        return quoted(text, '"');
    }
    // A quote starts a character, unless it starts a lifetime.
    let mut chars = text.chars();
    match (chars.next(), chars.next(), chars.next()) {
        (Some('\''), Some('\\'), _) => quoted(text, '\''),
        (Some('\''), Some(c), Some('\'')) => c.len_utf8() + 2,
        _ => 0,
    }
}

fn block_comment(text: &str) -> usize {
    let mut depth = 0usize;
    let mut at = 0;
    while let Some(rest) = text.get(at..).filter(|rest| !rest.is_empty()) {
        if rest.starts_with("/*") {
            depth += 1;
            at += 2;
        } else if rest.starts_with("*/") {
            depth -= 1;
            at += 2;
            if depth == 0 {
                return at;
            }
        } else {
            at += rest.chars().next().map_or(1, char::len_utf8);
        }
    }
    text.len()
}

fn raw_string(text: &str) -> usize {
    let hashes = text.chars().skip(1).take_while(|c| *c == '#').count();
    let open = 1 + hashes;
    if !text.get(open..).is_some_and(|rest| rest.starts_with('"')) {
        return 0;
    }
    let close = format!("\"{}", "#".repeat(hashes));
    let body = text.get(open + 1..).unwrap_or_default();
    body.find(&close)
        .map_or(text.len(), |at| open + 1 + at + close.len())
}

fn quoted(text: &str, end: char) -> usize {
    let mut escaped = false;
    for (at, c) in text.char_indices().skip(1) {
        match c {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            _ if c == end => return at + c.len_utf8(),
            _ => {}
        }
    }
    text.len()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unsafe_in_code_is_found_in_each_form() {
        for text in [
            "fn f() { unsafe { g() } }",
            "unsafe impl Send for X {}",
            "#[unsafe(naked)] fn f() {}",
            "fn f<'a>(c: char) -> &'a u8 { if c == '\"' { unsafe { g() } } }",
            "let x = 'u'; let y = '\\''; unsafe {}",
            "let r = r#\" \" \"#; unsafe {}",
        ] {
            assert!(has_unsafe(text), "{text}");
        }
    }

    #[test]
    fn unsafe_in_words_comments_and_literals_is_none() {
        for text in [
            "#![forbid(unsafe_code)]",
            "// unsafe {}\n/// unsafe\n/* unsafe /* unsafe */ unsafe */",
            "let s = \"unsafe \\\" unsafe\";",
            "let s = r#\"unsafe \" unsafe\"#;",
            "deny(unsafe_op_in_unsafe_fn)",
        ] {
            assert!(!has_unsafe(text), "{text}");
        }
    }

    #[test]
    fn the_inventory_is_the_paths_in_backticks() {
        let text = "| `ipc/src/trap.rs` | `syscall` |\n`main.rs` and `a/b.rs`";
        let expected = ["a/b.rs", "ipc/src/trap.rs"].map(str::to_owned);
        assert_eq!(listed(text), BTreeSet::from(expected));
    }

    #[test]
    fn openings_and_lengths_are_checked() {
        assert!(check_file("a.rs", "//! A file.\n").is_empty());
        assert_eq!(check_file("a.rs", "fn f() {}\n").len(), 1);
        let long = format!("//! Long.\n{}", "\n".repeat(MOST_LINES));
        assert_eq!(check_file("a.rs", &long).len(), 1);
    }
}
