//! Damage of every kind at every place: nothing wrong is returned, nothing acknowledged is lost silently.

use std::collections::BTreeMap;
use std::path::PathBuf;

use linnet_env::{DamageKind, FaultyDisk};
use linnet_ids::GroupId;
use linnet_wal::{Damage, Error, HardState, Integrity, Opened, RecoveredGroup, Unverifiable, Wal};

use crate::crash::seeds;
use crate::model::{
    GroupModel, Model, Op, apply_all, batch_of, contents, difference, group, open, random_ops, wal_dir,
};

/// Every payload that was ever acknowledged, by group, index and term.
type History = BTreeMap<(GroupId, u64, u64), Vec<Vec<u8>>>;

/// A log and what is known about it.
#[derive(Clone)]
struct Case {
    disk: FaultyDisk,
    model: Model,
    /// The model with a batch that was under way when the power went off.
    with_pending: Option<Model>,
    history: History,
}

impl Case {
    fn new(seed: u64) -> (Self, Wal) {
        let disk = FaultyDisk::new(seed);
        let wal = open(&disk).unwrap().wal;
        (Self { disk, model: Model::new(), with_pending: None, history: History::new() }, wal)
    }

    fn commit(&mut self, wal: &mut Wal, ops: &[Op]) -> Result<(), Error> {
        wal.commit(&mut batch_of(ops))?;
        apply_all(ops, &mut self.model);
        self.remember(ops);
        Ok(())
    }

    fn remember(&mut self, ops: &[Op]) {
        for op in ops {
            if let Op::Entry { group, index, term, payload } = op {
                self.history.entry((*group, *index, *term)).or_default().push(payload.clone());
            }
        }
    }

    /// The power goes off in the middle of a commit.
    fn begin_batch_and_crash(&mut self, rng: &mut fastrand::Rng, wal: &mut Wal) {
        let ops = random_ops(rng, &self.model, 4, 9000);
        let mut after = self.model.clone();
        apply_all(&ops, &mut after);
        self.remember(&ops);
        self.with_pending = Some(after);
        self.disk.power_off_after(rng.u64(0..2));
        let outcome = wal.commit(&mut batch_of(&ops));
        assert!(outcome.is_err() || ops.is_empty());
        self.disk.crash(rng.u64(..));
    }

    /// Forgets groups that an opening does not list: they are left to their owners.
    fn retain_listed(&mut self, opened: &Opened) {
        let listed = |id: &GroupId| opened.groups.iter().any(|g| g.group == *id);
        self.model.retain(|id, _| listed(id));
        if let Some(model) = &mut self.with_pending {
            model.retain(|id, _| listed(id));
        }
    }

    /// Judges an opened log against what was acknowledged.
    fn check(&self, opened: &Opened) -> Result<(), String> {
        let with_pending = self.with_pending.as_ref().map(|model| self.check_model(model, opened));
        if with_pending == Some(Ok(())) { Ok(()) } else { self.check_model(&self.model, opened) }
    }

    fn check_model(&self, model: &Model, opened: &Opened) -> Result<(), String> {
        let any = opened.report.any_group_may_be_affected();
        for (id, expected) in model {
            match opened.groups.iter().find(|g| g.group == *id) {
                Some(found) => {
                    self.check_group(&opened.wal, found, expected).map_err(|e| format!("group {id}: {e}"))?;
                }
                None if any => {}
                None => return Err(format!("group {id} is missing silently")),
            }
        }
        match opened.groups.iter().find(|g| !model.contains_key(&g.group)) {
            Some(extra) if extra.integrity == Integrity::Intact => {
                Err(format!("group {} came back", extra.group))
            }
            _ => Ok(()),
        }
    }

    fn check_group(&self, wal: &Wal, found: &RecoveredGroup, expected: &GroupModel) -> Result<(), String> {
        let none = Damage::default();
        let damage = match &found.integrity {
            Integrity::Intact => &none,
            Integrity::Damaged(damage) => damage,
        };
        let uncertain = damage.uncertain_from.unwrap_or(u64::MAX);
        if found.hard_state != expected.hard_state && !damage.hard_state {
            return Err("another hard state".to_owned());
        }
        let applied = found.checkpoint.map_or(0, |c| c.applied);
        let body = wal.checkpoint_body(found.group);
        let same_checkpoint = applied == expected.applied()
            && body.as_ref().is_ok_and(|b| b.as_ref() == expected.checkpoint.as_ref().map(|c| &c.2));
        if !same_checkpoint && !damage.checkpoint && uncertain == u64::MAX {
            return Err(format!("another checkpoint: {applied} {body:?}"));
        }
        for (index, (term, payload)) in &expected.entries {
            match wal.read(found.group, *index) {
                Ok(Some(entry)) if entry.term == *term && entry.payload == *payload => {}
                Ok(Some(_)) if *index >= uncertain => {}
                Ok(Some(_)) if damage.covers(*index) => {}
                Ok(None) | Err(_) if damage.covers(*index) => {}
                // The end of the group is lost, and that it began anew under the same id.
                Ok(None) if *index <= applied && uncertain != u64::MAX => {}
                other => return Err(format!("entry {index} reads {:?} under {damage:?}", other.map(|_| ()))),
            }
        }
        if found.last > expected.last() && uncertain == u64::MAX {
            return Err(format!("ends at {} instead of {}", found.last, expected.last()));
        }
        for entry in wal.entries(found.group).filter_map(Result::ok) {
            let known = self.history.get(&(found.group, entry.index, entry.term));
            if !known.is_some_and(|payloads| payloads.contains(&entry.payload)) {
                return Err(format!("entry {} was never written like that", entry.index));
            }
        }
        Ok(())
    }
}

fn entry(g: u64, index: u64, term: u64, payload: &[u8]) -> Op {
    Op::Entry { group: group(g), index, term, payload: payload.to_vec() }
}

fn hard(g: u64, term: u64) -> Op {
    let state = HardState {
        term,
        vote: Some([g.to_le_bytes()[0]; 16]),
        incarnation: g * 100,
        membership: vec![1, 2],
    };
    Op::HardState { group: group(g), state }
}

/// A few batches over three groups, with hard states, a truncation, a checkpoint, and data of several sectors.
fn small_log(sealed: bool) -> Case {
    let (mut case, mut wal) = Case::new(1);
    let batches = [
        vec![hard(1, 1), entry(1, 1, 1, b"a1"), entry(1, 2, 1, &[0; 600]), entry(2, 1, 1, b"b1")],
        vec![hard(2, 1), entry(1, 3, 1, &[7; 1500]), entry(3, 1, 1, b"c1")],
        vec![Op::Checkpoint { group: group(1), applied: 1, term: 1, body: b"files".to_vec() }, hard(3, 4)],
        vec![entry(1, 3, 2, b"a3 again"), entry(1, 4, 2, b""), hard(1, 2), entry(2, 2, 1, &[9; 100])],
        vec![entry(2, 3, 1, b"last"), entry(1, 5, 2, &[5; 700])],
    ];
    for ops in batches {
        case.commit(&mut wal, &ops).unwrap();
    }
    if sealed {
        wal.seal().unwrap();
    }
    case
}

/// The segments of a small log that hold something, and how many bytes of each were written.
fn written(disk: &FaultyDisk) -> Vec<(PathBuf, u64)> {
    let used = |path: &PathBuf| {
        let bytes = linnet_env::Disk::read(disk, path).unwrap();
        bytes.iter().rposition(|b| *b != 0).map_or(0, |last| (last as u64 + 1).next_multiple_of(512))
    };
    disk.files_below(&wal_dir())
        .into_iter()
        .map(|(path, _)| {
            let used = used(&path);
            (path, used)
        })
        .collect()
}

/// Opens twice: what the first opening says must not be forgotten by the second. Groups that the first one does not
/// list are left to their owners.
fn check_after(case: &Case, disk: &FaultyDisk, what: &dyn Fn() -> String) {
    match open(disk) {
        Ok(opened) => {
            case.check(&opened).unwrap_or_else(|e| panic!("{}: {e}\n{:?}", what(), opened.report));
            let again = open(disk).unwrap_or_else(|e| panic!("{}: again: {e}", what()));
            let mut listed = case.clone();
            listed.retain_listed(&opened);
            listed.check(&again).unwrap_or_else(|e| panic!("{}: again: {e}\n{:?}", what(), again.report));
        }
        Err(Error::Unreadable { .. }) => {}
        Err(e) => panic!("{}: {e}", what()),
    }
}

/// Places to damage: all of them in a long run, every `stride`th (a prime, so that all alignments occur) otherwise.
fn places(count: u64, stride: usize) -> impl Iterator<Item = u64> {
    let stride = if std::env::var_os("LINNET_SEEDS").is_some() { 1 } else { stride };
    (0..count).step_by(stride)
}

#[test]
fn no_single_bit_flip_is_served_or_loses_anything_silently() {
    for case in [small_log(true), small_log(false), reopened_log()] {
        for (path, used) in written(&case.disk) {
            // The space behind is zeros; a block of it shows all there is to see.
            for bit in places((used + 4096) * 8, 61) {
                let disk = case.disk.fork();
                disk.flip_bit(&path, bit).unwrap();
                check_after(&case, &disk, &|| format!("bit {bit} of {}", path.display()));
            }
        }
    }
}

#[test]
pub(crate) fn no_truncation_loses_anything_silently() {
    for case in [small_log(true), small_log(false), reopened_log()] {
        for (path, used) in written(&case.disk) {
            for len in places(used + 4096, 29) {
                let disk = case.disk.fork();
                disk.truncate(&path, len).unwrap();
                check_after(&case, &disk, &|| format!("{} cut to {len}", path.display()));
            }
        }
    }
}

#[test]
pub(crate) fn no_bad_sector_or_block_of_a_sealed_log_loses_anything_silently() {
    for case in [small_log(true), reopened_log()] {
        for (path, used) in written(&case.disk) {
            for (sector, span) in (0..used / 512).flat_map(|s| [(s, 1), (s / 8 * 8, 8)]) {
                for kind in
                    [DamageKind::Zero, DamageKind::Unreadable, DamageKind::Misplaced, DamageKind::Stale]
                {
                    let disk = case.disk.fork();
                    for sector in sector..sector + span {
                        match kind {
                            DamageKind::Zero => disk.zero_sector(&path, sector),
                            DamageKind::Stale => disk.make_sector_stale(&path, sector),
                            DamageKind::Misplaced => disk.misplace_sector(&path, (sector + 8) % 128, sector),
                            _ => disk.make_sector_unreadable(&path, sector),
                        }
                        .unwrap();
                    }
                    check_after(&case, &disk, &|| {
                        format!("{kind:?} {span} at {sector} of {}", path.display())
                    });
                }
            }
        }
    }
}

/// A log that was opened three times, so that it has several segments with copies and cuts.
fn reopened_log() -> Case {
    let mut case = small_log(false);
    for round in 0..2 {
        let mut wal = open(&case.disk).unwrap().wal;
        let last = wal.last_index(group(2));
        case.commit(&mut wal, &[entry(2, last + 1, 3, &[8; 900]), hard(3, 10 + round)]).unwrap();
        case.commit(&mut wal, &[entry(3, 2 + round, 9, b"x")]).unwrap();
        wal.seal().unwrap();
    }
    case
}

#[test]
pub(crate) fn a_missing_segment_is_noticed_wherever_it_stood() {
    let case = reopened_log();
    let files = written(&case.disk);
    assert_eq!(files.len(), 3);
    for (path, _) in files {
        let disk = case.disk.fork();
        disk.lose_file(&path).unwrap();
        let opened = open(&disk).unwrap();
        assert!(opened.report.any_group_may_be_affected(), "{}", path.display());
        case.check(&opened).unwrap();
    }
}

/// Random work over many segments, then one or two damages of any kind, then opening three times with rewriting in
/// between: what was found damaged stays so until it is acknowledged.
fn random_damage(seed: u64) -> Result<(), String> {
    let mut rng = fastrand::Rng::with_seed(seed);
    let (mut case, mut wal) = Case::new(seed);
    for life in 0..rng.usize(2..5) {
        if life > 0 {
            wal = open(&case.disk).map_err(|e| e.to_string())?.wal;
        }
        for _ in 0..rng.usize(1..12) {
            let ops = random_ops(&mut rng, &case.model, 4, 9000);
            match case.commit(&mut wal, &ops) {
                Ok(()) | Err(Error::TooLarge { .. }) => {}
                Err(Error::Full { .. }) => break,
                Err(e) => return Err(e.to_string()),
            }
            if rng.u8(..4) == 0 {
                wal.rewrite_oldest(Unverifiable::Keep).map_err(|e| e.to_string())?;
            }
        }
        wal.seal().map_err(|e| e.to_string())?;
    }
    if rng.bool() {
        case.begin_batch_and_crash(&mut rng, &mut wal);
    }
    drop(wal);
    let mut struck = Vec::new();
    for _ in 0..rng.usize(1..3) {
        let kind = DamageKind::ALL[rng.usize(..DamageKind::ALL.len())];
        struck.push((kind, case.disk.damage_at_random(&wal_dir(), kind, rng.u64(..))));
    }
    let context = |e: String| format!("{e} after {struck:?}");
    let mut opened = match open(&case.disk) {
        // A store without any segment is new as far as the log can tell.
        Ok(opened) if opened.report.created => return Ok(()),
        Ok(opened) => opened,
        Err(Error::Unreadable { .. }) => return Ok(()),
        Err(e) => return Err(context(e.to_string())),
    };
    case.check(&opened).map_err(|e| context(format!("{e} {:?}", opened.report)))?;
    case.retain_listed(&opened);
    let flawed = |opened: &Opened| -> Vec<GroupId> {
        opened.groups.iter().filter(|g| g.integrity != Integrity::Intact).map(|g| g.group).collect()
    };
    let before = flawed(&opened);
    for round in 0..3 {
        for _ in 0..20 {
            let step = opened.wal.rewrite_oldest(Unverifiable::GiveUp).map_err(|e| context(e.to_string()))?;
            if step.done && opened.wal.usage().live_segments <= 1 {
                break;
            }
        }
        if let Some(job) = opened.wal.prepare_next() {
            opened.wal.install(job.run().map_err(|e| context(e.to_string()))?);
        }
        if rng.bool() {
            case.disk.crash(rng.u64(..));
        }
        opened = open(&case.disk).map_err(|e| context(e.to_string()))?;
        case.check(&opened).map_err(|e| context(format!("round {round}: {e} {:?}", opened.report)))?;
        let now = flawed(&opened);
        if let Some(cured) = before.iter().find(|g| !now.contains(g)) {
            return Err(context(format!("round {round}: group {cured} cured itself")));
        }
    }
    acknowledge(&mut opened, &case.disk, before).map_err(context)
}

/// What an owner does about flawed groups: a new hard state, and a checkpoint that gives up what is lost.
fn acknowledge(opened: &mut Opened, disk: &FaultyDisk, flawed: Vec<GroupId>) -> Result<(), String> {
    let mut ops = Vec::new();
    for group in flawed {
        let last = opened.wal.last_index(group);
        let state = HardState { term: 99, incarnation: 5, ..HardState::default() };
        ops.push(Op::Install { group, applied: last + 10, term: 99, body: b"new".to_vec() });
        ops.push(Op::HardState { group, state });
    }
    if ops.is_empty() {
        return Ok(());
    }
    opened.wal.commit(&mut batch_of(&ops)).map_err(|e| e.to_string())?;
    let again = open(disk).map_err(|e| e.to_string())?;
    match again.groups.iter().find(|g| g.integrity != Integrity::Intact) {
        Some(group) => Err(format!("acknowledged and still flawed: {group:?} {:?}", again.report)),
        None => Ok(()),
    }
}

#[test]
pub(crate) fn random_damage_is_never_served_or_forgotten() {
    for seed in seeds(1500) {
        random_damage(seed).unwrap_or_else(|e| panic!("seed {seed}: {e}"));
    }
}

#[test]
fn a_torn_last_batch_is_not_damage_and_a_flipped_one_is() {
    let (mut case, mut wal) = Case::new(1);
    case.commit(&mut wal, &[entry(1, 1, 1, b"first")]).unwrap();
    let before = case.model.clone();
    case.commit(&mut wal, &[entry(1, 2, 1, &[3; 1000])]).unwrap();
    let path = wal_dir().join("0000000001.wal");
    // Sector 16 begins the last batch: directory, two data sectors, padding, directory.
    let torn = case.disk.fork();
    torn.zero_sector(&path, 17).unwrap();
    let opened = open(&torn).unwrap();
    assert_eq!(opened.report.torn_tail.unwrap().offset, 16 * 512);
    assert_eq!(difference(&contents(&opened).unwrap(), &before), None);

    let one_copy = case.disk.fork();
    one_copy.zero_sector(&path, 23).unwrap();
    let opened = open(&one_copy).unwrap();
    assert_eq!(difference(&contents(&opened).unwrap(), &case.model), None, "the other copy suffices");

    let flipped = case.disk.fork();
    flipped.flip_bit(&path, 17 * 512 * 8).unwrap();
    let opened = open(&flipped).unwrap();
    let Integrity::Damaged(damage) = &opened.groups[0].integrity else { panic!("{:?}", opened.groups) };
    assert_eq!(damage.lost, [2..=2]);
    assert!(!damage.hard_state && damage.uncertain_from.is_none());
    let told = opened.wal.read(group(1), 2).unwrap_err().to_string();
    assert!(told.ends_with("index 2 is damaged in segment 1 at byte 8704"), "{told}");

    let mut sealed = open(&case.disk).unwrap().wal;
    sealed.seal().unwrap();
    drop(sealed);
    let copy = wal_dir().join("0000000002.wal");
    case.disk.zero_sector(&copy, 1).unwrap();
    let opened = open(&case.disk).unwrap();
    assert!(matches!(opened.groups[0].integrity, Integrity::Damaged(_)), "a sealed batch cannot be torn");
}

#[test]
fn a_later_hard_state_and_an_unbroken_chain_clear_a_group() {
    let (mut case, mut wal) = Case::new(1);
    case.commit(&mut wal, &[hard(1, 1), entry(1, 1, 1, b"a"), hard(2, 1), entry(2, 1, 1, b"b")]).unwrap();
    case.commit(&mut wal, &[entry(2, 2, 1, b"lost")]).unwrap();
    case.commit(&mut wal, &[hard(1, 2), hard(2, 2)]).unwrap();
    drop(wal);
    let path = wal_dir().join("0000000001.wal");
    // The second batch, both copies of its directory.
    case.disk.flip_bit(&path, 16 * 512 * 8 + 100).unwrap();
    case.disk.flip_bit(&path, 23 * 512 * 8 + 100).unwrap();
    let opened = open(&case.disk).unwrap();
    assert_eq!(opened.groups[0].integrity, Integrity::Intact);
    let Integrity::Damaged(damage) = &opened.groups[1].integrity else { panic!("{:?}", opened.groups) };
    assert_eq!((damage.lost.as_slice(), damage.hard_state), (&[2..=2][..], false));
}

#[test]
fn a_damaged_entry_can_be_restored_by_whoever_still_has_it() {
    let (mut case, mut wal) = Case::new(1);
    let payload = [3; 1000];
    case.commit(&mut wal, &[entry(1, 1, 1, b"first"), entry(1, 2, 1, &payload), entry(1, 3, 1, b"third")])
        .unwrap();
    wal.seal().unwrap();
    case.disk.flip_bit(&wal_dir().join("0000000001.wal"), 10 * 512 * 8).unwrap();
    assert!(matches!(wal.read(group(1), 2), Err(Error::Damaged { index: 2, .. })));
    let mut batch = linnet_wal::Batch::new();
    batch.restore(group(1), 2, &[b"something else"]);
    assert!(matches!(wal.commit(&mut batch), Err(Error::Refused { .. })));
    batch.clear();
    batch.restore(group(1), 2, &[&payload[..500], &payload[500..]]);
    wal.commit(&mut batch).unwrap();
    assert_eq!(wal.read(group(1), 2).unwrap().unwrap().payload, payload);
    wal.seal().unwrap();
    let opened = open(&case.disk).unwrap();
    assert_eq!(difference(&contents(&opened).unwrap(), &case.model), None);
}

#[test]
fn a_damaged_segment_goes_to_quarantine_with_a_reason() {
    let case = reopened_log();
    case.disk.flip_bit(&wal_dir().join("0000000001.wal"), 10 * 512 * 8).unwrap();
    let mut opened = open(&case.disk).unwrap();
    while opened.wal.usage().live_segments > 1 {
        opened.wal.rewrite_oldest(Unverifiable::GiveUp).unwrap();
    }
    let prepared = opened.wal.prepare_next().unwrap().run().unwrap();
    opened.wal.install(prepared);
    let quarantine = std::path::Path::new(crate::model::STORE).join("quarantine");
    let names: Vec<_> = case.disk.files_below(&quarantine).into_iter().map(|(path, _)| path).collect();
    assert_eq!(names, [quarantine.join("0000000001.wal"), quarantine.join("0000000001.wal.reason")]);
}

/// Lets the log do without its old segments and put them away; an error ends the process early.
fn put_away_old_segments(disk: &FaultyDisk) -> Result<(), Error> {
    let mut wal = open(disk)?.wal;
    while wal.usage().live_segments > 1 {
        wal.rewrite_oldest(Unverifiable::GiveUp)?;
    }
    while let Some(job) = wal.prepare_next() {
        wal.install(job.run()?);
    }
    Ok(())
}

/// Segments of which an opening says that something in them cannot be read.
fn found_damaged(disk: &FaultyDisk) -> Vec<PathBuf> {
    let damages = open(&disk.fork()).map(|opened| opened.report.damages).unwrap_or_default();
    let names = damages.iter().map(|d| wal_dir().join(format!("{:010}.wal", d.segment)));
    names.filter(|path| linnet_env::Disk::exists(disk, path).unwrap()).collect()
}

/// Crashes after every operation on the disk between finding the damage and putting the segment away.
fn check_damaged_segments_stay(disk: &FaultyDisk, what: &str) {
    let damaged = found_damaged(disk);
    assert!(!damaged.is_empty(), "{what}");
    for operations in 0.. {
        let disk = disk.fork();
        disk.power_off_after(operations);
        let _ = put_away_old_segments(&disk);
        let was_cut_off = disk.is_off();
        if operations % 3 == 0 {
            disk.kill()
        } else {
            disk.crash(operations)
        }
        for _ in 0..2 {
            put_away_old_segments(&disk).unwrap();
        }
        for path in &damaged {
            let aside =
                std::path::Path::new(crate::model::STORE).join("quarantine").join(path.file_name().unwrap());
            let there = |path: &std::path::Path| linnet_env::Disk::exists(&disk, path).unwrap();
            assert!(there(path) || there(&aside), "{what}: {} is gone after {operations}", path.display());
        }
        if !was_cut_off {
            break;
        }
    }
}

#[test]
fn a_damaged_segment_survives_a_crash_between_its_release_and_quarantine() {
    let [first, last] = [1, 3].map(|no| wal_dir().join(format!("{no:010}.wal")));
    let used = written(&reopened_log().disk).pop().unwrap().1 / 512;
    for (what, path, sectors) in [
        ("data in the middle", &first, 10..11),
        ("a directory in the middle", &first, 8..16),
        ("the end of the log", &last, used - 8..used),
        ("the whole of the newest segment", &last, 0..used),
    ] {
        let disk = reopened_log().disk;
        for sector in sectors {
            disk.flip_bit(path, sector * 512 * 8).unwrap();
        }
        check_damaged_segments_stay(&disk, what);
    }
}

#[test]
fn a_segment_whose_damage_shows_when_it_is_rewritten_survives_a_crash_too() {
    for operations in 0.. {
        let disk = reopened_log().disk;
        let mut wal = open(&disk).unwrap().wal;
        let path = wal_dir().join("0000000001.wal");
        disk.flip_bit(&path, 10 * 512 * 8).unwrap();
        disk.power_off_after(operations);
        while wal.usage().live_segments > 1 && wal.rewrite_oldest(Unverifiable::GiveUp).is_ok() {}
        let was_cut_off = disk.is_off();
        disk.crash(operations);
        put_away_old_segments(&disk).unwrap();
        let aside = std::path::Path::new(crate::model::STORE).join("quarantine/0000000001.wal");
        let there = |path: &std::path::Path| linnet_env::Disk::exists(&disk, path).unwrap();
        assert!(there(&path) || there(&aside), "gone after {operations} operations");
        if !was_cut_off {
            break;
        }
    }
}
