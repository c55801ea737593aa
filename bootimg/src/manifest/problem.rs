//! What can be wrong with a manifest, and how it is said.

use core::fmt;

use super::{MAX_ARGS, MAX_FILE, MAX_NAME, MAX_TASKS, MAX_TEXT, MAX_VALUE, VERSION_LINE};

/// What is wrong with a line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ManifestProblem<'a> {
    /// The file is not UTF-8, has a control character, or is longer than [`MAX_TEXT`].
    NotText,
    /// The first line is not `pagoda 1`.
    Version,
    /// The line starts with a word that is not known.
    UnknownLine(&'a str),
    /// The value of `ends` is not known.
    UnknownEnds(&'a str),
    /// A second `ends` line.
    RepeatedEnds,
    /// No name or key, one that is too long, or one with a character that is not allowed.
    BadName(&'a str),
    /// Two tasks or two options have this name.
    Repeated(&'a str),
    /// An option without `=`, or with a value over [`MAX_VALUE`] bytes.
    BadOption(&'a str),
    /// A field of a task that is not known, or an empty one (two spaces in a row).
    UnknownField(&'a str),
    /// A field of a task given twice.
    RepeatedField(&'a str),
    /// A task without this field.
    MissingField(&'static str),
    /// A `file=` that is empty or longer than 100 bytes.
    BadFile(&'a str),
    /// A level that is not known.
    UnknownLevel(&'a str),
    /// A right that is not known, or given twice.
    UnknownRight(&'a str),
    /// A `quota=` that is no number of KiB with a `K` behind it.
    BadQuota(&'a str),
    /// A `restart=` that is no number from 1 to 99, or of a task that is neither pager nor module.
    BadRestart(&'a str),
    /// An `arg` line before any task.
    ArgWithoutTask,
    /// More than [`MAX_ARGS`] arguments for one task.
    TooManyArgs,
    /// An argument over [`MAX_VALUE`] bytes.
    ArgTooLong,
    /// More than [`MAX_TASKS`] tasks.
    TooManyTasks,
    /// The task comes after one of a later level.
    OutOfOrder(&'a str),
    /// A second task of level server or bootstrap.
    SecondOf(&'static str),
    /// No task of this level, though it is needed.
    NoneOf(&'static str),
}

/// A manifest that is refused: where, and why.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ManifestError<'a> {
    /// Number of the line from 1; 0 if the fault is not in one line.
    pub line: usize,
    /// What is wrong with it.
    pub problem: ManifestProblem<'a>,
}

impl fmt::Display for ManifestError<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.line {
            0 => write!(f, "manifest: {}", self.problem),
            line => write!(f, "manifest line {line}: {}", self.problem),
        }
    }
}

impl fmt::Display for ManifestProblem<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotText => write!(
                f,
                "not UTF-8 text without control characters, of at most {MAX_TEXT} bytes"
            ),
            Self::Version => write!(f, "the first line must be `{VERSION_LINE}`"),
            Self::UnknownLine(word) => write!(f, "unknown line `{word}`"),
            Self::UnknownEnds(word) => {
                write!(f, "`ends {word}`: expected `last-client` or `never`")
            }
            Self::RepeatedEnds => write!(f, "a second `ends` line"),
            Self::BadName(name) => write!(
                f,
                "`{name}` is no name: 1 to {MAX_NAME} of a-z, A-Z, 0-9, `-`, `_`, `.`"
            ),
            Self::Repeated(name) => write!(f, "`{name}` is there twice"),
            Self::BadOption(text) => {
                write!(
                    f,
                    "`option {text}`: expected KEY=VALUE, VALUE at most {MAX_VALUE} bytes"
                )
            }
            Self::UnknownField(field) => write!(f, "unknown field `{field}` of a task"),
            Self::RepeatedField(field) => write!(f, "`{field}` is given twice"),
            Self::MissingField(field) => write!(f, "a task needs `{field}`"),
            Self::BadFile(file) => write!(f, "`file={file}`: expected 1 to {MAX_FILE} bytes"),
            Self::UnknownLevel(level) => write!(f, "unknown level `{level}`"),
            Self::UnknownRight(right) => write!(f, "unknown or repeated right `{right}`"),
            Self::BadQuota(text) => {
                write!(f, "`quota={text}`: expected a number of KiB, like `512K`")
            }
            Self::BadRestart(text) => write!(
                f,
                "`restart={text}`: expected 1 to 99, for a task of level pager or module"
            ),
            Self::ArgWithoutTask => write!(f, "`arg` before any task"),
            Self::TooManyArgs => write!(f, "more than {MAX_ARGS} arguments"),
            Self::ArgTooLong => write!(f, "an argument over {MAX_VALUE} bytes"),
            Self::TooManyTasks => write!(f, "more than {MAX_TASKS} tasks"),
            Self::OutOfOrder(name) => {
                write!(f, "task `{name}` comes after one of a later level")
            }
            Self::SecondOf(level) => write!(f, "a second task of level `{level}`"),
            Self::NoneOf(level) => write!(f, "no task of level `{level}`"),
        }
    }
}

impl core::error::Error for ManifestError<'_> {}
