//! How a replica begins that the catalogue puts on this server.

use linnet_ids::{GroupId, Mono};

use crate::catalogue::Assignment;
use crate::change::Site;
use crate::clustered::{Beginning, Myself};
use crate::group::StreamGroup;
use crate::kept::KeptConsumer;
use crate::log::Log;

/// What a server brings to a replica that begins on it.
#[derive(Clone, Copy, Debug)]
pub struct Founded<'a> {
    /// Who it is. The group may have had a replica here before, in a life that is over: the seed is new each time.
    pub me: Myself,
    /// The life of its replica of the catalogue; `None` while it has none.
    pub life: Option<u64>,
    /// Durable consumers of a stream in memory with one replica.
    pub consumers: &'a [KeptConsumer],
}

impl Assignment {
    /// A replica without anything. The assignment is remembered before.
    ///
    /// # Errors
    /// The reason in words, if the only replica that there was is lost.
    pub fn first_replica(
        &self,
        group: GroupId,
        site: &Site,
        founded: Founded<'_>,
        now: Mono,
        log: &mut dyn Log,
    ) -> Result<StreamGroup, String> {
        let Founded { me, life, consumers } = founded;
        let is_founder = self.replica(me.peer).is_some_and(|r| Some(r.incarnation) == life);
        let is_new = is_founder && !self.live;
        if !self.is_alone() {
            let how = if is_new { Beginning::Founding } else { Beginning::Joining };
            return Ok(self.begin_replica(group, site, me, how, now, log));
        }
        if self.is_volatile() && !is_new {
            return self.begin_in_memory(group, consumers, site, now);
        }
        if is_new { Ok(self.begin_alone(group, site, now)) } else { Err("its log is lost".to_owned()) }
    }
}
