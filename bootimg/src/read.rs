//! Finds the files of an image.
//!
//! [`Image::parse`] checks the archive once, whole; after that, looking a file up cannot fail but
//! for its absence. The archive format itself is read by `tar-no-std`, which checks block lengths
//! and checksums; what a boot image must not contain (directories, links, long or repeated names)
//! is refused here, because a name that could mean two files would be a way to be misunderstood.

use core::fmt;
use core::iter::FusedIterator;

use tar_no_std::{ArchiveHeaderIterator, CorruptDataError, PosixHeader, TarArchiveRef};

use crate::manifest::{Manifest, ManifestError, ManifestProblem};

/// Name of the file in the image that says what to start.
pub const MANIFEST_FILE: &str = "manifest";

/// Most files of an image.
pub const MAX_FILES: usize = 128;

/// Bytes in a block of the archive: headers fill one, contents start on one.
const BLOCK: usize = 512;

/// Why an image is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ImageError<'a> {
    /// The bytes are no complete tar archive.
    Archive(CorruptDataError),
    /// The entry whose header is block `block` is no regular file.
    NotAFile {
        /// Index of its header, in blocks of 512 bytes.
        block: usize,
    },
    /// The name of an entry is empty, not UTF-8, or longer than 100 bytes.
    BadName {
        /// Index of its header, in blocks of 512 bytes.
        block: usize,
    },
    /// An entry's contents do not lie inside the archive.
    BadLength {
        /// Name of the entry.
        file: &'a str,
    },
    /// There are more than [`MAX_FILES`] files.
    TooManyFiles,
    /// Two files have one name.
    Duplicate {
        /// The name.
        file: &'a str,
    },
    /// There is no file `manifest`.
    NoManifest,
    /// The manifest is malformed.
    Manifest(ManifestError<'a>),
    /// A task of the manifest names a file that the image does not have.
    MissingFile {
        /// The task.
        task: &'a str,
        /// The file that it names.
        file: &'a str,
    },
}

impl fmt::Display for ImageError<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Archive(error) => write!(f, "boot image: no complete tar archive: {error}"),
            Self::NotAFile { block } => {
                write!(
                    f,
                    "boot image: the entry at block {block} is no regular file"
                )
            }
            Self::BadName { block } => write!(
                f,
                "boot image: the entry at block {block} has no usable name (UTF-8, 1 to 100 bytes)"
            ),
            Self::BadLength { file } => {
                write!(
                    f,
                    "boot image: the length of `{file}` runs past the archive"
                )
            }
            Self::TooManyFiles => write!(f, "boot image: more than {MAX_FILES} files"),
            Self::Duplicate { file } => write!(f, "boot image: `{file}` is there twice"),
            Self::NoManifest => write!(f, "boot image: the file `{MANIFEST_FILE}` is missing"),
            Self::Manifest(error) => write!(f, "boot image: {error}"),
            Self::MissingFile { task, file } => {
                write!(
                    f,
                    "boot image: task `{task}` names `{file}`, which is not in the image"
                )
            }
        }
    }
}

impl core::error::Error for ImageError<'_> {}

impl<'a> From<ManifestError<'a>> for ImageError<'a> {
    fn from(error: ManifestError<'a>) -> Self {
        Self::Manifest(error)
    }
}

/// An archive that has been checked from end to end.
#[derive(Clone, Debug)]
pub struct Image<'a> {
    bytes: &'a [u8],
    archive: TarArchiveRef<'a>,
}

/// One file of an image.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct File<'a> {
    /// Its name, unique in the image.
    pub name: &'a str,
    /// Where its contents start, in bytes from the start of the image; a multiple of 512.
    pub offset: usize,
    /// Its contents.
    pub data: &'a [u8],
}

impl<'a> Image<'a> {
    /// Checks that `bytes` are an archive of regular files, each with a name of its own.
    ///
    /// Whether a manifest is there is asked by [`Image::manifest`].
    ///
    /// # Errors
    /// In this order, the first that is met from the start of the archive: [`ImageError::Archive`]
    /// for the archive as a whole; then for each entry `NotAFile`, `BadName`, `BadLength`; last
    /// `TooManyFiles` and `Duplicate`.
    pub fn parse(bytes: &'a [u8]) -> Result<Self, ImageError<'a>> {
        let archive = TarArchiveRef::new(bytes).map_err(ImageError::Archive)?;
        for (block, header) in archive.headers() {
            read_entry(bytes, block, header)?;
        }
        let image = Self { bytes, archive };
        if image.files().count() > MAX_FILES {
            return Err(ImageError::TooManyFiles);
        }
        match image.repeated_name() {
            Some(file) => Err(ImageError::Duplicate { file }),
            None => Ok(image),
        }
    }

    /// Iterates over the files in the order of the archive.
    #[must_use]
    pub fn files(&self) -> Files<'a> {
        Files {
            bytes: self.bytes,
            headers: self.archive.headers(),
        }
    }

    /// Returns the file called `name`.
    #[must_use]
    pub fn find(&self, name: &str) -> Option<File<'a>> {
        self.files().find(|file| file.name == name)
    }

    /// Returns the contents of the file called `name`.
    #[must_use]
    pub fn file(&self, name: &str) -> Option<&'a [u8]> {
        self.find(name).map(|file| file.data)
    }

    /// Reads the manifest, and checks that each file that it names is in the image.
    ///
    /// # Errors
    /// In this order: [`ImageError::NoManifest`], [`ImageError::Manifest`],
    /// [`ImageError::MissingFile`].
    pub fn manifest(&self) -> Result<Manifest<'a>, ImageError<'a>> {
        let bytes = self.file(MANIFEST_FILE).ok_or(ImageError::NoManifest)?;
        let text = core::str::from_utf8(bytes).map_err(|_| ManifestError {
            line: 0,
            problem: ManifestProblem::NotText,
        })?;
        let manifest = Manifest::parse(text)?;
        for task in manifest.tasks() {
            if self.find(task.file).is_none() {
                return Err(ImageError::MissingFile {
                    task: task.name,
                    file: task.file,
                });
            }
        }
        Ok(manifest)
    }

    fn repeated_name(&self) -> Option<&'a str> {
        let repeats = |(index, file): &(usize, File<'a>)| {
            self.files()
                .take(*index)
                .any(|other| other.name == file.name)
        };
        self.files()
            .enumerate()
            .find(repeats)
            .map(|(_, file)| file.name)
    }
}

/// Iterates over the files of an image; made by [`Image::files`].
#[derive(Debug)]
pub struct Files<'a> {
    bytes: &'a [u8],
    headers: ArchiveHeaderIterator<'a>,
}

impl<'a> Iterator for Files<'a> {
    type Item = File<'a>;

    fn next(&mut self) -> Option<File<'a>> {
        let (block, header) = self.headers.next()?;
        // `Image::parse` has read each entry once; none can fail the second time.
        read_entry(self.bytes, block, header).ok()
    }
}

impl FusedIterator for Files<'_> {}

fn read_entry<'a>(
    bytes: &'a [u8],
    block: usize,
    header: &'a PosixHeader,
) -> Result<File<'a>, ImageError<'a>> {
    let is_file = header
        .typeflag
        .try_to_type_flag()
        .is_ok_and(|flag| flag.is_regular_file());
    if !is_file {
        return Err(ImageError::NotAFile { block });
    }
    let name = match header.name.as_str() {
        // A prefix would make the name longer than the header's own field.
        Ok(name) if !name.is_empty() && header.prefix.is_empty() => name,
        _ => return Err(ImageError::BadName { block }),
    };
    let contents = || -> Option<(usize, &'a [u8])> {
        let length = header.size.as_number::<usize>().ok()?;
        let offset = block.checked_add(1)?.checked_mul(BLOCK)?;
        Some((offset, bytes.get(offset..offset.checked_add(length)?)?))
    };
    let (offset, data) = contents().ok_or(ImageError::BadLength { file: name })?;
    Ok(File { name, offset, data })
}
