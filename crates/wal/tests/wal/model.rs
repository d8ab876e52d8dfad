//! A plain model of what the log must hold, and helpers to drive a log.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use linnet_env::FaultyDisk;
use linnet_ids::GroupId;
use linnet_wal::{Batch, Config, Error, HardState, Integrity, Opened, RecoveredGroup, StoreIdentity, Wal};

use crate::sealed::shared;

pub(crate) const STORE: &str = "/store";
pub(crate) const IDENTITY: StoreIdentity = StoreIdentity { store_id: [0xA5; 16] };

pub(crate) fn small() -> Config {
    Config {
        segment_bytes: 64 << 10,
        first_segment_bytes: 64 << 10,
        max_bytes: 1 << 20,
        reserve_segments: 0,
        ahead_after: 0,
    }
}

pub(crate) fn group(n: u64) -> GroupId {
    GroupId { epoch: 0, meta_index: n, random: n.wrapping_mul(0x1234_5678_9ABC) }
}

pub(crate) fn open(disk: &FaultyDisk) -> Result<Opened, Error> {
    open_with(disk, small())
}

pub(crate) fn open_with(disk: &FaultyDisk, config: Config) -> Result<Opened, Error> {
    Wal::open(shared(disk), Path::new(STORE), config, IDENTITY)
}

pub(crate) fn wal_dir() -> PathBuf {
    Path::new(STORE).join("wal")
}

/// What the log must hold of one group.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct GroupModel {
    pub(crate) entries: BTreeMap<u64, (u64, Vec<u8>)>,
    pub(crate) hard_state: Option<HardState>,
    pub(crate) checkpoint: Option<(u64, u64, Vec<u8>)>,
}

impl GroupModel {
    pub(crate) fn applied(&self) -> u64 {
        self.checkpoint.as_ref().map_or(0, |c| c.0)
    }

    pub(crate) fn last(&self) -> u64 {
        self.entries.keys().next_back().copied().unwrap_or(0).max(self.applied())
    }
}

pub(crate) type Model = BTreeMap<GroupId, GroupModel>;

/// A record to write.
#[derive(Clone, Debug)]
pub(crate) enum Op {
    Entry { group: GroupId, index: u64, term: u64, payload: Vec<u8> },
    HardState { group: GroupId, state: HardState },
    Checkpoint { group: GroupId, applied: u64, term: u64, body: Vec<u8> },
    Install { group: GroupId, applied: u64, term: u64, body: Vec<u8> },
    EndGroup { group: GroupId },
}

impl Op {
    pub(crate) fn add_to(&self, batch: &mut Batch) {
        match self {
            Self::Entry { group, index, term, payload } => {
                let (a, b) = payload.split_at(payload.len() / 2);
                batch.entry(*group, *index, *term, &[a, b]);
            }
            Self::HardState { group, state } => batch.hard_state(*group, state),
            Self::Checkpoint { group, applied, term, body } => {
                batch.checkpoint(*group, *applied, *term, body)
            }
            Self::Install { group, applied, term, body } => {
                batch.install(*group, *applied, *term, applied * 31, body)
            }
            Self::EndGroup { group } => batch.end_group(*group),
        }
    }

    pub(crate) fn apply_to(&self, model: &mut Model) {
        match self {
            Self::Entry { group, index, term, payload } => {
                let log = model.entry(*group).or_default();
                log.entries.split_off(index);
                log.entries.insert(*index, (*term, payload.clone()));
            }
            Self::HardState { group, state } => {
                model.entry(*group).or_default().hard_state = Some(state.clone());
            }
            Self::Checkpoint { group, applied, term, body } => {
                let log = model.entry(*group).or_default();
                log.entries = log.entries.split_off(&(applied + 1));
                log.checkpoint = Some((*applied, *term, body.clone()));
            }
            Self::Install { group, applied, term, body } => {
                let log = model.entry(*group).or_default();
                log.entries.clear();
                log.checkpoint = Some((*applied, *term, body.clone()));
            }
            Self::EndGroup { group } => {
                model.remove(group);
            }
        }
    }
}

pub(crate) fn batch_of(ops: &[Op]) -> Batch {
    let mut batch = Batch::new();
    ops.iter().for_each(|op| op.add_to(&mut batch));
    batch
}

pub(crate) fn apply_all(ops: &[Op], model: &mut Model) {
    ops.iter().for_each(|op| op.apply_to(model));
}

/// Draws a batch that is valid on top of `model`.
pub(crate) fn random_ops(rng: &mut fastrand::Rng, model: &Model, groups: u64, payload_max: usize) -> Vec<Op> {
    let mut after = model.clone();
    let count = if rng.u8(..8) == 0 { rng.usize(1..40) } else { rng.usize(1..5) };
    let mut ops = Vec::with_capacity(count);
    for _ in 0..count {
        let group = group(rng.u64(1..=groups));
        let log = after.get(&group).cloned().unwrap_or_default();
        let bytes = |rng: &mut fastrand::Rng, max: usize| {
            let len = if rng.u8(..10) == 0 { max } else { rng.usize(..max.min(300)) };
            let fill = rng.u8(..);
            // Zeros are what torn sectors read as, so payloads of zeros must not confuse anybody.
            if fill < 20 { vec![0; len] } else { (0..len).map(|_| rng.u8(..)).collect() }
        };
        let op = match rng.u8(..100) {
            0..70 => {
                let next = log.last() + 1;
                let truncates = rng.u8(..10) == 0;
                let index = if truncates { rng.u64(log.applied() + 1..=next) } else { next };
                let term = log.entries.values().next_back().map_or(1, |e| e.0) + u64::from(truncates);
                Op::Entry { group, index, term, payload: bytes(rng, payload_max) }
            }
            70..82 => {
                let vote = rng.bool().then(|| [rng.u8(..); 16]);
                let membership = bytes(rng, 700);
                let state = HardState { term: rng.u64(..), vote, incarnation: rng.u64(..), membership };
                Op::HardState { group, state }
            }
            82..95 => {
                let applied = rng.u64(log.applied()..=log.last());
                let known = log.checkpoint.as_ref().filter(|c| c.0 == applied).map(|c| c.1);
                let term = log.entries.get(&applied).map(|e| e.0).or(known).unwrap_or(0);
                if applied == 0 {
                    continue;
                }
                Op::Checkpoint { group, applied, term, body: bytes(rng, payload_max) }
            }
            95..98 => {
                let applied = log.last() + rng.u64(1..10);
                Op::Install { group, applied, term: rng.u64(1..9), body: bytes(rng, 300) }
            }
            _ => Op::EndGroup { group },
        };
        op.apply_to(&mut after);
        ops.push(op);
    }
    ops
}

/// What an opened log holds, in the shape of the model. Fails where something promised cannot be read.
pub(crate) fn contents(opened: &Opened) -> Result<Model, String> {
    let mut model = Model::new();
    for found in &opened.groups {
        if found.integrity != Integrity::Intact {
            return Err(format!("group {} is {:?}", found.group, found.integrity));
        }
        model.insert(found.group, group_contents(&opened.wal, found)?);
    }
    Ok(model)
}

fn group_contents(wal: &Wal, found: &RecoveredGroup) -> Result<GroupModel, String> {
    let mut log = GroupModel { hard_state: found.hard_state.clone(), ..GroupModel::default() };
    if let Some(checkpoint) = found.checkpoint {
        let body = wal.checkpoint_body(found.group).map_err(|e| e.to_string())?.unwrap_or_default();
        log.checkpoint = Some((checkpoint.applied, checkpoint.term, body));
    }
    let mut expected = log.applied() + 1;
    for entry in wal.entries(found.group) {
        let entry = entry.map_err(|e| e.to_string())?;
        if entry.index != expected {
            return Err(format!("group {}: entry {} where {expected} should be", found.group, entry.index));
        }
        expected += 1;
        log.entries.insert(entry.index, (entry.term, entry.payload));
    }
    if found.last + 1 != expected || log.last() != found.last {
        return Err(format!("group {}: last is {} of {expected}", found.group, found.last));
    }
    Ok(log)
}

/// What the log holds right now, without reopening it.
pub(crate) fn live_contents(wal: &Wal, model: &Model) -> Result<(), String> {
    for (group, log) in model {
        for (index, (term, payload)) in &log.entries {
            let entry = wal.read(*group, *index).map_err(|e| e.to_string())?;
            let entry = entry.ok_or_else(|| format!("group {group}: entry {index} is not there"))?;
            if entry.term != *term || entry.payload != *payload {
                return Err(format!("group {group}: entry {index} differs"));
            }
        }
        if wal.last_index(*group) != log.last() {
            return Err(format!("group {group}: last is {}", wal.last_index(*group)));
        }
        let body = wal.checkpoint_body(*group).map_err(|e| e.to_string())?;
        if body.as_ref() != log.checkpoint.as_ref().map(|c| &c.2) {
            return Err(format!("group {group}: checkpoint differs"));
        }
    }
    Ok(())
}

/// Says where two models differ, shortly.
pub(crate) fn difference(found: &Model, expected: &Model) -> Option<String> {
    if found == expected {
        return None;
    }
    for (group, log) in expected {
        match found.get(group) {
            None => return Some(format!("group {group} is missing")),
            Some(other) if other == log => {}
            Some(other) => {
                let keys = |l: &GroupModel| l.entries.keys().copied().collect::<Vec<_>>();
                return Some(format!(
                    "group {group}: entries {:?} instead of {:?}, hard state equal {}, checkpoint {:?} for {:?}",
                    keys(other),
                    keys(log),
                    other.hard_state == log.hard_state,
                    other.checkpoint.as_ref().map(|c| c.0),
                    log.checkpoint.as_ref().map(|c| c.0),
                ));
            }
        }
    }
    Some("a group too many".to_owned())
}

/// Content of every segment file, by number.
pub(crate) fn segments(disk: &FaultyDisk) -> Vec<Vec<u8>> {
    disk.files_below(&wal_dir()).iter().map(|(path, _)| linnet_env::Disk::read(disk, path).unwrap()).collect()
}
