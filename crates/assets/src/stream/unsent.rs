//! What consumers send from one replica among several: a message leaves once its delivery is committed. A leader that
//! was overtaken, and does not know it yet, commits nothing and so sends nothing that is done with elsewhere.

use linnet_store::LoadJob;

use super::Stream;
use crate::origin::Link;
use crate::output::{Advisory, Answer, Output, Token};

/// With so many bytes waiting, receivers count as slow.
const BYTES_MAX: usize = 4 << 20;

/// Messages whose deliveries are not committed, and what was sent after them.
#[derive(Default)]
pub(super) struct Unsent {
    /// Their deliveries are in the entry in flight.
    in_flight: Vec<Letter>,
    /// Theirs are in no entry yet.
    gathered: Vec<Letter>,
    bytes: usize,
}

struct Letter {
    to: Vec<u8>,
    shown: Vec<u8>,
    reply: Vec<u8>,
    header_len: usize,
    body: Vec<u8>,
}

impl Letter {
    fn len(&self) -> usize {
        self.to.len() + self.shown.len() + self.reply.len() + self.body.len()
    }
}

impl Unsent {
    /// True if messages wait for their deliveries to be written.
    pub(super) fn is_gathering(&self) -> bool {
        !self.gathered.is_empty()
    }

    /// What consumers did until now becomes an entry.
    pub(super) fn written(&mut self) {
        self.in_flight.append(&mut self.gathered);
    }

    fn is_empty(&self) -> bool {
        self.in_flight.is_empty() && self.gathered.is_empty()
    }
}

impl Stream {
    /// What waits for its deliveries to be committed is not sent: another replica leads, and may have settled them.
    pub fn drop_deliveries(&mut self) {
        self.unsent = Unsent::default();
    }

    /// The deliveries in flight are committed.
    pub(super) fn send_delivered(&mut self, out: &mut dyn Output) {
        let mut letters = std::mem::take(&mut self.unsent.in_flight);
        if self.dirty_since.is_none() {
            // No delivery is among the rest, only what had to stay behind one.
            letters.append(&mut self.unsent.gathered);
        }
        for letter in letters {
            self.unsent.bytes = self.unsent.bytes.saturating_sub(letter.len());
            out.publish(&letter.to, &letter.shown, &letter.reply, letter.header_len, &letter.body);
        }
    }
}

/// Keeps messages back.
pub(super) struct Holding<'a> {
    pub(super) out: &'a mut dyn Output,
    pub(super) unsent: &'a mut Unsent,
    /// Deliveries of the consumer at work are written before they are made.
    pub(super) holds: bool,
}

impl Holding<'_> {
    fn is_full(&self) -> bool {
        self.unsent.bytes >= BYTES_MAX
    }
}

impl Output for Holding<'_> {
    fn publish(&mut self, to: &[u8], shown: &[u8], reply: &[u8], header_len: usize, body: &[u8]) -> usize {
        // What is not a message of the stream shows no other subject; it only keeps its place in line.
        let waits = self.holds && (!shown.is_empty() || !self.unsent.is_empty());
        if !waits {
            return self.out.publish(to, shown, reply, header_len, body);
        }
        if !self.out.has_interest(to) {
            return 0;
        }
        let letter = Letter {
            to: to.to_vec(),
            shown: shown.to_vec(),
            reply: reply.to_vec(),
            header_len,
            body: body.to_vec(),
        };
        self.unsent.bytes += letter.len();
        self.unsent.gathered.push(letter);
        1
    }

    fn account(&self) -> &str {
        self.out.account()
    }

    fn has_interest(&mut self, subject: &[u8]) -> bool {
        self.out.has_interest(subject)
    }

    fn has_queue_interest(&mut self, subject: &[u8], group: &[u8]) -> bool {
        self.out.has_queue_interest(subject, group)
    }

    fn may_be_clogged(&mut self) -> bool {
        self.out.may_be_clogged() || self.is_full()
    }

    fn is_clogged(&mut self, subject: &[u8]) -> bool {
        self.is_full() || self.out.is_clogged(subject)
    }

    fn unique_id(&mut self) -> Vec<u8> {
        self.out.unique_id()
    }

    fn answer(&mut self, token: Token, answer: Answer) {
        self.out.answer(token, answer);
    }

    fn listen(&mut self, link: Link, deliver_to: &[u8], answer_to: &[u8]) {
        self.out.listen(link, deliver_to, answer_to);
    }

    fn stop_listening(&mut self, link: Link) {
        self.out.stop_listening(link);
    }

    fn load(&mut self, job: LoadJob) {
        self.out.load(job);
    }

    fn advise(&mut self, advisory: Advisory) {
        self.out.advise(advisory);
    }
}
