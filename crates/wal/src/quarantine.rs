//! Segments that must stay because something in them cannot be read.
//!
//! A note in the quarantine names such a segment from the moment its damage is known. A later opening does not look
//! into segments that the log no longer needs, so that only the note keeps it from removing them.

use std::collections::BTreeSet;

use linnet_env::Disk;

use crate::error::Error;
use crate::format::SegmentNo;
use crate::segment::{Paths, segment_no};

const NOTE_SUFFIX: &str = ".reason";

/// Segments with a note, those that are in quarantine included.
pub(crate) fn noted(disk: &dyn Disk, paths: &Paths) -> Result<BTreeSet<SegmentNo>, Error> {
    let dir = &paths.quarantine;
    if !disk.exists(dir).map_err(Error::io("look for", dir))? {
        return Ok(BTreeSet::new());
    }
    // A killed process may have written a note without syncing its name.
    disk.sync_dir(dir).map_err(Error::io("sync", dir))?;
    let entries = disk.list(dir).map_err(Error::io("list", dir))?;
    Ok(entries.iter().filter_map(|e| segment_no(e.name.strip_suffix(NOTE_SUFFIX)?)).collect())
}

/// Says durably that a segment must stay.
pub(crate) fn note(disk: &dyn Disk, paths: &Paths, no: SegmentNo, reason: &str) -> Result<(), Error> {
    let path = paths.quarantined(no, NOTE_SUFFIX);
    if disk.exists(&path).map_err(Error::io("look for", &path))? {
        return Ok(());
    }
    let dir = &paths.quarantine;
    disk.create_dir_all(dir).map_err(Error::space_or_io("create", dir))?;
    let text = format!("segment {no:010} of the write-ahead log: {reason}\n");
    disk.replace(&path, text.as_bytes()).map_err(Error::space_or_io("write", &path))
}

/// Moves a segment out of the log's directory.
pub(crate) fn put_away(disk: &dyn Disk, paths: &Paths, no: SegmentNo, reason: &str) -> Result<(), Error> {
    let path = paths.segment(no);
    if !disk.exists(&path).map_err(Error::io("look for", &path))? {
        return Ok(());
    }
    note(disk, paths, no, reason)?;
    disk.rename(&path, &paths.quarantined(no, "")).map_err(Error::io("quarantine", &path))?;
    disk.sync_dir(&paths.quarantine).map_err(Error::io("sync", &paths.quarantine))?;
    disk.sync_dir(&paths.wal).map_err(Error::io("sync", &paths.wal))
}
