use std::collections::BTreeMap;

use linnet_ids::{LogIndex, StreamSeq, fold};
use linnet_replication::StreamGroup;
use linnet_store::{Filter, Lookup, StreamStore};

/// What a replica holds, as it was read.
pub(crate) struct Held {
    pub(crate) applied: LogIndex,
    /// Everything but the messages.
    pub(crate) text: String,
    pub(crate) messages: BTreeMap<StreamSeq, (String, Vec<u8>)>,
}

impl Held {
    /// Everything that replicas must have in common at one place of their log.
    pub(crate) fn by(group: &mut StreamGroup) -> Result<Self, String> {
        let applied = group.status().map_or(0, |status| status.applied);
        let stream = group.stream_mut();
        let mut saved = stream.saved();
        saved.consumers.sort_by(|a, b| a.name.cmp(&b.name));
        let saved = serde_json::to_string(&saved).map_err(|e| e.to_string())?;
        let text = format!("{:?} {saved}", stream.store().state());
        let store = stream.store_mut();
        let mut messages = BTreeMap::new();
        let mut next = store.next(0, &Filter::all());
        while let Some(seq) = next {
            messages.insert(seq, message(store, seq)?);
            next = store.next(seq + 1, &Filter::all());
        }
        Ok(Self { applied, text, messages })
    }

    pub(crate) fn hash(&self) -> u64 {
        let mut hash = fold(0, u64::from(crc32fast::hash(self.text.as_bytes())));
        for (seq, (subject, payload)) in &self.messages {
            hash = fold(hash, *seq);
            hash = fold(hash, u64::from(crc32fast::hash(subject.as_bytes())));
            hash = fold(hash, u64::from(crc32fast::hash(payload)));
        }
        hash
    }
}

fn message(store: &mut StreamStore, seq: StreamSeq) -> Result<(String, Vec<u8>), String> {
    for _ in 0..3 {
        match store.get(seq, true) {
            Lookup::Found(record) => {
                let subject = String::from_utf8_lossy(record.subject).into_owned();
                return Ok((subject, record.payload.to_vec()));
            }
            Lookup::Cold(job) => store.loaded(job.run()).map_err(|e| format!("message {seq}: {e}"))?,
            Lookup::Missing | Lookup::Damaged | Lookup::Repairing => break,
        }
    }
    Err(format!("message {seq} cannot be read"))
}
