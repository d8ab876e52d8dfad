//! From what the catalogue says to what there is here.

use std::path::Path;
use std::sync::Arc;

use linnet_assets::{Command, Moment};
use linnet_env::Rng as _;
use linnet_ids::{GroupId, PeerId};
use linnet_jsapi::StreamConfig;
use linnet_replication::cluster::{Founded, Here, MetaRequest, Work, has_let_go};
use linnet_replication::{
    Assignment, Log as _, Myself, Ticket, forget_assignment, group_dir, note_removal, remember_assignment,
};

use super::FleetMutation;
use super::clerk::For;
use super::facts::Told;
use super::letters::Question;
use super::server::{ACCOUNT, Call, Life, META_KEY};
use crate::field::STORE;

impl Life {
    /// Begins what this server is a member of, ends what it is not, and has streams follow their configuration.
    pub(super) fn reconcile(&mut self, at: Moment) {
        if self.mutation == Some(FleetMutation::RemoveUnknown) {
            self.remove_unknown();
        }
        for assignment in self.known.all() {
            let Some(group) = assignment.group_id() else { continue };
            let is_ending = self.ending.iter().any(|(_, of)| *of == group);
            if is_ending || self.clerk.busy.contains(&group) {
                continue;
            }
            let outlived = self.clerk.outlived.contains(&group);
            let here = self.stream(&assignment.config.name).map(|(_, slot)| Here {
                group: slot.group.group(),
                is_replica: slot.group.is_replica(),
                is_lost: slot.is_lost,
                leads: slot.leads(),
                is_outlived: slot.group.group() == group && outlived,
                has_other_history: false,
                has_ended: slot.group.stream().is_deleted(),
                is_relic: slot.group.status().is_some_and(|s| s.is_amnesiac && s.last > 0),
                is_configured: *slot.group.stream().config() == assignment.config,
            });
            match Here::work(here, &assignment, self.me()) {
                Some(Work::Begin) => self.begin(at, &assignment, group),
                Some(Work::Inherit) => self.inherit(at, &assignment, group),
                // That it is gone is said when that is certain.
                Some(Work::Remove) => self.remove_stream(&assignment),
                Some(Work::Leave) => self.leave(&assignment, group),
                Some(Work::SayGone) => self.say_gone(&assignment, group),
                Some(Work::SayEnded) => self.say_ended(&assignment, group),
                Some(Work::SayShaped) => {
                    self.stay_alone(group);
                    self.say_shaped(&assignment, group);
                }
                Some(Work::Settle) => self.settle(&assignment, group),
                Some(Work::OpenUp) => self.open_up(at, group),
                Some(Work::SetAside) if self.is_current() => self.set_aside(&assignment),
                // Nobody is rescued here.
                Some(Work::SetAside | Work::PutAside) | None => {}
            }
        }
    }

    /// Goes on with what the replica of an earlier group holds.
    fn inherit(&mut self, at: Moment, assignment: &Assignment, group: GroupId) {
        let remembered = remember_assignment(&*self.disk, Path::new(STORE), assignment).is_ok();
        if !self.is_current() || !remembered {
            return;
        }
        let me = Myself { seed: self.rng.next_u64(), ..self.me };
        let Some((_, slot)) = self.stream(&assignment.config.name) else { return };
        let from = slot.group.group();
        let Ok(Some(content)) = slot.group.bequeath(at) else { return };
        self.remove_stream(assignment);
        let first = assignment.begin_with(group, &content, me, (at.now, at.wall), &mut self.queue);
        self.install(None, first, at.now);
        self.clerk.has_news = true;
        self.passed.told.push(Told::Begun(group));
        self.passed.told.push(Told::Inherited { from, group });
    }

    fn remove_unknown(&mut self) {
        let streams = self.slots.iter().filter(|(key, _)| **key != META_KEY).map(|(_, slot)| &slot.stream);
        let unknown = streams.filter(|name| self.known.entry(ACCOUNT, name).is_none());
        for name in unknown.cloned().collect::<Vec<String>>() {
            let Some(group) = self.stream(&name).map(|(_, slot)| slot.group.group()) else { continue };
            let config = StreamConfig { name, ..StreamConfig::default() };
            let assignment = Assignment::new_stream(ACCOUNT, config, 0, group, &[], &[]);
            self.remove_stream(&assignment);
        }
    }

    fn begin(&mut self, at: Moment, assignment: &Arc<Assignment>, group: GroupId) {
        if !self.is_current() && self.mutation != Some(FleetMutation::BeginUninformed) {
            return;
        }
        let remembered = self.mutation == Some(FleetMutation::ForgetAssignments)
            || remember_assignment(&*self.disk, Path::new(STORE), assignment).is_ok();
        if !remembered {
            return;
        }
        let life = self.slots.get(&META_KEY).and_then(|slot| slot.group.incarnation());
        let founded = Founded { me: Myself { seed: self.rng.next_u64(), ..self.me }, life, consumers: &[] };
        let mut assignment = (**assignment).clone();
        if self.mutation == Some(FleetMutation::EverybodyFounds) {
            // Whoever comes later begins as if the group did.
            assignment.live = false;
            let me = self.me().to_string();
            for member in assignment.members.iter_mut().filter(|member| member.peer == me) {
                member.life = life.unwrap_or_default();
            }
        }
        let site = self.site();
        match assignment.first_replica(group, &site, founded, at.now, &mut self.queue) {
            Ok(replica) => {
                self.install(None, replica, at.now);
                self.clerk.has_news = true;
                self.passed.told.push(Told::Begun(group));
            }
            Err(_) => self.install_lost(&assignment, group, at.now),
        }
    }

    /// Removes what this server has of a group; `assignment` is the newest one of the stream's name.
    fn remove_stream(&mut self, assignment: &Assignment) {
        let Some((key, slot)) = self.stream(&assignment.config.name) else { return };
        let group = slot.group.group();
        let is_noted = self.mutation == Some(FleetMutation::RemoveUnnoted)
            || note_removal(&*self.disk, Path::new(STORE), group, assignment).is_ok();
        if !is_noted {
            return;
        }
        self.slots.remove(&key);
        self.turns.forget(key);
        self.clerk.outlived.remove(&group);
        self.clerk.has_news = true;
        self.passed.told.push(Told::Removed(group));
        if self.mutation != Some(FleetMutation::KeepFiles) {
            let _ = self.disk.remove_dir_all(&group_dir(Path::new(STORE), group));
        }
        self.finish_removal(group);
    }

    /// A group without files ends in the log; after that it is forgotten that this server took part in it. Until then it
    /// does not begin again.
    pub(super) fn finish_removal(&mut self, group: GroupId) {
        let ticket = self.queue.end_group(group);
        self.ending.push((ticket, group));
    }

    /// Forgets groups whose end is durable.
    pub(super) fn forget_removed(&mut self, durable: Ticket) {
        for (_, group) in self.ending.extract_if(.., |(ticket, _)| *ticket <= durable) {
            self.clerk.has_news = true;
            if self.mutation != Some(FleetMutation::KeepAssignments) {
                let _ = forget_assignment(&*self.disk, Path::new(STORE), group);
            }
        }
    }

    /// Serves a stream no more whose name another one has by now, and keeps its files.
    fn set_aside(&mut self, assignment: &Assignment) {
        let Some((key, slot)) = self.stream(&assignment.config.name) else { return };
        let group = slot.group.group();
        self.slots.remove(&key);
        self.turns.forget(key);
        self.clerk.has_news = true;
        self.passed.told.push(Told::SetAside(group));
        let _ = forget_assignment(&*self.disk, Path::new(STORE), group);
    }

    fn say_ended(&mut self, assignment: &Assignment, group: GroupId) {
        if self.mutation != Some(FleetMutation::NeverSayEnded) {
            self.clerk.busy.insert(group);
            let request = MetaRequest::Ended {
                account: assignment.account.clone(),
                stream: assignment.config.name.clone(),
                group: assignment.group.clone(),
            };
            self.tell_meta(group, request);
        }
    }

    fn say_gone(&mut self, assignment: &Assignment, group: GroupId) {
        let here = self.stream(&assignment.config.name).map(|(_, slot)| slot.group.group());
        if let Some(gone) = assignment.gone_from(self.me(), here).first() {
            self.clerk.busy.insert(group);
            self.tell_meta(group, assignment.say_gone(*gone, self.me()));
        }
    }

    /// The catalogue names this server no more: it lets go once it is certainly no member.
    fn leave(&mut self, assignment: &Assignment, group: GroupId) {
        if self.mutation == Some(FleetMutation::LeaveAtOnce) {
            return self.remove_stream(assignment);
        }
        let Some(slot) = self.slot_of(group) else { return };
        let Some(status) = slot.group.status() else {
            if self.is_current() {
                self.remove_stream(assignment);
            }
            return;
        };
        if has_let_go(&status) {
            return self.remove_stream(assignment);
        }
        if status.is_leader || !self.is_current() {
            return;
        }
        self.clerk.busy.insert(group);
        for replica in assignment.replicas() {
            self.ask_of(replica.peer, Question::Members(group), For::Leave(group));
        }
    }

    pub(super) fn left(&mut self, group: GroupId, members: &[PeerId]) {
        self.clerk.busy.remove(&group);
        let is_named = |a: &Arc<Assignment>| a.replica(self.me()).is_some();
        let Some(assignment) = self.known.of_group(group).filter(|a| !is_named(a)) else { return };
        if !members.is_empty() && !members.contains(&self.me()) {
            self.remove_stream(&assignment);
        }
    }

    /// This server leads the stream: it has its configuration, then the catalogue hears that it lives.
    fn settle(&mut self, assignment: &Assignment, group: GroupId) {
        let token = self.new_token();
        let never_configures = self.mutation == Some(FleetMutation::NoUpdates);
        let Some(slot) = self.slot_of(group) else { return };
        if *slot.group.stream().config() != assignment.config && !never_configures {
            let update = Command::Update(Box::new(assignment.config.clone()));
            slot.calls.push(Call::Command(update, token));
            self.clerk.configuring.insert(token, group);
            self.clerk.busy.insert(group);
        } else if !assignment.live {
            self.clerk.busy.insert(group);
            self.say_live(assignment, group);
        }
    }

    pub(super) fn configured(&mut self, group: GroupId, is_done: bool) {
        match self.known.of_group(group).filter(|a| is_done && !a.live) {
            Some(assignment) => self.say_live(&assignment, group),
            None => drop(self.clerk.busy.remove(&group)),
        }
    }

    pub(super) fn say_shaped(&mut self, assignment: &Assignment, group: GroupId) {
        if self.clerk.busy.insert(group) {
            let request = MetaRequest::Shaped {
                account: assignment.account.clone(),
                stream: assignment.config.name.clone(),
                group: assignment.group.clone(),
                members: assignment.members.iter().map(|member| member.peer.clone()).collect(),
            };
            self.passed.told.push(Told::Shaped);
            self.tell_meta(group, request);
        }
    }

    fn say_live(&mut self, assignment: &Assignment, group: GroupId) {
        let request = MetaRequest::Live {
            account: assignment.account.clone(),
            stream: assignment.config.name.clone(),
            group: assignment.group.clone(),
        };
        self.tell_meta(group, request);
    }
}
