//! Turns an ELF file into a list of segments that are safe to map.
//!
//! A loader that has a [`LoadPlan`] needs no check of its own: segments start on pages, are sorted,
//! share no page, lie inside the bounds, are never writable and executable at once, and one of
//! them holds the entry point. Only static, non-relocatable x86_64 executables are accepted: there
//! is no dynamic linker here, and a file that asks for one would not work.
//!
//! Field numbers and names are those of the ELF specification; the file is decoded by `elf`.

use core::fmt;
use core::ops::Range;

use elf::ElfBytes;
use elf::abi;
use elf::endian::LittleEndian;
use elf::file::{Class, FileHeader};
use elf::parse::ParseError;
use elf::segment::ProgramHeader;

/// Bytes in a page.
pub const PAGE_SIZE: u64 = 4096;

/// Most loadable segments that a file may have.
pub const MAX_SEGMENTS: usize = 8;

/// What a segment's pages may be used for. Reading is always allowed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protection {
    /// Constants.
    Read,
    /// Data.
    ReadWrite,
    /// Code.
    ReadExecute,
}

/// A piece of the file, and where it goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Segment<'a> {
    /// First address; a multiple of [`PAGE_SIZE`].
    pub address: u64,
    /// Bytes in memory, more than 0 and at least `data.len()`. The rest of them, and of the last
    /// page, reads zero.
    pub size: u64,
    /// Number of pages.
    pub pages: u64,
    /// The bytes that the file brings for the start of the segment.
    pub data: &'a [u8],
    /// Where `data` starts in the file, in bytes.
    pub file_offset: u64,
    /// What the pages may be used for.
    pub protection: Protection,
}

impl Segment<'_> {
    const NONE: Self = Segment {
        address: 0,
        size: 0,
        pages: 0,
        data: &[],
        file_offset: 0,
        protection: Protection::Read,
    };

    /// First address after the last page.
    #[must_use]
    pub fn end(&self) -> u64 {
        self.address
            .saturating_add(self.pages.saturating_mul(PAGE_SIZE))
    }
}

/// Why an ELF file is refused. Segments are numbered as in the file's program header table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ElfError {
    /// The file does not start with the ELF magic number.
    NotElf,
    /// A header or table of the file is cut off, or its fields contradict each other.
    Malformed,
    /// The file is not 64 bit, little endian, for x86_64.
    WrongMachine,
    /// The file is not of type `ET_EXEC`: relocatable, position independent, or shared.
    NotStatic,
    /// The file asks for an interpreter, dynamic linking or thread-local storage.
    Unsupported {
        /// Index of the program header that asks.
        segment: usize,
        /// The name of its type.
        what: &'static str,
    },
    /// There is nothing to load.
    NoSegments,
    /// There are more than [`MAX_SEGMENTS`] loadable segments.
    TooManySegments,
    /// A segment does not start on a page.
    Unaligned {
        /// Index of the segment.
        segment: usize,
    },
    /// A segment has fewer bytes in memory than in the file.
    BadSize {
        /// Index of the segment.
        segment: usize,
    },
    /// A segment's bytes do not lie inside the file.
    Truncated {
        /// Index of the segment.
        segment: usize,
    },
    /// A segment may not be read, or has a flag that is not defined.
    BadFlags {
        /// Index of the segment.
        segment: usize,
    },
    /// A segment is writable and executable.
    WritableCode {
        /// Index of the segment.
        segment: usize,
    },
    /// A segment does not lie inside the addresses that a task may use.
    OutOfBounds {
        /// Index of the segment.
        segment: usize,
    },
    /// A segment shares a page with the one before it, or comes below it.
    Overlap {
        /// Index of the later segment.
        segment: usize,
    },
    /// The entry point is in no executable segment's file contents.
    BadEntry,
}

impl fmt::Display for ElfError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotElf => write!(f, "no ELF file (magic number)"),
            Self::Malformed => write!(f, "malformed ELF headers"),
            Self::WrongMachine => write!(
                f,
                "not for 64-bit little-endian x86_64 (e_ident, e_machine)"
            ),
            Self::NotStatic => {
                write!(f, "not a static executable (e_type is not ET_EXEC)")
            }
            Self::Unsupported { segment, what } => {
                write!(f, "segment {segment}: {what} is not supported")
            }
            Self::NoSegments => write!(f, "no segment to load"),
            Self::TooManySegments => write!(f, "more than {MAX_SEGMENTS} segments to load"),
            Self::Unaligned { segment } => {
                write!(f, "segment {segment}: p_vaddr is not on a page boundary")
            }
            Self::BadSize { segment } => {
                write!(f, "segment {segment}: p_memsz is less than p_filesz")
            }
            Self::Truncated { segment } => {
                write!(
                    f,
                    "segment {segment}: p_offset and p_filesz run past the file"
                )
            }
            Self::BadFlags { segment } => {
                write!(f, "segment {segment}: p_flags is unreadable or unknown")
            }
            Self::WritableCode { segment } => {
                write!(f, "segment {segment}: both writable and executable")
            }
            Self::OutOfBounds { segment } => {
                write!(f, "segment {segment}: outside the addresses of a task")
            }
            Self::Overlap { segment } => {
                write!(
                    f,
                    "segment {segment}: not above the pages of the segment before it"
                )
            }
            Self::BadEntry => write!(f, "e_entry is not inside executable code"),
        }
    }
}

impl core::error::Error for ElfError {}

/// A checked list of what to map, and where to start.
#[derive(Clone, Debug)]
pub struct LoadPlan<'a> {
    entry: u64,
    headers_end: usize,
    segments: [Segment<'a>; MAX_SEGMENTS],
    count: usize,
}

impl<'a> LoadPlan<'a> {
    /// Checks `file`, whose pages may lie only inside `bounds` (addresses, the end not included).
    ///
    /// # Errors
    /// In this order: `NotElf`, `Malformed`, `WrongMachine`, `NotStatic`; for each program header
    /// in turn `Unsupported`, `BadFlags`, `WritableCode`, `Unaligned`, `BadSize`, `Truncated`,
    /// `OutOfBounds`, `Overlap`, `TooManySegments`; last `NoSegments` and `BadEntry`.
    pub fn parse(file: &'a [u8], bounds: Range<u64>) -> Result<Self, ElfError> {
        let elf = ElfBytes::<LittleEndian>::minimal_parse(file).map_err(header_error)?;
        check_header(&elf)?;
        let headers = elf.segments().ok_or(ElfError::NoSegments)?;
        let mut plan = Self {
            entry: elf.ehdr.e_entry,
            headers_end: headers_end(&elf.ehdr),
            segments: [Segment::NONE; MAX_SEGMENTS],
            count: 0,
        };
        for (index, header) in headers.iter().enumerate() {
            match header.p_type {
                // What a linker leaves of a segment that has nothing in it.
                abi::PT_LOAD if header.p_memsz == 0 && header.p_filesz == 0 => {}
                abi::PT_LOAD => plan.push(read_segment(file, index, &header)?, index, &bounds)?,
                abi::PT_INTERP => return Err(unsupported(index, "PT_INTERP")),
                abi::PT_DYNAMIC => return Err(unsupported(index, "PT_DYNAMIC")),
                abi::PT_TLS => return Err(unsupported(index, "PT_TLS")),
                _ => {}
            }
        }
        if plan.count == 0 {
            return Err(ElfError::NoSegments);
        }
        if !plan
            .segments()
            .iter()
            .any(|segment| holds_code(segment, plan.entry))
        {
            return Err(ElfError::BadEntry);
        }
        Ok(plan)
    }

    /// Address of the first instruction.
    #[must_use]
    pub fn entry(&self) -> u64 {
        self.entry
    }

    /// The segments, by rising address.
    #[must_use]
    pub fn segments(&self) -> &[Segment<'a>] {
        self.segments.get(..self.count).unwrap_or(&[])
    }

    /// Where the table of program headers ends, in bytes from the start of the file. What lies
    /// behind it and behind the last segment's contents is not needed to load the file.
    #[must_use]
    pub fn headers_end(&self) -> usize {
        self.headers_end
    }

    /// Sum of the pages of all segments.
    #[must_use]
    pub fn pages(&self) -> u64 {
        // The segments do not overlap, so that the sum is at most the size of the bounds.
        self.segments()
            .iter()
            .fold(0, |sum, segment| sum.saturating_add(segment.pages))
    }

    fn push(
        &mut self,
        segment: Segment<'a>,
        index: usize,
        bounds: &Range<u64>,
    ) -> Result<(), ElfError> {
        let inside = segment
            .pages
            .checked_mul(PAGE_SIZE)
            .and_then(|bytes| segment.address.checked_add(bytes))
            .is_some_and(|end| segment.address >= bounds.start && end <= bounds.end);
        if !inside {
            return Err(ElfError::OutOfBounds { segment: index });
        }
        if self
            .segments()
            .last()
            .is_some_and(|last| segment.address < last.end())
        {
            return Err(ElfError::Overlap { segment: index });
        }
        let slot = self
            .segments
            .get_mut(self.count)
            .ok_or(ElfError::TooManySegments)?;
        *slot = segment;
        self.count = self.count.saturating_add(1);
        Ok(())
    }
}

fn header_error(error: ParseError) -> ElfError {
    match error {
        ParseError::BadMagic(_) => ElfError::NotElf,
        ParseError::UnsupportedElfEndianness(_) | ParseError::UnsupportedElfClass(_) => {
            ElfError::WrongMachine
        }
        _ => ElfError::Malformed,
    }
}

fn check_header(elf: &ElfBytes<'_, LittleEndian>) -> Result<(), ElfError> {
    if elf.ehdr.class != Class::ELF64 || elf.ehdr.e_machine != abi::EM_X86_64 {
        return Err(ElfError::WrongMachine);
    }
    if elf.ehdr.e_type != abi::ET_EXEC {
        return Err(ElfError::NotStatic);
    }
    Ok(())
}

fn headers_end(header: &FileHeader<LittleEndian>) -> usize {
    let size = usize::from(header.e_phentsize).saturating_mul(usize::from(header.e_phnum));
    usize::try_from(header.e_phoff)
        .unwrap_or(usize::MAX)
        .saturating_add(size)
}

fn unsupported(segment: usize, what: &'static str) -> ElfError {
    ElfError::Unsupported { segment, what }
}

fn read_segment<'a>(
    file: &'a [u8],
    index: usize,
    header: &ProgramHeader,
) -> Result<Segment<'a>, ElfError> {
    let protection = protection(index, header.p_flags)?;
    if !header.p_vaddr.is_multiple_of(PAGE_SIZE) {
        return Err(ElfError::Unaligned { segment: index });
    }
    if header.p_memsz < header.p_filesz {
        return Err(ElfError::BadSize { segment: index });
    }
    let data = contents(file, header).ok_or(ElfError::Truncated { segment: index })?;
    Ok(Segment {
        address: header.p_vaddr,
        size: header.p_memsz,
        pages: header.p_memsz.div_ceil(PAGE_SIZE),
        data,
        file_offset: header.p_offset,
        protection,
    })
}

fn protection(index: usize, flags: u32) -> Result<Protection, ElfError> {
    const READ_WRITE: u32 = abi::PF_R | abi::PF_W;
    const READ_EXECUTE: u32 = abi::PF_R | abi::PF_X;
    const ALL: u32 = READ_WRITE | READ_EXECUTE;
    match flags {
        abi::PF_R => Ok(Protection::Read),
        READ_WRITE => Ok(Protection::ReadWrite),
        READ_EXECUTE => Ok(Protection::ReadExecute),
        ALL => Err(ElfError::WritableCode { segment: index }),
        _ => Err(ElfError::BadFlags { segment: index }),
    }
}

fn contents<'a>(file: &'a [u8], header: &ProgramHeader) -> Option<&'a [u8]> {
    let start = usize::try_from(header.p_offset).ok()?;
    let length = usize::try_from(header.p_filesz).ok()?;
    file.get(start..start.checked_add(length)?)
}

fn holds_code(segment: &Segment<'_>, entry: u64) -> bool {
    segment.protection == Protection::ReadExecute
        && entry
            .checked_sub(segment.address)
            .and_then(|offset| usize::try_from(offset).ok())
            .is_some_and(|offset| offset < segment.data.len())
}
