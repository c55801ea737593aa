//! The crate graph: each crate of the workspace, and which others it may use.
//!
//! ```text
//!   bootstrap   file-pager   demo, bench, the suites         guest programs
//!       |           |  pagers, virtio, guest-test, file-store   their libraries
//!       +-----------+-------+------+
//!   vm-server ------------> ipc                            task runtime
//!   vm-core ------------> ipc-protocol                     the messages
//!                         ipc-abi                          kernel and task
//!   microkernel -> kernel-core, ipc-abi, bootimg
//! ```
//!
//! Only normal dependencies count; a test may use what it likes.

use std::collections::BTreeSet;
use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};
use serde_json::Value;

/// What a task and its libraries may use of the system's own crates.
const RUNTIME: [&str; 3] = ["ipc", "ipc-abi", "ipc-protocol"];

/// A crate, what it may use beside [`RUNTIME`] or without it.
struct Rule {
    name: &'static str,
    runtime: bool,
    others: &'static [&'static str],
}

const fn task(name: &'static str, others: &'static [&'static str]) -> Rule {
    Rule {
        name,
        runtime: true,
        others,
    }
}

const fn only(name: &'static str, others: &'static [&'static str]) -> Rule {
    Rule {
        name,
        runtime: false,
        others,
    }
}

const RULES: [Rule; 27] = [
    only("ipc-abi", &[]),
    only("ipc-protocol", &["ipc-abi"]),
    only("ipc", &["ipc-abi", "ipc-protocol"]),
    only("kernel-core", &["ipc-abi"]),
    only("microkernel", &["kernel-core", "ipc-abi", "bootimg"]),
    only("vm-core", &["ipc-abi", "ipc-protocol"]),
    task("vm-server", &["vm-core", "bootimg"]),
    only("bootimg", &[]),
    task("bootstrap", &["bootimg"]),
    task("pagers", &[]),
    task("virtio", &[]),
    only("file-store", &[]),
    task("file-pager", &["pagers", "virtio", "file-store"]),
    task("guest-test", &[]),
    task("demo", &["pagers"]),
    task("conformance", &["guest-test", "pagers"]),
    task("hostile", &["guest-test"]),
    task("devices", &["guest-test", "virtio"]),
    task("nested", &["guest-test", "pagers"]),
    task("bench", &["guest-test", "pagers"]),
    only("random", &[]),
    only("sim", &["vm-core", "ipc-abi", "ipc-protocol", "random"]),
    only("model", &["kernel-core", "ipc-abi", "random"]),
    only("cases", &["ipc-abi", "ipc-protocol", "random"]),
    task("mach-cases", &["guest-test", "cases"]),
    only("xtask", &["bootimg", "ipc-abi", "ipc-protocol"]),
    only("harness", &["xtask"]),
];

impl Rule {
    fn allows(&self, name: &str) -> bool {
        self.others.contains(&name) || self.runtime && RUNTIME.contains(&name)
    }
}

/// Compares the workspace's crates with the picture.
///
/// # Errors
/// Each dependency that the picture does not have, and each crate that it does not know.
pub(crate) fn check(root: &Path) -> Result<()> {
    let output = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()))
        .args(["metadata", "--no-deps", "--format-version", "1"])
        .current_dir(root)
        .stdin(Stdio::null())
        .stderr(Stdio::inherit())
        .output()
        .context("cargo metadata")?;
    let metadata: Value = serde_json::from_slice(&output.stdout).context("cargo metadata")?;
    let faults = faults(&metadata)?;
    for fault in &faults {
        eprintln!("{fault}");
    }
    if faults.is_empty() {
        Ok(())
    } else {
        bail!("{} faults", faults.len())
    }
}

fn faults(metadata: &Value) -> Result<Vec<String>> {
    let packages = metadata["packages"]
        .as_array()
        .context("cargo metadata names no packages")?;
    let name = |package: &Value| package["name"].as_str().unwrap_or_default().to_owned();
    let members: BTreeSet<String> = packages.iter().map(name).collect();
    let mut faults = Vec::new();
    for package in packages {
        let user = name(package);
        let Some(rule) = RULES.iter().find(|rule| rule.name == user) else {
            faults.push(format!(
                "crate `{user}` is not in the picture; add it to xtask/src/layers.rs"
            ));
            continue;
        };
        let dependencies = package["dependencies"]
            .as_array()
            .map_or(&[][..], Vec::as_slice);
        for used in dependencies
            .iter()
            .filter(|entry| entry["kind"].is_null())
            .map(name)
        {
            if members.contains(&used) && !rule.allows(&used) {
                faults.push(format!(
                    "crate `{user}` may not use `{used}` (see xtask/src/layers.rs)"
                ));
            }
        }
    }
    Ok(faults)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn package(name: &str, uses: &[(&str, Value)]) -> Value {
        let dependencies: Vec<Value> = uses
            .iter()
            .map(|(name, kind)| json!({ "name": name, "kind": kind }))
            .collect();
        json!({ "name": name, "dependencies": dependencies })
    }

    #[test]
    fn an_arrow_that_points_up_is_a_fault() {
        let metadata = json!({ "packages": [
            package("ipc-abi", &[("ipc", Value::Null)]),
            package("ipc", &[("ipc-abi", Value::Null), ("spin", Value::Null)]),
        ] });
        assert_eq!(
            faults(&metadata).unwrap(),
            ["crate `ipc-abi` may not use `ipc` (see xtask/src/layers.rs)"]
        );
    }

    #[test]
    fn tests_may_use_what_they_like_and_new_crates_are_named() {
        let metadata = json!({ "packages": [
            package("ipc-abi", &[("vm-core", json!("dev"))]),
            package("vm-core", &[]),
            package("novel", &[]),
        ] });
        let faults = faults(&metadata).unwrap();
        assert_eq!(faults.len(), 1);
        assert!(faults[0].contains("`novel` is not in the picture"));
    }

    #[test]
    fn the_pure_crates_know_nothing_of_traps() {
        for name in [
            "ipc-abi",
            "ipc-protocol",
            "kernel-core",
            "vm-core",
            "bootimg",
        ] {
            let rule = RULES.iter().find(|rule| rule.name == name).unwrap();
            assert!(!rule.allows("ipc") && !rule.allows("microkernel"), "{name}");
        }
    }
}
