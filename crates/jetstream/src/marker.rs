//! The file that says whose a store directory is, and in what format.

use std::io;
use std::path::{Path, PathBuf};

use linnet_env::{Disk, Rng};
use serde::{Deserialize, Serialize};
use thiserror::Error;

/// Version of the directory's layout that this program writes.
const FORMAT: u32 = 1;
const FILE: &str = "linnet.store";

/// Content of the marker file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Marker {
    /// Version of the layout.
    pub(crate) format: u32,
    /// Random id drawn when the store was made, in hexadecimal.
    pub(crate) store_id: String,
    /// How often the store was opened.
    pub(crate) opened: u64,
    /// It was closed in order.
    pub(crate) clean: bool,
}

/// A directory that is not ours to open.
#[derive(Debug, Error)]
pub enum MarkerError {
    /// The directory holds a store of nats-server.
    #[error(
        "{0} holds a store of nats-server, which is left untouched: move streams with mirrors, sources or \
         `nats account backup` and restore, into another directory"
    )]
    Foreign(PathBuf),
    /// The directory holds something else.
    #[error("{0} is not empty and not a store of this server; it is left untouched")]
    Unknown(PathBuf),
    /// The store was written by a newer version.
    #[error("{path} has format {found}; this version reads up to {FORMAT}")]
    Newer {
        /// The marker file.
        path: PathBuf,
        /// Its format.
        found: u32,
    },
    /// The marker cannot be read.
    #[error("{path}: {reason}")]
    Unreadable {
        /// The marker file.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// The file system refused.
    #[error("{path}: {source}")]
    Io {
        /// Where.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
}

impl Marker {
    /// The store's id as bytes.
    pub(crate) fn id(&self) -> Option<[u8; 16]> {
        let mut id = [0; 16];
        for (byte, at) in id.iter_mut().zip((0..).step_by(2)) {
            *byte = u8::from_str_radix(self.store_id.get(at..at + 2)?, 16).ok()?;
        }
        Some(id)
    }

    /// Fails if the directory is not ours to open; changes nothing.
    pub(crate) fn check(disk: &dyn Disk, dir: &Path) -> Result<(), MarkerError> {
        Self::find(disk, dir).map(|_| ())
    }

    /// The marker of a directory; `None` if the directory may become a store.
    fn find(disk: &dyn Disk, dir: &Path) -> Result<Option<Self>, MarkerError> {
        let path = dir.join(FILE);
        if disk.exists(&path).map_err(|source| MarkerError::Io { path: path.clone(), source })? {
            return read(disk, &path).map(Some);
        }
        refuse_foreign(disk, dir).map(|()| None)
    }

    /// Reads the marker of a directory, or makes one if the directory is empty. Returns what was there before this
    /// opening; on disk the store counts as opened.
    pub(crate) fn open(disk: &dyn Disk, dir: &Path, rng: &dyn Rng) -> Result<Self, MarkerError> {
        let marker = match Self::find(disk, dir)? {
            Some(marker) => marker,
            None => {
                let mut id = [0; 16];
                rng.fill(&mut id);
                let store_id = id.iter().map(|b| format!("{b:02x}")).collect();
                Self { format: FORMAT, store_id, opened: 0, clean: true }
            }
        };
        let opened = Self { opened: marker.opened + 1, clean: false, ..marker.clone() };
        match opened.write(disk, dir) {
            // On a full disk, one that says already that the store is open will do.
            Err(MarkerError::Io { source, .. })
                if source.kind() == io::ErrorKind::StorageFull && marker.opened > 0 && !marker.clean => {}
            outcome => outcome?,
        }
        Ok(marker)
    }

    /// Records that the store was closed in order.
    pub(crate) fn close(&self, disk: &dyn Disk, dir: &Path) -> Result<(), MarkerError> {
        Self { opened: self.opened + 1, clean: true, ..self.clone() }.write(disk, dir)
    }

    fn write(&self, disk: &dyn Disk, dir: &Path) -> Result<(), MarkerError> {
        let path = dir.join(FILE);
        // Plain data: writing it to memory cannot fail.
        let json = serde_json::to_vec_pretty(self).expect("marker serialises");
        disk.replace(&path, &json).map_err(|source| MarkerError::Io { path, source })
    }
}

fn read(disk: &dyn Disk, path: &Path) -> Result<Marker, MarkerError> {
    let unreadable = |reason: String| MarkerError::Unreadable { path: path.to_owned(), reason };
    let bytes = disk.read(path).map_err(|e| unreadable(e.to_string()))?;
    // The format alone first: a newer one may look different otherwise.
    let value: serde_json::Value = serde_json::from_slice(&bytes).map_err(|e| unreadable(e.to_string()))?;
    let format = value.get("format").and_then(serde_json::Value::as_u64).unwrap_or(0);
    if format > u64::from(FORMAT) {
        return Err(MarkerError::Newer {
            path: path.to_owned(),
            found: u32::try_from(format).unwrap_or(u32::MAX),
        });
    }
    let marker: Marker = serde_json::from_value(value).map_err(|e| unreadable(e.to_string()))?;
    if marker.id().is_none() {
        return Err(unreadable("store_id is not 32 hexadecimal digits".to_owned()));
    }
    Ok(marker)
}

/// Only an empty directory may become a store.
fn refuse_foreign(disk: &dyn Disk, dir: &Path) -> Result<(), MarkerError> {
    let at = |path: &Path| {
        let path = path.to_owned();
        move |source| MarkerError::Io { path, source }
    };
    let entries = disk.list(dir).map_err(at(dir))?;
    let others: Vec<_> = entries.iter().filter(|e| e.name != "lock").collect();
    if others.is_empty() {
        return Ok(());
    }
    for entry in others.iter().filter(|e| e.is_dir) {
        let account = dir.join(&entry.name);
        let known = disk.list(&account).map_err(at(&account))?;
        if known.iter().any(|e| e.is_dir && (e.name == "streams" || e.name == "_js_")) {
            return Err(MarkerError::Foreign(dir.to_owned()));
        }
    }
    Err(MarkerError::Unknown(dir.to_owned()))
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use linnet_env::{Disk as _, FaultyDisk, OsRng, RealDisk};

    use super::{Marker, MarkerError};

    #[test]
    fn a_marker_counts_openings_and_remembers_a_clean_stop() {
        let dir = tempfile::tempdir().unwrap();
        let first = Marker::open(&RealDisk, dir.path(), &OsRng).unwrap();
        assert!(first.clean && first.opened == 0);
        let second = Marker::open(&RealDisk, dir.path(), &OsRng).unwrap();
        assert!(!second.clean && second.opened == 1 && second.store_id == first.store_id);
        second.close(&RealDisk, dir.path()).unwrap();
        assert!(Marker::open(&RealDisk, dir.path(), &OsRng).unwrap().clean);
    }

    #[test]
    fn a_store_that_was_open_on_a_full_disk_opens_again() {
        let (disk, dir) = (FaultyDisk::new(1), Path::new("/store"));
        disk.create_dir_all(dir).unwrap();
        let first = Marker::open(&disk, dir, &OsRng).unwrap();
        disk.set_capacity(Some(disk.used()));
        let again = Marker::open(&disk, dir, &OsRng).unwrap();
        assert!(!again.clean && again.store_id == first.store_id);
        disk.set_capacity(None);
        first.close(&disk, dir).unwrap();
        disk.set_capacity(Some(disk.used()));
        assert!(matches!(Marker::open(&disk, dir, &OsRng), Err(MarkerError::Io { .. })), "it says closed");
    }

    fn put(path: &Path, text: &str) {
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    }

    #[test]
    fn other_directories_are_refused_and_stay_as_they_are() {
        let dir = tempfile::tempdir().unwrap();
        put(&dir.path().join("$G/streams/S/meta.inf"), "{}");
        assert!(matches!(Marker::open(&RealDisk, dir.path(), &OsRng), Err(MarkerError::Foreign(_))));
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1);

        let dir = tempfile::tempdir().unwrap();
        put(&dir.path().join("letters.txt"), "dear");
        assert!(matches!(Marker::open(&RealDisk, dir.path(), &OsRng), Err(MarkerError::Unknown(_))));

        let dir = tempfile::tempdir().unwrap();
        put(&dir.path().join("linnet.store"), r#"{"format": 9, "shape": "round"}"#);
        assert!(matches!(
            Marker::open(&RealDisk, dir.path(), &OsRng),
            Err(MarkerError::Newer { found: 9, .. })
        ));

        put(&dir.path().join("linnet.store"), "{");
        assert!(matches!(Marker::open(&RealDisk, dir.path(), &OsRng), Err(MarkerError::Unreadable { .. })));
    }
}
