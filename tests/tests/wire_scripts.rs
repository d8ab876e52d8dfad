//! Dialogues of the client protocol as data (`testdata/*.txt`), each against both servers.
//!
//! A script is a list of cases:
//!
//! ```text
//! == what the case is about
//! config max_payload: 100       more configuration of the server, for this case and those that follow
//! config                        none any more
//! > PUB a 2                     the client sends this line
//! >> half a line                the client sends these bytes, with no line end; \r \n \t \\ \xHH
//! < PONG                        the server sends this line
//! < INFO…                       the server sends a line that starts so
//! 2> PING                       the same for a second connection, which is made when it is first used
//! closed                        the server has closed the connection
//! idle                          the connection is open and there is nothing to read: a PING gets its PONG
//! ```
//!
//! `{64*a}` in a line stands for the repeated text. The first INFO is read unseen.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::panic::{AssertUnwindSafe, catch_unwind};

use linnet_launch::{Options, Spec};

use crate::harness::{Fixture, Kind, PLAIN, Raw, program};

pub(crate) struct Case {
    pub(crate) title: String,
    pub(crate) config: String,
    /// Numbers of lines, and what stands there.
    pub(crate) steps: Vec<(usize, String)>,
}

fn run(kind: Kind, script: &str) {
    let Some(program) = program(kind) else { return };
    let mut failed = Vec::new();
    let mut running: Option<(String, Fixture)> = None;
    for case in cases(script) {
        if running.as_ref().is_none_or(|(config, _)| *config != case.config) {
            let options = Options { extra: case.config.clone(), ..PLAIN() };
            running = Some((case.config.clone(), Fixture::start(kind, Spec::new(&program).options(options))));
        }
        let (_, fixture) = running.as_mut().unwrap();
        if let Err(why) = play(&case, fixture) {
            failed.push(format!("{}: {why}", case.title));
        }
        if !fixture.server.is_running() {
            failed.push(format!("{}: the server has ended", case.title));
            running = None;
        }
    }
    assert!(failed.is_empty(), "{} cases failed on {kind:?}:\n{}", failed.len(), failed.join("\n"));
}

/// The cases of a script.
pub(crate) fn cases(script: &str) -> Vec<Case> {
    let mut config = String::new();
    let mut found: Vec<Case> = Vec::new();
    for (line, number) in script.lines().zip(1..) {
        if line.trim().is_empty() || line.starts_with('#') {
        } else if let Some(title) = line.strip_prefix("== ") {
            found.push(Case { title: title.to_owned(), config: config.clone(), steps: Vec::new() });
        } else if let Some(text) = line.strip_prefix("config") {
            config = text.trim().to_owned();
            found.last_mut().expect("a config stands in a case").config.clone_from(&config);
        } else {
            found.last_mut().expect("a step stands in a case").steps.push((number, line.to_owned()));
        }
    }
    found
}

fn play(case: &Case, fixture: &Fixture) -> Result<(), String> {
    let mut connections: BTreeMap<char, Raw> = BTreeMap::new();
    for (number, step) in &case.steps {
        let (who, step) = match step.chars().next() {
            Some(digit) if digit.is_ascii_digit() => (digit, &step[1..]),
            _ => ('1', step.as_str()),
        };
        if let Entry::Vacant(vacant) = connections.entry(who) {
            let raw = vacant.insert(fixture.raw());
            let greeting = raw.line();
            if !greeting.as_ref().is_some_and(|info| info.starts_with("INFO ")) {
                return Err(format!("line {number}: instead of INFO came {greeting:?}"));
            }
        }
        let raw = connections.get_mut(&who).unwrap();
        let played = catch_unwind(AssertUnwindSafe(|| play_step(step, raw)));
        let outcome = played.unwrap_or_else(|panic| {
            Err(panic.downcast_ref::<String>().cloned().unwrap_or_else(|| "no answer".to_owned()))
        });
        outcome.map_err(|why| format!("line {number}: {step}: {why}"))?;
    }
    Ok(())
}

fn play_step(step: &str, raw: &mut Raw) -> Result<(), String> {
    if let Some(text) = step.strip_prefix(">> ") {
        raw.send(&bytes(text));
    } else if let Some(text) = step.strip_prefix("> ") {
        raw.send(&[bytes(text), b"\r\n".to_vec()].concat());
    } else if step == ">" {
        raw.send(b"\r\n");
    } else if let Some(text) = step.strip_prefix('<') {
        let expected = String::from_utf8(bytes(text.strip_prefix(' ').unwrap_or(text))).unwrap();
        let got = raw.line();
        let matches = match (&got, expected.strip_suffix('…')) {
            (None, _) => false,
            (Some(line), Some(start)) => line.starts_with(start),
            (Some(line), None) => *line == expected,
        };
        if !matches {
            return Err(format!("got {got:?}"));
        }
    } else if step == "closed" {
        let said = raw.until_closed();
        if !said.is_empty() {
            return Err(format!("before it closed, the server said {said:?}"));
        }
    } else if step == "idle" {
        raw.ping();
    } else {
        panic!("not a step: {step}");
    }
    Ok(())
}

/// Escapes and repetitions as bytes.
pub(crate) fn bytes(text: &str) -> Vec<u8> {
    let mut out = Vec::new();
    let mut rest = text.as_bytes();
    while let Some((&first, after)) = rest.split_first() {
        if let Some((repeated, consumed)) = repetition(rest) {
            out.extend(repeated);
            rest = &rest[consumed..];
            continue;
        }
        rest = after;
        if first != b'\\' {
            out.push(first);
            continue;
        }
        let (&kind, after) = rest.split_first().expect("something follows a backslash");
        rest = after;
        match kind {
            b'r' => out.push(b'\r'),
            b'n' => out.push(b'\n'),
            b't' => out.push(b'\t'),
            b'f' => out.push(0x0c),
            b'x' => {
                let (digits, after) = rest.split_at(2);
                rest = after;
                out.push(u8::from_str_radix(std::str::from_utf8(digits).unwrap(), 16).unwrap());
            }
            other => out.push(other),
        }
    }
    out
}

/// `{64*a}` at the start: what it stands for, and its length.
fn repetition(text: &[u8]) -> Option<(Vec<u8>, usize)> {
    let inner = text.strip_prefix(b"{")?;
    let end = inner.iter().position(|b| *b == b'}')?;
    let (count, what) = std::str::from_utf8(&inner[..end]).ok()?.split_once('*')?;
    Some((what.repeat(count.parse().ok()?).into_bytes(), end + 2))
}

macro_rules! scripts {
    ($($name:ident)+) => {
        mod linnet {
            $(#[test] fn $name() {
                super::run(super::Kind::Linnet, include_str!(concat!("../testdata/", stringify!($name), ".txt")));
            })+
        }
        mod peer {
            $(#[test] fn $name() {
                super::run(super::Kind::Peer, include_str!(concat!("../testdata/", stringify!($name), ".txt")));
            })+
        }
    };
}

scripts! { errors messages logins }
