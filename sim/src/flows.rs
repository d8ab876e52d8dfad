//! API calls that take several steps: creating, changing and deleting streams, as `linnet_jetstream::engine` does.

use linnet_assets::{Answer, Command, Purge};
use linnet_ids::{GroupId, Wall};
use linnet_jsapi::StreamConfig;
use linnet_replication::{Log, fresh};
use linnet_store::Kind;
use serde::{Deserialize, Serialize};

use crate::outbox::Event;
use crate::process::{GroupKey, META_KEY, Process, group_dir};

/// What the catalogue keeps of a stream.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Assignment {
    pub(crate) account: String,
    pub(crate) group: String,
    pub(crate) created: i64,
    pub(crate) live: bool,
    pub(crate) config: StreamConfig,
}

impl Assignment {
    pub(crate) fn subject(stream: &str) -> Vec<u8> {
        format!("stream.2447.{stream}").into_bytes()
    }
}

/// Who waits for the answer to a command.
pub(crate) enum Waiter {
    Client,
    Flow(u64),
}

/// An API call in progress.
pub(crate) enum Flow {
    /// The assignment is being stored; then the group begins.
    Create { client: u64, group: GroupId, assignment: Assignment },
    /// The group writes its first entry.
    Install { client: Option<u64>, assignment: Assignment },
    /// The assignment is being marked as live.
    MarkLive { client: Option<u64> },
    /// The assignment is being stored; then the stream is told.
    Update { client: u64, key: GroupKey, config: StreamConfig },
    /// The stream changes.
    Updating { client: u64 },
    /// The stream ends.
    Delete { client: u64, key: GroupKey, group: GroupId, name: String },
    /// The catalogue forgets it.
    Forget { client: u64, key: GroupKey, group: GroupId },
    /// The catalogue forgets a stream that had ended before the restart.
    ForgetEnded,
}

impl Process {
    pub(crate) fn create_stream(&mut self, client: u64, config: StreamConfig, random: u64) -> GroupId {
        let group = GroupId { epoch: 0, meta_index: self.next_meta_index, random };
        self.next_meta_index += 1;
        let created = self.at().wall.0;
        let account = "$G".to_owned();
        let assignment = Assignment { account, group: group.to_string(), created, live: false, config };
        let flow = self.next_flow();
        self.store_assignment(flow, &assignment);
        self.flows.insert(flow, Flow::Create { client, group, assignment });
        group
    }

    pub(crate) fn update_stream(&mut self, client: u64, key: GroupKey, config: StreamConfig) {
        let Some(slot) = self.slots.get(&key) else { return };
        let (group, created) = (slot.group.group(), slot.group.stream().created());
        let assignment = Assignment {
            account: "$G".to_owned(),
            group: group.to_string(),
            created: created.0,
            live: true,
            config: config.clone(),
        };
        let flow = self.next_flow();
        self.store_assignment(flow, &assignment);
        self.flows.insert(flow, Flow::Update { client, key, config });
    }

    pub(crate) fn delete_stream(&mut self, client: u64, key: GroupKey) {
        let Some(slot) = self.slots.get(&key) else { return };
        let (group, name) = (slot.group.group(), slot.group.stream().config().name.clone());
        let flow = self.next_flow();
        let token = self.expect(Waiter::Flow(flow));
        self.command(key, Command::Delete, token);
        self.flows.insert(flow, Flow::Delete { client, key, group, name });
    }

    /// A restored stream that was not marked as live is, once it runs.
    pub(crate) fn mark_live(&mut self, assignment: &Assignment) {
        let flow = self.next_flow();
        self.store_assignment(flow, &Assignment { live: true, ..assignment.clone() });
        self.flows.insert(flow, Flow::MarkLive { client: None });
    }

    /// The catalogue forgets a stream that has ended.
    pub(crate) fn forget_ended(&mut self, name: &str) {
        let flow = self.next_flow();
        self.forget_assignment(flow, name);
        self.flows.insert(flow, Flow::ForgetEnded);
    }

    fn store_assignment(&mut self, flow: u64, assignment: &Assignment) {
        let subject = Assignment::subject(&assignment.config.name);
        let payload = serde_json::to_vec(assignment).expect("plain data serialises");
        let token = self.expect(Waiter::Flow(flow));
        self.command(META_KEY, Command::Append { subject, payload }, token);
    }

    fn forget_assignment(&mut self, flow: u64, name: &str) {
        let filter = String::from_utf8_lossy(&Assignment::subject(name)).into_owned();
        let token = self.expect(Waiter::Flow(flow));
        self.command(META_KEY, Command::Purge(Purge { filter, below: 0, keep: 0 }), token);
    }

    /// A group that a flow waits for has applied everything it proposed.
    pub(crate) fn flow_installed(&mut self, flow: u64) {
        if let Some(Flow::Install { client, assignment }) = self.flows.remove(&flow) {
            self.store_assignment(flow, &Assignment { live: true, ..assignment });
            self.flows.insert(flow, Flow::MarkLive { client });
        }
    }

    /// A command that a flow gave was answered.
    pub(crate) fn flow_answered(&mut self, id: u64, answer: &Answer) {
        let Some(flow) = self.flows.remove(&id) else { return };
        let ok = answer.is_ok();
        let mut end = |client: u64| self.events.push(Event::FlowDone { client, ok });
        match flow {
            Flow::Create { client, .. } if !ok => end(client),
            Flow::Create { client, group, assignment } => {
                let kind = Kind::File { disk: self.disk.clone(), dir: group_dir(&self.dir, group) };
                let created = Wall(assignment.created);
                let now = self.at().now;
                let config = assignment.config.clone();
                let solo = fresh(group, kind, config, created, crate::restore::place(), now);
                self.flows.insert(id, Flow::Install { client: Some(client), assignment });
                self.install(None, solo, Some(id));
            }
            Flow::MarkLive { client: Some(client) } => end(client),
            Flow::Update { client, .. } if !ok => end(client),
            Flow::Update { client, key, config } => {
                let token = self.expect(Waiter::Flow(id));
                self.command(key, Command::Update(Box::new(config)), token);
                self.flows.insert(id, Flow::Updating { client });
            }
            Flow::Updating { client } => end(client),
            Flow::Delete { client, .. } | Flow::Forget { client, .. } if !ok => end(client),
            Flow::Delete { client, key, group, name } => {
                self.forget_assignment(id, &name);
                self.flows.insert(id, Flow::Forget { client, key, group });
            }
            Flow::Forget { client, key, group } => {
                end(client);
                self.remove(key);
                self.log.end_group(group);
            }
            Flow::Install { .. } | Flow::MarkLive { client: None } | Flow::ForgetEnded => {}
        }
    }
}
