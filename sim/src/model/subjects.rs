//! Where messages are stored and published again.

use super::{Message, Model};

impl Model {
    /// True if a message that is sent to one subject is stored under another. What belongs to a batch was judged when
    /// it came, perhaps long ago.
    pub(crate) fn is_stored_as(&self, sent: &[u8], stored: &Message) -> bool {
        let is_batch = stored.header("Nats-Batch-Id").is_some();
        let earlier = self.transforms.iter().filter(|_| is_batch);
        earlier.chain([&self.config.subject_transform]).any(|transform| {
            let renamed = transform.as_ref().and_then(|t| renamed(&t.src, &t.dest, sent));
            renamed.as_deref().unwrap_or(sent) == stored.subject
        })
    }

    /// Where a stored message is published again.
    pub(crate) fn published_as(&self, stored: &[u8]) -> Option<Vec<u8>> {
        let republish = self.config.republish.as_ref()?;
        renamed(&republish.src, &republish.dest, stored)
    }
}

/// Patterns as the workload has them: literal subjects, or a last token that is passed on.
fn renamed(from: &str, to: &str, subject: &[u8]) -> Option<Vec<u8>> {
    let subject = str::from_utf8(subject).ok()?;
    let Some(head) = from.strip_suffix('*') else {
        return (from == subject).then(|| to.as_bytes().to_vec());
    };
    let last = subject.strip_prefix(head).filter(|last| !last.contains('.'))?;
    Some(format!("{}{last}", to.strip_suffix("$1")?).into_bytes())
}
