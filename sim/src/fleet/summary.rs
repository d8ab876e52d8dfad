use std::collections::BTreeMap;
use std::fmt;

use crate::field::{Counts, Fault, count_all};

/// Something that happened, for the count.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum FleetEvent {
    /// A replica of the catalogue's group was elected.
    MetaElected,
    /// A replica of a stream's group was elected.
    Elected,
    /// Leadership was handed over.
    HandOver,
    /// A stream was put on servers.
    Assigned,
    /// A client was told that its stream exists.
    Created,
    /// A stream did not find its first leader in time.
    NotCreated,
    /// A stream got another configuration.
    Updated,
    /// A stream got more replicas.
    ScaledUp,
    /// A stream got fewer replicas.
    ScaledDown,
    /// A stream was taken off a server.
    PeerReplaced,
    /// A stream was to move to another server.
    Moved,
    /// Such a move was taken back.
    MoveCancelled,
    /// A stream with one replica could have several.
    OpenedUp,
    /// A stream with one replica was put on a server.
    Alone,
    /// The disk with the only replica of a stream was lost.
    AloneLost,
    /// A stream with one replica was found at rest with everything that was acknowledged.
    AloneChecked,
    /// A disk had hardly any space left.
    DiskFull,
    /// An old disk came back.
    OldDisk,
    /// Something in a log was rotten.
    LogDamaged,
    /// The catalogue heard that a stream has the members that it shall have.
    Shaped,
    /// A stream was deleted.
    Deleted,
    /// A stream in memory began again.
    Reseeded,
    /// A replica began.
    Begun,
    /// A replica was removed.
    Removed,
    /// A replica is kept and not served: another stream has its name.
    SetAside,
    /// A step of a group's members was proposed.
    MemberStep,
    /// A server was added.
    ServerAdded,
    /// A server was taken out.
    ServerRemoved,
    /// A checkpoint was made.
    Checkpoint,
    /// A replica began to take a state.
    TransferBegun,
    /// A replica went on with a state that it took.
    TransferDone,
    /// A publisher was told that its message is stored.
    Stored,
    /// A publisher was told that its message was stored before.
    Duplicate,
    /// A batch was published.
    BatchSent,
    /// A publisher was told that its batch is stored.
    BatchStored,
    /// A client got a message.
    Delivered,
    /// A client got a message not for the first time.
    Redelivered,
    /// A client was told that its acknowledgement counts.
    Confirmed,
    /// The state of a replica was compared with another one's at the same place of the log.
    Compared,
    /// A stream was found at rest as the catalogue says.
    Settled,
    /// A replica in memory gave up what it promised.
    GaveUp,
    /// A stream in memory went on as another group with what a replica held.
    Inherited,
    /// A message was found at rest.
    Checked,
}

/// Every kind of event that a few seeds bring.
pub const FLEET_EVENTS: &[FleetEvent] = &[
    FleetEvent::MetaElected,
    FleetEvent::Elected,
    FleetEvent::HandOver,
    FleetEvent::Assigned,
    FleetEvent::Created,
    FleetEvent::Updated,
    FleetEvent::ScaledUp,
    FleetEvent::ScaledDown,
    FleetEvent::PeerReplaced,
    FleetEvent::Moved,
    FleetEvent::MoveCancelled,
    FleetEvent::OpenedUp,
    FleetEvent::Alone,
    FleetEvent::AloneLost,
    FleetEvent::AloneChecked,
    FleetEvent::DiskFull,
    FleetEvent::OldDisk,
    FleetEvent::LogDamaged,
    FleetEvent::Shaped,
    FleetEvent::Deleted,
    FleetEvent::Reseeded,
    FleetEvent::Begun,
    FleetEvent::Removed,
    FleetEvent::MemberStep,
    FleetEvent::ServerAdded,
    FleetEvent::ServerRemoved,
    FleetEvent::Checkpoint,
    FleetEvent::TransferBegun,
    FleetEvent::TransferDone,
    FleetEvent::Stored,
    FleetEvent::Duplicate,
    FleetEvent::BatchSent,
    FleetEvent::BatchStored,
    FleetEvent::Delivered,
    FleetEvent::Redelivered,
    FleetEvent::Confirmed,
    FleetEvent::Compared,
    FleetEvent::Settled,
    FleetEvent::GaveUp,
    FleetEvent::Inherited,
    FleetEvent::Checked,
];

/// What a sweep found.
#[derive(Clone, Debug, Default)]
pub struct FleetSummary {
    /// Seeds that were run.
    pub seeds: u64,
    /// Passes of servers' loops.
    pub steps: u64,
    /// What broke, and how often.
    pub faults: BTreeMap<Fault, u64>,
    /// What happened, and how often.
    pub events: BTreeMap<FleetEvent, u64>,
    /// Seeds that broke a promise, and which.
    pub failures: Vec<(u64, String)>,
}

impl FleetSummary {
    pub(super) fn add(
        &mut self,
        seed: u64,
        steps: u64,
        faults: &Counts<Fault>,
        events: &Counts<FleetEvent>,
        outcome: Result<(), String>,
    ) {
        self.seeds += 1;
        self.steps += steps;
        count_all(&mut self.faults, faults);
        count_all(&mut self.events, events);
        self.failures.extend(outcome.err().map(|failure| (seed, failure)));
    }

    /// Kinds of faults and events that never were.
    pub fn missing(&self) -> Vec<String> {
        let faults = Fault::ALL.iter().filter(|fault| self.faults.get(fault).is_none_or(|n| *n == 0));
        let events = FLEET_EVENTS.iter().filter(|event| self.events.get(event).is_none_or(|n| *n == 0));
        faults.map(|fault| format!("{fault:?}")).chain(events.map(|event| format!("{event:?}"))).collect()
    }
}

impl fmt::Display for FleetSummary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{} seeds, {} steps, {} failures", self.seeds, self.steps, self.failures.len())?;
        for (fault, times) in &self.faults {
            writeln!(f, "  {fault:?} {times}")?;
        }
        for (event, times) in &self.events {
            writeln!(f, "  {event:?} {times}")?;
        }
        for (seed, failure) in &self.failures {
            writeln!(f, "  seed {seed}: {failure}")?;
        }
        Ok(())
    }
}
