use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use linnet_env::Disk;
use linnet_replication::raft::BallotRecord;

use crate::cluster::checked_file::{self, Content};

const KIND: &[u8; 8] = b"LDSFND_1";
const FILE: &str = "founding";

/// What a server must not forget.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Durable {
    pub(super) record: BallotRecord,
    /// The log has had the group.
    pub(super) has_begun: bool,
}

/// Where it is written.
#[derive(Clone)]
pub(super) struct RecordFile {
    disk: Arc<dyn Disk>,
    path: PathBuf,
}

impl RecordFile {
    pub(super) fn new(disk: Arc<dyn Disk>, dir: &Path) -> Self {
        Self { disk, path: dir.join(FILE) }
    }

    /// What was written. Who has forgotten it takes part as another life, which the ballot is made for.
    pub(super) fn read(&self) -> Option<Durable> {
        let why = match checked_file::read(&*self.disk, &self.path, KIND) {
            Content::Missing => return None,
            Content::Damaged(why) => why,
            Content::Whole(bytes) => match decode(&bytes) {
                Some(durable) => return Some(durable),
                None => "it is of another version".to_owned(),
            },
        };
        tracing::warn!("{}: {why}; this server begins anew in the meta group's ballot", self.path.display());
        None
    }

    pub(super) fn write(&self, durable: &Durable) -> io::Result<()> {
        let mut bytes = vec![u8::from(durable.has_begun)];
        bytes.extend_from_slice(&durable.record.encode());
        checked_file::write(&*self.disk, &self.path, KIND, &bytes)
    }
}

fn decode(bytes: &[u8]) -> Option<Durable> {
    let (has_begun, record) = bytes.split_first()?;
    Some(Durable { record: BallotRecord::decode(record)?, has_begun: *has_begun != 0 })
}

#[cfg(test)]
mod tests {
    use linnet_env::FaultyDisk;

    use super::*;

    #[test]
    fn what_was_written_is_read_and_damage_is_forgetting() {
        let disk = FaultyDisk::new(1);
        let dir = Path::new("/store");
        disk.create_dir_all(dir).unwrap();
        let file = RecordFile::new(Arc::new(disk.clone()), dir);
        assert_eq!(file.read(), None);
        let record = BallotRecord { life: 8, ..BallotRecord::default() };
        let durable = Durable { record, has_begun: true };
        file.write(&durable).unwrap();
        disk.crash(1);
        assert_eq!(file.read(), Some(durable));
        disk.flip_bit(&dir.join(FILE), 110).unwrap();
        assert_eq!(file.read(), None);
    }
}
