use std::fmt;

use linnet_jsapi::StreamConfig;
use linnet_jsapi::info::StreamState;
use linnet_store::Pinned;
use parking_lot::Mutex;

use super::Stream;
use crate::entry::Attach;
use crate::output::{Advisory, Output, Token};
use crate::stream::CommandOutcome;

/// A stream at one point of its log.
pub struct Snapshot {
    /// Configuration.
    pub config: StreamConfig,
    /// What it held.
    pub state: StreamState,
    /// Consumers with their state.
    pub consumers: Vec<Attach>,
    /// Its messages, for whoever takes them first.
    pub messages: Mutex<Option<Pinned>>,
}

impl fmt::Debug for Snapshot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Snapshot").field("state", &self.state).finish_non_exhaustive()
    }
}

impl Stream {
    pub(super) fn snapshot(&mut self, with_consumers: bool) -> Snapshot {
        let mut consumers = if with_consumers { self.saved().consumers } else { Vec::new() };
        consumers.sort_by(|a, b| a.name.cmp(&b.name));
        Snapshot {
            config: self.config.clone(),
            state: self.state(),
            consumers,
            messages: Mutex::new(Some(self.store.pin())),
        }
    }

    /// Messages that somebody could not read are not served any more.
    pub(super) fn note_damage(&mut self, sequences: &[u64], token: Token, out: &mut dyn Output) {
        for seq in sequences.iter().copied() {
            if !self.store.contains(seq) {
                continue;
            }
            self.store.mark_damaged(seq);
            out.advise(Advisory::Damaged { stream_seq: seq });
        }
        out.answer(token, Ok(CommandOutcome::Done));
    }
}
