use std::sync::Arc;

use linnet_assets::{Answer, Command, Link};
use linnet_broker::{Delivery, InterestSink, Sink};
use parking_lot::Mutex;
use tokio::sync::oneshot;

use crate::pump::{GroupKey, PumpHandle};

/// Publishes refused with an answer while the inbox is full; beyond that they are dropped.
const REFUSALS_MAX: usize = 10_000;

/// What is on its way into one stream. Readers copy messages in, the pump swaps the buffers out; nothing is
/// allocated per message.
pub(crate) struct StreamInbox {
    key: GroupKey,
    pump: PumpHandle,
    limits: InboxLimits,
    state: Mutex<State>,
}

/// Bounds of an inbox.
#[derive(Clone, Copy, Debug)]
pub(crate) struct InboxLimits {
    pub(crate) msgs: usize,
    pub(crate) bytes: usize,
}

#[derive(Default)]
struct State {
    /// Messages for the stream.
    publishes: Letters,
    /// Everything else: it does not wait behind messages.
    others: Letters,
    commands: Vec<(Command, oneshot::Sender<Answer>)>,
    refused: Vec<Vec<u8>>,
    is_scheduled: bool,
    /// Nobody reads it any more.
    is_closed: bool,
}

/// Letters in arrival order, their bytes in one buffer.
#[derive(Default)]
pub(crate) struct Letters {
    letters: Vec<Letter>,
    bytes: Vec<u8>,
}

#[derive(Clone, Copy)]
struct Letter {
    kind: LetterKind,
    start: usize,
    subject: usize,
    reply: usize,
    header: usize,
    end: usize,
}

/// What a letter is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum LetterKind {
    Publish,
    Ack,
    NextRequest,
    FlowAnswer,
    DirectGet,
    /// From the consumer of an origin; takes its turn among messages.
    Origin(Link),
    /// The answer to a request for such a consumer.
    OriginAnswer(Link),
    /// Somebody listens to the deliver subject of the consumer that is the letter's subject.
    Interest,
}

/// A letter being read.
#[derive(Clone, Copy)]
pub(crate) struct Opened<'a> {
    pub(crate) kind: LetterKind,
    pub(crate) subject: &'a [u8],
    pub(crate) reply: &'a [u8],
    pub(crate) header_len: usize,
    pub(crate) body: &'a [u8],
}

impl Letters {
    pub(crate) fn len(&self) -> usize {
        self.letters.len()
    }

    pub(crate) fn get(&self, at: usize) -> Option<Opened<'_>> {
        let letter = self.letters.get(at)?;
        let subject_end = letter.start + letter.subject;
        let reply_end = subject_end + letter.reply;
        Some(Opened {
            kind: letter.kind,
            subject: self.bytes.get(letter.start..subject_end)?,
            reply: self.bytes.get(subject_end..reply_end)?,
            header_len: letter.header,
            body: self.bytes.get(reply_end..letter.end)?,
        })
    }

    pub(crate) fn clear(&mut self) {
        self.letters.clear();
        self.bytes.clear();
        // One burst must not keep its memory for ever.
        self.letters.shrink_to(16 * 1024);
        self.bytes.shrink_to(1 << 20);
    }

    fn push(&mut self, letter: &Opened<'_>) {
        let start = self.bytes.len();
        self.bytes.extend_from_slice(letter.subject);
        self.bytes.extend_from_slice(letter.reply);
        self.bytes.extend_from_slice(letter.body);
        self.letters.push(Letter {
            kind: letter.kind,
            start,
            subject: letter.subject.len(),
            reply: letter.reply.len(),
            header: letter.header_len,
            end: self.bytes.len(),
        });
    }
}

/// What the pump takes out at once.
#[derive(Default)]
pub(crate) struct Mail {
    pub(crate) publishes: Letters,
    pub(crate) others: Letters,
    pub(crate) commands: Vec<(Command, oneshot::Sender<Answer>)>,
    pub(crate) refused: Vec<Vec<u8>>,
}

impl StreamInbox {
    pub(crate) fn new(key: GroupKey, pump: PumpHandle, limits: InboxLimits) -> Arc<Self> {
        Arc::new(Self { key, pump, limits, state: Mutex::default() })
    }

    pub(crate) fn command(&self, command: Command) -> oneshot::Receiver<Answer> {
        let (sender, receiver) = oneshot::channel();
        self.with(|state| {
            // Otherwise whoever asks is told by what is dropped.
            if !state.is_closed {
                state.commands.push((command, sender));
            }
        });
        receiver
    }

    /// Nobody reads it from here on: whoever waits for an answer is told that there is none.
    pub(crate) fn close(&self) {
        let left = {
            let mut state = self.state.lock();
            state.is_closed = true;
            std::mem::take(&mut state.commands)
        };
        drop(left);
    }

    /// Has the pump look at the stream.
    pub(crate) fn nudge(&self) {
        self.with(|_| ());
    }

    /// What waits to be taken out.
    pub(crate) fn waiting(&self) -> usize {
        let state = self.state.lock();
        state.publishes.len() + state.others.len() + state.commands.len()
    }

    fn with(&self, add: impl FnOnce(&mut State)) {
        let must_schedule = {
            let mut state = self.state.lock();
            add(&mut state);
            !std::mem::replace(&mut state.is_scheduled, true)
        };
        if must_schedule {
            self.pump.schedule(self.key);
        }
    }

    /// Swaps what has arrived for empty buffers. With `keep_publishes` messages stay where they are.
    pub(crate) fn take(&self, mail: &mut Mail, keep_publishes: bool) {
        let mut state = self.state.lock();
        state.is_scheduled = false;
        if !keep_publishes {
            std::mem::swap(&mut state.publishes, &mut mail.publishes);
        }
        std::mem::swap(&mut state.others, &mut mail.others);
        std::mem::swap(&mut state.commands, &mut mail.commands);
        std::mem::swap(&mut state.refused, &mut mail.refused);
    }

    /// Adds a letter. One that finds no room is refused if it is a message whose sender waits, else dropped.
    fn put(&self, letter: &Opened<'_>) {
        let limits = self.limits;
        self.with(|state| {
            let is_publish = letter.kind == LetterKind::Publish;
            let is_from_origin = matches!(letter.kind, LetterKind::Origin(_));
            let lane = if is_publish || is_from_origin { &mut state.publishes } else { &mut state.others };
            // Flow control bounds what an origin sends, by bytes.
            if (lane.len() < limits.msgs || is_from_origin) && lane.bytes.len() < limits.bytes {
                lane.push(letter);
            } else if is_publish && !letter.reply.is_empty() && state.refused.len() < REFUSALS_MAX {
                state.refused.push(letter.reply.to_vec());
            }
        });
    }

    /// As [`StreamInbox::take`], messages only.
    pub(crate) fn take_publishes(&self, mail: &mut Mail) {
        std::mem::swap(&mut self.state.lock().publishes, &mut mail.publishes);
    }

    /// True if messages wait.
    pub(crate) fn has_publishes(&self) -> bool {
        self.state.lock().publishes.len() > 0
    }
}

/// Puts what a subscription receives into an inbox.
pub(crate) struct InboxSink {
    pub(crate) inbox: Arc<StreamInbox>,
    pub(crate) kind: LetterKind,
    /// So many bytes of the subject are a prefix that the stream does not see.
    pub(crate) cut: usize,
}

impl Sink for InboxSink {
    fn deliver(&self, delivery: &Delivery<'_>) {
        self.inbox.put(&Opened {
            kind: self.kind,
            subject: delivery.subject.get(self.cut..).unwrap_or_default(),
            reply: delivery.reply,
            header_len: delivery.header_len,
            body: delivery.body,
        });
    }
}

/// Tells a stream that somebody listens to what one of its consumers delivers.
pub(crate) struct ListenerSink {
    pub(crate) inbox: Arc<StreamInbox>,
    pub(crate) consumer: String,
}

impl InterestSink for ListenerSink {
    fn appeared(&self) {
        let consumer = self.consumer.as_bytes();
        let kind = LetterKind::Interest;
        self.inbox.put(&Opened { kind, subject: consumer, reply: b"", header_len: 0, body: b"" });
    }
}
