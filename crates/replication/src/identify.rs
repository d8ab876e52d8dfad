//! Whose stream a group is, from its own log and checkpoint: for groups whose entry in the catalogue is damaged.

use std::path::Path;

use linnet_assets::{Entry, Owner, RestoreMark, StreamSaved};
use linnet_env::Disk;
use linnet_ids::GroupId;
use linnet_jsapi::StreamConfig;
use linnet_store::{CheckpointBody, read_owner_state};
use linnet_wal::Wal;

use crate::catalogue::Assignment;

/// What a group says of itself.
pub(crate) enum Identity {
    /// It is this stream.
    Stream(Box<Assignment>),
    /// It has ended.
    Ended,
    /// It was being restored from a backup.
    Restoring,
    /// It does not say; why.
    Unknown(String),
}

/// Reads what a group says of itself. Changes nothing.
pub(crate) fn identify(wal: &Wal, disk: &dyn Disk, dir: &Path, group: GroupId) -> Identity {
    let mut facts = Facts::default();
    let read = read_checkpoint(wal, disk, dir, group, &mut facts);
    for entry in wal.entries(group).flatten() {
        match Entry::decode(&entry.payload) {
            Ok(Entry::Config(config)) => facts.config = Some(*config),
            Ok(Entry::Owner(owner)) => facts.owner = Some(owner),
            Ok(Entry::Deleted) => facts.deleted = true,
            Ok(Entry::Restore(mark)) => facts.restoring = mark != RestoreMark::Done,
            _ => {}
        }
    }
    match facts {
        Facts { deleted: true, .. } => Identity::Ended,
        Facts { restoring: true, .. } => Identity::Restoring,
        Facts { owner: Some(owner), config: Some(config), .. } => Identity::Stream(Box::new(Assignment {
            account: owner.account,
            group: group.to_string(),
            created: owner.created,
            live: true,
            members: Vec::new(),
            ended: false,
            reshaping: None,
            unclaimed: false,
            earlier: Vec::new(),
            continues: None,
            config,
        })),
        _ => Identity::Unknown(read.err().unwrap_or_else(|| "its log does not name its stream".to_owned())),
    }
}

#[derive(Default)]
struct Facts {
    owner: Option<Owner>,
    config: Option<StreamConfig>,
    deleted: bool,
    restoring: bool,
}

fn read_checkpoint(
    wal: &Wal,
    disk: &dyn Disk,
    dir: &Path,
    group: GroupId,
    facts: &mut Facts,
) -> Result<(), String> {
    let Some(bytes) = wal.checkpoint_body(group).map_err(|e| e.to_string())? else { return Ok(()) };
    let body = CheckpointBody::from_bytes(&bytes).ok_or("its checkpoint in the log has an unknown form")?;
    let state = read_owner_state(disk, dir, body).map_err(|e| format!("its state file: {e}"))?;
    let saved: StreamSaved = serde_json::from_slice(&state).map_err(|e| format!("its saved state: {e}"))?;
    *facts = Facts {
        owner: saved.owner,
        config: Some(saved.config),
        deleted: saved.deleted,
        restoring: saved.restoring,
    };
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use linnet_env::FaultyDisk;
    use linnet_wal::{Batch, Config, StoreIdentity};

    use super::*;

    const GROUP: GroupId = GroupId { epoch: 0, meta_index: 1, random: 7 };

    /// What a group says whose log holds these entries.
    fn identity_of(entries: &[Entry<'_>]) -> String {
        let disk: Arc<dyn Disk> = Arc::new(FaultyDisk::new(1));
        let (store, id) = (Path::new("/store"), StoreIdentity { store_id: [1; 16] });
        let config = Config { segment_bytes: 64 << 10, first_segment_bytes: 64 << 10, ..Config::default() };
        let mut wal = Wal::open(disk.clone(), store, config, id).unwrap().wal;
        let mut batch = Batch::default();
        for (index, entry) in (1..).zip(entries) {
            batch.entry(GROUP, index, 1, &[&entry.encode()]);
        }
        wal.commit(&mut batch).unwrap();
        match identify(&wal, &*disk, store, GROUP) {
            Identity::Stream(a) => {
                format!("{} > {}, {}, live {}", a.account, a.config.name, a.created, a.live)
            }
            Identity::Ended => "ended".to_owned(),
            Identity::Restoring => "being restored".to_owned(),
            Identity::Unknown(reason) => reason,
        }
    }

    fn config(name: &str) -> Entry<'static> {
        Entry::Config(Box::new(StreamConfig { name: name.to_owned(), ..StreamConfig::default() }))
    }

    fn owner() -> Entry<'static> {
        Entry::Owner(Owner { account: "ACC".to_owned(), created: 5 })
    }

    #[test]
    fn a_log_without_a_checkpoint_names_its_stream() {
        assert_eq!(identity_of(&[config("S"), owner(), Entry::Leader]), "ACC > S, 5, live true");
    }

    #[test]
    fn half_a_name_is_none() {
        assert_eq!(identity_of(&[config("S")]), "its log does not name its stream");
        assert_eq!(identity_of(&[owner()]), "its log does not name its stream");
    }

    #[test]
    fn a_stream_that_was_being_restored_is_none_before_the_last_mark() {
        let begin = || Entry::Restore(RestoreMark::Begin);
        let position = || Entry::Restore(RestoreMark::Position { last_seq: 7, last_ts: None });
        assert_eq!(identity_of(&[begin()]), "being restored");
        assert_eq!(identity_of(&[begin(), config("S"), owner(), position()]), "being restored");
        let done = Entry::Restore(RestoreMark::Done);
        assert_eq!(identity_of(&[begin(), config("S"), owner(), done]), "ACC > S, 5, live true");
    }

    #[test]
    fn a_stream_that_has_ended_is_nobodys() {
        assert_eq!(identity_of(&[config("S"), owner(), Entry::Deleted]), "ended");
    }
}
