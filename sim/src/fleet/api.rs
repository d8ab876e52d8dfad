//! Calls about which streams exist, as the leader of the catalogue's group carries them out: one at a time.

use std::sync::Arc;
use std::time::Duration;

use linnet_assets::Moment;
use linnet_assets::placement::{self, Demand, Group, Origin, Planner, scale_down};
use linnet_ids::{GroupId, Mono, PeerId};
use linnet_jsapi::StreamConfig;
use linnet_raft::Change;
use linnet_replication::Assignment;
use linnet_replication::cluster::placed;

use super::clerk::{For, HOME};
use super::decisions::{Amendment, By, Decision};
use super::facts::Told;
use super::letters::Question;
use super::opening::wall;
use super::server::{ACCOUNT, Life};

/// How long a new stream may take to find its first leader.
const LIVE_WITHIN: Duration = Duration::from_secs(5);
/// How long the leader of a stream may take.
const STREAM_WITHIN: Duration = Duration::from_secs(4);
/// A stream that nobody leads is asked for again after this.
const ASK_AGAIN: Duration = Duration::from_millis(250);

/// A call.
#[derive(Clone, Debug)]
pub(super) enum Api {
    Create(Box<StreamConfig>),
    /// Another limit, or another number of replicas.
    Update {
        stream: String,
        max_msgs: i64,
        replicas: i64,
        as_led: AsLed,
    },
    Delete(String),
    /// Take a stream off a server, which goes at once or, if it `stays` until it is replaced, last.
    RemovePeer {
        stream: String,
        peer: PeerId,
        stays: bool,
    },
    /// Move a stream off a server.
    Move {
        stream: String,
        from: PeerId,
    },
    /// Take back the change of a stream's members that is under way.
    CancelMove(String),
    /// Take a server out of the cluster.
    RemoveServer(PeerId),
}

/// A stream as its leader describes it: which it is, and how far its members are.
#[derive(Clone, Debug)]
pub(super) struct AsLed {
    pub(super) leader: PeerId,
    pub(super) members: Vec<placement::Replica>,
}

/// A call under way.
#[derive(Clone, Debug)]
pub(super) struct Flow {
    assignment: Arc<Assignment>,
    stage: Stage,
}

#[derive(Clone, Debug)]
enum Stage {
    /// The catalogue takes a new stream.
    Creating,
    /// It finds its leader.
    Beginning { until: Mono },
    /// The stream ends in its own log.
    Ending { until: Mono, again: Mono },
    /// The catalogue takes something else.
    Amending(Told),
}

impl Life {
    /// Takes a call, if this server leads the catalogue's group and nothing else is under way.
    pub(super) fn api(&mut self, api: Api) {
        if !self.leads_meta() || self.clerk.flow.is_some() {
            return;
        }
        let now = self.clerk.now;
        match api {
            Api::Create(config) => self.create(now, *config),
            Api::Update { stream, max_msgs, replicas, as_led } => {
                self.update(&stream, max_msgs, replicas, &as_led);
            }
            Api::Delete(stream) => {
                if let Some(assignment) = self.known.stream(ACCOUNT, &stream) {
                    self.passed.told.extend(assignment.group_id().map(Told::Ending));
                    let stage = Stage::Ending { until: now + STREAM_WITHIN, again: now };
                    self.clerk.flow = Some(Flow { assignment, stage });
                }
            }
            Api::RemovePeer { stream, peer, stays } => self.remove_peer(&stream, peer, stays),
            Api::Move { stream, from } => self.move_stream(&stream, from),
            Api::CancelMove(stream) => {
                if let Some(of) = self.known.stream(ACCOUNT, &stream).filter(|a| a.reshaping.is_some()) {
                    self.amend(of, Amendment::TakenBack, Told::MoveCancelled);
                }
            }
            Api::RemoveServer(peer) => {
                self.clerk.note_removed(peer);
                self.change_members(now, GroupId::META, Change::Remove(peer));
            }
        }
        self.clerk.has_news = true;
    }

    fn create(&mut self, now: Mono, config: StreamConfig) {
        if self.known.stream(ACCOUNT, &config.name).is_some() {
            return;
        }
        let Some(status) = self.meta_status() else { return };
        let fleet = self.fleet();
        let origin = Origin { cluster: HOME, alternates: &[] };
        let plan = Planner::new(&fleet, &self.rng).create_stream(&Demand::of(&config), origin);
        let Ok(plan) = plan else { return };
        let group = self.new_group();
        let members = status.membership.members();
        let ended = self.known.entry(ACCOUNT, &config.name);
        let mut assignment =
            Assignment::new_stream(ACCOUNT, config, wall(now).0, group, &plan.peers, members);
        if let Some(ended) = ended {
            assignment = assignment.in_place_of(&ended);
        }
        let flow = Flow { assignment: Arc::new(assignment.clone()), stage: Stage::Creating };
        self.clerk.flow = Some(flow);
        self.clerk.decisions.push_back(Decision::Create(Box::new(assignment)));
    }

    fn update(&mut self, stream: &str, max_msgs: i64, replicas: i64, as_led: &AsLed) {
        let Some(assignment) = self.known.stream(ACCOUNT, stream).filter(|a| a.live) else { return };
        let config = StreamConfig { max_msgs, num_replicas: replicas, ..assignment.config.clone() };
        let peers: Vec<PeerId> = assignment.replicas().into_iter().map(|r| r.peer).collect();
        let wanted = Demand::of(&config).replicas;
        let (members, told) = match wanted.cmp(&peers.len()) {
            std::cmp::Ordering::Equal => (None, Told::Updated),
            std::cmp::Ordering::Less => {
                let describe = |peer: &PeerId| {
                    let known = as_led.members.iter().find(|member| member.peer == *peer).copied();
                    known.unwrap_or(placement::Replica { peer: *peer, is_online: false, lag: None })
                };
                let replicas: Vec<_> = peers.iter().map(describe).collect();
                let left = scale_down(Some(as_led.leader), &replicas, wanted);
                (Some(placed(&assignment, &left)), Told::ScaledDown)
            }
            std::cmp::Ordering::Greater => {
                let fleet = self.fleet();
                let group = Group { cluster: HOME, peers: &peers, leader: None };
                let plan = Planner::new(&fleet, &self.rng).scale_up(&Demand::of(&config), &group);
                let Ok(plan) = plan else { return };
                (Some(placed(&assignment, &plan.peers)), Told::ScaledUp)
            }
        };
        self.amend(assignment, Amendment::Config(Box::new(config), members), told);
    }

    fn remove_peer(&mut self, stream: &str, gone: PeerId, stays: bool) {
        let Some(assignment) = self.known.stream(ACCOUNT, stream).filter(|a| a.may_move()) else { return };
        let peers: Vec<PeerId> = assignment.replicas().into_iter().map(|r| r.peer).collect();
        let fleet = self.fleet();
        let is_only = peers.len() < 2 && (!stays || !fleet.is_online(gone));
        if !peers.contains(&gone) || is_only {
            return;
        }
        let group = Group { cluster: HOME, peers: &peers, leader: None };
        let plan =
            Planner::new(&fleet, &self.rng).replace(&Demand::of(&assignment.config), &group, gone, &[]);
        let Ok(plan) = plan else { return };
        let members = placed(&assignment, &plan.peers);
        self.amend(assignment, Amendment::Members(members), Told::PeerReplaced);
    }

    fn move_stream(&mut self, stream: &str, from: PeerId) {
        let may_move = |a: &Arc<Assignment>| a.may_move() && a.reshaping.is_none();
        let Some(assignment) = self.known.stream(ACCOUNT, stream).filter(may_move) else { return };
        let peers: Vec<PeerId> = assignment.replicas().into_iter().map(|r| r.peer).collect();
        let fleet = self.fleet();
        if peers.len() < 2 && !fleet.is_online(from) {
            return;
        }
        let group = Group { cluster: HOME, peers: &peers, leader: None };
        let demand = Demand::of(&assignment.config);
        let Ok(plan) = Planner::new(&fleet, &self.rng).move_off(&demand, &group, from, &[]) else { return };
        let members = placed(&assignment, &plan.peers);
        self.amend(assignment, Amendment::Members(members), Told::Moved);
    }

    fn amend(&mut self, of: Arc<Assignment>, amendment: Amendment, told: Told) {
        self.clerk.flow = Some(Flow { assignment: of.clone(), stage: Stage::Amending(told) });
        self.clerk.decisions.push_back(Decision::Amend { of, amendment, by: By::Flow });
    }

    /// What the call waited for was decided, or cannot be.
    pub(super) fn flow_decided(&mut self, is_done: bool) {
        let now = self.clerk.now;
        let Some(flow) = self.clerk.flow.take().filter(|_| is_done) else { return };
        match flow.stage {
            Stage::Creating => {
                let stage = Stage::Beginning { until: now + LIVE_WITHIN };
                self.clerk.flow = Some(Flow { stage, ..flow });
            }
            Stage::Amending(told) => self.passed.told.push(told),
            Stage::Beginning { .. } | Stage::Ending { .. } => {}
        }
    }

    /// The stream has ended in its own log.
    pub(super) fn has_ended(&mut self, group: GroupId) {
        let ends = |flow: &Flow| matches!(flow.stage, Stage::Ending { .. });
        let Some(flow) = self.clerk.flow.as_ref().filter(|f| ends(f)) else { return };
        if flow.assignment.group_id() == Some(group) {
            let of = flow.assignment.clone();
            self.amend(of, Amendment::Ended, Told::Deleted);
        }
    }

    pub(super) fn go_on_with_flow(&mut self, at: Moment) {
        let Some(flow) = self.clerk.flow.clone() else { return };
        if !self.leads_meta() {
            self.clerk.flow = None;
            return;
        }
        match flow.stage {
            Stage::Beginning { until } => {
                let entry = super::clerk::present(&self.known, &flow.assignment);
                if entry.as_ref().is_some_and(|entry| entry.live) {
                    self.clerk.flow = None;
                    self.passed.told.push(Told::Created);
                } else if until <= at.now {
                    // Whoever begins it yet is told that it has ended.
                    self.amend(flow.assignment, Amendment::Ended, Told::NotCreated);
                }
            }
            Stage::Ending { until, .. } if until <= at.now => {
                self.amend(flow.assignment, Amendment::Ended, Told::Deleted);
            }
            Stage::Ending { until, again } if again <= at.now => {
                let stage = Stage::Ending { until, again: at.now + ASK_AGAIN };
                self.clerk.flow = Some(Flow { stage, ..flow.clone() });
                let Some(group) = flow.assignment.group_id() else { return };
                for peer in flow.assignment.holding_peers() {
                    self.ask_of(peer, Question::End(group), For::End(group));
                }
            }
            Stage::Ending { .. } | Stage::Creating | Stage::Amending(_) => {}
        }
    }
}
