//! The same schedules as the crate `raft` of TiKV was given, without faults of disks: the same leaders, and the same
//! entries committed in the same order. `differential/` writes what that crate does; `LINNET_SCHEDULES` names a file
//! with more.
//!
//! A line has the size of a group, steps with the leader and the number of committed values after each, and the
//! values. Steps: `cN` N stands; `pN` N proposes the next letter; `lN` the same, and N stops before anybody gets it;
//! `hNM` the same, but M gets it; `sB` servers hear only those whose bit in B is the same as theirs, and a leader
//! without a majority stops; `rN` N stops. Whoever stops starts again. After each step everything on its way arrives.

use bytes::Bytes;
use linnet_raft::is_reserved;

use crate::world::{World, peer};

struct Group {
    world: World,
    side: u32,
    next: u8,
}

impl Group {
    fn new(size: usize) -> Self {
        let mut world = World::new(1, size, size);
        world.quiesce();
        Self { world, side: 0, next: b'a' }
    }

    fn size(&self) -> usize {
        self.world.servers.len()
    }

    fn side_of(&self, at: usize) -> u32 {
        (self.side >> at) & 1
    }

    fn rest(&mut self) {
        self.world.quiesce();
        // Servers compare what they think of their group.
        for at in 0..self.size() {
            self.world.with(at, |node, _, out| node.verify(out));
        }
        self.world.quiesce();
    }

    fn leader(&self) -> Option<usize> {
        self.world.leader()
    }

    fn restart(&mut self, at: usize) {
        self.world.crash_keeping(at, usize::MAX);
        self.world.start(at);
    }

    fn propose(&mut self, at: usize) {
        self.world.propose_value(at, Bytes::copy_from_slice(&[self.next])).unwrap();
        self.next = if self.next == b'z' { b'a' } else { self.next + 1 };
    }

    fn separate(&mut self, side: u32) {
        self.side = side;
        let lonely = self.leader().filter(|leader| {
            (0..self.size()).filter(|at| self.side_of(*at) == self.side_of(*leader)).count()
                <= self.size() / 2
        });
        // Nobody loses a majority that it has before and after.
        for is_cut in [false, true] {
            for (a, b) in (0..self.size()).flat_map(|a| (0..a).map(move |b| (a, b))) {
                if is_cut == (self.side_of(a) != self.side_of(b)) {
                    self.world.set_cut(a, b, is_cut);
                }
            }
        }
        // What a leader sends while it is being cut off does not arrive.
        self.world.network.clear();
        if let Some(leader) = lonely {
            self.restart(leader);
        }
    }

    fn take(&mut self, step: &str) {
        let digit = |at: usize| usize::from(step.as_bytes()[at] - b'0');
        match step.as_bytes()[0] {
            b'c' => {
                let at = digit(1);
                self.world.with(at, |node, now, _| node.campaign(now));
                self.world.with(at, |node, now, out| node.on_timeout(now, out));
                self.world.quiesce();
                self.give_up(at);
            }
            b'p' => self.propose(digit(1)),
            b'l' | b'h' => {
                let at = digit(1);
                self.propose(at);
                self.world.sync(at, usize::MAX);
                let gets = (step.as_bytes()[0] == b'h').then(|| peer(digit(2)));
                self.world.network.retain(|message| Some(message.to.peer) == gets);
                while let Some(message) = self.world.network.pop() {
                    if message.from.peer == peer(at) {
                        self.world.deliver(message);
                    }
                }
                if let Some(gets) = gets.and_then(|gets| self.world.at(gets)) {
                    self.world.sync(gets, usize::MAX);
                }
                self.world.network.clear();
                self.restart(at);
            }
            b's' => self.separate(step[1..].parse().unwrap()),
            _ => self.restart(digit(1)),
        }
        self.rest();
    }

    /// Whoever stood in vain waits until it is told to stand again.
    fn give_up(&mut self, at: usize) {
        if self.world.node(at).is_some_and(|node| node.status().is_candidate) {
            self.world.time_out(at);
        }
    }

    /// What was ever applied.
    fn values(&self) -> String {
        let values = self.world.ghost.committed.values().filter(|entry| !is_reserved(&entry.payload));
        values.map(|entry| String::from_utf8_lossy(&entry.payload).into_owned()).collect()
    }
}

#[test]
fn schedules_end_as_with_another_implementation() {
    let written = include_str!("../../testdata/differential/schedules.txt").to_owned();
    let named = std::env::var_os("LINNET_SCHEDULES").map(|path| std::fs::read_to_string(path).unwrap());
    for (at, line) in named.unwrap_or(written).lines().enumerate() {
        let (steps, values) = line.split_once(" = ").unwrap();
        let mut words = steps.split(' ');
        let mut group = Group::new(words.next().and_then(|size| size.parse().ok()).unwrap());
        for (n, word) in words.enumerate() {
            let (step, expected) = word.split_once('>').unwrap();
            group.take(step);
            let leader = group.leader().map_or_else(|| "-".into(), |leader| leader.to_string());
            let found = format!("{leader}/{}", group.values().len());
            assert_eq!(found, expected, "step {n}, {step}, of schedule {at}: {line}");
        }
        assert_eq!(group.values(), values, "schedule {at}");
    }
}
