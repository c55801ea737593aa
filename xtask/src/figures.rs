//! The committed figures of `cargo xtask bench`, and the table of those that grow.
//!
//! The unit is executed instructions, which are the same on every host, so that a rise is a rise.
//! Where code lies moves a figure by up to 4 %; less than 5 % is no difference.

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;

use anyhow::{Context, Result};

use crate::bench::{Row, plain};
use crate::build;

/// What a figure may rise by, as a share.
const TOLERANCE: f64 = 0.05;

/// Medians by key.
pub(crate) type Figures = BTreeMap<String, f64>;

fn path() -> PathBuf {
    build::root().join("tests/bench/figures.tsv")
}

/// Reads the committed figures.
///
/// # Errors
/// The file is missing or malformed.
pub(crate) fn read() -> Result<Figures> {
    let path = path();
    let text = fs::read_to_string(&path).with_context(|| format!("{}", path.display()))?;
    parse(&text)
}

fn parse(text: &str) -> Result<Figures> {
    let lines = text.lines().filter(|line| !line.starts_with('#'));
    lines
        .map(|line| {
            let problem = || format!("figures.tsv: `{line}` is no key and number");
            let (key, median) = line.split_once('\t').with_context(problem)?;
            Ok((key.to_owned(), median.parse().with_context(problem)?))
        })
        .collect()
}

/// Puts these medians in the place of the committed ones; keys that were not measured stay.
///
/// # Errors
/// The file cannot be written.
pub(crate) fn save(rows: &[Row]) -> Result<()> {
    let mut figures = read().unwrap_or_default();
    figures.extend(rows.iter().map(|row| (row.key.clone(), row.median)));
    let mut text = "# Medians of `cargo xtask bench`, written by `--save`.\n".to_owned();
    for (key, median) in figures {
        text.push_str(&format!("{key}\t{}\n", plain(median)));
    }
    let path = path();
    fs::write(&path, text).with_context(|| format!("{}", path.display()))
}

/// A line for each figure that has risen.
pub(crate) fn worse(committed: &Figures, rows: &[Row]) -> Vec<String> {
    let risen = rows.iter().filter_map(|row| {
        let before = *committed.get(&row.key)?;
        (row.median > before * (1.0 + TOLERANCE)).then(|| {
            let percent = (row.median / before - 1.0) * 100.0;
            let (before, now) = (plain(before), plain(row.median));
            format!(
                "{}: {before} has become {now}, {percent:.1} % more",
                row.key
            )
        })
    });
    risen.collect()
}

/// What is measured at several sizes: a line each, a column for each size, then what one operation
/// at the largest size makes of entries, switches and flushes.
pub(crate) fn growth_table(rows: &[&Row]) -> String {
    let mut sizes: Vec<u64> = rows.iter().filter_map(|row| Some(row.grows()?.1)).collect();
    sizes.sort_unstable();
    sizes.dedup();
    let mut keys: Vec<&str> = Vec::new();
    for (key, _) in rows.iter().filter_map(|row| row.grows()) {
        if !keys.contains(&key) {
            keys.push(key);
        }
    }
    if keys.is_empty() {
        return String::new();
    }
    let width = keys.iter().map(|key| key.len()).max().unwrap_or(0);
    let mut text = format!("\n{:<width$}", "growth, by mappings");
    for size in &sizes {
        text.push_str(&format!("  {size:>9}"));
    }
    text.push_str("  entries  switches  flushes\n");
    for key in keys {
        text.push_str(&format!("{key:<width$}"));
        let mut last = None;
        for size in &sizes {
            let row = rows.iter().find(|row| row.grows() == Some((key, *size)));
            let cell = row.map(|row| plain(row.median)).unwrap_or_default();
            text.push_str(&format!("  {cell:>9}"));
            last = row.or(last);
        }
        if let Some(row) = last {
            let (entries, switches) = (plain(row.entries), plain(row.switches));
            let flushes = plain(row.flushes);
            text.push_str(&format!("  {entries:>7}  {switches:>8}  {flushes:>7}"));
        }
        text.push('\n');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(key: &str, median: f64) -> Row {
        let line = format!(
            "bench {key} unit=instructions n=1 min={median} median={median} p99={median} \
             entries=2 switches=1 flushes=0"
        );
        Row::parse(&line).unwrap().unwrap()
    }

    #[test]
    fn only_a_rise_of_more_than_a_twentieth_is_told() {
        let committed = parse("# text\na\t100\nb\t100\nc\t100.50\n").unwrap();
        let rows = [
            row("a", 105.0),
            row("b", 106.0),
            row("c", 50.0),
            row("d", 9.0),
        ];
        let worse = worse(&committed, &rows);
        assert_eq!(worse, ["b: 100 has become 106, 6.0 % more"]);
        assert!(parse("a 100").is_err());
    }

    #[test]
    fn what_grows_has_a_column_for_each_size() {
        let rows = [
            row("grow.a.10", 1.0),
            row("grow.b.10", 2.0),
            row("grow.a.1000", 3.0),
        ];
        let text = growth_table(&rows.iter().collect::<Vec<_>>());
        let lines: Vec<_> = text.lines().collect();
        assert_eq!(lines.len(), 4);
        assert!(lines[1].contains("10       1000"));
        assert!(lines[2].starts_with("grow.a") && lines[2].contains("1          3"));
        assert!(growth_table(&[&row("x.10", 1.0)]).is_empty());
    }
}
