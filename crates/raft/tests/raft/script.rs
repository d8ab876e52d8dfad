//! Scripts: commands, `----`, what happens. `UPDATE=1` writes what happens now.
//!
//! A server is a number. `start N [V]` founds a group of N servers of which V vote. Messages and writes wait until
//! `deliver [FROM TO]` and `sync N`; `rest` does both until nothing is left. Time passes only by `timeout N` and `wait
//! MILLIS`. `lead N` and `put N TEXT` elect a leader and have an entry committed without telling of it.

use std::fmt::Write as _;
use std::path::Path;
use std::time::Duration;

use bytes::Bytes;
use linnet_ids::Mono;
use linnet_raft::{Change, Message, Replica};

use crate::tell::{tell_point, tell_term};
use crate::walk::caught;
use crate::world::{World, peer};

struct Script {
    world: Option<World>,
    /// Copies of messages, to arrive late.
    kept: Vec<Message>,
}

impl Script {
    /// What a command brings about.
    fn run(&mut self, line: &str) -> String {
        let words: Vec<&str> = line.split_whitespace().collect();
        let number = |at: usize| words.get(at).and_then(|word| word.parse::<usize>().ok());
        if words.first() == Some(&"start") {
            let servers = number(1).unwrap();
            let mut world = World::new(1, servers, number(2).unwrap_or(servers));
            world.trace = Some(Vec::new());
            self.world = Some(world);
            return String::new();
        }
        let Some(world) = &mut self.world else { panic!("a script begins with `start`") };
        let mut out = String::new();
        match words[0] {
            "keep" => self.kept.extend(world.network.iter().cloned()),
            "late" => world.network.append(&mut self.kept),
            _ => {}
        }
        let result = caught(|| command(world, &words, &mut out));
        for line in world.trace.replace(Vec::new()).into_iter().flatten() {
            writeln!(out, "{line}").unwrap();
        }
        if let Err(text) = result {
            writeln!(out, "wrong: {text}").unwrap();
        }
        out
    }
}

fn command(world: &mut World, words: &[&str], out: &mut String) {
    let number = |at: usize| words.get(at).and_then(|word| word.parse::<usize>().ok());
    let first = || number(1).unwrap_or_else(|| panic!("{words:?} lacks a number"));
    let second = || number(2).unwrap_or_else(|| panic!("{words:?} lacks a number"));
    match words[0] {
        "campaign" => {
            world.with(first(), |node, now, _| node.campaign(now));
            world.with(first(), |node, now, out| node.on_timeout(now, out));
        }
        "lead" => {
            world.elect(first());
            world.trace = Some(Vec::new());
        }
        "put" => {
            refusal(world.propose_value(first(), Bytes::from(words[2].to_owned())), out);
            world.quiesce();
            world.trace = Some(Vec::new());
        }
        "keep" | "late" => {}
        "timeout" => world.time_out(first()),
        "wait" => world.now = Mono(world.now.0) + Duration::from_millis(first() as u64),
        "deliver" => deliver(world, number(1).zip(number(2))),
        "lose" => {
            let (from, to) = (peer(first()), peer(second()));
            world.network.retain(|m| m.from.peer != from || m.to.peer != to);
        }
        "mail" => {
            for message in &world.network {
                writeln!(out, "{}", world.tell_message(message)).unwrap();
            }
        }
        "sync" => world.sync(first(), number(2).unwrap_or(usize::MAX)),
        "rest" => world.quiesce(),
        "propose" => refusal(world.propose_value(first(), Bytes::from(words[2].to_owned())), out),
        "read" => refusal(world.read(first()), out),
        "verify" => {
            world.with(first(), |node, _, out| node.verify(out));
        }
        "transfer" => refusal(world.transfer(first(), peer(second())), out),
        "add" => {
            let life = Replica { peer: peer(second()), incarnation: 100 + second() as u64 };
            world.know_life(life);
            refusal(world.change(first(), Change::Add(life)), out);
            world.start_added(second(), life.incarnation);
        }
        "promote" => refusal(world.change(first(), Change::Promote(peer(second()))), out),
        "demote" => refusal(world.change(first(), Change::Demote(peer(second()))), out),
        "remove" => refusal(world.change(first(), Change::Remove(peer(second()))), out),
        "checkpoint" => world.checkpoint(first()),
        "doubt" => world.doubt(first()),
        "cut" => world.set_cut(first(), second(), true),
        "heal" => world.heal_network(),
        "crash" => world.crash_keeping(first(), number(2).unwrap_or(0)),
        "restart" => world.start(first()),
        "wipe" => {
            world.crash_keeping(first(), 0);
            world.wipe(first());
            world.start(first());
        }
        "remount" => {
            world.crash_keeping(first(), 0);
            world.remount(first());
            world.start(first());
        }
        "log" => log(world, first(), out),
        "status" => status(world, out),
        other => panic!("no such command: {other}"),
    }
}

fn refusal<T, E: std::fmt::Display>(result: Result<T, E>, out: &mut String) {
    if let Err(refused) = result {
        writeln!(out, "refused: {refused}").unwrap();
    }
}

/// Delivers what is on its way now, from one server to another if they are named.
fn deliver(world: &mut World, between: Option<(usize, usize)>) {
    let between = between.map(|(from, to)| (peer(from), peer(to)));
    let (now, later) = std::mem::take(&mut world.network)
        .into_iter()
        .partition(|m| between.is_none_or(|pair| pair == (m.from.peer, m.to.peer)));
    world.network = later;
    let now: Vec<Message> = now;
    for message in now {
        world.deliver(message);
    }
}

fn log(world: &World, at: usize, out: &mut String) {
    let image = &world.servers[at].disk.visible;
    writeln!(out, "n{at} begins at {}", tell_point(image.base)).unwrap();
    for (index, entry) in (image.base.index + 1..).zip(&image.entries) {
        writeln!(out, "{index}/{} {}", tell_term(entry.term), world.tell_entry(entry)).unwrap();
    }
}

fn status(world: &World, out: &mut String) {
    for (at, server) in world.servers.iter().enumerate() {
        let Some(node) = &server.node else {
            writeln!(out, "n{at} is down").unwrap();
            continue;
        };
        let status = node.status();
        let leader = status.leader.map_or_else(|| "nobody".into(), |leader| world.tell_peer(leader));
        let forgot = if status.is_amnesiac { ", amnesiac" } else { "" };
        writeln!(
            out,
            "{} term {} follows {leader}, log {}/{}, commit {}, applied {}{forgot}; members {}",
            world.tell_life(server.peer, node.incarnation()),
            tell_term(status.term),
            status.last,
            tell_term(status.last_term),
            status.commit,
            status.applied,
            world.tell_members(&status.membership),
        )
        .unwrap();
    }
}

/// The text of a script with what happens now.
fn replay(text: &str) -> String {
    let mut script = Script { world: None, kept: Vec::new() };
    let mut told = String::new();
    let mut is_expected = false;
    let mut happened = String::new();
    for line in text.lines().chain([""]) {
        if line == "----" {
            is_expected = true;
            writeln!(told, "----\n{}", if happened.is_empty() { "ok\n" } else { &happened }).unwrap();
            happened.clear();
        } else if is_expected {
            is_expected = !line.is_empty();
        } else {
            if !line.is_empty() && !line.starts_with('#') {
                happened.push_str(&script.run(line));
            }
            if !line.is_empty() || !told.ends_with("\n\n") {
                writeln!(told, "{line}").unwrap();
            }
        }
    }
    format!("{}\n", told.trim_end())
}

#[test]
fn scripts_go_as_written() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("testdata");
    let mut paths: Vec<_> = std::fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    paths.retain(|path| path.is_file());
    paths.sort_unstable();
    assert!(!paths.is_empty(), "there are scripts");
    let mut changed = Vec::new();
    for path in paths {
        let text = std::fs::read_to_string(&path).unwrap();
        let now = replay(&text);
        if now == text {
            continue;
        }
        if std::env::var_os("UPDATE").is_some() {
            std::fs::write(&path, &now).unwrap();
        } else {
            let differs = text.lines().zip(now.lines()).enumerate().find(|(_, (old, new))| old != new);
            changed.push(format!("{}: {differs:?}", path.display()));
        }
    }
    assert!(changed.is_empty(), "{changed:#?}");
}
