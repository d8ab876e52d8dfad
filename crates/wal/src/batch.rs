use linnet_ids::GroupId;

/// Term, vote, membership and incarnation of a replica in a group. Always written whole.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HardState {
    /// Highest term the replica has seen.
    pub term: u64,
    /// Whom it voted for in that term.
    pub vote: Option<[u8; 16]>,
    /// Which life of this store in this group it is.
    pub incarnation: u64,
    /// Encoded membership, and whatever else the owner needs before its first vote. At most 64 KiB.
    pub membership: Vec<u8>,
}

/// What one record of a batch asks for. Payload bytes lie in the batch's own buffers.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Op {
    Entry { group: GroupId, index: u64, term: u64, len: u32, crc: u32 },
    Restore { group: GroupId, index: u64, len: u32, crc: u32 },
    HardState { group: GroupId, term: u64, vote: Option<[u8; 16]>, incarnation: u64, at: usize, len: usize },
    Checkpoint { group: GroupId, applied: u64, term: u64, len: u32, crc: u32 },
    Install { group: GroupId, applied: u64, term: u64, chain: u64, len: u32, crc: u32 },
    EndGroup { group: GroupId },
}

/// Records that become durable together. Reuse it: a cleared batch keeps its buffers.
#[derive(Clone, Debug, Default)]
pub struct Batch {
    pub(crate) ops: Vec<Op>,
    /// Payloads of entries and checkpoints, in order.
    pub(crate) data: Vec<u8>,
    /// Membership values of hard states.
    pub(crate) memberships: Vec<u8>,
    /// A payload longer than any segment was added.
    pub(crate) oversized: bool,
    urgent: bool,
    certain: bool,
}

impl Batch {
    /// An empty batch.
    pub fn new() -> Self {
        Self::default()
    }

    fn payload(&mut self, parts: &[&[u8]]) -> (u32, u32) {
        let mut hasher = crc32fast::Hasher::new();
        let before = self.data.len();
        for part in parts {
            hasher.update(part);
            self.data.extend_from_slice(part);
        }
        let len = u32::try_from(self.data.len() - before).unwrap_or_else(|_| {
            self.oversized = true;
            0
        });
        (len, hasher.finalize())
    }

    /// Adds an entry. `index` is the group's last plus one; a smaller one replaces the entry there and drops all
    /// behind it. The payload is the concatenation of `parts`.
    pub fn entry(&mut self, group: GroupId, index: u64, term: u64, parts: &[&[u8]]) {
        let (len, crc) = self.payload(parts);
        self.ops.push(Op::Entry { group, index, term, len, crc });
    }

    /// Writes an entry again whose stored bytes no longer verify. The payload must be what the log was given then;
    /// nothing else changes.
    pub fn restore(&mut self, group: GroupId, index: u64, parts: &[&[u8]]) {
        let (len, crc) = self.payload(parts);
        self.ops.push(Op::Restore { group, index, len, crc });
    }

    /// Adds the full hard state of a group. After an opening that reported damage it also acknowledges the report:
    /// from then on the log no longer calls the group's hard state and log end doubtful.
    pub fn hard_state(&mut self, group: GroupId, state: &HardState) {
        self.make_certain();
        let at = self.memberships.len();
        self.memberships.extend_from_slice(&state.membership);
        self.ops.push(Op::HardState {
            group,
            term: state.term,
            vote: state.vote,
            incarnation: state.incarnation,
            at,
            len: state.membership.len(),
        });
    }

    /// Adds a checkpoint: entries up to `applied`, which the log holds in `term`, are no longer needed. `body` names
    /// the files that hold their effects.
    pub fn checkpoint(&mut self, group: GroupId, applied: u64, term: u64, body: &[u8]) {
        let (len, crc) = self.payload(&[body]);
        self.ops.push(Op::Checkpoint { group, applied, term, len, crc });
    }

    /// Adds a checkpoint that came from elsewhere: all entries of the group are dropped and its log goes on behind
    /// `applied`, with `chain` as the hash of its history ([`linnet_ids::chain_next`]).
    pub fn install(&mut self, group: GroupId, applied: u64, term: u64, chain: u64, body: &[u8]) {
        let (len, crc) = self.payload(&[body]);
        self.ops.push(Op::Install { group, applied, term, chain, len, crc });
    }

    /// Gives up everything the log holds of a group.
    pub fn end_group(&mut self, group: GroupId) {
        self.ops.push(Op::EndGroup { group });
    }

    /// Lets this batch use the space kept in reserve: for hard states, acknowledgements and deletions, which must
    /// go on when the disk or the log is full.
    pub fn set_urgent(&mut self, urgent: bool) {
        self.urgent = urgent;
    }

    /// True if the batch may use the reserve.
    pub fn is_urgent(&self) -> bool {
        self.urgent
    }

    /// This batch is not put off where syncs are: it is a promise to others.
    pub fn make_certain(&mut self) {
        self.certain = true;
    }

    /// True if the batch is not put off where syncs are.
    pub fn is_certain(&self) -> bool {
        self.certain
    }

    /// True if nothing was added.
    pub fn is_empty(&self) -> bool {
        self.ops.is_empty()
    }

    /// Number of records.
    pub fn len(&self) -> usize {
        self.ops.len()
    }

    /// Bytes of payloads and memberships.
    pub fn bytes(&self) -> usize {
        self.data.len() + self.memberships.len()
    }

    /// Empties the batch and keeps its buffers, unless one exceptional batch made them huge.
    pub fn clear(&mut self) {
        const DATA_KEPT_MAX: usize = 4 << 20;
        self.ops.clear();
        self.data.clear();
        self.memberships.clear();
        self.oversized = false;
        self.urgent = false;
        self.certain = false;
        if self.data.capacity() > DATA_KEPT_MAX {
            self.data.shrink_to(DATA_KEPT_MAX);
        }
    }
}
