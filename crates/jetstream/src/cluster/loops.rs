use std::time::Duration;

use linnet_ids::{GroupId, Mono};
use linnet_raft::Message;
use linnet_replication::raft::PeerChange;

use crate::log_writer::LogHandle;
use crate::pump::PumpHandle;

/// The loops of this server's groups, as the link sees them. Calls come from the tasks that read from other servers:
/// they queue and return.
pub(crate) trait Loops: Send + Sync {
    /// Takes messages, in order. Returns how many are for groups that are not here.
    fn take(&self, messages: Vec<(GroupId, Message)>) -> u64;

    /// Servers can be heard, or cannot any more.
    fn peers_changed(&self, changes: &[PeerChange]);

    /// Age of the oldest write of the log that is not done.
    fn oldest_write(&self, now: Mono) -> Duration;
}

/// The pumps of an opening of the store.
pub(crate) struct Pumps {
    pub(crate) log: LogHandle,
    pub(crate) pumps: Vec<PumpHandle>,
}

impl Loops for Pumps {
    fn take(&self, messages: Vec<(GroupId, Message)>) -> u64 {
        let mut unknown = 0;
        // What came together is taken in one pass.
        let mut mails: Vec<(PumpHandle, Vec<(GroupId, Message)>)> = Vec::new();
        for (group, message) in messages {
            let Some(pump) = self.log.pump_of(group) else {
                unknown += 1;
                continue;
            };
            match mails.iter_mut().find(|(known, _)| known.is_same(&pump)) {
                Some((_, mail)) => mail.push((group, message)),
                None => mails.push((pump, vec![(group, message)])),
            }
        }
        for (pump, mail) in mails {
            pump.replica_messages(mail);
        }
        unknown
    }

    fn peers_changed(&self, changes: &[PeerChange]) {
        for pump in &self.pumps {
            pump.peers_changed(changes);
        }
    }

    fn oldest_write(&self, now: Mono) -> Duration {
        self.log.oldest_write(now)
    }
}
