//! What clients and the log saw: the evidence that the invariants are held against.

mod asked;

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use linnet_assets::{Entry, Token};
use linnet_ids::{GroupId, Mono};
use linnet_jsapi::{ConsumerConfig, StreamConfig};
use linnet_replication::Ticket;

pub(crate) use self::asked::{AckFacts, CopyFacts, FastFacts, PublishFacts, Wish, publish_of};
use crate::consumer_facts::ConsumerFacts;
use crate::invariants::{
    Check, Violation, backups, batches, broken, content, duplicates, expectations, markers, origins,
    schedules, sealed, sequences, starts,
};
use crate::log::Appended;
use crate::model::{Message, Model, total_of};

/// What is known of one stream.
pub(crate) struct StreamFacts {
    pub(crate) name: String,
    pub(crate) group: GroupId,
    /// Its creation was answered.
    pub(crate) created: bool,
    /// Its deletion was asked for; answered.
    pub(crate) ending: bool,
    pub(crate) ended: bool,
    /// A change of its configuration was asked for and not answered.
    pub(crate) is_changing: bool,
    /// Damage may have taken something.
    pub(crate) is_lossy: bool,
    /// Damage brought it back after its deletion, with which went how far its sequences had got.
    pub(crate) lost_floor: bool,
    /// Entries behind `applied`.
    pub(crate) entries: BTreeMap<u64, (Ticket, Vec<u8>)>,
    pub(crate) applied: u64,
    pub(crate) model: Model,
    /// Highest sequence and time that were ever visible.
    pub(crate) visible_last: u64,
    pub(crate) visible_time: i64,
    /// Which publish is stored as which sequence.
    pub(crate) stored: BTreeMap<u64, usize>,
    /// Every content a sequence was ever given in the log, visible or not.
    pub(crate) everything: BTreeMap<u64, Vec<Message>>,
    pub(crate) acked: BTreeMap<u64, usize>,
    /// The messages of the backup that it is restored from.
    pub(crate) backup: Option<BTreeMap<u64, Message>>,
    /// Sequences taken over of each source.
    pub(crate) taken: BTreeMap<GroupId, BTreeSet<u64>>,
    /// Messages to be published again.
    pub(crate) copies: VecDeque<CopyFacts>,
    /// Fast batches by id.
    pub(crate) fast: BTreeMap<String, FastFacts>,
    /// Publishes that are stored.
    pub(crate) kept: BTreeSet<usize>,
    /// Every visible value of every counter.
    pub(crate) counted: BTreeMap<Vec<u8>, BTreeSet<i64>>,
    pub(crate) consumers: BTreeMap<(String, u64), ConsumerFacts>,
    /// Consumers that clients asked for, until they are answered.
    pub(crate) wishes: Vec<Wish>,
    /// How many resets of a consumer are asked for and not answered.
    pub(crate) resetting: BTreeMap<String, u32>,
    initial: StreamConfig,
}

impl StreamFacts {
    pub(crate) fn new(name: &str, group: GroupId, config: StreamConfig) -> Self {
        Self {
            name: name.to_owned(),
            group,
            created: false,
            ending: false,
            ended: false,
            is_changing: false,
            is_lossy: false,
            lost_floor: false,
            entries: BTreeMap::new(),
            applied: 0,
            model: Model::new(config.clone()),
            visible_last: 0,
            visible_time: 0,
            stored: BTreeMap::new(),
            everything: BTreeMap::new(),
            acked: BTreeMap::new(),
            backup: None,
            taken: BTreeMap::new(),
            copies: VecDeque::new(),
            fast: BTreeMap::new(),
            kept: BTreeSet::new(),
            counted: BTreeMap::new(),
            consumers: BTreeMap::new(),
            wishes: Vec::new(),
            resetting: BTreeMap::new(),
            initial: config,
        }
    }

    /// The group starts anew with an empty log.
    pub(crate) fn restart_empty(&mut self) {
        self.model = Model::new(self.initial.clone());
        if self.backup.is_some() {
            self.model.begin_restoring();
        }
        self.entries.clear();
        self.applied = 0;
    }

    /// The process ended, and with it everything that was in memory alone: it goes on behind `last`. Entries are
    /// counted on, so that consumers of the same name are told apart.
    pub(crate) fn restart_in_memory(&mut self, config: StreamConfig, last: u64) -> Check {
        // A mirror copies its origin anew.
        let is_copy = config.mirror.is_some();
        let visible_last = self.everything.keys().next_back().copied().filter(|_| !is_copy).unwrap_or(0);
        let visible_last = if self.lost_floor { visible_last.min(last) } else { visible_last };
        if last < visible_last {
            let text = format!("{}: it goes on behind {last} and was at {visible_last}", self.name);
            return broken("sequences", text);
        }
        let (created, ended, applied) = (self.created, self.ended, self.applied);
        let lost_floor = self.lost_floor;
        // Others may have taken what was there.
        let (everything, taken) = (std::mem::take(&mut self.everything), BTreeMap::new());
        let mut empty = Self::new(&self.name, self.group, config);
        empty.model.last = last;
        *self = Self { created, ended, applied, lost_floor, everything, taken, visible_last, ..empty };
        Ok(())
    }

    /// It applies an entry that is in no log.
    fn apply_unlogged(&mut self, payload: &[u8], evidence: &Evidence<'_>) -> Check {
        for (seq, message) in messages_of(payload) {
            self.everything.entry(seq).or_default().push(message);
        }
        self.apply(self.applied + 1, payload, evidence)?;
        let model = &self.model;
        self.wishes.iter_mut().for_each(|wish| wish.note(model));
        Ok(())
    }

    /// A client asks for a consumer.
    pub(crate) fn wish(&mut self, token: Token, config: ConsumerConfig) {
        let mut wish = Wish { token, config, starts: Vec::new() };
        wish.note(&self.model);
        self.wishes.push(wish);
    }

    /// A client asks that a consumer begin anew: from now on nobody knows whether it has.
    pub(crate) fn reset_asked(&mut self, name: &str) {
        let open = self.resetting.entry(name.to_owned()).or_default();
        *open += 1;
        if *open == 1 {
            self.consumers.iter_mut().filter(|((of, _), _)| of == name).for_each(|(_, facts)| facts.doubt());
        }
    }

    /// Such a request was answered.
    pub(crate) fn reset_answered(&mut self, name: &str) {
        if let Some(open) = self.resetting.get_mut(name) {
            *open -= 1;
            if *open == 0 {
                self.resetting.remove(name);
            }
        }
    }

    /// The process that knew of requests is gone.
    pub(crate) fn forget_requests(&mut self) {
        self.wishes.clear();
        self.is_changing = false;
        self.copies.clear();
        self.resetting.clear();
        self.consumers.values_mut().for_each(ConsumerFacts::forget_life);
    }

    fn append(&mut self, appended: Appended) -> Check {
        if appended.index <= self.applied {
            let text = format!("{}: entry {} is written again", self.name, appended.index);
            return broken("durability", text);
        }
        let _ = self.entries.split_off(&appended.index);
        for (seq, message) in messages_of(&appended.payload) {
            self.everything.entry(seq).or_default().push(message);
        }
        self.entries.insert(appended.index, (appended.ticket, appended.payload));
        Ok(())
    }

    /// A consumer of a backup goes on where it was.
    fn go_on_with(&mut self, index: u64, payload: &[u8]) {
        if let Ok(Entry::ConsumerAttach(attach)) = Entry::decode(payload)
            && let Some(state) = &attach.state
        {
            self.consumers.insert((attach.name, index), ConsumerFacts::continuing(state));
        }
    }

    /// A message about to be visible is there for a reason.
    fn is_rightful(&mut self, seq: u64, message: &Message, evidence: &Evidence<'_>) -> Check {
        if self.model.restoring {
            backups::is_in_backup(self, seq, message)
        } else if origins::is_follower(self) {
            origins::is_taken_rightly(self, evidence.others, seq, message)
        } else if markers::is_marker(message) {
            markers::is_due(self, seq, message)
        } else if schedules::is_produced(evidence.publishes, message) {
            schedules::is_due(self, seq, message)
        } else {
            content::is_as_sent(evidence.publishes, self, seq, message)
        }
    }

    /// Applies one entry to the model and checks what becomes visible.
    fn apply(&mut self, index: u64, payload: &[u8], evidence: &Evidence<'_>) -> Check {
        let records: Vec<(u64, Message)> = messages_of(payload);
        if self.group != GroupId::META {
            let is_follower = origins::is_follower(self);
            let is_own = !is_follower && !self.model.restoring;
            if !self.model.restoring {
                sealed::is_allowed(self, payload)?;
            }
            backups::is_complete(self, payload)?;
            if is_own {
                batches::are_whole(self, &records)?;
            }
            for (at, (seq, message)) in records.iter().enumerate() {
                self.is_rightful(*seq, message, evidence)?;
                sequences::is_new(self, *seq, message.time)?;
                let single = entry_of(payload, at);
                if is_own {
                    expectations::are_met(self, *seq, message)?;
                }
                let copy = self.model.published_as(&message.subject);
                let last = copy.as_ref().map_or(0, |_| self.model.last_of(&message.subject));
                let headers_only = self.model.config.republish.as_ref().is_some_and(|r| r.headers_only);
                self.model.apply(index, &single);
                if let Some(to) = copy.filter(|_| !self.model.passed_over && !self.model.restoring) {
                    self.copies.push_back(CopyFacts { seq: *seq, to, last, headers_only });
                }
                if self.model.config.mirror.is_none() && !self.model.restoring {
                    duplicates::is_first(self, *seq, evidence.max_wall)?;
                }
                if self.model.config.allow_msg_counter {
                    self.counted.entry(message.subject.clone()).or_default().extend(total_of(message));
                }
                self.visible_last = *seq;
                self.visible_time = message.time;
                if let Some((no, _)) = publish_of(evidence.publishes, message)
                    && !is_follower
                    && !schedules::is_produced(evidence.publishes, message)
                {
                    self.stored.insert(*seq, no);
                    self.kept.insert(no);
                }
            }
        }
        markers::are_left(self, payload)?;
        if self.model.restoring {
            self.go_on_with(index, payload);
        } else {
            starts::is_as_asked(self, payload)?;
        }
        if (records.is_empty() || self.group == GroupId::META) && !self.model.apply(index, payload) {
            return broken("durability", format!("{}: entry {index} cannot be understood", self.name));
        }
        // Sequences that a purge skips belong to no message, and no floor covers them.
        if !matches!(Entry::decode(payload), Ok(Entry::Purge(_))) {
            self.visible_last = self.visible_last.max(self.model.last);
        }
        self.applied = index;
        for (name, consumer) in &self.model.consumers {
            let facts = self.consumers.entry((name.clone(), consumer.born)).or_default();
            facts.follow(consumer);
        }
        Ok(())
    }

    /// Applies the entries that fulfil `due`, in order.
    pub(crate) fn apply_while(
        &mut self,
        evidence: &Evidence<'_>,
        due: impl Fn(u64, Ticket) -> bool,
    ) -> Check {
        while let Some(first) = self.entries.first_entry().filter(|e| due(*e.key(), e.get().0)) {
            let (index, (_, payload)) = first.remove_entry();
            self.apply(index, &payload, evidence)?;
        }
        let model = &self.model;
        self.wishes.iter_mut().for_each(|wish| wish.note(model));
        Ok(())
    }
}

fn messages_of(payload: &[u8]) -> Vec<(u64, Message)> {
    let mut messages = Vec::new();
    if payload.first() != Some(&1) {
        return messages;
    }
    let mut records = &payload[1..];
    while let Ok((record, len)) = linnet_store::Record::view(records) {
        records = &records[len..];
        let message = Message {
            subject: record.subject.to_vec(),
            headers: record.headers.to_vec(),
            payload: record.payload.to_vec(),
            time: record.timestamp.0,
        };
        messages.push((record.seq, message));
    }
    messages
}

/// The entry with only its record number `at`.
fn entry_of(payload: &[u8], at: usize) -> Vec<u8> {
    let mut records = payload.get(1..).unwrap_or_default();
    for _ in 0..at {
        let Ok((_, len)) = linnet_store::Record::view(records) else { break };
        records = &records[len..];
    }
    let len = linnet_store::Record::view(records).map_or(0, |(_, len)| len);
    [&[1], &records[..len]].concat()
}

/// Everything known.
#[derive(Default)]
pub(crate) struct Facts {
    pub(crate) streams: BTreeMap<GroupId, StreamFacts>,
    pub(crate) publishes: Vec<PublishFacts>,
    pub(crate) acks: Vec<AckFacts>,
    /// The latest moment the wall clock showed.
    pub(crate) max_wall: i64,
    /// What the clocks show.
    pub(crate) now: Mono,
    pub(crate) wall: i64,
}

/// What the entries of a stream are held against.
pub(crate) struct Evidence<'a> {
    publishes: &'a [PublishFacts],
    /// The other streams.
    others: &'a BTreeMap<GroupId, StreamFacts>,
    max_wall: i64,
}

impl Facts {
    /// Lets the facts of one stream be changed in the light of everything else.
    fn with<R>(
        &mut self,
        group: GroupId,
        act: impl FnOnce(&mut StreamFacts, &Evidence<'_>) -> R,
    ) -> Option<R> {
        let mut stream = self.streams.remove(&group)?;
        let done = act(&mut stream, &self.evidence(self.max_wall));
        self.streams.insert(group, stream);
        Some(done)
    }

    /// What the entries of a stream that was taken out are held against.
    pub(crate) fn evidence(&self, max_wall: i64) -> Evidence<'_> {
        Evidence { publishes: &self.publishes, others: &self.streams, max_wall }
    }

    pub(crate) fn appended(&mut self, appended: Vec<Appended>) -> Check {
        for entry in appended {
            match self.streams.get_mut(&entry.group) {
                Some(stream) => stream.append(entry)?,
                None => {
                    return broken("durability", format!("group {} writes and nobody made it", entry.group));
                }
            }
        }
        Ok(())
    }

    /// A group that lives in memory alone is about to apply an entry.
    pub(crate) fn unlogged(&mut self, group: GroupId, payload: &[u8]) -> Check {
        let act =
            |stream: &mut StreamFacts, evidence: &Evidence<'_>| stream.apply_unlogged(payload, evidence);
        match self.with(group, act) {
            Some(outcome) => outcome,
            None => broken("durability", format!("group {group} acts and nobody made it")),
        }
    }

    /// A group is about to apply what is durable up to a ticket.
    pub(crate) fn applying(&mut self, group: GroupId, ticket: Ticket) -> Result<(), Violation> {
        self.with(group, |stream, evidence| stream.apply_while(evidence, |_, t| t <= ticket))
            .unwrap_or(Ok(()))
    }
}
