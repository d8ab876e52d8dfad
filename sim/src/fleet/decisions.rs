//! What the leader of the catalogue's group decides, one thing at a time, each of what the one before left.

use std::sync::Arc;

use linnet_assets::{Command, Moment};
use linnet_env::Rng as _;
use linnet_ids::{GroupId, PeerId, Wall};
use linnet_jsapi::StreamConfig;
use linnet_replication::cluster::MetaRequest;
use linnet_replication::{Assignment, Placed};

use super::FleetMutation;
use super::clerk::present;
use super::facts::Told;
use super::letters::Reply;
use super::opening::wall;
use super::server::{Call, Life, META_KEY};

/// Whoever waits for a decision.
#[derive(Clone, Copy, Debug)]
pub(super) enum By {
    /// Another server, which asked with this number.
    Server(PeerId, u64),
    /// What is done here about a group.
    Group(GroupId),
    /// The call of the API that is under way.
    Flow,
    Nobody,
}

#[derive(Clone, Debug)]
pub(super) enum Amendment {
    /// Other members, if they still are those: some were missing.
    Healed {
        before: Vec<Placed>,
        members: Vec<Placed>,
    },
    /// Other members.
    Members(Vec<Placed>),
    /// The members that it had before a change.
    TakenBack,
    /// Another configuration, and other members if it has another number of replicas.
    Config(Box<StreamConfig>, Option<Vec<Placed>>),
    Ended,
}

#[derive(Clone, Debug)]
pub(super) enum Decision {
    /// What another server says.
    Request(MetaRequest, By),
    /// A new stream.
    Create(Box<Assignment>),
    Amend {
        of: Arc<Assignment>,
        amendment: Amendment,
        by: By,
    },
    /// A stream in memory begins again.
    Anew(Arc<Assignment>, Option<PeerId>),
}

impl Decision {
    fn by(&self) -> By {
        match self {
            Self::Request(_, by) | Self::Amend { by, .. } => *by,
            Self::Create(_) => By::Flow,
            Self::Anew(..) => By::Nobody,
        }
    }
}

impl Amendment {
    fn change(self, entry: &mut Assignment, now: Wall) {
        match self {
            Self::Healed { before, members } => {
                if before == entry.members {
                    entry.members = members;
                }
            }
            Self::Members(members) => {
                let config = entry.config.clone();
                entry.reshape(members, &config, now);
            }
            Self::Config(config, members) => {
                if let Some(members) = members {
                    entry.reshape(members, &config, now);
                }
                entry.config = *config;
            }
            Self::TakenBack => drop(entry.take_back()),
            Self::Ended => entry.end(),
        }
    }
}

impl Life {
    /// A group that never was.
    pub(super) fn new_group(&self) -> GroupId {
        if self.mutation == Some(FleetMutation::ReuseGroups) {
            return GroupId { epoch: 0, meta_index: 1, random: 7 };
        }
        // Sequences of the catalogue are never used again, whatever is removed from it.
        GroupId { epoch: 0, meta_index: self.known.last_seq() + 1, random: self.rng.next_u64() }
    }

    /// Begins with the next thing that is to be decided.
    pub(super) fn decide_next(&mut self, at: Moment) {
        while self.clerk.deciding.is_none()
            && let Some(decision) = self.clerk.decisions.pop_front()
        {
            if !self.leads_meta() {
                self.decided(at, decision, false);
                continue;
            }
            match self.command_for(&decision) {
                Ok(Some(command)) => {
                    let token = self.new_token();
                    if let Some(slot) = self.slots.get_mut(&META_KEY) {
                        slot.calls.push(Call::Command(command, token));
                    }
                    self.clerk.deciding = Some((token, decision));
                }
                Ok(None) => self.decided(at, decision, true),
                Err(()) => self.decided(at, decision, false),
            }
        }
    }

    fn command_for(&mut self, decision: &Decision) -> Result<Option<Command>, ()> {
        match decision.clone() {
            Decision::Request(request, _) => request.command(&self.known).map_err(drop),
            Decision::Create(assignment) => {
                self.passed.told.push(Told::Assigned(assignment.clone()));
                Ok(Some(assignment.store()))
            }
            Decision::Amend { of, amendment, .. } => {
                let mut entry = present(&self.known, &of).ok_or(())?;
                if let (Amendment::Ended, Some(group)) = (&amendment, of.group_id()) {
                    self.passed.told.push(Told::Ending(group));
                }
                amendment.change(&mut entry, wall(self.clerk.now));
                Ok(Some(entry.store()))
            }
            Decision::Anew(of, seed) => {
                let entry = present(&self.known, &of).ok_or(())?;
                let status = self.meta_status().ok_or(())?;
                let group = self.new_group();
                let anew = entry.begin_anew(group, status.membership.members(), seed);
                self.passed.told.push(Told::Reseeded);
                self.passed.told.push(Told::Assigned(Box::new(anew.clone())));
                Ok(Some(anew.store()))
            }
        }
    }

    /// Something was decided, or cannot be now.
    pub(super) fn decided(&mut self, at: Moment, decision: Decision, is_done: bool) {
        match decision.by() {
            By::Server(peer, id) if is_done => self.reply(at, peer, id, Reply::Done),
            By::Group(group) => drop(self.clerk.busy.remove(&group)),
            By::Flow => self.flow_decided(is_done),
            By::Server(..) | By::Nobody => {}
        }
        self.clerk.has_news = true;
    }
}
