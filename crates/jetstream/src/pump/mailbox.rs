//! The way to a pump.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use linnet_broker::Account;
use linnet_ids::{GroupId, Mono};
use linnet_jsapi::errors::ApiError;
use linnet_raft::Message;
use linnet_replication::raft::PeerChange;
use linnet_replication::{GroupDone, GroupKey, Incoming, StreamGroup, Ticket};
use parking_lot::{Condvar, Mutex};
use tokio::sync::oneshot;

use super::replicas::{EntriesRead, ReplicaReport};
use super::slot::StreamWatch;
use crate::cell::StreamCell;
use crate::disk_work::MayRemoveDir;
use crate::inbox::StreamInbox;
use crate::log_writer::{LogFailure, LogHandle};
use crate::services::ConsumerServices;

/// The way to reach a pump from other threads.
#[derive(Clone)]
pub(crate) struct PumpHandle {
    shared: Arc<Shared>,
}

#[derive(Default)]
struct Shared {
    mail: Mutex<PumpMail>,
    wake: Condvar,
}

/// What came for a pump.
#[derive(Default)]
pub(super) struct PumpMail {
    pub(super) ready: Vec<GroupKey>,
    pub(super) durable: Ticket,
    pub(super) failure: Option<LogFailure>,
    pub(super) disk: Vec<(GroupKey, GroupDone)>,
    pub(super) checkpoints: Vec<GroupId>,
    /// What comes from other servers, in order. The windows of groups bound it.
    pub(super) incoming: Vec<Incoming>,
    /// What was read of the log.
    pub(super) entries: Vec<EntriesRead>,
    pub(super) controls: Vec<Control>,
    is_awake: bool,
    /// The pump has ended: nobody takes anything out any more.
    is_closed: bool,
}

/// What the owner of the catalogue asks of a pump.
pub(crate) enum Control {
    /// Take a group.
    Install(Box<Installation>),
    /// Let a group be reached that was not, by these services.
    Open { key: GroupKey, services: Box<ConsumerServices>, done: oneshot::Sender<()> },
    /// A stream that this one takes messages from came or went.
    OriginChanged { key: GroupKey, name: String },
    /// Say how a replica stands; `None` for a group with one.
    Report { key: GroupKey, done: oneshot::Sender<Option<ReplicaReport>> },
    /// Let a group act.
    Act { group: GroupId, act: Act },
    /// Drop a group that has ended, and its files unless they are kept.
    Remove { key: GroupKey, files: Files, done: oneshot::Sender<()> },
    /// Checkpoint everything and end.
    Stop { checkpoint: bool, done: oneshot::Sender<()> },
}

/// What a group is to do.
pub(crate) type Act = Box<dyn FnOnce(&mut StreamGroup, Mono, &mut LogHandle) + Send>;

/// What becomes of the files of a group that is dropped.
pub(crate) enum Files {
    /// They go.
    Remove(MayRemoveDir),
    /// They stay as they are.
    Keep,
}

/// A group and what belongs to it.
pub(crate) struct Installation {
    pub(crate) key: GroupKey,
    pub(crate) group: StreamGroup,
    pub(crate) inbox: Arc<StreamInbox>,
    pub(crate) account: Arc<Account>,
    pub(crate) cell: Arc<StreamCell>,
    pub(crate) dir: PathBuf,
    pub(crate) services: ConsumerServices,
    /// The group stands in for one that could not be recovered: everything is refused with this.
    pub(crate) failed: Option<ApiError>,
    /// Looks at the stream after each of its turns.
    pub(crate) watch: Option<StreamWatch>,
    /// Answered when everything proposed so far is applied.
    pub(crate) done: oneshot::Sender<()>,
}

impl PumpHandle {
    pub(crate) fn new() -> Self {
        Self { shared: Arc::default() }
    }

    /// True if both lead to the same pump.
    pub(crate) fn is_same(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.shared, &other.shared)
    }

    fn with(&self, add: impl FnOnce(&mut PumpMail)) {
        let mut mail = self.shared.mail.lock();
        if mail.is_closed {
            return;
        }
        add(&mut mail);
        if !mail.is_awake {
            mail.is_awake = true;
            drop(mail);
            self.shared.wake.notify_one();
        }
    }

    pub(crate) fn schedule(&self, key: GroupKey) {
        self.with(|mail| mail.ready.push(key));
    }

    pub(crate) fn durable(&self, ticket: Ticket) {
        self.with(|mail| mail.durable = mail.durable.max(ticket));
    }

    pub(crate) fn log_failed(&self, failure: LogFailure) {
        self.with(|mail| mail.failure = Some(failure));
    }

    pub(crate) fn disk_done(&self, key: GroupKey, done: GroupDone) {
        self.with(|mail| mail.disk.push((key, done)));
    }

    pub(crate) fn checkpoint(&self, group: GroupId) {
        self.with(|mail| mail.checkpoints.push(group));
    }

    /// Entries that were asked for.
    pub(crate) fn entries_read(&self, read: EntriesRead) {
        self.with(|mail| mail.entries.push(read));
    }

    /// Messages of replicas on other servers.
    pub(crate) fn replica_messages(&self, messages: impl IntoIterator<Item = (GroupId, Message)>) {
        let messages = messages.into_iter().map(|(group, message)| Incoming::Message(group, message));
        self.with(|mail| mail.incoming.extend(messages));
    }

    /// Servers can be heard, or cannot any more.
    pub(crate) fn peers_changed(&self, changes: &[PeerChange]) {
        self.with(|mail| mail.incoming.extend(changes.iter().copied().map(Incoming::Peer)));
    }

    pub(crate) fn control(&self, control: Control) {
        self.with(|mail| mail.controls.push(control));
    }

    /// Drops what came and what comes from now on, so that nobody waits for an answer.
    pub(super) fn close(&self) {
        let mut mail = self.shared.mail.lock();
        let left = std::mem::replace(&mut *mail, PumpMail { is_closed: true, ..PumpMail::default() });
        drop(mail);
        drop(left);
    }

    /// Waits for mail until `until`.
    pub(super) fn wait(&self, timeout: Duration) -> PumpMail {
        let mut mail = self.shared.mail.lock();
        if !mail.is_awake {
            self.shared.wake.wait_for(&mut mail, timeout);
        }
        let durable = mail.durable;
        let taken = std::mem::take(&mut *mail);
        mail.durable = durable;
        // Whoever adds from here on need not wake us: we look again before we sleep.
        mail.is_awake = false;
        taken
    }
}
