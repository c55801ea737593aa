//! A crate from outside this repository that joins the boot image: `--module PATH[:ARG,...]`.
//!
//! It is a client unless its Cargo.toml says something else:
//!
//! ```toml
//! [package.metadata.pagoda]
//! level = "pager"         # or "client", or "module": started only when a task asks for it
//! rights = ["device"]     # or "host"; none if the line is not there
//! ```

use std::env;
use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, anyhow, bail};
use bootimg::{Level, Rights};
use serde_json::Value;

use crate::build::{self, Program};

/// Where such a crate lies, and the arguments of its task.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Module {
    /// Its folder.
    pub folder: PathBuf,
    /// Its arguments.
    pub args: Vec<String>,
}

/// What a crate says of its task.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    /// When it starts.
    pub level: Level,
    /// What it may do beyond an ordinary task.
    pub rights: Rights,
}

impl std::str::FromStr for Module {
    type Err = String;

    /// Reads `PATH[:ARG,...]`. A path with a colon can be given if it exists as it is written.
    fn from_str(text: &str) -> Result<Self, String> {
        let whole = Path::new(text);
        let (folder, args) = match text.split_once(':') {
            Some((folder, args)) if !whole.exists() => (Path::new(folder), args),
            _ => (whole, ""),
        };
        if folder.as_os_str().is_empty() {
            return Err("expected PATH[:ARG,...]".to_owned());
        }
        let args = args
            .split(',')
            .filter(|arg| !arg.is_empty())
            .map(str::to_owned)
            .collect();
        Ok(Self {
            folder: folder.to_path_buf(),
            args,
        })
    }
}

impl Module {
    /// Builds the crate.
    ///
    /// # Errors
    /// One line that names the folder and what to do: it is missing, unreadable or no crate, says
    /// something unknown of its task, does not compile, or has no program or more than one.
    pub fn build(&self) -> Result<(Program, Place)> {
        let shown = self.folder.display();
        let manifest =
            manifest(&self.folder).map_err(|error| anyhow!("--module {shown}: {error}"))?;
        let place = place_of(&manifest).map_err(|error| anyhow!("--module {shown}: {error:#}"))?;
        eprintln!("Building {shown} ...");
        let program =
            build::outside(&manifest).map_err(|error| anyhow!("--module {shown}: {error}"))?;
        Ok((program, place))
    }
}

/// The absolute path of the crate's Cargo.toml.
fn manifest(folder: &Path) -> Result<PathBuf> {
    const MAKE_ONE: &str = "`cargo xtask new-task NAME` makes one";
    let meta = fs::metadata(folder).map_err(|error| match error.kind() {
        ErrorKind::NotFound => anyhow!("no such folder; {MAKE_ONE}"),
        _ => anyhow!("cannot be read ({error}); check its permissions"),
    })?;
    if !meta.is_dir() {
        bail!("not a folder; give the folder with the crate's Cargo.toml");
    }
    let path = folder.join("Cargo.toml");
    match fs::read(&path) {
        Ok(_) => Ok(std::path::absolute(&path)?),
        Err(error) if error.kind() == ErrorKind::NotFound => {
            bail!("not a crate: there is no Cargo.toml; {MAKE_ONE}")
        }
        Err(error) => bail!("Cargo.toml cannot be read ({error}); check its permissions"),
    }
}

/// What the crate says of its task.
fn place_of(manifest: &Path) -> Result<Place> {
    let output = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()))
        .args([
            "metadata",
            "--no-deps",
            "--format-version",
            "1",
            "--manifest-path",
        ])
        .arg(manifest)
        .stdin(Stdio::null())
        .stderr(Stdio::inherit())
        .output()
        .context("cargo cannot be started; is Rust installed?")?;
    if !output.status.success() {
        bail!("not a crate that cargo can read (see above); mend its Cargo.toml");
    }
    let metadata: Value = serde_json::from_slice(&output.stdout).context("cargo metadata")?;
    let packages = metadata["packages"]
        .as_array()
        .map_or(&[][..], Vec::as_slice);
    let same = |path: &str| fs::canonicalize(path).ok() == fs::canonicalize(manifest).ok();
    let own = packages
        .iter()
        .find(|package| package["manifest_path"].as_str().is_some_and(same));
    let package = own.context("a workspace without a package; give the folder of one package")?;
    read_place(&package["metadata"]["pagoda"])
}

fn read_place(said: &Value) -> Result<Place> {
    const WHERE: &str = "in [package.metadata.pagoda]";
    let level = match &said["level"] {
        Value::Null => Level::Client,
        other => [Level::Pager, Level::Client, Level::Module]
            .into_iter()
            .find(|level| other == level.name())
            .with_context(|| {
                format!("level = {other} {WHERE}: expected pager, client or module")
            })?,
    };
    let mut rights = Rights::default();
    let none = Vec::new();
    let words = match &said["rights"] {
        Value::Null => &none,
        other => other
            .as_array()
            .with_context(|| format!("rights = {other} {WHERE}: expected a list"))?,
    };
    for word in words {
        match word.as_str() {
            Some("host") => rights.host = true,
            Some("device") => rights.device = true,
            _ => bail!("right {word} {WHERE}: expected host or device"),
        }
    }
    Ok(Place { level, rights })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_module_has_arguments_after_the_colon() {
        let module: Module = "/tmp/none/hello:one,two words".parse().unwrap();
        assert_eq!(module.folder, Path::new("/tmp/none/hello"));
        assert_eq!(module.args, ["one", "two words"]);
        let bare: Module = "/tmp/none/hello".parse().unwrap();
        assert!(bare.args.is_empty());
        assert!(":a".parse::<Module>().is_err());
    }

    #[test]
    fn what_is_missing_or_no_crate_is_refused_with_a_remedy() {
        let refused = |folder: &str| manifest(Path::new(folder)).unwrap_err().to_string();
        assert!(refused("/no/such/folder").contains("no such folder; `cargo xtask new-task"));
        assert!(refused("/proc/version").contains("not a folder"));
        assert!(refused("/proc").contains("not a crate"));
    }

    #[test]
    fn a_crate_is_a_client_unless_it_says_otherwise() {
        let plain = Place {
            level: Level::Client,
            rights: Rights::default(),
        };
        assert_eq!(read_place(&Value::Null).unwrap(), plain);
        let said = json!({ "level": "pager", "rights": ["device"] });
        let driver = Rights {
            host: false,
            device: true,
        };
        assert_eq!(
            read_place(&said).unwrap(),
            Place {
                level: Level::Pager,
                rights: driver
            }
        );
    }

    #[test]
    fn unknown_levels_and_rights_are_named() {
        let refused = |said: Value| read_place(&said).unwrap_err().to_string();
        assert!(refused(json!({ "level": "server" })).contains("level = \"server\""));
        assert!(refused(json!({ "rights": "device" })).contains("expected a list"));
        assert!(refused(json!({ "rights": ["root"] })).contains("right \"root\""));
    }
}
