//! Which clusters of this user run, for those who name no directory.
//!
//! Each has a file in the user's runtime directory, or else in the state directory, that holds the path of the cluster's
//! directory and is locked as long as the cluster runs. A file that is not locked is nobody's and is removed.

use std::ffi::{OsStr, OsString};
use std::fs::{self, File, TryLockError};
use std::io::{self, Read as _, Write as _};
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::path::{Path, PathBuf};

use crate::home::create_private;
use crate::{Error, Result};

/// Names of the files begin with this; others are being made.
const PREFIX: &str = "up-";

/// More files are not looked at.
const LISTED_MAX: usize = 1000;

/// Longer paths cannot be.
const PATH_BYTES_MAX: u64 = 64 * 1024;

/// A cluster that can be found; until this is dropped.
pub(crate) struct Entry {
    path: PathBuf,
    _locked: File,
}

impl Entry {
    /// Makes the cluster of this directory known.
    pub(crate) fn make(dir: &Path) -> io::Result<Self> {
        let place = place(|name| std::env::var_os(name)).ok_or_else(|| {
            io::Error::new(io::ErrorKind::NotFound, "there is neither XDG_RUNTIME_DIR nor HOME")
        })?;
        Self::make_in(&place, dir)
    }

    fn make_in(place: &Path, dir: &Path) -> io::Result<Self> {
        create_private(place)?;
        // It gets its name once it is locked and complete.
        let mut file = tempfile::Builder::new().prefix(".new-").tempfile_in(place)?;
        file.as_file().try_lock()?;
        file.write_all(dir.as_os_str().as_bytes())?;
        let unique = file.path().file_name().unwrap_or_default().to_os_string();
        let mut name = OsString::from(PREFIX);
        name.push(unique);
        let path = place.join(name);
        Ok(Self { _locked: file.persist(&path)?, path })
    }
}

impl Drop for Entry {
    fn drop(&mut self) {
        // What stays is not locked and removed by whoever looks next.
        let _ = fs::remove_file(&self.path);
    }
}

/// The directories of all clusters that run.
pub(crate) fn running() -> Result<Vec<PathBuf>> {
    place(|name| std::env::var_os(name)).map_or_else(|| Ok(Vec::new()), |place| running_in(&place))
}

fn running_in(place: &Path) -> Result<Vec<PathBuf>> {
    let listed = match fs::read_dir(place) {
        Ok(listed) => listed,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(source) => return Err(Error::File { path: place.to_owned(), source }),
    };
    let mut found = Vec::new();
    for entry in listed.take(LISTED_MAX).filter_map(io::Result::ok) {
        if entry.file_name().as_bytes().starts_with(PREFIX.as_bytes())
            && let Some(dir) = directory_of(&entry.path()).map_err(Error::file(entry.path()))?
        {
            found.push(dir);
        }
    }
    found.sort();
    Ok(found)
}

/// The directory in this file, if its cluster runs.
fn directory_of(path: &Path) -> io::Result<Option<PathBuf>> {
    let file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    match file.try_lock_shared() {
        Ok(()) => {
            fs::remove_file(path).or_else(|error| match error.kind() {
                io::ErrorKind::NotFound => Ok(()),
                _ => Err(error),
            })?;
            Ok(None)
        }
        Err(TryLockError::WouldBlock) => {
            let mut bytes = Vec::new();
            file.take(PATH_BYTES_MAX).read_to_end(&mut bytes)?;
            Ok(Some(OsString::from_vec(bytes).into()))
        }
        Err(TryLockError::Error(error)) => Err(error),
    }
}

/// Where the files are, by the XDG base directories.
fn place(variable: impl Fn(&str) -> Option<OsString>) -> Option<PathBuf> {
    let directory = |name: &str| variable(name).filter(|text| !text.is_empty()).map(PathBuf::from);
    let below = |name: &str, path: &str| directory(name).map(|dir| dir.join(OsStr::new(path)));
    below("XDG_RUNTIME_DIR", "linnet/up")
        .or_else(|| below("XDG_STATE_HOME", "linnet/up"))
        .or_else(|| below("HOME", ".local/state/linnet/up"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_runs_is_found_and_what_was_left_is_removed() {
        let parent = tempfile::tempdir().unwrap();
        let place = parent.path().join("linnet/up");
        assert!(running_in(&place).unwrap().is_empty());
        let a = Entry::make_in(&place, Path::new("dir/a")).unwrap();
        let b = Entry::make_in(&place, Path::new("dir/b")).unwrap();
        fs::write(place.join("up-left"), "dir/left").unwrap();
        fs::write(place.join(".new-x"), "dir/new").unwrap();
        assert_eq!(running_in(&place).unwrap(), [Path::new("dir/a"), Path::new("dir/b")]);
        assert!(!place.join("up-left").exists() && place.join(".new-x").exists());
        drop(a);
        assert_eq!(running_in(&place).unwrap(), [Path::new("dir/b")]);
        drop(b);
        assert!(running_in(&place).unwrap().is_empty());
    }

    #[test]
    fn the_runtime_directory_comes_first() {
        let with = |set: &'static [&'static str]| {
            place(move |name| set.contains(&name).then(|| name.to_lowercase().into()))
        };
        let text = |place: Option<PathBuf>| place.map(|path| path.display().to_string());
        assert_eq!(text(with(&["HOME", "XDG_RUNTIME_DIR"])).as_deref(), Some("xdg_runtime_dir/linnet/up"));
        assert_eq!(text(with(&["HOME", "XDG_STATE_HOME"])).as_deref(), Some("xdg_state_home/linnet/up"));
        assert_eq!(text(with(&["HOME"])).as_deref(), Some("home/.local/state/linnet/up"));
        assert_eq!(with(&[]), None);
    }
}
