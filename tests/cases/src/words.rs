//! The words of a row: `address=0x1001 size=3*PS+1 flags=ANYWHERE|OVERWRITE`, and what they come to.
//!
//! A value is a sum of products of numbers and names, all in 64 bits with wrap-around, since half of
//! the rows are about just that; `|` joins bits. `2^64-PS` is 0 less a page. Names of flags and of
//! enumerations are known by the argument that they stand for. `a or b` and `a|b either` make a
//! row that is run once for each.

use alloc::format;
use alloc::string::String;
use alloc::vec;
use alloc::vec::Vec;

use ipc_abi::layout::{PAGE_SIZE, USER_MAX, USER_MIN};

/// Where the test allocation lies.
pub const AREA: u64 = 0x10_0000;

/// Words that say what holds anyway.
const NOTES: &[&str] = &["anonymous"];

/// Names that mean the same everywhere.
const PLACES: &[(&str, u64)] = &[
    ("PS", PAGE_SIZE),
    ("KiB", 1 << 10),
    ("MiB", 1 << 20),
    ("GiB", 1 << 30),
    ("AREA", AREA),
    ("MIN", USER_MIN),
    ("MAX", USER_MAX),
    ("null", 0),
    ("valid", AREA),
];

/// Protections, and what else stands in a word with them.
const PROTECTIONS: &[(&str, u64)] = &[
    ("NONE", 0),
    ("READ", 1),
    ("WRITE", 2),
    ("EXECUTE", 4),
    ("ALL", 7),
    ("COPY", 0x10),
    ("IS_MASK", 0x40),
    ("LEDGER_TAGGED", 0x2000),
    ("PURGABLE_KERNEL_ONLY", 0x4000),
    ("GRAB_SECLUDED", 0x8000),
    ("ONLY", 0x1_0000),
    ("NAMED_CREATE", 0x2_0000),
    ("PURGABLE", 0x4_0000),
    ("NAMED_REUSE", 0x8_0000),
    ("USE_DATA_ADDR", 0x10_0000),
    ("VM_COPY", 0x20_0000),
    ("VM_SHARE", 0x40_0000),
    ("4K_DATA_ADDR", 0x80_0000),
];

/// Flags of mappings.
const FLAGS: &[(&str, u64)] = &[
    ("FIXED", 0),
    ("ANYWHERE", 1),
    ("PURGABLE", 2),
    ("4GB_CHUNK", 4),
    ("RANDOM_ADDR", 8),
    ("NO_CACHE", 0x10),
    ("RESILIENT_CODESIGN", 0x20),
    ("RESILIENT_MEDIA", 0x40),
    ("PERMANENT", 0x80),
    ("OVERWRITE", 0x4000),
    ("SUPERPAGE_SIZE_ANY", 0x1_0000),
    ("SUPERPAGE_SIZE_2MB", 0x2_0000),
    ("RETURN_DATA_ADDR", 0x10_0000),
    ("RETURN_4K_DATA_ADDR", 0x80_0000),
    ("TAG", 0x0100_0000),
];

const INHERITANCES: &[(&str, u64)] = &[("SHARE", 0), ("COPY", 1), ("NONE", 2)];

const BEHAVIORS: &[(&str, u64)] = &[
    ("DEFAULT", 0),
    ("RANDOM", 1),
    ("SEQUENTIAL", 2),
    ("RSEQNTL", 3),
    ("WILLNEED", 4),
    ("DONTNEED", 5),
    ("FREE", 6),
    ("ZERO_WIRED_PAGES", 7),
    ("REUSABLE", 8),
    ("REUSE", 9),
    ("CAN_REUSE", 10),
    ("PAGEOUT", 11),
    ("ZERO", 12),
];

const SYNCS: &[(&str, u64)] = &[
    ("ASYNCHRONOUS", 1),
    ("SYNCHRONOUS", 2),
    ("INVALIDATE", 4),
    ("KILLPAGES", 8),
    ("DEACTIVATE", 0x10),
    ("CONTIGUOUS", 0x20),
];

const ATTRIBUTES: &[(&str, u64)] = &[("CACHE", 1), ("MIGRATE", 2), ("REPLICATE", 4)];
const VALUES: &[(&str, u64)] = &[
    ("OFF", 0),
    ("ON", 1),
    ("GET", 2),
    ("CACHE_FLUSH", 6),
    ("DCACHE_FLUSH", 7),
    ("ICACHE_FLUSH", 8),
];
const CONTROLS: &[(&str, u64)] = &[("SET", 0), ("GET", 1), ("PURGE_ALL", 2)];
const STATES: &[(&str, u64)] = &[
    ("NONVOLATILE", 0),
    ("VOLATILE", 1),
    ("EMPTY", 2),
    ("DENY", 3),
];
const WIRINGS: &[(&str, u64)] = &[("CURRENT", 1), ("FUTURE", 2)];

/// The names that an argument's values have.
fn names(key: &str, call: &str) -> &'static [(&'static str, u64)] {
    match (key, call) {
        ("flags" | "sync_flags", "vm_msync") => SYNCS,
        ("flags", "vm_wire_all") => WIRINGS,
        ("flags", _) => FLAGS,
        ("inherit" | "inheritance", _) => INHERITANCES,
        ("behavior", _) => BEHAVIORS,
        ("attribute", _) => ATTRIBUTES,
        ("value", _) => VALUES,
        ("control", _) => CONTROLS,
        ("state", _) => STATES,
        ("prot" | "cur" | "max" | "access" | "permission", _) => PROTECTIONS,
        _ => &[],
    }
}

/// The arguments of a row.
#[derive(Clone, Debug)]
pub struct Words {
    call: &'static str,
    words: Vec<String>,
}

impl Words {
    /// The words of a row, one list for each of its variants.
    #[must_use]
    pub fn of(call: &'static str, arguments: &str) -> Vec<Words> {
        let words: Vec<&str> = arguments.split_whitespace().collect();
        let variant = |dropped: &[usize], place: usize, word: String| {
            let kept = words.iter().enumerate();
            let kept = kept.filter(|(at, _)| !dropped.contains(at));
            Words {
                call,
                words: kept
                    .map(|(at, found)| match at == place {
                        true => word.clone(),
                        false => String::from(*found),
                    })
                    .collect(),
            }
        };
        let or = words.iter().position(|word| *word == "or");
        if let Some(or) = or
            && let Some(first) = or.checked_sub(1)
            && let Some(second) = words.get(or + 1)
        {
            let key = words[first].split('=').next().unwrap_or_default();
            return [String::from(words[first]), format!("{key}={second}")]
                .map(|word| variant(&[or, or + 1], first, word))
                .into();
        }
        if let [.., last, "either"] = *words.as_slice()
            && let Some((key, values)) = last.split_once('=')
        {
            let (place, end) = (words.len() - 2, words.len() - 1);
            let values = values.split('|');
            return values
                .map(|value| variant(&[end], place, format!("{key}={value}")))
                .collect();
        }
        vec![variant(&[], usize::MAX, String::new())]
    }

    /// Whether every word is an argument of these, a name of flags, or a note.
    #[must_use]
    pub fn are_all(&self, keys: &[&str]) -> bool {
        let is_flags = |word: &str| {
            word.chars().any(char::is_alphabetic) && value(word, names("flags", self.call)).is_ok()
        };
        self.words.iter().all(|word| match word.split_once('=') {
            Some((key, _)) => keys.contains(&key) && !matches!(self.get(key), Err(_) | Ok(None)),
            None => {
                word.starts_with('(')
                    || word.ends_with(')')
                    || NOTES.contains(&word.as_str())
                    || is_flags(word)
            }
        })
    }

    /// Whether a word stands there by itself.
    #[must_use]
    pub fn has(&self, word: &str) -> bool {
        self.words.iter().any(|found| found == word)
    }

    /// The text of an argument.
    #[must_use]
    pub fn text(&self, key: &str) -> Option<&str> {
        self.words.iter().find_map(|word| {
            let (found, value) = word.split_once('=')?;
            (found == key).then_some(value)
        })
    }

    /// The value of an argument, if it is given.
    ///
    /// # Errors
    /// It does not read as one.
    pub fn get(&self, key: &str) -> Result<Option<u64>, String> {
        let names = names(key, self.call);
        match self.text(key) {
            Some("any") => Ok(Some(0x1_FFFF)),
            Some(text) => value(text, names).map(Some),
            // Flags may stand there without their key.
            None if key == "flags" => Ok(self
                .words
                .iter()
                .find(|word| !word.contains('=') && word.chars().any(char::is_alphabetic))
                .and_then(|word| value(word, names).ok())),
            None => Ok(None),
        }
    }

    /// The value of an argument, or another.
    ///
    /// # Errors
    /// As [`Words::get`].
    pub fn or(&self, key: &str, other: u64) -> Result<u64, String> {
        Ok(self.get(key)?.unwrap_or(other))
    }

    /// The low half of an argument, or another.
    ///
    /// # Errors
    /// As [`Words::get`].
    pub fn word(&self, key: &str, other: u32) -> Result<u32, String> {
        Ok(self.or(key, other.into())? as u32)
    }
}

/// Reads a value.
///
/// # Errors
/// It does not read as one.
pub fn value(text: &str, names: &[(&str, u64)]) -> Result<u64, String> {
    let mut bits = 0;
    for part in text.split('|') {
        bits |= sum(part, names)?;
    }
    Ok(bits)
}

/// A protection in words.
///
/// # Errors
/// As [`value`].
pub fn protection(text: &str) -> Result<u64, String> {
    value(text, PROTECTIONS)
}

/// An inheritance in words.
///
/// # Errors
/// As [`value`].
pub fn inheritance(text: &str) -> Result<u64, String> {
    value(text, INHERITANCES)
}

/// A behaviour in words.
///
/// # Errors
/// As [`value`].
pub fn behavior(text: &str) -> Result<u64, String> {
    value(text, BEHAVIORS)
}

/// A state of purgeable memory in words.
///
/// # Errors
/// As [`value`].
pub fn state(text: &str) -> Result<u64, String> {
    value(text, STATES)
}

/// A flag word of mappings in words.
///
/// # Errors
/// As [`value`].
pub fn flags(text: &str) -> Result<u64, String> {
    value(text, FLAGS)
}

fn sum(text: &str, names: &[(&str, u64)]) -> Result<u64, String> {
    let mut total = 0_u64;
    let mut rest = text;
    let mut negative = false;
    if let Some(more) = rest.strip_prefix('-') {
        (negative, rest) = (true, more);
    }
    loop {
        let inner = rest.strip_prefix('(').and_then(|more| more.split_once(')'));
        let (term, more) = match inner {
            Some((term, more)) => (sum(term, names)?, more),
            None => {
                let end = rest.find(['+', '-']).unwrap_or(rest.len());
                (product(&rest[..end], names)?, &rest[end..])
            }
        };
        total = match negative {
            true => total.wrapping_sub(term),
            false => total.wrapping_add(term),
        };
        negative = more.starts_with('-');
        match more.get(1..) {
            Some(next) => rest = next,
            None => return Ok(total),
        }
    }
}

fn product(text: &str, names: &[(&str, u64)]) -> Result<u64, String> {
    text.split('*').try_fold(1_u64, |product, factor| {
        Ok(product.wrapping_mul(number(factor, names)?))
    })
}

fn number(text: &str, names: &[(&str, u64)]) -> Result<u64, String> {
    let plain = text.strip_prefix("MAP_MEM_").unwrap_or(text);
    let known = names.iter().chain(PLACES).find(|(name, _)| *name == plain);
    if let Some((_, value)) = known {
        return Ok(*value);
    }
    let digits = text.find(|c: char| !c.is_ascii_digit());
    let parsed = match (text.strip_prefix("0x"), text.strip_prefix("2^")) {
        (Some(hex), _) => u64::from_str_radix(hex, 16).ok(),
        (_, Some("64")) => Some(0),
        (_, Some(power)) => power
            .parse()
            .ok()
            .and_then(|power| 1_u64.checked_shl(power)),
        // 32KiB.
        _ => match digits {
            Some(at) if at > 0 => {
                let unit = number(&text[at..], names)?;
                text[..at].parse().ok().map(|count: u64| count * unit)
            }
            _ => text.parse().ok(),
        },
    };
    parsed.ok_or_else(|| format!("`{text}` is no value"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(call: &'static str, text: &str) -> Words {
        let mut variants = Words::of(call, text);
        assert_eq!(variants.len(), 1);
        variants.remove(0)
    }

    #[test]
    fn values_are_sums_of_products() {
        for (text, right) in [
            ("0xfffffffffffff001", 0xFFFF_FFFF_FFFF_F001),
            ("3*PS+1", 12289),
            ("2^64-PS", 0_u64.wrapping_sub(4096)),
            ("2^32-2", 0xFFFF_FFFE),
            ("-(32KiB)", 0_u64.wrapping_sub(32768)),
            ("-1", u64::MAX),
            ("AREA+2*PS-1", AREA + 8191),
            ("16KiB", 16384),
        ] {
            assert_eq!(value(text, &[]), Ok(right), "{text}");
        }
        assert!(value("what", &[]).is_err());
        assert!(value("", &[]).is_err());
    }

    #[test]
    fn names_belong_to_their_argument() {
        let words = words("vm_map", "ANYWHERE inherit=COPY cur=READ|0x40 max=ALL+1");
        assert_eq!(words.get("flags"), Ok(Some(1)));
        assert_eq!(words.get("inherit"), Ok(Some(1)));
        assert_eq!(words.get("cur"), Ok(Some(0x41)));
        assert_eq!(words.get("max"), Ok(Some(8)));
        assert_eq!(words.get("size"), Ok(None));
        assert_eq!(words.or("size", 7), Ok(7));
    }

    #[test]
    fn alternatives_are_rows_of_their_own() {
        let either = Words::of("vm_allocate", "address=1 flags=FIXED|ANYWHERE either");
        let flags: Vec<_> = either.iter().map(|words| words.get("flags")).collect();
        assert_eq!(flags, [Ok(Some(0)), Ok(Some(1))]);
        let or = Words::of("vm_map", "inheritance=3 or 0xffffffff");
        let values: Vec<_> = or.iter().map(|words| words.get("inheritance")).collect();
        assert_eq!(values, [Ok(Some(3)), Ok(Some(0xFFFF_FFFF))]);
    }
}
