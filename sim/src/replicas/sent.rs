use linnet_assets::{Advisory, Answer, Output, Token};
use linnet_store::LoadJob;

/// Deliveries of a server that clients may still acknowledge.
const DELIVERIES_MAX: usize = 40;

/// What a stream sends to clients and asks of the disk.
#[derive(Default)]
pub(super) struct Sent {
    /// Subject and body of what was published without a reply subject.
    pub(super) published: Vec<(String, String)>,
    /// Reply subjects of deliveries.
    pub(super) deliveries: Vec<Vec<u8>>,
    pub(super) answers: Vec<(Token, Answer)>,
    pub(super) loads: Vec<LoadJob>,
    ids: u64,
}

impl Output for Sent {
    fn publish(&mut self, to: &[u8], _: &[u8], reply: &[u8], header_len: usize, body: &[u8]) -> usize {
        if reply.is_empty() {
            let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
            self.published.push((text(to), text(body.get(header_len..).unwrap_or_default())));
        } else {
            if self.deliveries.len() >= DELIVERIES_MAX {
                self.deliveries.remove(0);
            }
            self.deliveries.push(reply.to_vec());
        }
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
