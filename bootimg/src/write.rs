//! Builds an image on the host.
//!
//! The same input gives the same bytes: time, owner and mode of every entry are fixed, and the
//! files lie in the order in which they were added, after the manifest. What is built is read
//! back before it is handed out, so that an image that the guest would refuse is refused here.

use std::format;
use std::string::{String, ToString};
use std::vec::Vec;

use core::fmt;

use crate::manifest::{Ends, Level, Rights};
use crate::read::{Image, MANIFEST_FILE};

/// One task to be named in a manifest.
#[derive(Clone, Debug)]
pub struct TaskSpec {
    /// Its name.
    pub name: String,
    /// Name of its ELF file in the image.
    pub file: String,
    /// When it starts.
    pub level: Level,
    /// What it may do beyond an ordinary task.
    pub rights: Rights,
    /// Whether all its memory is wired.
    pub resident: bool,
    /// KiB of the kernel's memory that it may use, if that is not the usual.
    pub quota: Option<u64>,
    /// How often it is started again.
    pub restart: u32,
    /// Its arguments.
    pub args: Vec<String>,
}

impl TaskSpec {
    /// A task `name` of this level, from the file `NAME.elf`, without arguments or rights.
    #[must_use]
    pub fn new(name: &str, level: Level) -> Self {
        Self {
            name: name.to_string(),
            file: format!("{name}.elf"),
            level,
            rights: Rights::default(),
            resident: false,
            quota: None,
            restart: 0,
            args: Vec::new(),
        }
    }
}

/// What a manifest is to say.
#[derive(Clone, Debug, Default)]
pub struct ManifestSpec {
    /// What ends the run.
    pub ends: Ends,
    /// Keys and values.
    pub options: Vec<(String, String)>,
    /// The tasks, in the order in which they start.
    pub tasks: Vec<TaskSpec>,
}

impl fmt::Display for ManifestSpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "pagoda 1\nends {}", self.ends.name())?;
        for (key, value) in &self.options {
            writeln!(f, "option {key}={value}")?;
        }
        for task in &self.tasks {
            write!(
                f,
                "task {} file={} level={}",
                task.name,
                task.file,
                task.level.name()
            )?;
            match task.rights {
                Rights {
                    host: true,
                    device: true,
                } => write!(f, " rights=host,device")?,
                Rights {
                    host: true,
                    device: false,
                } => write!(f, " rights=host")?,
                Rights {
                    host: false,
                    device: true,
                } => write!(f, " rights=device")?,
                Rights {
                    host: false,
                    device: false,
                } => {}
            }
            if let Some(kib) = task.quota {
                write!(f, " quota={kib}K")?;
            }
            if task.restart > 0 {
                write!(f, " restart={}", task.restart)?;
            }
            writeln!(f, "{}", if task.resident { " resident" } else { "" })?;
            for arg in &task.args {
                writeln!(f, "arg {arg}")?;
            }
        }
        Ok(())
    }
}

/// Why an image cannot be built; the text names the file, task or line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WriteError(String);

impl fmt::Display for WriteError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl core::error::Error for WriteError {}

/// An image in the making.
#[derive(Clone, Debug, Default)]
pub struct ImageBuilder {
    files: Vec<(String, Vec<u8>)>,
}

impl ImageBuilder {
    /// An image with no file.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a file.
    pub fn file(&mut self, name: &str, data: Vec<u8>) -> &mut Self {
        self.files.push((name.to_string(), data));
        self
    }

    /// Puts `manifest` in front and makes the archive.
    ///
    /// # Errors
    /// What the reader would say to the image: a repeated or unusable name, a manifest that says
    /// something else than was meant (a line break in an argument), or one that names a file that
    /// was not added.
    pub fn build(&self, manifest: &ManifestSpec) -> Result<Vec<u8>, WriteError> {
        let refused = |error: &dyn fmt::Display| WriteError(error.to_string());
        let text = manifest.to_string();
        let mut archive = tar::Builder::new(Vec::new());
        append(&mut archive, MANIFEST_FILE, text.as_bytes())?;
        for (name, data) in &self.files {
            append(&mut archive, name, data)?;
        }
        let bytes = archive.into_inner().map_err(|error| refused(&error))?;
        let image = Image::parse(&bytes).map_err(|error| refused(&error))?;
        let read = image.manifest().map_err(|error| refused(&error))?;
        check_args(manifest, &read)?;
        Ok(bytes)
    }
}

fn append(archive: &mut tar::Builder<Vec<u8>>, name: &str, data: &[u8]) -> Result<(), WriteError> {
    let refused = |error: std::io::Error| WriteError(format!("boot image: `{name}`: {error}"));
    let mut header = tar::Header::new_ustar();
    header.set_path(name).map_err(refused)?;
    header.set_size(data.len() as u64);
    header.set_mode(0o644);
    header.set_mtime(0);
    header.set_uid(0);
    header.set_gid(0);
    header.set_cksum();
    archive.append(&header, data).map_err(refused)
}

/// An argument with a line break would be read as something else; nothing else can differ.
fn check_args(spec: &ManifestSpec, read: &crate::Manifest<'_>) -> Result<(), WriteError> {
    for task in &spec.tasks {
        let same = read
            .task(&task.name)
            .is_some_and(|found| found.args().eq(task.args.iter()));
        if !same {
            return Err(WriteError(format!(
                "boot image: an argument of task `{}` has a line break",
                task.name
            )));
        }
    }
    Ok(())
}
