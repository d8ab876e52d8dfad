use linnet_assets::{Advisory, Answer, Output, Token};
use linnet_store::LoadJob;

/// Something that leaves for a client.
pub(crate) enum ToClient {
    /// Subject and body of what has no reply subject.
    Answer(String, String),
    /// Reply subject of a delivered message.
    Delivery(Vec<u8>),
}

/// What a stream sends to clients and asks of the disk.
#[derive(Default)]
pub(crate) struct Sent {
    /// What left for clients, in order.
    pub(crate) letters: Vec<ToClient>,
    pub(crate) answers: Vec<(Token, Answer)>,
    pub(crate) loads: Vec<LoadJob>,
    ids: u64,
}

impl Output for Sent {
    fn publish(&mut self, to: &[u8], _: &[u8], reply: &[u8], header_len: usize, body: &[u8]) -> usize {
        self.letters.push(if reply.is_empty() {
            let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
            ToClient::Answer(text(to), text(body.get(header_len..).unwrap_or_default()))
        } else {
            ToClient::Delivery(reply.to_vec())
        });
        1
    }

    fn has_interest(&mut self, _: &[u8]) -> bool {
        true
    }

    fn unique_id(&mut self) -> Vec<u8> {
        self.ids += 1;
        format!("id{}", self.ids).into_bytes()
    }

    fn answer(&mut self, token: Token, answer: Answer) {
        self.answers.push((token, answer));
    }

    fn load(&mut self, job: LoadJob) {
        self.loads.push(job);
    }

    fn advise(&mut self, _: Advisory) {}
}
