use std::collections::BTreeMap;

/// How often things happened.
pub(crate) type Counts<E> = BTreeMap<E, u64>;

/// Adds one count to another.
pub(crate) fn count_all<E: Ord + Copy>(sum: &mut Counts<E>, more: &Counts<E>) {
    for (event, times) in more {
        *sum.entry(*event).or_default() += times;
    }
}

/// Something that broke.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Fault {
    /// A server lost power.
    PowerLoss,
    /// A server lost power in the middle of what its disk was asked.
    PowerLossInWrite,
    /// A process died, the machine stayed up.
    Kill,
    /// A process did not run for a while.
    Pause,
    /// Two servers could not hear each other.
    Cut,
    /// One server could not be heard by another one that it heard.
    OneWayCut,
    /// A letter was lost, and the connection with it.
    Lost,
    /// A letter arrived late, perhaps after the receiver was restarted.
    Late,
    /// A letter arrived twice.
    Twice,
    /// A sync failed and with it the log until it was opened again.
    FailedSync,
    /// Opening a store failed for want of power or a sync.
    FailedStart,
    /// The disk was slow.
    SlowDisk,
    /// A store was replaced by an empty one.
    Wipe,
}

impl Fault {
    /// Every kind.
    pub const ALL: &[Self] = &[
        Self::PowerLoss,
        Self::PowerLossInWrite,
        Self::Kill,
        Self::Pause,
        Self::Cut,
        Self::OneWayCut,
        Self::Lost,
        Self::Late,
        Self::Twice,
        Self::FailedSync,
        Self::FailedStart,
        Self::SlowDisk,
        Self::Wipe,
    ];
}
