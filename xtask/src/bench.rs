//! `cargo xtask bench`: boots the bench task and reports what each operation costs.
//!
//! The machine is the one that the goals were measured on: one tick of the time stamp counter is
//! one guest instruction, so that a figure is the same on any host. The bench task prints, for
//! each operation, one line
//!
//! ```text
//! bench KEY unit=instructions n=N min=A median=B p99=C entries=E switches=S flushes=F
//! ```
//!
//! where the last three are kernel entries, address-space switches and TLB flushes per operation:
//! what a count of instructions does not show.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use bootimg::Ends;
use serde_json::{Value, json};

use crate::boot::{self, End, LineSplitter};
use crate::image::{self, Built, Contents};
use crate::qemu::{Machine, Memory, Outcome};
use crate::{figures, install, profile, scale};

/// Time after which the measurement is stopped, in seconds.
const LIMIT: u64 = 900;

/// `cargo xtask bench`.
#[derive(Clone, Debug, clap::Args)]
pub struct Options {
    /// Only operations whose key contains this, or A or B of A,B; `scale` and what begins so: how far
    /// several processors help, in wall time
    pub filter: Option<String>,
    /// Write the results to FILE
    #[arg(long, value_name = "FILE")]
    pub json: Option<PathBuf>,
    /// Compare with the committed figures: a rise of more than 5 % fails
    #[arg(long)]
    pub check: bool,
    /// Write the medians to the committed figures
    #[arg(long, conflicts_with = "check")]
    pub save: bool,
    /// Show where the instructions of one operation go, by function
    #[arg(long, value_name = "KEY", conflicts_with_all = ["filter", "json", "check", "save"])]
    pub profile: Option<String>,
    /// With --profile: show the functions that were compiled into others under their own names
    #[arg(long, requires = "profile")]
    pub inlined: bool,
}

/// What was measured of one operation.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Row {
    pub(crate) key: String,
    unit: String,
    n: u64,
    pub(crate) min: f64,
    pub(crate) median: f64,
    p99: f64,
    pub(crate) entries: f64,
    pub(crate) switches: f64,
    pub(crate) flushes: f64,
}

impl Row {
    /// What is measured at several sizes, and this one's size: keys `grow.WHAT.SIZE`.
    pub(crate) fn grows(&self) -> Option<(&str, u64)> {
        let (what, size) = self.key.rsplit_once('.')?;
        what.starts_with("grow.").then_some(())?;
        Some((what, size.parse().ok()?))
    }

    /// Reads a line of the bench task; `None` if it is no result, an error if it is a broken one.
    pub(crate) fn parse(line: &str) -> Option<Result<Self>> {
        let mut words = line.strip_prefix("bench ")?.split_whitespace();
        let key = words.next()?.to_owned();
        let fields: Vec<(&str, &str)> = words.filter_map(|word| word.split_once('=')).collect();
        // Another line that starts with the word `bench` is nobody's.
        fields.iter().find(|(name, _)| *name == "median")?;
        Some(Self::from_fields(key, &fields).with_context(|| format!("broken result: {line}")))
    }

    fn from_fields(key: String, fields: &[(&str, &str)]) -> Result<Self> {
        let text = |name: &str| {
            let found = fields.iter().find(|(known, _)| *known == name);
            found
                .map(|(_, value)| *value)
                .with_context(|| format!("no `{name}=`"))
        };
        let number = |name: &str| -> Result<f64> {
            let value: f64 = text(name)?
                .parse()
                .with_context(|| format!("`{name}` is no number"))?;
            if value.is_finite() {
                Ok(value)
            } else {
                bail!("`{name}` is not finite")
            }
        };
        Ok(Self {
            key,
            unit: text("unit")?.to_owned(),
            n: text("n")?.parse().context("`n` is no number")?,
            min: number("min")?,
            median: number("median")?,
            p99: number("p99")?,
            entries: number("entries")?,
            switches: number("switches")?,
            flushes: number("flushes")?,
        })
    }

    fn to_json(&self) -> Value {
        json!({
            "key": self.key,
            "unit": self.unit,
            "n": self.n,
            "min": short(self.min),
            "median": short(self.median),
            "p99": short(self.p99),
            "kernel_entries": short(self.entries),
            "space_switches": short(self.switches),
            "tlb_flushes": short(self.flushes),
        })
    }
}

/// A whole number as such, others as they are.
fn short(value: f64) -> Value {
    // Whole numbers below 2^53 are exact both ways.
    if value.fract() == 0.0 && value.abs() < 9_007_199_254_740_992.0 {
        Value::from(value as i64)
    } else {
        Value::from(value)
    }
}

/// Carries out `cargo xtask bench`. The result is the status to exit with.
///
/// # Errors
/// What does not build, cannot be written, or was printed wrongly by the bench task.
pub fn bench(options: &Options) -> Result<u8> {
    install::ensure()?;
    if let Some(key) = &options.profile {
        return profile::profile(key, options.inlined);
    }
    if let Some(filter) = options
        .filter
        .as_deref()
        .filter(|text| scale::is_meant(text))
    {
        if options.check || options.save {
            bail!("wall time is no figure to commit: {filter} goes without --check and --save");
        }
        return scale::scale(filter, options.json.as_deref());
    }
    let built = build(options.filter.as_deref())?;
    let mut machine = machine(&built);
    machine.plain_strings = true;
    eprintln!("Measuring ...");
    let Measured { rows, broken, end } = measure(&machine)?;
    let (growth, single): (Vec<_>, Vec<_>) = rows.iter().partition(|row| row.grows().is_some());
    print!("{}{}", table(&single), figures::growth_table(&growth));
    if let Some(path) = &options.json {
        write_json(path, rows.iter().map(Row::to_json).collect())?;
    }
    if end.outcome != Outcome::Success {
        return Ok(failed(&end));
    }
    match (broken, rows.is_empty()) {
        (Some(error), _) => return Err(error),
        (None, true) => bail!("no result; is there an operation with this key?"),
        (None, false) => {}
    }
    if options.save {
        figures::save(&rows)?;
    }
    if options.check {
        let worse = figures::worse(&figures::read()?, &rows);
        worse.iter().for_each(|line| println!("{line}"));
        return Ok(u8::from(!worse.is_empty()));
    }
    Ok(0)
}

/// The image with the bench task, which measures what the filter says.
pub(crate) fn build(filter: Option<&str>) -> Result<Built> {
    let args: Vec<String> = filter.iter().map(|&filter| filter.to_owned()).collect();
    image::make(
        "bench",
        &Contents {
            file_pager: false,
            clients: vec![("bench", args)],
            ends: Ends::LastClient,
            ..Contents::default()
        },
    )
}

/// The machine that measures.
pub(crate) fn machine(built: &Built) -> Machine {
    let mut machine = Machine::new(&built.kernel, &built.path);
    machine.command_line = "log=warn".to_owned();
    machine.memory = Memory(1024);
    machine
}

/// What a machine measured, and how that ended.
pub(crate) struct Measured {
    pub(crate) rows: Vec<Row>,
    pub(crate) broken: Option<anyhow::Error>,
    pub(crate) end: End,
}

/// Boots a machine that measures.
///
/// # Errors
/// The emulator cannot be started.
pub(crate) fn measure(machine: &Machine) -> Result<Measured> {
    let (mut rows, mut broken) = (Vec::new(), None);
    let mut splitter = LineSplitter::default();
    let mut take = |line: &str| match Row::parse(line) {
        Some(Ok(row)) => {
            eprintln!("  {}", row.key);
            rows.push(row);
        }
        Some(Err(error)) => broken = Some(error),
        None => {}
    };
    let limit = Some(Duration::from_secs(LIMIT));
    let end = boot::boot(machine, limit, &mut |piece| splitter.add(piece, &mut take))?;
    splitter.end(&mut take);
    Ok(Measured { rows, broken, end })
}

/// Says how a machine failed; gives the status to exit with.
pub(crate) fn failed(end: &End) -> u8 {
    eprintln!("last words of the guest:");
    end.last_words
        .iter()
        .for_each(|line| eprintln!("    {line}"));
    eprintln!("xtask bench: {}", end.outcome);
    end.outcome.exit_code()
}

/// Writes results for programs.
pub(crate) fn write_json(path: &Path, results: Vec<Value>) -> Result<()> {
    let text = serde_json::to_string_pretty(&json!({ "results": results }))?;
    fs::write(path, text + "\n")
        .with_context(|| format!("--json {}: cannot be written", path.display()))
}

/// The results, in aligned columns.
fn table(rows: &[&Row]) -> String {
    let head = [
        "key", "median", "min", "p99", "n", "entries", "switches", "flushes", "unit",
    ];
    if rows.is_empty() {
        return String::new();
    }
    let mut cells = vec![head.map(str::to_owned)];
    cells.extend(rows.iter().map(|row| {
        [
            row.key.clone(),
            plain(row.median),
            plain(row.min),
            plain(row.p99),
            row.n.to_string(),
            plain(row.entries),
            plain(row.switches),
            plain(row.flushes),
            row.unit.clone(),
        ]
    }));
    let width = |column: usize| {
        cells
            .iter()
            .map(|line| line[column].len())
            .max()
            .unwrap_or(0)
    };
    let widths: Vec<usize> = (0..head.len()).map(width).collect();
    let mut text = String::new();
    for line in &cells {
        let padded = line
            .iter()
            .zip(&widths)
            .enumerate()
            .map(|(column, (cell, width))| {
                // Words to the left, numbers to the right.
                if column == 0 || column == head.len() - 1 {
                    format!("{cell:<width$}")
                } else {
                    format!("{cell:>width$}")
                }
            });
        text.push_str(padded.collect::<Vec<_>>().join("  ").trim_end());
        text.push('\n');
    }
    text
}

pub(crate) fn plain(value: f64) -> String {
    if value.fract() == 0.0 {
        format!("{value:.0}")
    } else {
        format!("{value:.2}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LINE: &str = "bench ipc.call unit=instructions n=1000 min=300 median=312.5 p99=400 entries=2 switches=2 flushes=0";

    #[test]
    fn a_result_is_read_and_becomes_json_under_the_names_of_the_report() {
        let row = Row::parse(LINE).unwrap().unwrap();
        assert_eq!(
            row.to_json(),
            json!({
                "key": "ipc.call", "unit": "instructions", "n": 1000, "min": 300, "median": 312.5,
                "p99": 400, "kernel_entries": 2, "space_switches": 2, "tlb_flushes": 0,
            })
        );
    }

    #[test]
    fn a_broken_result_is_an_error_and_other_lines_are_nothing() {
        assert!(
            Row::parse("bench x unit=instructions median=1")
                .unwrap()
                .is_err()
        );
        assert!(Row::parse(&LINE.replace("400", "inf")).unwrap().is_err());
        assert!(Row::parse("bench task starts").is_none());
        assert!(Row::parse("hello").is_none());
    }

    #[test]
    fn columns_are_aligned() {
        let row = Row::parse(LINE).unwrap().unwrap();
        let text = table(&[&row]);
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines.len(), 2);
        assert_eq!(
            lines[0].find("median").map(|at| at + 6),
            lines[1].find("312.50").map(|at| at + 6)
        );
    }
}
