//! API calls that take several steps: who is told to do which, and whose answer leads on.

use linnet_assets::{Answer, Command};
use linnet_ids::GroupId;
use linnet_jsapi::StreamConfig;
use linnet_replication::{Assignment, Change, Log, Site, Step};

use crate::outbox::Event;
use crate::process::{GroupKey, META_KEY, Process};
use crate::restore::{FLOOR_STEP, place};
use crate::wire::Asker;

/// Who waits for the answer to a command.
pub(crate) enum Waiter {
    Client,
    Flow(u64),
    /// A mirror or a stream with sources.
    Asker(Asker),
    /// Whoever restores a stream.
    Restore,
    Nobody,
}

/// A change of which streams exist.
pub(crate) struct Flow {
    change: Change,
    /// The stream, once it runs.
    key: Option<GroupKey>,
    /// Somebody waits for its end.
    is_awaited: bool,
}

impl Process {
    pub(crate) fn create_stream(&mut self, config: StreamConfig, random: u64) -> GroupId {
        let group = GroupId { epoch: 0, meta_index: self.next_meta_index, random };
        self.next_meta_index += 1;
        let created = self.at().wall.0;
        let account = "$G".to_owned();
        let assignment = Assignment {
            account,
            group: group.to_string(),
            created,
            live: false,
            members: Vec::new(),
            ended: false,
            reshaping: None,
            unclaimed: false,
            earlier: Vec::new(),
            continues: None,
            config,
        };
        let (disk, dir) = (self.disk.clone(), self.dir.clone());
        let site = Site { disk, dir, place: place(), floor_step: FLOOR_STEP };
        self.start(Change::create(assignment, group, site), None, true);
        group
    }

    pub(crate) fn update_stream(&mut self, key: GroupKey, config: StreamConfig) {
        if let Some(assignment) = self.assignment(key) {
            self.start(Change::update(Assignment { config, ..assignment }), Some(key), true);
        }
    }

    pub(crate) fn delete_stream(&mut self, key: GroupKey) {
        if let Some(assignment) = self.assignment(key) {
            self.start(Change::delete(assignment), Some(key), true);
        }
    }

    fn assignment(&self, key: GroupKey) -> Option<Assignment> {
        let slot = self.slots.get(&key)?;
        let stream = slot.group.stream();
        Some(Assignment {
            account: "$G".to_owned(),
            group: slot.group.group().to_string(),
            created: stream.created().0,
            live: true,
            members: Vec::new(),
            ended: false,
            reshaping: None,
            unclaimed: false,
            earlier: Vec::new(),
            continues: None,
            config: stream.config().clone(),
        })
    }

    /// Begins a change.
    pub(crate) fn start(&mut self, (change, step): (Change, Step), key: Option<GroupKey>, is_awaited: bool) {
        let id = self.next_flow();
        self.flows.insert(id, Flow { change, key, is_awaited });
        self.perform(id, step);
    }

    /// A group that a flow waits for has applied everything it proposed.
    pub(crate) fn flow_installed(&mut self, id: u64) {
        let now = self.at().now;
        if let Some(flow) = self.flows.get_mut(&id) {
            let step = flow.change.done(now);
            self.perform(id, step);
        }
    }

    /// A command that a flow gave was answered.
    pub(crate) fn flow_answered(&mut self, id: u64, answer: Answer) {
        let now = self.at().now;
        if let Some(flow) = self.flows.get_mut(&id) {
            let step = flow.change.answered(answer, now);
            self.perform(id, step);
        }
    }

    /// Does a step, and those after it that need no waiting.
    fn perform(&mut self, id: u64, mut step: Step) {
        let now = self.at().now;
        loop {
            let Some(key) = self.flows.get(&id).map(|flow| flow.key) else { return };
            match (step, key) {
                (Step::Catalogue(command), _) => return self.give(META_KEY, command, id),
                (Step::Stream(command), Some(key)) => return self.give(key, command, id),
                (Step::Install(group), _) => {
                    let key = self.install(None, *group, Some(id));
                    if let Some(flow) = self.flows.get_mut(&id) {
                        flow.key = Some(key);
                    }
                    return;
                }
                (Step::Remove { has_log }, Some(key)) => {
                    let group = self.slots.get(&key).map(|slot| slot.group.group());
                    self.remove(key);
                    if let Some(group) = group.filter(|_| has_log) {
                        self.log.end_group(group);
                    }
                }
                (Step::End(result), _) => return self.end(id, result.is_ok()),
                (Step::Hide | Step::Stream(_) | Step::Remove { .. }, _) => {}
            }
            let Some(flow) = self.flows.get_mut(&id) else { return };
            step = flow.change.done(now);
        }
    }

    fn give(&mut self, key: GroupKey, command: Command, flow: u64) {
        let token = self.expect(Waiter::Flow(flow));
        self.command(key, command, token);
    }

    fn end(&mut self, id: u64, ok: bool) {
        if self.flows.remove(&id).is_some_and(|flow| flow.is_awaited) {
            self.events.borrow_mut().push(Event::FlowDone { ok });
        }
    }
}
