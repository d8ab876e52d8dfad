//! The file that says whose a store directory is, and in what format.

use std::io;
use std::path::{Path, PathBuf};

use linnet_env::{Disk, Rng};
use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::config::Encryption;
use crate::sealing::{Plan, Sealed, SealingError};

/// Version of the directory's layout.
const FORMAT: u32 = 1;
/// The same, encrypted.
const SEALED_FORMAT: u32 = 2;
const FILE: &str = "linnet.store";
/// The log cannot be read without the store's id, so it is kept twice.
const COPY: &str = "linnet.store.copy";
/// What a crash may leave of the first one.
const UNFINISHED: &str = "linnet.store.new";

/// Content of the marker file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Marker {
    /// Version of the layout.
    pub(crate) format: u32,
    /// Random id drawn when the store was made, in hexadecimal.
    pub(crate) store_id: String,
    /// CRC-32 of `store_id`, in hexadecimal; earlier versions wrote none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) store_id_crc: Option<String>,
    /// How often the store was opened.
    pub(crate) opened: u64,
    /// It was closed in order.
    pub(crate) clean: bool,
    /// How the files are encrypted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) encryption: Option<Sealed>,
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
    #[error("{path} has format {found}; this version reads up to {SEALED_FORMAT}")]
    Newer {
        /// The marker file.
        path: PathBuf,
        /// Its format.
        found: u32,
    },
    /// The marker cannot be read, nor its copy.
    #[error(
        "{path}: {reason}; the write-ahead log cannot be read without the store_id in it: put this file or \
         {COPY} beside it back from a backup of this store, nothing else has been touched"
    )]
    Unreadable {
        /// The marker file.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// The store is encrypted otherwise than configured.
    #[error(transparent)]
    Sealing(#[from] SealingError),
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

    /// The marker of a directory, from its copy if need be; `None` if the directory may become a store.
    fn find(disk: &dyn Disk, dir: &Path) -> Result<Option<Found>, MarkerError> {
        let path = dir.join(FILE);
        let damage = match read_if_there(disk, &path) {
            Ok(Some(marker)) => return Ok(Some(Found { marker, damage: None })),
            Ok(None) => None,
            Err(error @ MarkerError::Unreadable { .. }) => Some(error),
            Err(error) => return Err(error),
        };
        if let Ok(Some(copy)) = read_if_there(disk, &dir.join(COPY)) {
            // The copy is as old as the store.
            let marker = Self { clean: false, ..copy };
            let damage = damage.map_or_else(|| format!("{} is missing", path.display()), |e| e.to_string());
            return Ok(Some(Found { marker, damage: Some(damage) }));
        }
        match damage {
            Some(error) => Err(error),
            None => refuse_foreign(disk, dir).map(|()| None),
        }
    }

    /// True if the directory holds a marker or its copy, readable or not.
    pub(crate) fn is_there(disk: &dyn Disk, dir: &Path) -> bool {
        [FILE, COPY].iter().any(|name| disk.exists(&dir.join(name)).unwrap_or(false))
    }

    /// The marker of a store, and what is wrong with the files that should hold it: each with the reason. `None` if the
    /// directory holds no store.
    pub(crate) fn look(disk: &dyn Disk, dir: &Path) -> Result<Option<(Self, Vec<Wrong>)>, MarkerError> {
        let Some(found) = Self::find(disk, dir)? else { return Ok(None) };
        let mut wrong = Vec::new();
        for name in [FILE, COPY] {
            let path = dir.join(name);
            let reason = match read_if_there(disk, &path) {
                Ok(Some(marker)) if marker.store_id == found.marker.store_id => continue,
                Ok(Some(_)) => "it is of another store".to_owned(),
                Ok(None) => "it is missing".to_owned(),
                Err(MarkerError::Unreadable { reason, .. }) => reason,
                Err(error) => error.to_string(),
            };
            wrong.push((path, reason));
        }
        Ok(Some((found.marker, wrong)))
    }

    /// Reads the marker of a directory, or makes one if the directory is empty. Returns what was there before this
    /// opening, and what is to be done about encryption; on disk the store counts as opened.
    pub(crate) fn open(
        disk: &dyn Disk,
        dir: &Path,
        rng: &dyn Rng,
        encryption: Option<&Encryption>,
    ) -> Result<(Self, Option<Plan>), MarkerError> {
        let found = Self::find(disk, dir)?;
        let sealed = found.as_ref().map(|found| found.marker.encryption.as_ref());
        let plan = Plan::make(dir, sealed, encryption, rng)?;
        let mut marker = match found {
            Some(Found { marker, damage }) => {
                if let Some(damage) = damage {
                    tracing::error!("  Marker of the store is restored from its copy: {damage}");
                }
                marker
            }
            None => {
                let mut id = [0; 16];
                rng.fill(&mut id);
                let store_id = id.iter().map(|b| format!("{b:02x}")).collect();
                Self {
                    format: FORMAT,
                    store_id,
                    store_id_crc: None,
                    opened: 0,
                    clean: true,
                    encryption: None,
                }
            }
        };
        let before = marker.encryption.take();
        marker.encryption = plan.as_ref().map(|plan| plan.sealed.clone());
        let is_changed = marker.encryption != before;
        marker.format = if plan.is_some() { SEALED_FORMAT } else { FORMAT };
        let crc = Some(crc_of(&marker.store_id));
        let opened = Self { opened: marker.opened + 1, clean: false, store_id_crc: crc, ..marker.clone() };
        match opened.write(disk, dir, FILE) {
            // On a full disk, one that says already that the store is open will do.
            Err(MarkerError::Io { source, .. })
                if source.kind() == io::ErrorKind::StorageFull
                    && marker.opened > 0
                    && !marker.clean
                    && !is_changed =>
            {
                return Ok((marker, plan));
            }
            outcome => outcome?,
        }
        let copy = read_if_there(disk, &dir.join(COPY)).ok().flatten();
        if copy.is_none_or(|copy| copy.store_id != marker.store_id || copy.encryption != marker.encryption) {
            opened.write(disk, dir, COPY)?;
        }
        Ok((marker, plan))
    }

    /// Records that all files are encrypted as they should be.
    pub(crate) fn note_converted(&mut self, disk: &dyn Disk, dir: &Path) -> Result<(), MarkerError> {
        self.encryption = self.encryption.as_ref().map(Sealed::finished);
        let opened = Self {
            opened: self.opened + 1,
            clean: false,
            store_id_crc: Some(crc_of(&self.store_id)),
            ..self.clone()
        };
        opened.write(disk, dir, FILE)?;
        opened.write(disk, dir, COPY)
    }

    /// Records that the store was closed in order.
    pub(crate) fn close(&self, disk: &dyn Disk, dir: &Path) -> Result<(), MarkerError> {
        let crc = Some(crc_of(&self.store_id));
        Self { opened: self.opened + 1, clean: true, store_id_crc: crc, ..self.clone() }
            .write(disk, dir, FILE)
    }

    fn write(&self, disk: &dyn Disk, dir: &Path, name: &str) -> Result<(), MarkerError> {
        let path = dir.join(name);
        // Plain data: writing it to memory cannot fail.
        let json = serde_json::to_vec_pretty(self).expect("marker serialises");
        disk.replace(&path, &json).map_err(|source| MarkerError::Io { path, source })
    }
}

/// A file that should hold the marker, and why it does not.
pub(crate) type Wrong = (PathBuf, String);

/// A marker that was found.
struct Found {
    marker: Marker,
    /// What is wrong with the marker file, if this is its copy.
    damage: Option<String>,
}

fn crc_of(store_id: &str) -> String {
    format!("{:08x}", crc32fast::hash(store_id.as_bytes()))
}

fn read_if_there(disk: &dyn Disk, path: &Path) -> Result<Option<Marker>, MarkerError> {
    let exists = disk.exists(path).map_err(|source| MarkerError::Io { path: path.to_owned(), source })?;
    exists.then(|| read(disk, path)).transpose()
}

fn read(disk: &dyn Disk, path: &Path) -> Result<Marker, MarkerError> {
    let unreadable = |reason: String| MarkerError::Unreadable { path: path.to_owned(), reason };
    let bytes = disk.read(path).map_err(|e| unreadable(e.to_string()))?;
    // The format alone first: a newer one may look different otherwise.
    let value: serde_json::Value = serde_json::from_slice(&bytes).map_err(|e| unreadable(e.to_string()))?;
    let format = value.get("format").and_then(serde_json::Value::as_u64).unwrap_or(0);
    if format > u64::from(SEALED_FORMAT) {
        return Err(MarkerError::Newer {
            path: path.to_owned(),
            found: u32::try_from(format).unwrap_or(u32::MAX),
        });
    }
    let marker: Marker = serde_json::from_value(value).map_err(|e| unreadable(e.to_string()))?;
    if marker.id().is_none() {
        return Err(unreadable("store_id is not 32 hexadecimal digits".to_owned()));
    }
    if marker.store_id_crc.as_ref().is_some_and(|crc| *crc != crc_of(&marker.store_id)) {
        return Err(unreadable("store_id does not match its checksum".to_owned()));
    }
    let is_sealed = marker.format == SEALED_FORMAT;
    if is_sealed != marker.encryption.is_some() || marker.encryption.as_ref().is_some_and(|e| !e.is_intact())
    {
        return Err(unreadable("what it says about encryption is damaged".to_owned()));
    }
    Ok(marker)
}

/// Files of the store's directory that are never encrypted.
pub(crate) const PLAIN_FILES: &[&str] =
    &[FILE, COPY, UNFINISHED, "linnet.store.copy.new", "lock", crate::reserve::FILE];

/// Only an empty directory may become a store.
fn refuse_foreign(disk: &dyn Disk, dir: &Path) -> Result<(), MarkerError> {
    let at = |path: &Path| {
        let path = path.to_owned();
        move |source| MarkerError::Io { path, source }
    };
    let entries = disk.list(dir).map_err(at(dir))?;
    let others: Vec<_> = entries.iter().filter(|e| e.name != "lock" && e.name != UNFINISHED).collect();
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
    use std::sync::Arc;

    use linnet_env::{Disk as _, FaultyDisk, OsRng, RealDisk};

    use super::{Marker, MarkerError};
    use crate::config::Encryption;

    fn open(disk: &dyn linnet_env::Disk, dir: &Path) -> Result<Marker, MarkerError> {
        Marker::open(disk, dir, &OsRng, None).map(|(marker, _)| marker)
    }

    #[test]
    fn a_marker_counts_openings_and_remembers_a_clean_stop() {
        let dir = tempfile::tempdir().unwrap();
        let first = open(&RealDisk, dir.path()).unwrap();
        assert!(first.clean && first.opened == 0);
        let second = open(&RealDisk, dir.path()).unwrap();
        assert!(!second.clean && second.opened == 1 && second.store_id == first.store_id);
        second.close(&RealDisk, dir.path()).unwrap();
        assert!(open(&RealDisk, dir.path()).unwrap().clean);
    }

    #[test]
    fn a_store_that_was_open_on_a_full_disk_opens_again() {
        let (disk, dir) = (FaultyDisk::new(1), Path::new("/store"));
        disk.create_dir_all(dir).unwrap();
        let first = open(&disk, dir).unwrap();
        disk.set_capacity(Some(disk.used()));
        let again = open(&disk, dir).unwrap();
        assert!(!again.clean && again.store_id == first.store_id);
        disk.set_capacity(None);
        first.close(&disk, dir).unwrap();
        disk.set_capacity(Some(disk.used()));
        assert!(matches!(open(&disk, dir), Err(MarkerError::Io { .. })), "it says closed");
    }

    fn put(path: &Path, text: &str) {
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    }

    #[test]
    fn other_directories_are_refused_and_stay_as_they_are() {
        let dir = tempfile::tempdir().unwrap();
        put(&dir.path().join("$G/streams/S/meta.inf"), "{}");
        assert!(matches!(open(&RealDisk, dir.path()), Err(MarkerError::Foreign(_))));
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1);

        let dir = tempfile::tempdir().unwrap();
        put(&dir.path().join("letters.txt"), "dear");
        assert!(matches!(open(&RealDisk, dir.path()), Err(MarkerError::Unknown(_))));

        let dir = tempfile::tempdir().unwrap();
        put(&dir.path().join("linnet.store"), r#"{"format": 9, "shape": "round"}"#);
        assert!(matches!(open(&RealDisk, dir.path()), Err(MarkerError::Newer { found: 9, .. })));

        put(&dir.path().join("linnet.store"), "{");
        assert!(matches!(open(&RealDisk, dir.path()), Err(MarkerError::Unreadable { .. })));
    }

    /// A store directory with what a test does to its marker.
    fn damaged(damage: impl Fn(&Path)) -> (tempfile::TempDir, Marker) {
        let dir = tempfile::tempdir().unwrap();
        let first = open(&RealDisk, dir.path()).unwrap();
        put(&dir.path().join("wal/1.wal"), "log");
        first.close(&RealDisk, dir.path()).unwrap();
        damage(dir.path());
        (dir, first)
    }

    #[test]
    fn a_damaged_marker_comes_back_from_its_copy() {
        let other_id = |dir: &Path| {
            let text = std::fs::read_to_string(dir.join("linnet.store")).unwrap();
            let at = text.find("\"store_id\": \"").unwrap() + 13;
            let digit = if text.as_bytes()[at] == b'0' { "1" } else { "0" };
            put(&dir.join("linnet.store"), &format!("{}{digit}{}", &text[..at], &text[at + 1..]));
        };
        let cut = |dir: &Path| put(&dir.join("linnet.store"), "{\"form");
        let remove = |dir: &Path| std::fs::remove_file(dir.join("linnet.store")).unwrap();
        for damage in [&other_id as &dyn Fn(&Path), &cut, &remove] {
            let (dir, first) = damaged(damage);
            Marker::check(&RealDisk, dir.path()).unwrap();
            let found = open(&RealDisk, dir.path()).unwrap();
            assert_eq!((found.store_id, found.clean), (first.store_id.clone(), false));
            std::fs::remove_file(dir.path().join("linnet.store.copy")).unwrap();
            assert_eq!(open(&RealDisk, dir.path()).unwrap().store_id, first.store_id);
            assert!(dir.path().join("linnet.store.copy").exists(), "it is made again");
        }
    }

    #[test]
    fn without_marker_and_copy_the_refusal_says_what_to_do() {
        let (dir, _) = damaged(|dir| {
            put(&dir.join("linnet.store"), "{");
            put(&dir.join("linnet.store.copy"), "{");
        });
        let said = Marker::check(&RealDisk, dir.path()).unwrap_err().to_string();
        assert!(said.contains("put this file or linnet.store.copy beside it back"), "{said}");
    }

    #[test]
    fn a_crash_while_the_first_marker_was_written_does_no_harm() {
        let dir = tempfile::tempdir().unwrap();
        put(&dir.path().join("linnet.store.new"), "{");
        assert!(open(&RealDisk, dir.path()).is_ok());
    }

    #[test]
    fn what_a_marker_says_about_encryption_survives_damage_or_is_refused() {
        let key = Arc::new(linnet_seal::MasterKey::new("key"));
        let wanted = Encryption { cipher: linnet_seal::Cipher::Aes, key, prev_key: None };
        let dir = tempfile::tempdir().unwrap();
        let open = || Marker::open(&RealDisk, dir.path(), &OsRng, Some(&wanted));
        let (first, plan) = open().unwrap();
        assert!(plan.is_some_and(|plan| !plan.must_convert()) && first.format == 2);
        let path = dir.path().join("linnet.store");
        let text = std::fs::read_to_string(&path).unwrap();
        let check = text.find("\"key_check\": \"").unwrap() + 14;
        let digit = if text.as_bytes()[check] == b'0' { "1" } else { "0" };
        let other_check = format!("{}{digit}{}", &text[..check], &text[check + 1..]);
        for damaged in [text.replace("encryption", "encryptiom"), other_check] {
            put(&path, &damaged);
            let (again, plan) = open().unwrap();
            assert_eq!(again.encryption, first.encryption, "from the copy");
            assert!(!plan.unwrap().must_convert());
            put(&path, &damaged);
            put(&dir.path().join("linnet.store.copy"), &damaged);
            assert!(matches!(open(), Err(MarkerError::Unreadable { .. })));
            put(&path, &text);
            put(&dir.path().join("linnet.store.copy"), &text);
        }
    }
}
