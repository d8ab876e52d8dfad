//! Where files go that nothing explains: aside, never away.

use std::io;
use std::path::{Path, PathBuf};

use linnet_env::Disk;

use crate::restore::groups_dir;

const QUARANTINE: &str = "quarantine";

/// Moves files of a group's directory out of the way.
pub(crate) fn move_files(disk: &dyn Disk, dir: &Path, files: &[PathBuf]) {
    if files.is_empty() {
        return;
    }
    let to = dir.join(QUARANTINE);
    if let Err(e) = disk.create_dir_all(&to) {
        tracing::error!("  Creating {}: {e}", to.display());
        return;
    }
    for file in files {
        let Some(name) = file.file_name() else { continue };
        match disk.rename(file, &to.join(name)) {
            Ok(()) => tracing::warn!("  Moved {} to {}", file.display(), to.display()),
            // What is missing cannot be moved, and is told as damage.
            Err(e) if e.kind() == io::ErrorKind::NotFound => {}
            Err(e) => tracing::error!("  Moving {}: {e}", file.display()),
        }
    }
    // A move that a power loss undoes would leave a file that the next opening takes for one of no use.
    for dir in [&to, dir] {
        if let Err(e) = disk.sync_dir(dir) {
            tracing::error!("  Syncing {}: {e}", dir.display());
        }
    }
}

/// Moves the directory of a group, if there is one, to the quarantine of the store, with a note saying why.
pub fn put_aside(disk: &dyn Disk, store: &Path, group: &str, note: &str) {
    match move_group(disk, store, group, note) {
        Ok(None) => {}
        Ok(Some(to)) => tracing::warn!("  Moved group {group} to {}: {}", to.display(), note.trim_end()),
        Err(e) => tracing::error!("  Moving group {group} to the quarantine: {e}"),
    }
}

fn move_group(disk: &dyn Disk, store: &Path, group: &str, note: &str) -> io::Result<Option<PathBuf>> {
    let (from, quarantine) = (groups_dir(store).join(group), store.join(QUARANTINE));
    if !disk.exists(&from)? {
        return Ok(None);
    }
    disk.create_dir_all(&quarantine)?;
    let to = free_name(disk, &quarantine, group)?;
    disk.rename(&from, &to)?;
    let mut reason = to.clone().into_os_string();
    reason.push(".reason");
    // Syncs the directory, too.
    disk.replace(Path::new(&reason), note.as_bytes())?;
    disk.sync_dir(&groups_dir(store))?;
    Ok(Some(to))
}

/// The note about a group that stays where it is.
fn note_path(store: &Path, group: &str) -> PathBuf {
    store.join(QUARANTINE).join(format!("{group}.unnamed"))
}

/// Makes sure that a group whose stream is unknown has a directory and a note that says what to do with it: whoever
/// removes the directory gives the group up.
pub(crate) fn note_unnamed(disk: &dyn Disk, store: &Path, group: &str, reason: &str) -> io::Result<()> {
    let dir = groups_dir(store).join(group);
    let note = format!(
        "The catalogue has lost entries, and nothing says which stream this group is: {reason}.\n\
         To give up what it holds, stop the server and remove {}.\n",
        dir.display()
    );
    disk.create_dir_all(&dir)?;
    disk.create_dir_all(&store.join(QUARANTINE))?;
    disk.replace(&note_path(store, group), note.as_bytes())
}

/// True if a group was noted and its directory has been removed since. The note goes.
pub(crate) fn is_given_up(disk: &dyn Disk, store: &Path, group: &str) -> io::Result<bool> {
    let note = note_path(store, group);
    if !disk.exists(&note)? || disk.exists(&groups_dir(store).join(group))? {
        return Ok(false);
    }
    disk.remove_file(&note)?;
    Ok(true)
}

/// The note that the catalogue has lost entries.
fn incomplete_path(store: &Path) -> PathBuf {
    store.join(QUARANTINE).join("catalogue.incomplete")
}

/// Remembers that the catalogue has lost entries: its own traces of that go, with what is written to it later.
pub(crate) fn note_incomplete(disk: &dyn Disk, store: &Path) -> io::Result<()> {
    if was_incomplete(disk, store)? {
        return Ok(());
    }
    disk.create_dir_all(&store.join(QUARANTINE))?;
    disk.replace(&incomplete_path(store), b"The catalogue of streams has lost entries to damage.\n")
}

/// True if the catalogue has ever lost entries.
pub(crate) fn was_incomplete(disk: &dyn Disk, store: &Path) -> io::Result<bool> {
    disk.exists(&incomplete_path(store))
}

/// Where it is noted that streams may be missing.
pub(crate) fn missing_path(store: &Path) -> PathBuf {
    store.join(QUARANTINE).join("streams-may-be-missing")
}

/// Notes that there may have been streams of which nothing is left.
pub(crate) fn note_missing(disk: &dyn Disk, store: &Path) -> io::Result<()> {
    disk.create_dir_all(&store.join(QUARANTINE))?;
    let text = "The log and the catalogue of streams have lost entries to damage. Streams whose whole trace was in the \
                lost part are gone. Remove this file when that has been dealt with.\n";
    disk.replace(&missing_path(store), text.as_bytes())
}

/// What was put aside earlier under the same name stays.
fn free_name(disk: &dyn Disk, dir: &Path, name: &str) -> io::Result<PathBuf> {
    let mut path = dir.join(name);
    let mut n = 1;
    while disk.exists(&path)? {
        path = dir.join(format!("{name}.{n}"));
        n += 1;
    }
    Ok(path)
}
