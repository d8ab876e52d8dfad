//! What clients read without a consumer.

use linnet_assets::{Command, ConsumerCommand};
use linnet_ids::{GroupId, Wall};
use linnet_jsapi::requests::MsgGetRequest;
use linnet_replication::Host as _;

use super::{SECOND, SUBJECTS};
use crate::flows::Waiter;
use crate::process::Letter;
use crate::questions::{Ask, Read};
use crate::world::World;

impl World {
    /// Calls the API and remembers what was asked.
    pub(crate) fn call_stream(&mut self, group: GroupId, command: Command, ask: Ask) {
        let Some(key) = self.process.key_of(group) else { return };
        self.trace.line(|| format!("{command:?}"));
        let token = self.process.expect(Waiter::Client);
        self.questions.ask(token, group, ask, &mut self.facts);
        self.process.command(key, command, token);
    }

    pub(super) fn read(&mut self, name: &str, group: GroupId) {
        match self.rng.u8(..12) {
            0 => self.call_stream(group, Command::Consumer(ConsumerCommand::Names), Ask::Names),
            1 => {
                let consumer = format!("c{}", self.rng.u8(..3));
                let command = Command::Consumer(ConsumerCommand::Info(consumer.clone()));
                self.call_stream(group, command, Ask::Info(consumer));
            }
            2 | 3 => {
                let subjects = self.pattern(name);
                let command = Command::State { subjects: Some(subjects.clone()), deleted: true };
                self.call_stream(group, command, Ask::State(subjects));
            }
            4..7 => {
                let request = self.selector(name, group);
                self.call_stream(group, Command::Get(request.clone()), Ask::Get(Read::new(request)));
            }
            _ => self.read_directly(name, group),
        }
    }

    fn read_directly(&mut self, name: &str, group: GroupId) {
        let Some(key) = self.process.key_of(group) else { return };
        let mut request = self.selector(name, group);
        // What is read without headers does not say which message it is.
        request.no_hdr = false;
        let mut subject = None;
        match self.rng.u8(..4) {
            0 => {
                let one = format!("{name}.{}", self.rng.u64(..SUBJECTS));
                request = MsgGetRequest { last_by_subj: one.clone(), ..MsgGetRequest::default() };
                subject = Some(one);
            }
            1 if request.last_by_subj.is_empty() => {
                request.batch = self.rng.i64(-1..8);
                request.max_bytes = self.bound();
            }
            2 => request = self.newest_of_many(name, group),
            _ => {}
        }
        self.trace.line(|| format!("direct get {subject:?} {request:?}"));
        let payload =
            if subject.is_none() { serde_json::to_vec(&request).unwrap_or_default() } else { Vec::new() };
        let no = self.questions.read(group, Read::new(request), &self.facts);
        self.process
            .letter(key, Letter::Read { subject, payload, reply: format!("_read.{no}").into_bytes() });
    }

    fn newest_of_many(&mut self, name: &str, group: GroupId) -> MsgGetRequest {
        let multi_last = (0..self.rng.u8(1..3)).map(|_| self.pattern(name)).collect();
        let mut request = MsgGetRequest { multi_last, ..MsgGetRequest::default() };
        let (seq, time) = self.somewhere(group);
        match self.rng.u8(..3) {
            0 => request.up_to_seq = seq,
            1 => request.up_to_time = Some(time),
            _ => {}
        }
        if self.rng.u8(..4) == 0 {
            request.seq = self.somewhere(group).0;
        }
        request.batch = self.rng.i64(0..4);
        request.max_bytes = self.bound();
        request
    }

    fn bound(&mut self) -> i64 {
        if self.rng.u8(..3) == 0 { self.rng.i64(1..2000) } else { 0 }
    }

    /// One of the ways to say which message is wanted.
    fn selector(&mut self, name: &str, group: GroupId) -> MsgGetRequest {
        let (seq, time) = self.somewhere(group);
        let (subject, plain) = (self.pattern(name), MsgGetRequest::default());
        let request = match self.rng.u8(..6) {
            0 => MsgGetRequest { last_by_subj: subject, ..plain },
            1 => MsgGetRequest { next_by_subj: subject, ..plain },
            2 => MsgGetRequest { next_by_subj: subject, seq, ..plain },
            3 => MsgGetRequest { next_by_subj: subject, start_time: Some(time), ..plain },
            4 => MsgGetRequest { start_time: Some(time), ..plain },
            _ => MsgGetRequest { seq, ..plain },
        };
        MsgGetRequest { no_hdr: self.rng.u8(..4) == 0, ..request }
    }

    fn pattern(&mut self, name: &str) -> String {
        if self.rng.u8(..3) == 0 {
            format!("{name}.*")
        } else {
            format!("{name}.{}", self.rng.u64(..SUBJECTS))
        }
    }

    /// A sequence about where there are messages, and about when one was stored.
    pub(super) fn somewhere(&mut self, group: GroupId) -> (u64, Wall) {
        let Some(stream) = self.facts.streams.get(&group) else { return (1, Wall(0)) };
        let first = stream.model.first().max(1);
        let seq = self.rng.u64(first..=stream.model.last.max(first) + 2);
        let time = stream.model.messages.range(..=seq).next_back().map_or(0, |(_, m)| m.time);
        (seq, Wall(time + [0, 0, 1, SECOND][self.rng.usize(..4)]))
    }
}
