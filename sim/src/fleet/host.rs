//! What the production loop around groups needs of a server.

use std::path::{Path, PathBuf};

use linnet_assets::{EntryError, Moment, Output, Publish, StreamLimits};
use linnet_ids::{GroupId, Mono};
use linnet_jsapi::subjects::AckSubject;
use linnet_raft::Standing;
use linnet_replication::raft::PeerChange;
use linnet_replication::{GroupKey, Host, Log, ReplicaRequest, StopReason, StreamGroup, Ticket, group_dir};

use super::FleetMutation;
use super::server::{Call, Life, Slot, layout};
use crate::field::{STORE, ToClient};

impl Host for Life {
    fn with<R>(
        &mut self,
        key: GroupKey,
        act: impl FnOnce(&mut StreamGroup, &mut dyn Output, &mut dyn Log) -> R,
    ) -> Option<R> {
        let Self { slots, queue, .. } = self;
        let slot = slots.get_mut(&key)?;
        Some(act(&mut slot.group, &mut slot.sent, queue))
    }

    fn keys(&self) -> Vec<GroupKey> {
        self.slots.keys().copied().collect()
    }

    fn key_of(&self, group: GroupId) -> Option<GroupKey> {
        self.slots.iter().find(|(_, slot)| slot.group.group() == group).map(|(key, _)| *key)
    }

    fn turn(&mut self, key: GroupKey, at: Moment) -> Option<Result<Option<Ticket>, EntryError>> {
        let Self { slots, queue, mutation, .. } = self;
        let slot = slots.get_mut(&key)?;
        slot.group.stream_mut().store_mut().set_layout(layout());
        slot.take_calls(at, *mutation);
        slot.offer(at);
        Some(slot.group.flush(at, queue, &mut slot.sent))
    }

    fn turned(&mut self, key: GroupKey) -> Option<Mono> {
        self.collect(key);
        let requests = self.slots.get_mut(&key)?.group.take_requests();
        for request in requests {
            self.serve(key, request);
        }
        let slot = self.slots.get_mut(&key)?;
        slot.group.next_due()
    }

    fn checkpoint(&mut self, key: GroupKey) {
        self.begin_checkpoint(key);
    }

    fn raise_floor(&mut self, key: GroupKey, now: Mono) {
        if let Some(slot) = self.slots.get_mut(&key)
            && let Some(job) = slot.group.begin_floor(now)
        {
            slot.floor = Some(job);
        }
    }

    fn remove_files(&mut self, files: Vec<PathBuf>) {
        for path in files {
            let _ = self.disk.remove_file(&path);
        }
    }

    fn stop(&mut self, key: GroupKey, why: StopReason<'_>) {
        let why = match why {
            StopReason::Log(error) => error.to_string(),
            StopReason::Entry(error) => error.to_string(),
        };
        self.passed.failure.get_or_insert_with(|| format!("group {key} stops: {why}"));
    }
}

impl Life {
    /// Does what a replica asks for.
    fn serve(&mut self, key: GroupKey, request: ReplicaRequest) {
        let now = self.clerk.now;
        let Some(slot) = self.slots.get_mut(&key) else { return };
        let group = slot.group.group();
        match request {
            ReplicaRequest::ReadEntries { peer, from, bytes_max } => {
                self.read_entries(now, group, peer, from, bytes_max);
            }
            ReplicaRequest::SendState(peer) => {
                let snapshot = slot.transfers.offer(&mut slot.group, peer, now);
                slot.group.send_snapshot(now, peer, snapshot, &mut self.queue);
                slot.is_awake = true;
            }
            ReplicaRequest::TakeState(snapshot) => {
                if self.disk.create_dir_all(&group_dir(Path::new(STORE), group)).is_ok() {
                    slot.transfers.take(&mut slot.group, snapshot, now);
                }
            }
            ReplicaRequest::Standing(standing) => {
                self.passed.standings.push((group, standing));
                self.clerk.changed(group, matches!(standing, Standing::Leading(_)));
                slot.is_awake = true;
            }
            ReplicaRequest::Members(_) => {
                let leads = slot.group.stream().is_leading();
                self.clerk.changed(group, leads);
            }
            ReplicaRequest::Peers => {
                for peer in self.reachable.clone() {
                    if let Some(slot) = self.slots.get_mut(&key) {
                        slot.group.on_peer(now, PeerChange::Reachable(peer), &mut self.queue);
                        slot.is_awake = true;
                    }
                }
            }
            ReplicaRequest::Halted(fault) => {
                self.passed.failure.get_or_insert_with(|| format!("group {group} halted: {fault}"));
            }
        }
    }
}

impl Slot {
    /// Gives the stream what clients asked.
    fn take_calls(&mut self, at: Moment, mutation: Option<FleetMutation>) {
        self.is_awake = false;
        for call in std::mem::take(&mut self.calls) {
            let stream = self.group.stream_mut();
            match call {
                Call::Publish(publication) => self.publications.push_back(publication),
                Call::Command(command, token) => stream.command(command, token, at, &mut self.sent),
                _ if !stream.is_leading() => {}
                Call::Pull(consumer) => {
                    let body = br#"{"batch":5,"no_wait":true}"#;
                    stream.on_next_request(consumer, b"inbox", body, at.now, at.wall, &mut self.sent);
                }
                Call::Acknowledge(subject) => {
                    let Some(ack) = AckSubject::parse(&subject) else { continue };
                    let mut reply = format!("sure.{}", ack.stream_seq);
                    if mutation == Some(FleetMutation::ConfirmAtOnce) {
                        self.sent.letters.push(ToClient::Answer(std::mem::take(&mut reply), String::new()));
                    }
                    stream.on_ack(&ack, b"+ACK", reply.as_bytes(), at.now, at.wall, &mut self.sent);
                }
            }
        }
    }

    /// Messages go into the stream if this replica leads.
    fn offer(&mut self, at: Moment) {
        if !self.group.stream().is_leading() {
            return self.publications.clear();
        }
        let publishes = self.publications.iter().map(|p| Publish {
            subject: p.subject.as_bytes(),
            reply: p.reply.as_bytes(),
            header_len: p.header_len,
            body: &p.body,
            origin: None,
        });
        let (dealt_with, _) = self.group.offer(publishes, &StreamLimits::default(), at, &mut self.sent);
        self.publications.drain(..dealt_with);
    }
}
