//! Files of a server that does not run are damaged: what was written is another, gone or somewhere else.

use std::fs::{self, File};
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};

use super::super::trio::Trio;

/// Which files.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Part {
    /// Segments of the log, anywhere.
    Log,
    /// What was written to the log last.
    LogTail,
    /// Messages, their indexes and states of streams.
    Streams,
    /// The same of the catalogue, `_meta_`.
    Catalogue,
    /// What the server was assigned.
    Assigned,
    /// Who the store is.
    Identity,
}

/// What happens to them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum How {
    /// One bit is another.
    Flip,
    /// A sector is zeros.
    Blank,
    /// Two sectors have changed places.
    Swap,
    /// The end is gone.
    Cut,
    /// The file is gone.
    Remove,
}

const PARTS: [Part; 6] =
    [Part::Log, Part::LogTail, Part::Streams, Part::Catalogue, Part::Assigned, Part::Identity];
const HOWS: [How; 5] = [How::Flip, How::Blank, How::Swap, How::Cut, How::Remove];
const SECTOR: u64 = 512;

impl Part {
    pub(super) fn any(random: &mut fastrand::Rng) -> Self {
        PARTS[random.usize(..PARTS.len())]
    }

    fn has(self, path: &Path) -> bool {
        let is_in = |dir: &str| path.iter().any(|part| part == dir);
        let ends = |ending: &str| path.extension().is_some_and(|e| e == ending);
        let group = path.parent().and_then(Path::file_name).unwrap_or_default().to_string_lossy();
        let is_catalogue = group.bytes().all(|b| b == b'0');
        match self {
            Self::Log | Self::LogTail => ends("wal") && is_in("wal"),
            Self::Streams => is_in("groups") && !is_catalogue,
            Self::Catalogue => is_in("groups") && is_catalogue,
            Self::Assigned => is_in("assigned"),
            Self::Identity => {
                let name = path.file_name().unwrap_or_default().to_string_lossy();
                ["linnet.store", "linnet.store.copy", "boot", "founding", "scrub"].contains(&name.as_ref())
            }
        }
    }
}

impl How {
    /// What can happen to these files. A whole segment of the log is as good as the whole disk.
    pub(super) fn any(part: Part, random: &mut fastrand::Rng) -> Self {
        let count = HOWS.len() - usize::from(matches!(part, Part::LogTail));
        HOWS[random.usize(..count)]
    }
}

/// Damages one file of a server that does not run, if it has one of this kind.
pub(super) fn damage(trio: &Trio, server: &str, part: Part, how: How, random: &mut fastrand::Rng) {
    let mut files = Vec::new();
    collect(&trio.store_of(server), &mut files);
    files.retain(|(path, length)| *length > 0 && part.has(path));
    files.sort();
    if part == Part::LogTail {
        files = files.pop().into_iter().collect();
    }
    let Some((path, _)) = files.get(random.usize(..files.len().max(1))) else { return };
    let bytes = fs::read(path).unwrap();
    let Some(end) = bytes.iter().rposition(|byte| *byte != 0).map(|last| last as u64 + 1) else { return };
    // Behind it nothing was written.
    let from = if part == Part::LogTail { end.saturating_sub(8192) } else { 0 };
    let at = random.u64(from..end);
    eprintln!("{how:?} of {} at {at} of {end}", path.display());
    let file = File::options().read(true).write(true).open(path).unwrap();
    let sector = |at: u64| {
        let from = at / SECTOR * SECTOR;
        (from, bytes[usize::try_from(from).unwrap()..].iter().copied().take(512).collect::<Vec<u8>>())
    };
    match how {
        How::Flip => {
            let byte = bytes[usize::try_from(at).unwrap()] ^ (1 << random.u8(..8));
            file.write_all_at(&[byte], at).unwrap();
        }
        How::Blank => {
            let (from, old) = sector(at);
            file.write_all_at(&vec![0; old.len()], from).unwrap();
        }
        How::Swap => {
            let ((one, first), (other, second)) = (sector(at), sector(random.u64(from..end)));
            if first.len() == second.len() {
                file.write_all_at(&second, one).unwrap();
                file.write_all_at(&first, other).unwrap();
            }
        }
        How::Cut => file.set_len(at).unwrap(),
        How::Remove => fs::remove_file(path).unwrap(),
    }
}

fn collect(dir: &Path, files: &mut Vec<(PathBuf, u64)>) {
    for entry in fs::read_dir(dir).unwrap().map(Result::unwrap) {
        let path = entry.path();
        if path.is_dir() {
            collect(&path, files);
        } else {
            files.push((path, entry.metadata().unwrap().len()));
        }
    }
}
