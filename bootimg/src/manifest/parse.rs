//! The words of each line, and the rules that hold from line to line.

use super::{
    Ends, Level, Lines, MAX_ARGS, MAX_FILE, MAX_NAME, MAX_TASKS, MAX_VALUE, ManifestProblem,
    Rights, Task, VERSION_LINE, says_something, split_word,
};

/// What must be remembered from line to line.
#[derive(Default)]
pub(super) struct Checker<'a> {
    versioned: bool,
    pub(super) ends: Option<Ends>,
    names: Names<'a, MAX_TASKS>,
    keys: Names<'a, MAX_TASKS>,
    args: usize,
    level: Option<Level>,
    has_server: bool,
    has_bootstrap: bool,
}

impl<'a> Checker<'a> {
    pub(super) fn line(
        &mut self,
        line: &'a str,
        after: Lines<'a>,
    ) -> Result<(), ManifestProblem<'a>> {
        if !says_something(line) {
            return Ok(());
        }
        if !self.versioned {
            self.versioned = line == VERSION_LINE;
            return if self.versioned {
                Ok(())
            } else {
                Err(ManifestProblem::Version)
            };
        }
        match split_word(line) {
            ("ends", value) => self.ends_line(value),
            ("option", rest) => self.option_line(rest),
            ("task", rest) => self.task_line(parse_task(rest, after)?),
            ("arg", text) => self.arg_line(text),
            (word, _) => Err(ManifestProblem::UnknownLine(word)),
        }
    }

    fn ends_line(&mut self, value: &'a str) -> Result<(), ManifestProblem<'a>> {
        if self.ends.is_some() {
            return Err(ManifestProblem::RepeatedEnds);
        }
        let known = [Ends::LastClient, Ends::Never]
            .into_iter()
            .find(|ends| ends.name() == value);
        self.ends = Some(known.ok_or(ManifestProblem::UnknownEnds(value))?);
        Ok(())
    }

    fn option_line(&mut self, rest: &'a str) -> Result<(), ManifestProblem<'a>> {
        let (key, value) = rest
            .split_once('=')
            .ok_or(ManifestProblem::BadOption(rest))?;
        check_name(key)?;
        if value.len() > MAX_VALUE {
            return Err(ManifestProblem::BadOption(key));
        }
        self.keys.add(key)
    }

    fn task_line(&mut self, task: Task<'a>) -> Result<(), ManifestProblem<'a>> {
        if self.level.is_some_and(|level| task.level < level) {
            return Err(ManifestProblem::OutOfOrder(task.name));
        }
        let seen = match task.level {
            Level::Server => Some(&mut self.has_server),
            Level::Bootstrap => Some(&mut self.has_bootstrap),
            _ => None,
        };
        if let Some(seen) = seen
            && core::mem::replace(seen, true)
        {
            return Err(ManifestProblem::SecondOf(task.level.name()));
        }
        self.level = Some(task.level);
        self.args = 0;
        self.names.add(task.name)
    }

    fn arg_line(&mut self, text: &str) -> Result<(), ManifestProblem<'a>> {
        if self.level.is_none() {
            return Err(ManifestProblem::ArgWithoutTask);
        }
        if text.len() > MAX_VALUE {
            return Err(ManifestProblem::ArgTooLong);
        }
        self.args = self.args.saturating_add(1);
        if self.args > MAX_ARGS {
            Err(ManifestProblem::TooManyArgs)
        } else {
            Ok(())
        }
    }

    pub(super) fn end(&self) -> Result<(), ManifestProblem<'a>> {
        if !self.versioned {
            return Err(ManifestProblem::Version);
        }
        if !self.has_server {
            return Err(ManifestProblem::NoneOf(Level::Server.name()));
        }
        // Levels rise, so that the last one tells whether anything comes after bootstrap.
        if self.level > Some(Level::Bootstrap) && !self.has_bootstrap {
            return Err(ManifestProblem::NoneOf(Level::Bootstrap.name()));
        }
        Ok(())
    }
}

/// The names that were met so far, each once.
struct Names<'a, const N: usize> {
    names: [&'a str; N],
    count: usize,
}

impl<const N: usize> Default for Names<'_, N> {
    fn default() -> Self {
        Self {
            names: [""; N],
            count: 0,
        }
    }
}

impl<'a, const N: usize> Names<'a, N> {
    fn add(&mut self, name: &'a str) -> Result<(), ManifestProblem<'a>> {
        if self
            .names
            .iter()
            .take(self.count)
            .any(|known| *known == name)
        {
            return Err(ManifestProblem::Repeated(name));
        }
        let slot = self
            .names
            .get_mut(self.count)
            .ok_or(ManifestProblem::TooManyTasks)?;
        *slot = name;
        self.count = self.count.saturating_add(1);
        Ok(())
    }
}

pub(super) fn parse_task<'a>(
    rest: &'a str,
    lines: Lines<'a>,
) -> Result<Task<'a>, ManifestProblem<'a>> {
    let (name, fields) = split_word(rest);
    check_name(name)?;
    let (mut file, mut level, mut rights, mut resident) = (None, None, None, None);
    let (mut quota, mut restart) = (None, None);
    for field in fields.split(' ').filter(|_| !fields.is_empty()) {
        match field
            .split_once('=')
            .map_or((field, None), |(key, value)| (key, Some(value)))
        {
            (key @ "file", Some(value)) => once(&mut file, key, check_file(value)?)?,
            (key @ "level", Some(value)) => {
                let known = Level::from_name(value);
                once(
                    &mut level,
                    key,
                    known.ok_or(ManifestProblem::UnknownLevel(value))?,
                )?;
            }
            (key @ "rights", Some(value)) => once(&mut rights, key, parse_rights(value)?)?,
            (key @ "quota", Some(value)) => once(&mut quota, key, parse_quota(value)?)?,
            (key @ "restart", Some(value)) => {
                once(&mut restart, key, (parse_restart(value)?, value))?;
            }
            (key @ "resident", None) => once(&mut resident, key, true)?,
            _ => return Err(ManifestProblem::UnknownField(field)),
        }
    }
    let file = file.ok_or(ManifestProblem::MissingField("file="))?;
    let level = level.ok_or(ManifestProblem::MissingField("level="))?;
    if let Some((_, value)) = restart
        && !matches!(level, Level::Pager | Level::Module)
    {
        return Err(ManifestProblem::BadRestart(value));
    }
    Ok(Task {
        name,
        file,
        level,
        rights: rights.unwrap_or_default(),
        resident: resident.unwrap_or_default(),
        quota,
        restart: restart.map_or(0, |(times, _)| times),
        lines,
    })
}

fn once<'a, T>(slot: &mut Option<T>, key: &'a str, value: T) -> Result<(), ManifestProblem<'a>> {
    match slot.replace(value) {
        None => Ok(()),
        Some(_) => Err(ManifestProblem::RepeatedField(key)),
    }
}

fn parse_rights(text: &str) -> Result<Rights, ManifestProblem<'_>> {
    let mut rights = Rights::default();
    for word in text.split(',') {
        let right = match word {
            "host" => &mut rights.host,
            "device" => &mut rights.device,
            _ => return Err(ManifestProblem::UnknownRight(word)),
        };
        if core::mem::replace(right, true) {
            return Err(ManifestProblem::UnknownRight(word));
        }
    }
    Ok(rights)
}

/// A number of KiB.
fn parse_quota(text: &str) -> Result<u64, ManifestProblem<'_>> {
    let digits = text.strip_suffix('K').filter(|digits| {
        !digits.starts_with('0') && digits.bytes().all(|digit| digit.is_ascii_digit())
    });
    digits
        .and_then(|digits| digits.parse::<u64>().ok())
        .and_then(|kib| kib.checked_mul(1024))
        .ok_or(ManifestProblem::BadQuota(text))
}

/// A number from 1 to 99.
fn parse_restart(text: &str) -> Result<u32, ManifestProblem<'_>> {
    let digits = !text.starts_with('0') && text.bytes().all(|digit| digit.is_ascii_digit());
    let times = text.parse::<u32>().ok().filter(|times| *times <= 99);
    times
        .filter(|_| digits)
        .ok_or(ManifestProblem::BadRestart(text))
}

fn check_file(file: &str) -> Result<&str, ManifestProblem<'_>> {
    if file.is_empty() || file.len() > MAX_FILE {
        return Err(ManifestProblem::BadFile(file));
    }
    Ok(file)
}

fn check_name(name: &str) -> Result<(), ManifestProblem<'_>> {
    let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    if name.is_empty() || name.len() > MAX_NAME || !name.chars().all(allowed) {
        return Err(ManifestProblem::BadName(name));
    }
    Ok(())
}
