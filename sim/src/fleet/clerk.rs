//! What a server does about the catalogue and its members, beside its groups: the production decisions
//! (`linnet_replication::cluster`), carried out without tasks.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::path::Path;
use std::time::Duration;

use linnet_assets::placement::{self, Candidate, Fleet, FleetLimits, PeerStats};
use linnet_assets::{Answer, Moment, Token};
use linnet_ids::{GroupId, Mono, PeerId};
use linnet_raft::{Change, Replica, Status};
use linnet_replication::cluster::{
    Assurance, Healing, Known, MetaRequest, NextMember, Rebirth, SILENT_AFTER, Standing,
    gone_with_its_server, heal, is_ailing, next_member,
};
use linnet_replication::{Assignment, StreamGroup, remember_assignment};

use super::FleetMutation;
use super::api::{AsLed, Flow};
use super::decisions::{Amendment, By, Decision};
use super::facts::Told;
use super::letters::{Question, Reply};
use super::server::{ACCOUNT, Call, Life, META_KEY};
use crate::field::STORE;

/// How often a server looks around without being told to.
const LOOK_EVERY: Duration = Duration::from_millis(250);
/// How long an answer may take.
const ANSWER_WITHIN: Duration = Duration::from_secs(4);
/// How often streams in memory are looked at.
const RESEED_EVERY: Duration = Duration::from_secs(1);
/// Name of the only cluster.
pub(super) const HOME: &str = "C";

/// What an answer is for.
#[derive(Clone, Debug)]
pub(super) enum For {
    /// A server comes into the catalogue's group.
    TakeInMeta,
    /// A server comes into a group.
    TakeIn(GroupId),
    /// A stream may be forgotten by all: how many have said so, of how many.
    Reseed(GroupId),
    /// Whoever is asked does something.
    Nothing,
    /// The catalogue is told something about a group.
    Tell(GroupId),
    /// This server is to know what is decided.
    Assurance,
    /// This server may have left a group.
    Leave(GroupId),
    /// A stream is to end before the catalogue says so.
    End(GroupId),
}

#[derive(Default)]
pub(super) struct Clerk {
    pub(super) now: Mono,
    pub(super) has_news: bool,
    looked: Mono,
    pub(super) busy: BTreeSet<GroupId>,
    moving: BTreeSet<GroupId>,
    /// Streams with one replica that hold still to become one of several, and until when.
    pub(super) opening_up: BTreeMap<GroupId, Mono>,
    seated: BTreeMap<GroupId, Vec<PeerId>>,
    pub(super) outlived: BTreeSet<GroupId>,
    healing: Healing,
    assurance: Assurance,
    reseeded: Option<Mono>,
    probed: Option<Mono>,
    removed: BTreeSet<PeerId>,
    members: Vec<PeerId>,
    asks: BTreeMap<u64, (PeerId, Mono, For)>,
    next_ask: u64,
    /// What members of streams in memory said of themselves.
    standings: BTreeMap<GroupId, BTreeMap<PeerId, Standing>>,
    pub(super) decisions: VecDeque<Decision>,
    pub(super) deciding: Option<(Token, Decision)>,
    /// Commands to streams that take over their configuration, or end.
    pub(super) configuring: BTreeMap<Token, GroupId>,
    pub(super) ending: BTreeMap<Token, (PeerId, u64)>,
    pub(super) flow: Option<Flow>,
}

impl Clerk {
    pub(super) fn new(now: Mono) -> Self {
        Self { now, looked: now, next_ask: now.0 << 20, ..Self::default() }
    }

    /// When it looks around next.
    pub(super) fn next_look(&self) -> Mono {
        self.looked + LOOK_EVERY
    }

    /// A group leads or follows, or has other members.
    pub(super) fn changed(&mut self, group: GroupId, _leads: bool) {
        self.seated.remove(&group);
        self.has_news = true;
    }

    /// An operator took a server out.
    pub(super) fn note_removed(&mut self, peer: PeerId) {
        self.removed.insert(peer);
    }
}

impl Life {
    pub(super) fn leads(&self, group: GroupId) -> bool {
        self.slots.values().any(|slot| slot.group.group() == group && slot.leads())
    }

    pub(super) fn leads_meta(&self) -> bool {
        self.slots.get(&META_KEY).is_some_and(|slot| slot.group.stream().is_leading())
    }

    /// A stream as its leader describes it.
    pub(super) fn describe(&self, name: &str) -> Option<AsLed> {
        let group = &self.slots.values().find(|s| s.stream == name && s.leads())?.group;
        let Some(status) = group.status() else {
            let me = placement::Replica { peer: self.me(), is_online: true, lag: Some(0) };
            return Some(AsLed { leader: self.me(), members: vec![me] });
        };
        let describe = |peer: PeerId| {
            let progress = group.progress(peer);
            let lag = progress.map(|p| status.commit.saturating_sub(p.matched));
            let is_me = peer == self.me();
            let is_online =
                is_me || (self.reachable.contains(&peer) && progress.is_some_and(|p| !p.is_amnesiac));
            placement::Replica { peer, is_online, lag: if is_me { Some(0) } else { lag } }
        };
        let members = status.membership.members().iter().map(|m| describe(m.peer)).collect();
        Some(AsLed { leader: self.me(), members })
    }

    pub(super) fn meta_status(&self) -> Option<Status> {
        self.slots.get(&META_KEY)?.group.status()
    }

    pub(super) fn is_current(&self) -> bool {
        let is_taken_for_it = self.mutation == Some(FleetMutation::BelieveOldWords);
        self.meta_status().is_some_and(|status| match is_taken_for_it {
            true => status.is_current,
            false => self.clerk.assurance.is_current(&status),
        })
    }

    /// Asks a leader of the catalogue's group that was not asked yet how far that is.
    fn be_assured(&mut self) {
        let Some(status) = self.meta_status() else { return };
        if let Some(leader) = self.clerk.assurance.asks(&status) {
            self.ask_of(leader, Question::Committed, For::Assurance);
        }
    }

    /// Takes over what the catalogue says by now.
    pub(super) fn follow_catalogue(&mut self) {
        let Self { slots, known, clerk, mutation, .. } = self;
        let Some(meta) = slots.get_mut(&META_KEY) else { return };
        let stream = meta.group.stream_mut();
        let is_shorter = || stream.store().state().msgs < known.all().len() as u64;
        if *mutation == Some(FleetMutation::MissRemovals) && is_shorter() {
            return;
        }
        if known.is_behind(stream) {
            known.follow(stream);
            clerk.has_news = true;
        }
    }

    /// Does what is to be done about the catalogue, its members and its streams.
    pub(super) fn look_around(&mut self, at: Moment) {
        self.decide_next(at);
        let is_due = self.clerk.has_news || self.clerk.next_look() <= at.now;
        if !is_due {
            return;
        }
        self.clerk.has_news = false;
        self.clerk.looked = at.now;
        self.give_up_asking(at.now);
        self.note_members();
        self.be_assured();
        if self.leads_meta() {
            self.look_after_members(at.now);
            self.reseed(at.now);
        }
        self.probe(at.now);
        self.reconcile(at);
        self.follow_members(at.now);
        self.go_on_with_flow(at);
        self.decide_next(at);
    }

    fn note_members(&mut self) {
        let Some(status) = self.meta_status() else { return };
        let members: Vec<PeerId> = status.membership.members().iter().map(|m| m.peer).collect();
        let gone = self.clerk.members.iter().filter(|peer| !members.contains(peer));
        self.clerk.removed.extend(gone);
        self.clerk.members = members;
    }

    fn look_after_members(&mut self, now: Mono) {
        let Some(status) = self.meta_status().filter(|status| status.is_leader) else { return };
        let Some(meta) = self.slots.get(&META_KEY) else { return };
        let removed = &self.clerk.removed;
        let others: Vec<PeerId> =
            self.reachable.iter().filter(|peer| !removed.contains(peer)).copied().collect();
        let is_heard = |peer| self.reachable.contains(&peer);
        match next_member(&status, |peer| meta.group.progress(peer), is_heard, others) {
            NextMember::Change(change) => self.change_members(now, GroupId::META, change),
            NextMember::TakeIn(peers) => {
                let peers: Vec<PeerId> = peers.into_iter().take(1).collect();
                for peer in peers {
                    if !self.clerk.asks.values().any(|(_, _, of)| matches!(of, For::TakeInMeta)) {
                        self.ask_of(peer, Question::Life(GroupId::META, None), For::TakeInMeta);
                    }
                }
            }
            NextMember::Nothing => {}
        }
        let servers: Vec<PeerId> = status.membership.members().iter().map(|m| m.peer).collect();
        let seen = (self.known.last_seq(), servers.clone(), self.reachable.iter().copied().collect());
        if self.mutation != Some(FleetMutation::NoHealing) && self.clerk.healing.begins(now, seen) {
            self.heal_streams(&servers);
            self.clerk.healing.done();
        }
    }

    fn heal_streams(&mut self, servers: &[PeerId]) {
        let fleet = self.fleet();
        let all = self.known.all();
        let status = self.meta_status();
        let members = status.as_ref().map(|status| status.membership.members()).unwrap_or_default();
        let stillborn = all.iter().filter(|a| a.is_stillborn(members));
        self.clerk.decisions.extend(stillborn.map(|a| Decision::Anew(a.clone(), None)));
        let gone = all.iter().filter_map(|a| gone_with_its_server(a, servers));
        self.clerk.decisions.extend(gone.map(|request| Decision::Request(request, By::Nobody)));
        for assignment in self.known.all().into_iter().filter(|a| is_ailing(a, servers)) {
            if let Some((members, _)) = heal(&assignment, &fleet, HOME, &self.rng) {
                let before = assignment.members.clone();
                let amendment = Amendment::Healed { before, members };
                self.clerk.decisions.push_back(Decision::Amend { of: assignment, amendment, by: By::Nobody });
            }
        }
    }

    /// What is known of the members of the catalogue's group.
    pub(super) fn fleet(&self) -> Fleet {
        let mut fleet = Fleet::new(FleetLimits::new(0, ""));
        let status = self.meta_status();
        let members = status.as_ref().map(|s| s.membership.members()).unwrap_or_default();
        for member in members {
            let mut candidate = Candidate::unknown(member.peer);
            if member.peer == self.me() || self.reachable.contains(&member.peer) {
                candidate.name = member.peer.to_string();
                candidate.cluster = HOME.to_owned();
                candidate.is_online = true;
                candidate.stats =
                    Some(PeerStats { memory_available: 1 << 30, storage_available: 1 << 30, ha_assets: 0 });
            }
            fleet.insert(candidate);
        }
        for assignment in self.known.all().iter().filter(|a| !a.ended) {
            let peers: Vec<PeerId> = assignment.replicas().into_iter().map(|r| r.peer).collect();
            fleet.assigned(&peers);
        }
        fleet
    }

    pub(super) fn change_members(&mut self, now: Mono, group: GroupId, change: Change) {
        let Self { slots, queue, passed, .. } = self;
        let slot = slots.values_mut().find(|slot| slot.group.group() == group);
        if let Some(slot) = slot
            && slot.group.change_membership(now, change, queue).is_ok()
        {
            slot.is_awake = true;
            passed.told.push(Told::Step);
        }
    }

    fn probe(&mut self, now: Mono) {
        if self.clerk.probed.is_some_and(|last| now.since(last) < SILENT_AFTER) {
            return;
        }
        self.clerk.probed = Some(now);
        let me = self.me();
        let Self { slots, queue, .. } = self;
        for slot in slots.values_mut().filter(|slot| slot.group.stream().is_leading()) {
            slot.group.probe_silent(now, me, queue);
            slot.is_awake = true;
        }
    }

    /// Has streams in memory begin again that all their members have forgotten.
    fn reseed(&mut self, now: Mono) {
        if self.clerk.reseeded.is_some_and(|last| now.since(last) < RESEED_EVERY)
            || self.mutation == Some(FleetMutation::NoReseeding)
        {
            return;
        }
        self.clerk.reseeded = Some(now);
        self.clerk.standings.clear();
        for assignment in self.known.all().into_iter().filter(|a| a.may_be_forgotten()) {
            let Some(group) = assignment.group_id() else { continue };
            for peer in assignment.holding_peers() {
                self.ask_of(peer, Question::Standing(group), For::Reseed(group));
            }
        }
    }

    fn heard_standing(&mut self, from: PeerId, group: GroupId, standing: Standing) {
        let Some(status) = self.meta_status().filter(|_| self.leads_meta()) else { return };
        let Some(assignment) = self.known.of_group(group).filter(|a| a.may_be_forgotten()) else { return };
        let standings = self.clerk.standings.entry(group).or_default();
        standings.insert(from, standing);
        if !assignment.holding_peers().iter().all(|peer| standings.contains_key(peer)) {
            return;
        }
        let standings = self.clerk.standings.remove(&group).unwrap_or_default();
        match Rebirth::of(&standings, |peer| status.membership.get(peer).is_some()) {
            Rebirth::GiveUp(_) if self.mutation == Some(FleetMutation::NobodyGivesUp) => {}
            Rebirth::GiveUp(peers) => {
                peers.into_iter().for_each(|peer| self.ask_of(peer, Question::GiveUp(group), For::Nothing));
            }
            Rebirth::Begin(Some(_)) if self.mutation == Some(FleetMutation::SeedAnybody) => {
                let seed = standings.keys().next().copied();
                self.clerk.decisions.push_back(Decision::Anew(assignment, seed));
            }
            Rebirth::Begin(seed) => self.clerk.decisions.push_back(Decision::Anew(assignment, seed)),
            Rebirth::Wait => {}
        }
    }

    /// Asks a server, or this one itself.
    pub(super) fn ask_of(&mut self, peer: PeerId, question: Question, of: For) {
        self.clerk.next_ask += 1;
        let id = self.clerk.next_ask;
        self.clerk.asks.insert(id, (peer, self.clerk.now + ANSWER_WITHIN, of));
        if peer == self.me() {
            let at = Self::at(self.clerk.now);
            self.on_question(at, peer, id, question);
        } else {
            self.ask(peer, id, question);
        }
    }

    fn give_up_asking(&mut self, now: Mono) {
        let late: Vec<u64> =
            self.clerk.asks.iter().filter(|(_, (_, until, _))| *until <= now).map(|(id, _)| *id).collect();
        for id in late {
            self.unanswered(id);
        }
    }

    /// A server cannot be heard any more: what it was asked is not answered.
    pub(super) fn lose_questions(&mut self, peer: PeerId) {
        let lost: Vec<u64> =
            self.clerk.asks.iter().filter(|(_, (of, ..))| *of == peer).map(|(id, _)| *id).collect();
        for id in lost {
            self.unanswered(id);
        }
    }

    fn unanswered(&mut self, id: u64) {
        match self.clerk.asks.remove(&id) {
            Some((_, _, For::Tell(group) | For::Leave(group))) => drop(self.clerk.busy.remove(&group)),
            Some((_, _, For::TakeIn(group))) => drop(self.clerk.moving.remove(&group)),
            Some((leader, _, For::Assurance)) => self.clerk.assurance.answered(leader, None),
            _ => {}
        }
    }

    pub(super) fn on_question(&mut self, at: Moment, from: PeerId, id: u64, question: Question) {
        let reply = match question {
            Question::Life(group, over) => self.name_life(group, over).map_or(Reply::Nothing, Reply::Life),
            Question::Standing(group) => {
                let status = self.slot_of(group).and_then(|slot| slot.group.status());
                status.map_or(Reply::Nothing, |status| Reply::Standing(Standing::of(&status)))
            }
            Question::GiveUp(group) => {
                let now = at.now;
                let Self { slots, queue, passed, .. } = self;
                let slot = slots.values_mut().find(|slot| slot.group.group() == group);
                if let Some(slot) = slot
                    && slot.group.give_up(now, queue)
                {
                    slot.is_awake = true;
                    passed.told.push(Told::GaveUp);
                }
                Reply::Done
            }
            Question::Members(group) => self.members_of(group).map_or(Reply::Nothing, Reply::Members),
            Question::Committed => {
                let committed = self.meta_status().as_ref().and_then(Assurance::answer);
                committed.map_or(Reply::Nothing, |(term, index)| Reply::Committed(term, index))
            }
            Question::Meta(request) if self.leads_meta() => {
                return self.clerk.decisions.push_back(Decision::Request(request, By::Server(from, id)));
            }
            Question::End(group) if self.leads(group) => {
                let token = self.new_token();
                self.clerk.ending.insert(token, (from, id));
                if let Some(slot) = self.slot_of(group) {
                    slot.calls.push(Call::Command(linnet_assets::Command::Delete, token));
                }
                return;
            }
            Question::Meta(_) | Question::End(_) => Reply::Nothing,
        };
        self.reply(at, from, id, reply);
    }

    pub(super) fn reply(&mut self, at: Moment, to: PeerId, id: u64, reply: Reply) {
        if to == self.me() {
            self.on_answer(at, to, id, reply);
        } else {
            self.passed.letters.push((to, super::letters::Letter::Answer(id, reply)));
        }
    }

    pub(super) fn on_answer(&mut self, at: Moment, from: PeerId, id: u64, reply: Reply) {
        if self.clerk.asks.get(&id).is_none_or(|(peer, ..)| *peer != from) {
            return;
        }
        let Some((_, _, of)) = self.clerk.asks.remove(&id) else { return };
        match (of, reply) {
            (For::TakeInMeta, Reply::Life(incarnation)) => {
                let replica = Replica { peer: from, incarnation };
                self.change_members(at.now, GroupId::META, Change::Add(replica));
            }
            (For::TakeIn(group), reply) => {
                self.clerk.moving.remove(&group);
                if let Reply::Life(incarnation) = reply {
                    self.take_in(at.now, group, Replica { peer: from, incarnation });
                }
            }
            (For::Reseed(group), Reply::Standing(standing)) => self.heard_standing(from, group, standing),
            (For::Tell(group), _) => drop(self.clerk.busy.remove(&group)),
            (For::Leave(group), Reply::Members(members)) => self.left(group, &members),
            (For::Leave(group), _) => drop(self.clerk.busy.remove(&group)),
            (For::End(group), Reply::Done) => self.has_ended(group),
            (For::Assurance, Reply::Committed(term, index)) => {
                self.clerk.assurance.answered(from, Some((term, index)));
                self.clerk.has_news = true;
            }
            (For::Assurance, _) => self.clerk.assurance.answered(from, None),
            _ => {}
        }
    }

    /// A server has named the life in which it would take part in a group that is led here.
    fn take_in(&mut self, now: Mono, group: GroupId, replica: Replica) {
        let status = self.slot_of(group).and_then(|slot| slot.group.status());
        let is_over = status.is_some_and(|status| status.membership.is_retired(replica));
        if is_over {
            // It was taken out in that life, and may not have heard it.
            self.ask_of(replica.peer, Question::Life(group, Some(replica.incarnation)), For::Nothing);
        } else {
            self.change_members(now, group, Change::Add(replica));
        }
    }

    fn name_life(&mut self, group: GroupId, over: Option<u64>) -> Option<u64> {
        let replica = &self.slot_of(group)?.group;
        let (is_removed, life) = (replica.status()?.is_removed, replica.incarnation()?);
        if (is_removed || Some(life) == over) && group != GroupId::META {
            self.clerk.outlived.insert(group);
            self.clerk.has_news = true;
            return None;
        }
        Some(life).filter(|life| *life > 0)
    }

    fn members_of(&mut self, group: GroupId) -> Option<Vec<PeerId>> {
        let me = self.me();
        let slot = self.slot_of(group)?;
        let Some(status) = slot.group.status() else { return slot.leads().then(|| vec![me]) };
        let is_certain = status.is_leader && status.is_membership_committed;
        is_certain.then(|| status.membership.members().iter().map(|m| m.peer).collect())
    }

    /// One step of each group that is led here towards the members that it shall have.
    fn follow_members(&mut self, now: Mono) {
        let led: Vec<GroupId> =
            self.slots.values().filter(|s| s.group.stream().is_leading()).map(|s| s.group.group()).collect();
        for group in led {
            if group == GroupId::META || self.clerk.moving.contains(&group) {
                continue;
            }
            let Some(assignment) = self.known.of_group(group).filter(|a| a.live && !a.ended) else {
                continue;
            };
            let wanted: Vec<PeerId> = assignment.replicas().into_iter().map(|r| r.peer).collect();
            if assignment.reshaping.is_some() || self.clerk.seated.get(&group) != Some(&wanted) {
                self.take_step(now, group, &assignment, wanted);
            }
        }
    }

    fn take_step(&mut self, now: Mono, group: GroupId, assignment: &Assignment, wanted: Vec<PeerId>) {
        use linnet_replication::cluster::{Standpoint, Step};
        let me = self.me();
        let (reachable, mutation) = (self.reachable.clone(), self.mutation);
        let Some(slot) = self.slot_of(group) else { return };
        let replica: &StreamGroup = &slot.group;
        let Some(status) = replica.status() else { return };
        let standpoint = Standpoint {
            me,
            status: &status,
            progress: &|peer| replica.progress(peer),
            is_heard: &|peer| peer == me || reachable.contains(&peer),
            wanted: &wanted,
        };
        match standpoint.next() {
            Step::Done if assignment.reshaping.is_some() => self.say_shaped(assignment, group),
            Step::Done => drop(self.clerk.seated.insert(group, wanted)),
            // From then on this server does not decide alone, also if its log should lose that.
            Step::Change(change @ Change::Promote(_)) if status.membership.voter_count() == 1 => {
                if remember_assignment(&*self.disk, Path::new(STORE), assignment).is_ok() {
                    self.change_members(now, group, change);
                }
            }
            Step::Change(Change::Remove(_)) if mutation == Some(FleetMutation::NobodyGoes) => {}
            Step::Change(change) => self.change_members(now, group, change),
            Step::TakeIn(peer) => {
                self.clerk.moving.insert(group);
                self.ask_of(peer, Question::Life(group, None), For::TakeIn(group));
            }
            Step::HandOver(peer) => {
                let Self { slots, queue, .. } = self;
                if let Some(slot) = slots.values_mut().find(|slot| slot.group.group() == group) {
                    let _ = slot.group.transfer(now, peer, Duration::from_secs(2), queue);
                    slot.is_awake = true;
                }
            }
            Step::Wait => {}
        }
    }

    /// Has the leader of the catalogue's group take something in. The group is busy until that is answered.
    pub(super) fn tell_meta(&mut self, group: GroupId, request: MetaRequest) {
        if self.leads_meta() {
            self.clerk.decisions.push_back(Decision::Request(request, By::Group(group)));
        } else if let Some(leader) = self.meta_status().and_then(|status| status.leader) {
            self.ask_of(leader, Question::Meta(request), For::Tell(group));
        } else {
            self.clerk.busy.remove(&group);
        }
    }

    /// Commands that were answered.
    pub(super) fn take_answers(&mut self, at: Moment) {
        let mut answers: Vec<(Token, Answer)> = Vec::new();
        for slot in self.slots.values_mut() {
            answers.append(&mut slot.sent.answers);
        }
        for (token, answer) in answers {
            if self.clerk.deciding.as_ref().is_some_and(|(of, _)| *of == token) {
                // What was decided is seen before anybody hears of it.
                self.follow_catalogue();
                if let Some((_, decision)) = self.clerk.deciding.take() {
                    self.decided(at, decision, answer.is_ok());
                }
            } else if let Some(group) = self.clerk.configuring.remove(&token) {
                self.configured(group, answer.is_ok());
            } else if let Some((from, id)) = self.clerk.ending.remove(&token) {
                let reply = if answer.is_ok() { Reply::Done } else { Reply::Nothing };
                self.reply(at, from, id, reply);
            }
        }
    }
}

/// The assignment of a stream, if it is that group's.
pub(super) fn present(known: &Known, of: &Assignment) -> Option<Assignment> {
    let entry = known.stream(ACCOUNT, &of.config.name).filter(|entry| entry.group == of.group)?;
    Some((*entry).clone())
}
