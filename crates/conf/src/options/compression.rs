use std::time::Duration;

use crate::duration;
use crate::lang::Value;
use crate::read;
use crate::report::Report;
use crate::table::{Field, Row, Table, key, unknown_field};

/// How connections between servers are compressed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Compression {
    /// Whether, and how much.
    pub mode: CompressionMode,
    /// For [`CompressionMode::Auto`]: round-trip times up to which data is not compressed, fast, better and best; one of
    /// zero leaves its level out. Empty for 10, 50 and 100 ms.
    pub rtt_thresholds: Vec<Duration>,
}

/// Whether connections between servers are compressed, and how much.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CompressionMode {
    /// Other servers are not even told that there is compression.
    NotSupported,
    /// Never.
    Off,
    /// If the other server wants it.
    Accept,
    /// Fast.
    Fast,
    /// Better than fast.
    Better,
    /// As well as possible.
    Best,
    /// As the round-trip time suggests.
    Auto,
}

/// Round-trip times that can be given at most.
const THRESHOLDS_MAX: usize = 4;

impl CompressionMode {
    /// `on` is what "on" means.
    fn parse(text: &str, on: Self) -> Option<Self> {
        Some(match text.to_ascii_lowercase().as_str() {
            "not supported" | "not_supported" => Self::NotSupported,
            "off" | "disabled" | "false" => Self::Off,
            "accept" => Self::Accept,
            "on" | "enabled" | "true" => on,
            "s2_fast" | "fast" => Self::Fast,
            "s2_better" | "better" => Self::Better,
            "s2_best" | "best" => Self::Best,
            "s2_auto" | "auto" => Self::Auto,
            _ => return None,
        })
    }
}

/// The block while it is read.
#[derive(Default)]
pub(crate) struct Block {
    mode: String,
    rtt_thresholds: Option<Vec<Duration>>,
}

pub(crate) const TABLE: Table<Block> =
    Table { section: "compression", rows: &[KEYS], unknown: unknown_field };

const KEYS: &[Row<Block>] = &[
    key!(
        ["mode"],
        "off, accept, s2_fast, s2_better, s2_best or s2_auto",
        "",
        Live,
        mode = read::string,
        "Whether connections between servers are compressed, and how much."
    ),
    key!(
        ["rtt_thresholds", "thresholds", "rtts", "rtt"],
        "array of duration strings",
        "(10ms, 50ms, 100ms)",
        Live,
        rtt_thresholds = thresholds,
        "Round-trip times up to which s2_auto does not compress, and compresses fast, better and best."
    ),
];

/// Reads a boolean, a mode, or a block; `on` is what "on" means. `None` after an error, or if nothing is said.
pub(crate) fn read(field: &Field<'_>, on: CompressionMode, report: &mut Report) -> Option<Compression> {
    let mut block = Block::default();
    match field.value {
        Value::Bool(is_on) => block.mode = is_on.to_string(),
        Value::String(text) => block.mode.clone_from(text),
        Value::Map(map) => TABLE.read(map, &mut block, report),
        other => {
            let text =
                format!("field {:?} should be a boolean or a structure, got {}", field.name, other.kind());
            report.error(field.at, text);
            return None;
        }
    }
    if block.mode.is_empty() {
        return None;
    }
    let Some(mode) = CompressionMode::parse(&block.mode, on) else {
        report.error(field.at, format!("unsupported compression mode {:?}", block.mode));
        return None;
    };
    let mut rtt_thresholds = Vec::new();
    if mode == CompressionMode::Auto
        && let Some(given) = block.rtt_thresholds
    {
        match checked(given) {
            Ok(given) => rtt_thresholds = given,
            Err(text) => report.error(field.at, text),
        }
    }
    Some(Compression { mode, rtt_thresholds })
}

fn thresholds(field: &Field<'_>, report: &mut Report) -> Option<Vec<Duration>> {
    let mut found = Vec::new();
    for text in read::strings(field, report)? {
        let Some(nanos) = duration::parse_nanos(&text) else {
            report.error(field.at, format!("error parsing {}: invalid duration {text:?}", field.name));
            return None;
        };
        // Less than nothing leaves the level out, as nothing does.
        found.push(Duration::from_nanos(u64::try_from(nanos).unwrap_or(0)));
    }
    Some(found)
}

/// The texts are nats-server's.
fn checked(mut given: Vec<Duration>) -> Result<Vec<Duration>, String> {
    let shown: Vec<String> = given.iter().copied().map(duration::show).collect();
    let shown = shown.join(" ");
    let set = given.iter().filter(|time| !time.is_zero());
    if !set.is_sorted() {
        return Err(format!("RTT threshold values [{shown}] should be in ascending order"));
    }
    let used = given.iter().rposition(|time| !time.is_zero()).map_or(0, |last| last + 1);
    given.truncate(used);
    match given.len() {
        0 => Err("compression mode \"s2_auto\" requires at least one RTT threshold".to_owned()),
        1..=THRESHOLDS_MAX => Ok(given),
        _ => Err(format!(
            "compression mode \"s2_auto\" should have no more than {THRESHOLDS_MAX} RTT thresholds: [{shown}]"
        )),
    }
}
