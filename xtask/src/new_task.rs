//! `cargo xtask new-task NAME` and `new-pager NAME`: a crate that works, in the current folder.
//!
//! The crates lie anywhere: they depend on this repository by path, have a workspace of their own
//! (so that a crate below this repository does not look for its place in it), and start with its
//! lock file, so that they are built with the versions that were tested.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

use crate::build;

/// `cargo xtask new-task` and `new-pager`.
#[derive(Clone, Debug, clap::Args)]
pub struct Options {
    /// Name of the task, its crate, and its new folder
    pub name: String,
}

/// What a new crate is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Template {
    /// A client.
    Task,
    /// A pager with generated content.
    Pager,
}

/// A name may not be longer than a manifest allows.
const MAX_NAME: usize = bootimg::MAX_NAME;

/// Names of crates that the new one would depend on or hide.
const TAKEN: [&str; 6] = ["alloc", "core", "ipc", "pagers", "std", "test"];

impl Template {
    /// The files of the crate: path and text.
    fn files(self) -> [(&'static str, &'static str); 2] {
        match self {
            Self::Task => [
                (
                    "Cargo.toml",
                    include_str!("../templates/task/Cargo.toml.in"),
                ),
                ("src/main.rs", include_str!("../templates/task/main.rs")),
            ],
            Self::Pager => [
                (
                    "Cargo.toml",
                    include_str!("../templates/pager/Cargo.toml.in"),
                ),
                ("src/main.rs", include_str!("../templates/pager/main.rs")),
            ],
        }
    }

    /// Writes the crate `name` into a new folder below `parent`; gives the folder.
    ///
    /// # Errors
    /// The name is not usable or taken, or something cannot be written.
    pub fn write(self, name: &str, parent: &Path) -> Result<PathBuf> {
        check_name(name)?;
        let folder = parent.join(name);
        if folder.exists() {
            bail!("{} is there already; choose another name", folder.display());
        }
        let root = build::root();
        // As it is written in a string of TOML.
        let root_text = root
            .display()
            .to_string()
            .replace('\\', r"\\")
            .replace('"', r#"\""#);
        for (path, text) in self.files() {
            let path = folder.join(path);
            let filled = text
                .replace("{{name}}", name)
                .replace("{{root}}", &root_text);
            let parent = path.parent().unwrap_or(&folder);
            fs::create_dir_all(parent)
                .with_context(|| format!("{} cannot be made", parent.display()))?;
            fs::write(&path, filled)
                .with_context(|| format!("{} cannot be written", path.display()))?;
        }
        let lock = folder.join("Cargo.lock");
        fs::copy(root.join("Cargo.lock"), &lock)
            .with_context(|| format!("{} cannot be written", lock.display()))?;
        Ok(folder)
    }
}

/// Carries out `new-task` or `new-pager` in the current folder.
///
/// # Errors
/// The name is not usable or taken, or something cannot be written.
pub fn new(template: Template, options: &Options) -> Result<u8> {
    let folder = template.write(&options.name, &env::current_dir()?)?;
    let shown = folder.display();
    let name = &options.name;
    println!(
        "{shown} is ready. To run it, in {}:",
        build::root().display()
    );
    match template {
        Template::Task => println!("  cargo xtask run --no-demo --module {shown}"),
        Template::Pager => println!(
            "  cargo xtask run --no-demo --module {shown} --module TASK:{name}\n\
             where TASK is the folder of a task that maps it, as `cargo xtask new-task` makes"
        ),
    }
    Ok(0)
}

fn check_name(name: &str) -> Result<()> {
    let allowed = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || matches!(c, '-' | '_');
    let starts_well = name.starts_with(|c: char| c.is_ascii_lowercase());
    if !starts_well || name.len() > MAX_NAME || !name.chars().all(allowed) {
        bail!(
            "`{name}` is no name for a task: a letter, then up to {} of a-z, 0-9, `-`, `_`",
            MAX_NAME - 1
        );
    }
    if TAKEN.contains(&name) {
        bail!("`{name}` is the name of a library; choose another");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_those_of_crates_and_of_tasks() {
        assert!(check_name("my-task2").is_ok());
        for name in [
            "",
            "2x",
            "My",
            "a b",
            "../x",
            "-x",
            &"x".repeat(32),
            "core",
            "ipc",
        ] {
            assert!(check_name(name).is_err(), "{name}");
        }
    }

    #[test]
    fn a_new_crate_is_complete_and_overwrites_nothing() {
        let parent = env::temp_dir().join(format!("pagoda-new-{}", std::process::id()));
        fs::create_dir_all(&parent).unwrap();
        for (template, name) in [(Template::Task, "one"), (Template::Pager, "two")] {
            let folder = template.write(name, &parent).unwrap();
            let manifest = fs::read_to_string(folder.join("Cargo.toml")).unwrap();
            assert!(
                manifest.contains(&format!("name = \"{name}\"")),
                "{manifest}"
            );
            assert!(
                manifest.contains("[workspace]") && !manifest.contains("{{"),
                "{manifest}"
            );
            let main = fs::read_to_string(folder.join("src/main.rs")).unwrap();
            assert!(main.starts_with("//!") && !main.contains("{{"), "{main}");
            assert!(folder.join("Cargo.lock").exists());
            assert!(
                template.write(name, &parent).is_err(),
                "the folder is there already"
            );
        }
        fs::remove_dir_all(&parent).unwrap();
    }
}
