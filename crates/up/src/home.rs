//! The directory of a cluster, and the lock that says who has it.

use std::fs::{self, DirBuilder, File, TryLockError};
use std::io::{Read as _, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use tempfile::TempDir;

use crate::{Error, Result};

/// Held by the process that has the directory, and tells its process id.
const LOCK_FILE: &str = "up.lock";

/// Describes the cluster, so that the next start gives it back.
const SAVED_FILE: &str = "up.json";

/// A process id is shorter.
const HOLDER_BYTES_MAX: u64 = 32;

/// A directory that only this process uses.
pub(crate) struct Home {
    dir: PathBuf,
    is_kept: bool,
    _lock: File,
    /// Removed when dropped.
    _temp_dir: Option<TempDir>,
}

impl Home {
    /// Takes this directory, which is created if needed and stays, or a temporary one, which goes with the value.
    pub(crate) fn take(dir: Option<&Path>) -> Result<Self> {
        let (dir, temp_dir) = match dir {
            Some(dir) => {
                create_private(dir).map_err(Error::file(dir))?;
                (fs::canonicalize(dir).map_err(Error::file(dir))?, None)
            }
            None => {
                let made = tempfile::Builder::new().prefix("linnet-up-").tempdir();
                let temp_dir = made.map_err(Error::file(std::env::temp_dir()))?;
                (temp_dir.path().to_owned(), Some(temp_dir))
            }
        };
        let is_empty = fs::read_dir(&dir).map_err(Error::file(&dir))?.next().is_none();
        let is_ours = [LOCK_FILE, SAVED_FILE].iter().any(|name| dir.join(name).exists());
        if !is_empty && !is_ours {
            return Err(Error::NotOurs(dir));
        }
        let lock = lock(&dir)?;
        Ok(Self { dir, is_kept: temp_dir.is_none(), _lock: lock, _temp_dir: temp_dir })
    }

    /// The directory.
    pub(crate) fn dir(&self) -> &Path {
        &self.dir
    }

    /// Whether the directory stays.
    pub(crate) fn is_kept(&self) -> bool {
        self.is_kept
    }

    /// The file that describes the cluster.
    pub(crate) fn saved_file(&self) -> PathBuf {
        self.dir.join(SAVED_FILE)
    }
}

/// There are passwords in it.
pub(crate) fn create_private(dir: &Path) -> std::io::Result<()> {
    DirBuilder::new().recursive(true).mode(0o700).create(dir)
}

fn lock(dir: &Path) -> Result<File> {
    let path = dir.join(LOCK_FILE);
    let mut options = File::options();
    let opened = options.read(true).write(true).create(true).truncate(false).mode(0o600).open(&path);
    let mut file = opened.map_err(Error::file(&path))?;
    match file.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => {
            let mut holder = String::new();
            file.take(HOLDER_BYTES_MAX).read_to_string(&mut holder).map_err(Error::file(&path))?;
            let holder = Some(holder.trim().to_owned()).filter(|pid| !pid.is_empty());
            return Err(Error::InUse { dir: dir.to_owned(), holder });
        }
        Err(TryLockError::Error(source)) => return Err(Error::File { path, source }),
    }
    let told = file.set_len(0).and_then(|()| writeln!(file, "{}", std::process::id()));
    told.map_err(Error::file(&path))?;
    Ok(file)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn directory_in_use_is_refused_and_says_by_whom() {
        let parent = tempfile::tempdir().unwrap();
        let dir = parent.path().join("a/b");
        let home = Home::take(Some(&dir)).unwrap();
        assert!(home.is_kept());
        let Err(Error::InUse { holder, .. }) = Home::take(Some(&dir)) else { panic!("it is in use") };
        assert_eq!(holder, Some(std::process::id().to_string()));
        drop(home);
        assert!(Home::take(Some(&dir)).is_ok());
    }

    #[test]
    fn directory_of_something_else_is_left_alone() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("mine"), "x").unwrap();
        assert!(matches!(Home::take(Some(dir.path())), Err(Error::NotOurs(_))));
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
    }

    #[test]
    fn temporary_directory_goes() {
        let home = Home::take(None).unwrap();
        let dir = home.dir().to_owned();
        assert!(dir.is_dir() && !home.is_kept());
        drop(home);
        assert!(!dir.exists());
    }
}
