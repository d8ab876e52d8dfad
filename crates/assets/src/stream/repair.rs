//! Damaged messages of a replica that others have.

use std::io;

use linnet_ids::{StreamSeq, Wall};
use linnet_store::RepairDone;
use linnet_wire::headers;

use super::{Moment, Stream};
use crate::output::Output;

impl Stream {
    /// Takes records of others for damaged messages, as [`StreamStore::finish_repair`] does; which are whole again.
    ///
    /// [`StreamStore::finish_repair`]: linnet_store::StreamStore::finish_repair
    pub fn finish_repair(
        &mut self,
        done: RepairDone,
        may_revive: bool,
    ) -> Result<io::Result<Vec<StreamSeq>>, RepairDone> {
        let mut lost: Vec<StreamSeq> = match may_revive {
            true => self.store.damage(usize::MAX).iter().filter(|d| !d.is_alive).map(|d| d.seq).collect(),
            false => Vec::new(),
        };
        lost.sort_unstable();
        let outcome = self.store.finish_repair(done, may_revive)?;
        for seq in outcome.iter().flatten() {
            if lost.binary_search(seq).is_ok() {
                self.remember_revived(*seq);
            }
            self.woken.push(*seq);
        }
        Ok(outcome)
    }

    /// Nobody has these; readers are told so.
    pub fn give_up_on(&mut self, sequences: &[StreamSeq]) {
        self.store.give_up_on(sequences.iter().copied());
        self.woken.extend(sequences);
    }

    /// The duplicate window covers a message again that had been lost.
    fn remember_revived(&mut self, seq: StreamSeq) {
        let id_of = |headers: &[u8]| headers::get(headers, "Nats-Msg-Id").map(<[u8]>::to_vec);
        let found = self.store.inspect(seq, |record| (id_of(record.headers), record.timestamp));
        let Some((id, stored)) = found else { return };
        let newest = self.store.state().last_ts.unwrap_or_default();
        let cutoff = Wall(newest.0.saturating_sub(self.config.duplicate_window.0));
        if stored >= cutoff {
            self.remember_id(&id.unwrap_or_default(), seq, stored);
        }
    }

    /// Readers go on that waited for what was repaired, or for what nobody has.
    pub fn resume_repaired(&mut self, at: Moment, out: &mut dyn Output) {
        for seq in std::mem::take(&mut self.woken) {
            self.resume_readers(seq, at.now, at.wall, out);
        }
    }
}
