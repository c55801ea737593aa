//! `cargo xtask bench scale`: how much more several processors do than one.
//!
//! The same image is booted with one processor and with as many as the host has, at most four, each
//! a thread of the host; instructions are not counted then, so the figures are wall time, which is
//! why they are compared with each other and with nothing that was committed. One task does the work
//! on one processor; on several, first one task alone, then as many as there are processors. The
//! best round counts: what else the host does can only make a round longer.

use std::path::Path;
use std::thread;

use anyhow::{Result, bail};
use serde_json::{Value, json};

use crate::bench::{self, Measured, Row};
use crate::qemu::Outcome;

/// Most processors that are measured.
const CPUS_MAX: usize = 4;

/// The key of what one task did on a machine with several processors.
const ALONE: &str = ".alone";

/// Whether a filter means what is measured here.
pub(crate) fn is_meant(filter: &str) -> bool {
    filter.starts_with("scale")
}

/// What several processors made of an operation.
#[derive(Debug, PartialEq)]
struct Gain {
    key: String,
    cpus: u32,
    /// Ticks of the time stamp counter for one operation of all tasks: on one processor, on several by one task, by all.
    one: f64,
    alone: f64,
    all: f64,
}

impl Gain {
    /// Throughput on all processors as a multiple of that on one.
    fn ratio(&self) -> f64 {
        self.one / self.all
    }

    fn to_json(&self) -> Value {
        json!({
            "key": self.key,
            "unit": "times",
            "cpus": self.cpus,
            "ratio": self.ratio(),
            "ideal": self.cpus,
            "ticks_one_cpu": self.one,
            "ticks_one_task": self.alone,
            "ticks": self.all,
        })
    }
}

/// Boots and compares. The result is the status to exit with.
///
/// # Errors
/// The host has one processor; what does not build or was printed wrongly.
pub(crate) fn scale(filter: &str, json: Option<&Path>) -> Result<u8> {
    let host = thread::available_parallelism()?.get().min(CPUS_MAX);
    if host < 2 {
        bail!("this machine has one processor: there is nothing to compare");
    }
    let cpus = host as u32;
    let built = bench::build(Some(filter))?;
    let mut machine = bench::machine(&built);
    machine.count_instructions = false;
    let mut measured = Vec::new();
    for count in [1, cpus] {
        machine.cpus = count;
        eprintln!("Measuring with --cpus {count} ...");
        let Measured { rows, broken, end } = bench::measure(&machine)?;
        if let Some(error) = broken {
            return Err(error);
        }
        if end.outcome != Outcome::Success {
            return Ok(bench::failed(&end));
        }
        measured.push(rows);
    }
    let gains = match measured.as_slice() {
        [one, all] => gains(cpus, one, all),
        _ => Vec::new(),
    };
    if gains.is_empty() {
        bail!("no result; is there an operation with this key?");
    }
    print!("{}", table(cpus, &gains));
    if let Some(path) = json {
        bench::write_json(path, gains.iter().map(Gain::to_json).collect())?;
    }
    Ok(0)
}

/// Puts what belongs together side by side.
fn gains(cpus: u32, one: &[Row], all: &[Row]) -> Vec<Gain> {
    let best = |rows: &[Row], key: &str| {
        let row = rows.iter().find(|row| row.key == key);
        row.map(|row| row.min).filter(|best| *best > 0.0)
    };
    let compared = one.iter().filter_map(|row| {
        Some(Gain {
            key: row.key.clone(),
            cpus,
            one: best(one, &row.key)?,
            alone: best(all, &format!("{}{ALONE}", row.key))?,
            all: best(all, &row.key)?,
        })
    });
    compared.collect()
}

fn table(cpus: u32, gains: &[Gain]) -> String {
    let width = gains.iter().map(|gain| gain.key.len()).max().unwrap_or(0);
    let mut text = format!(
        "{:<width$}  {:>8}  {:>12}  {:>8}  {:>6}  {:>5}\n",
        "ticks an operation",
        "1 CPU",
        format!("{cpus} CPUs, 1 task"),
        format!("{cpus} tasks"),
        "times",
        "ideal",
    );
    for gain in gains {
        text.push_str(&format!(
            "{:<width$}  {:>8.0}  {:>14.0}  {:>8.0}  {:>6.2}  {:>5}\n",
            gain.key,
            gain.one,
            gain.alone,
            gain.all,
            gain.ratio(),
            gain.cpus,
        ));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(key: &str, best: f64) -> Row {
        let line = format!(
            "bench {key} unit=ticks n=60 min={best} median=9000 p99=9999 entries=0 switches=0 \
             flushes=0"
        );
        Row::parse(&line).unwrap().unwrap()
    }

    #[test]
    fn throughput_is_compared_by_the_best_rounds() {
        let one = [row("scale.calls", 3000.0), row("scale.lost", 1.0)];
        let all = [row("scale.calls.alone", 3300.0), row("scale.calls", 2000.0)];
        let gains = gains(2, &one, &all);
        assert_eq!(gains.len(), 1);
        assert_eq!(gains[0].ratio(), 1.5);
        assert_eq!(gains[0].to_json()["ideal"], 2);
        let text = table(2, &gains);
        assert!(text.contains("3000") && text.contains("3300") && text.contains("1.50"));
    }

    #[test]
    fn only_what_begins_so_is_measured_in_wall_time() {
        assert!(is_meant("scale") && is_meant("scale.calls"));
        assert!(!is_meant("ipc") && !is_meant("grow.scale"));
    }
}
