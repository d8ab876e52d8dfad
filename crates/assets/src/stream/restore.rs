//! A stream being restored from a backup.
//!
//! Its log begins with a mark that says so. What the backup holds is stored as it was: with its sequences and times,
//! without rollups, duplicates or anybody's interest, and without limits until everything that is removed is known. Consumers come behind the messages. Nobody hears of the stream
//! before the last mark.

use linnet_ids::Wall;
use linnet_jsapi::errors;
use linnet_store::{Filter, Record};
use linnet_wire::headers;

use super::ttl::Ttl;
use super::{CommandOutcome, Moment, Proposal, Stream};
use crate::entry::{Attach, Entry, RestoreMark};
use crate::output::{Output, Token};

/// A part of a backup.
#[derive(Clone, Debug)]
pub enum RestorePart {
    /// Records, one behind the other, in an encoded entry of messages.
    Messages(Vec<u8>),
    /// A consumer with its state.
    Consumer(Box<Attach>),
    /// Messages that turn out to be removed, how far sequences are used, or the end.
    Mark(RestoreMark),
}

/// True if a message with these headers that was stored at a time is over by now.
pub fn is_expired(header_block: &[u8], stored: Wall, now: Wall) -> bool {
    if header_block.is_empty() {
        return false;
    }
    let ttl = headers::get(header_block, "Nats-TTL").and_then(Ttl::parse);
    ttl.and_then(|ttl| ttl.expiry(stored)).is_some_and(|expiry| expiry <= now)
}

impl Stream {
    /// True while it is being restored.
    pub fn is_restoring(&self) -> bool {
        self.restoring
    }

    /// Begins to be restored. Before anything else is proposed.
    pub fn begin_restore(&mut self) {
        self.restoring = true;
        self.propose(&Entry::Restore(RestoreMark::Begin), None);
    }

    /// Writes the configuration of a stream that is being restored to its log.
    pub fn record_restored_config(&mut self) {
        self.propose(&Entry::Config(Box::new(self.config.clone())), None);
    }

    /// Ends the restoring of a stream that the catalogue names, so that it was complete.
    pub fn finish_restore(&mut self) {
        self.propose(&Entry::Restore(RestoreMark::Done), None);
    }

    /// Takes a part of the backup. It is answered when it is applied.
    pub(super) fn restore_part(&mut self, part: RestorePart, token: Token, out: &mut dyn Output) {
        if !self.restoring {
            out.answer(token, Err(errors::stream_restore("stream is not being restored")));
            return;
        }
        match part {
            RestorePart::Messages(bytes) => {
                self.proposals.push(Proposal::new(bytes, Some(token)));
            }
            RestorePart::Consumer(mut attach) => {
                if let Some(state) = &mut attach.state {
                    state.drop_missing(|seq| self.store.contains(seq));
                }
                self.propose(&Entry::ConsumerAttach(attach), Some(token));
            }
            RestorePart::Mark(RestoreMark::Removed { first, last })
                if self.store.next(first, &Filter::all()).is_none_or(|seq| seq > last) =>
            {
                out.answer(token, Ok(CommandOutcome::Done));
            }
            RestorePart::Mark(mark) => self.propose(&Entry::Restore(mark), Some(token)),
        }
    }

    pub(super) fn apply_restore(&mut self, mark: &RestoreMark, at: Moment, out: &mut dyn Output) {
        match *mark {
            RestoreMark::Begin => self.restoring = true,
            RestoreMark::Position { last_seq, last_ts } => {
                if last_seq > self.store.state().last_seq {
                    match last_ts {
                        Some(last_ts) => self.store.pass_over(last_seq, Wall(last_ts)),
                        None => self.store.skip_to(last_seq),
                    }
                }
                self.head_seq = self.head_seq.max(last_seq);
                self.head_ts = self.store.state().last_ts.unwrap_or(self.head_ts);
            }
            RestoreMark::Removed { first, last } => {
                let mut from = first;
                while let Some(seq) = self.store.next(from, &Filter::all()).filter(|seq| *seq <= last) {
                    self.remove_message(seq, false, at, out);
                    from = seq + 1;
                }
            }
            RestoreMark::Done => {
                self.restoring = false;
                self.origins.configured(&self.config);
                self.enforce_all(at, out);
                self.sweep_all();
                if at.live {
                    self.schedule_expiry(at.now, at.wall);
                    let ids: Vec<usize> = self.by_name.values().copied().collect();
                    for id in ids {
                        self.mark_ready(id);
                        self.touch_timer(id);
                    }
                }
            }
        }
    }

    /// Stores a message as it was.
    pub(super) fn apply_restored(
        &mut self,
        record: &Record<'_>,
        bytes: &[u8],
        at: Moment,
        out: &mut dyn Output,
    ) {
        if record.seq <= self.store.state().last_seq {
            return;
        }
        self.head_seq = record.seq;
        self.head_ts = record.timestamp;
        let header = |key| match record.headers.is_empty() {
            true => None,
            false => headers::get(record.headers, key),
        };
        let id = header("Nats-Msg-Id").unwrap_or_default();
        // What the window does not reach any more would only fill it.
        let window = self.config.duplicate_window.0;
        if !id.is_empty() && record.timestamp.0.saturating_add(window) > at.wall.0 {
            self.dedupe.insert(id, record.seq, record.timestamp);
        }
        self.last_id.clear();
        self.last_id.extend_from_slice(id);
        if self.config.allow_msg_ttl
            && let Some(ttl) = header("Nats-TTL").and_then(Ttl::parse)
        {
            self.ttls.insert(record.seq, ttl.expiry(record.timestamp));
        }
        if !self.config.sources.is_empty()
            && let Some(source) = header("Nats-Stream-Source")
        {
            self.origins.note(source);
        }
        if self.config.allow_msg_schedules {
            self.move_schedule(record.headers, at, out);
            self.note_schedule(record);
        }
        self.store.append(bytes);
        self.feed(record.seq, record.subject);
    }
}
