//! Publishing what schedules ask for. The leader does it when they are due; the message itself moves its schedule on.

use linnet_ids::{StreamSeq, Wall};
use linnet_store::{RECORD_MAX, Record};
use linnet_wire::headers;

use super::admit::RECORD_OVERHEAD;
use super::batch::Earlier;
use super::draft::Incoming;
use super::schedule_rules::Terms;
use super::schedules::{NEXT, OVER, SCHEDULER};
use super::{Moment, Stream, StreamLimits};
use crate::schedule::{Due, Schedule};

/// Most schedules that are looked at in one go; what is due beyond them waits for the next time.
const FIRED_MAX: u64 = 256;

/// What the schedule itself says, read from its message.
struct Plan {
    subject: Vec<u8>,
    target: Vec<u8>,
    source: Vec<u8>,
    /// Headers of what is published, behind those of the message that is copied.
    ttl: Vec<u8>,
    rollup: Vec<u8>,
    /// When it is due again; `None` for never.
    next: Option<Due>,
    own: Content,
}

/// Headers and payload that are copied.
struct Content {
    /// Ended header block, or nothing.
    block: Vec<u8>,
    payload: Vec<u8>,
}

impl Content {
    fn of(record: &Record<'_>) -> Self {
        let mut block = Vec::new();
        headers::retain(&mut block, record.headers, |key| {
            key.starts_with(b"Nats-Schedule")
                || key.starts_with(b"Nats-Expected-")
                || matches!(key, b"Nats-Msg-Id" | b"Nats-TTL" | b"Nats-Rollup")
        });
        Self { block, payload: record.payload.to_vec() }
    }
}

impl Stream {
    /// True if schedules are to be looked at.
    pub fn has_due_schedules(&self) -> bool {
        self.schedules.is_time()
    }

    /// Publishes what is due.
    pub fn fire_schedules(&mut self, limits: &StreamLimits, at: Moment) {
        if !self.is_open() {
            return;
        }
        let mut left = FIRED_MAX.min(self.room);
        for (due, seq) in self.schedules.due(at.wall) {
            if left == 0 {
                break;
            }
            let Some(subject) = self.store.subject_of(seq) else { continue };
            // What is in flight may end the schedule, or is what it asked for.
            if self.schedules.is_moving(subject) || self.in_flight.subject(subject).is_some() {
                continue;
            }
            left -= 1;
            self.fire(due, seq, limits, at.wall);
        }
        self.schedules.looked(at.now, at.wall);
    }

    fn fire(&mut self, due: Wall, seq: StreamSeq, limits: &StreamLimits, now: Wall) {
        let plan = self.store.inspect(seq, |record| read_plan(record, due, now)).flatten();
        let Some(plan) = plan else {
            self.schedules.set_aside(due, seq);
            return;
        };
        let source = self.store.subject(&plan.source).map(|s| s.last);
        let copied = source.and_then(|seq| self.store.inspect(seq, Content::of));
        let (header_len, body) = compose(&plan, copied.as_ref().unwrap_or(&plan.own));
        if plan.target.len() + body.len() + RECORD_OVERHEAD > RECORD_MAX {
            self.schedules.set_aside(due, seq);
            return;
        }
        let message = Incoming::new(&plan.target, header_len, &body);
        // Refused for now: it stays due.
        if self.check_left(&message, limits, &Earlier::default()).is_err() {
            return;
        }
        self.make_room_in_entry(plan.target.len() + body.len());
        self.append_made(&plan.target, header_len, &body, now);
    }
}

fn read_plan(record: &Record<'_>, due: Wall, now: Wall) -> Option<Plan> {
    let pattern = headers::get(record.headers, "Nats-Schedule")?;
    let terms = Terms::read(record.headers);
    let schedule = Schedule::parse(pattern, terms.zone).ok()?;
    Some(Plan {
        subject: record.subject.to_vec(),
        target: terms.target.to_vec(),
        source: terms.source.to_vec(),
        ttl: terms.ttl.to_vec(),
        rollup: terms.rollup.to_vec(),
        next: schedule.next(due, now),
        own: Content::of(record),
    })
}

/// The message to publish: length of its header block, and block and payload.
fn compose(plan: &Plan, content: &Content) -> (usize, Vec<u8>) {
    let mut body = Vec::with_capacity(content.block.len() + content.payload.len() + 128);
    headers::reopen(&mut body, &content.block);
    headers::push(&mut body, SCHEDULER, &plan.subject);
    headers::push(&mut body, NEXT, plan.next.as_ref().map_or(OVER, |next| next.text.as_bytes()));
    for (key, value) in [("Nats-TTL", &plan.ttl), ("Nats-Rollup", &plan.rollup)] {
        if !value.is_empty() {
            headers::push(&mut body, key, value);
        }
    }
    headers::end(&mut body);
    let header_len = body.len();
    body.extend_from_slice(&content.payload);
    (header_len, body)
}
