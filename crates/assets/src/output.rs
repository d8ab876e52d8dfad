use std::time::Duration;

use linnet_ids::{StreamSeq, Wall};
use linnet_jsapi::ApiError;
use linnet_store::LoadJob;

use crate::origin::Link;
use crate::stream::CommandOutcome;

/// Names a request whose answer is given later.
pub type Token = u64;

/// The answer to a command.
pub type Answer = Result<CommandOutcome, ApiError>;

/// Where everything goes that leaves a stream.
pub trait Output {
    /// Publishes into the stream's account. `shown` is the subject receivers see, empty for `to` itself. Returns
    /// how many receivers were reached.
    fn publish(&mut self, to: &[u8], shown: &[u8], reply: &[u8], header_len: usize, body: &[u8]) -> usize;

    /// Name of the stream's account.
    fn account(&self) -> &str {
        ""
    }

    /// True if somebody listens to the literal subject.
    fn has_interest(&mut self, subject: &[u8]) -> bool;

    /// True if somebody listens to the literal subject in a queue group.
    fn has_queue_interest(&mut self, subject: &[u8], group: &[u8]) -> bool {
        let _ = group;
        self.has_interest(subject)
    }

    /// True if something published since the last call went to a connection that has much waiting.
    fn may_be_clogged(&mut self) -> bool {
        false
    }

    /// True if a connection that listens to the literal subject has so much waiting that more should wait.
    fn is_clogged(&mut self, subject: &[u8]) -> bool {
        let _ = subject;
        false
    }

    /// An id that nobody else has, made of letters and digits.
    fn unique_id(&mut self) -> Vec<u8>;

    /// Answers a command.
    fn answer(&mut self, token: Token, answer: Answer);

    /// Begins to listen for what an origin sends: messages at one subject, the answer to a request at another.
    fn listen(&mut self, link: Link, deliver_to: &[u8], answer_to: &[u8]) {
        let _ = (link, deliver_to, answer_to);
    }

    /// Ends [`Output::listen`].
    fn stop_listening(&mut self, link: Link) {
        let _ = link;
    }

    /// Asks for a part of a block to be read from disk; its outcome comes back through `Stream::loaded`.
    fn load(&mut self, job: LoadJob);

    /// Tells the operator.
    fn advise(&mut self, advisory: Advisory);
}

/// What there is while a log is replayed: nobody to receive anything.
#[derive(Clone, Copy, Debug, Default)]
pub struct Nobody;

impl Output for Nobody {
    fn publish(&mut self, _: &[u8], _: &[u8], _: &[u8], _: usize, _: &[u8]) -> usize {
        0
    }

    fn has_interest(&mut self, _: &[u8]) -> bool {
        false
    }

    fn unique_id(&mut self) -> Vec<u8> {
        Vec::new()
    }

    fn answer(&mut self, _: Token, _: Answer) {}

    fn load(&mut self, _: LoadJob) {}

    fn advise(&mut self, _: Advisory) {}
}

/// Something an operator or application may want to know.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Advisory {
    /// A message was delivered as often as its consumer allows.
    MaxDeliveries {
        /// Consumer.
        consumer: String,
        /// Message.
        stream_seq: StreamSeq,
        /// Deliveries.
        deliveries: u64,
    },
    /// A client refused a message for good.
    Terminated {
        /// Consumer.
        consumer: String,
        /// Delivery.
        consumer_seq: u64,
        /// Message.
        stream_seq: StreamSeq,
        /// Deliveries.
        deliveries: u64,
        /// The client's words.
        reason: String,
    },
    /// A client was pinned: it gets everything of the group.
    Pinned {
        /// Consumer.
        consumer: String,
        /// Group.
        group: String,
        /// Id that the client was given.
        pinned_id: String,
    },
    /// A client is not pinned any more.
    Unpinned {
        /// Consumer.
        consumer: String,
        /// Group.
        group: String,
        /// `timeout` or `admin`.
        reason: &'static str,
    },
    /// A consumer was paused, or delivers again.
    Paused {
        /// Consumer.
        consumer: String,
        /// Until when it was or is paused.
        until: Option<Wall>,
        /// It is paused now.
        paused: bool,
    },
    /// A client asked for redelivery.
    Naked {
        /// Consumer.
        consumer: String,
        /// Delivery.
        consumer_seq: u64,
        /// Message.
        stream_seq: StreamSeq,
        /// Deliveries.
        deliveries: u64,
    },
    /// A message was acknowledged, and its consumer tells of that.
    AckSampled {
        /// Consumer.
        consumer: String,
        /// Delivery.
        consumer_seq: u64,
        /// Message.
        stream_seq: StreamSeq,
        /// Time since its last delivery, or since the client said that it works on it.
        ack_time: Duration,
        /// Deliveries.
        deliveries: u64,
    },
    /// A stored message cannot be read.
    Damaged {
        /// Message.
        stream_seq: StreamSeq,
    },
    /// An atomic batch was given up.
    BatchAbandoned {
        /// Its id.
        batch: String,
        /// Why.
        reason: Abandoned,
    },
    /// A mirror has come near the end of its origin.
    CaughtUp,
    /// The configuration of the stream changed.
    Reconfigured,
    /// A consumer came into being.
    ConsumerCreated {
        /// Consumer.
        consumer: String,
    },
    /// A consumer is gone.
    ConsumerDeleted {
        /// Consumer.
        consumer: String,
    },
}

/// Why an atomic batch was given up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Abandoned {
    /// Nothing was added to it for long.
    Timeout,
    /// It is too large.
    Large,
    /// A part is missing.
    Incomplete,
    /// It needs a newer server.
    Unsupported,
}
