//! Messages that are damaged in one replica, from another one.
//!
//! What a message says never changes, so one that is damaged and otherwise known takes the record of any other replica.
//! Of one that was lost when the store was opened, subject and size are not known here, so entries that were applied
//! since may have removed it unnoticed. It comes back only from a replica that still had it where this one is, or
//! behind; meanwhile this one applies nothing. So it does not answer for the stream before that, nor lead it, although
//! it may have been elected.

use std::io;
use std::time::Duration;

use linnet_ids::{LogIndex, Mono, PeerId, StreamSeq};
use linnet_store::{Damage, Pinned, RepairDone};

use crate::group::StreamGroup;

/// Damaged messages that are told of at a time.
const DAMAGE_MAX: usize = 256;

/// What a replica lacks.
#[derive(Clone, Debug)]
pub struct Lacking {
    /// Some of its damaged messages.
    pub damage: Vec<Damage>,
    /// Members of its group.
    pub members: Vec<PeerId>,
    /// The one that leads.
    pub leader: Option<PeerId>,
}

/// What a replica has at one place of its log.
#[derive(Debug)]
pub struct Held {
    /// It has applied the log up to here.
    pub applied: LogIndex,
    /// Its messages.
    pub messages: Pinned,
}

impl StreamGroup {
    /// What this replica lacks; `None` if nothing is damaged that others may have.
    pub fn lacking(&self) -> Option<Lacking> {
        let status = self.status()?;
        let damage = self.stream.store().damage(DAMAGE_MAX);
        if damage.is_empty() {
            return None;
        }
        Some(Lacking {
            damage,
            members: status.membership.members().iter().map(|member| member.peer).collect(),
            leader: status.leader,
        })
    }

    /// What this replica has, for another one; `None` if it is alone.
    pub fn held(&mut self) -> Option<Held> {
        self.status()?;
        Some(Held { applied: self.applied.index, messages: self.stream.store_mut().pin() })
    }

    /// Applies nothing for a while, unless it leads or comes to lead. True if it stands still now.
    pub fn stand_still(&mut self, now: Mono, within: Duration) -> bool {
        let leads = self.status().is_none_or(|status| status.is_leader);
        self.still_until = (!leads).then(|| now + within);
        !leads
    }

    /// Applies again.
    pub fn go_on(&mut self) {
        self.still_until = None;
    }

    /// True while nothing is to be applied.
    pub(crate) fn is_still(&mut self, now: Mono) -> bool {
        let leads = || self.status().is_none_or(|status| status.is_leader);
        let is_still = self.still_until.is_some_and(|until| now < until) && !leads();
        if !is_still {
            self.still_until = None;
        }
        is_still
    }

    /// Takes the records of a replica that has applied the log up to `applied`, as
    /// [`StreamStore::finish_repair`](linnet_store::StreamStore::finish_repair) does.
    pub fn finish_repair(
        &mut self,
        done: RepairDone,
        applied: LogIndex,
    ) -> Result<io::Result<Vec<StreamSeq>>, RepairDone> {
        let may_revive = !self.stream.is_leading() && applied >= self.applied.index;
        self.stream.finish_repair(done, may_revive)
    }

    /// A replica that has applied the log up to `applied` has nothing of these, not even damaged: they were removed.
    pub fn forget_removed(&mut self, sequences: &[StreamSeq], applied: LogIndex) {
        if !self.stream.is_leading() && applied >= self.applied.index {
            for seq in sequences {
                self.stream.store_mut().forget_lost(*seq);
            }
        }
    }
}
