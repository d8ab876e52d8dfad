//! A disk in memory that forgets, tears, reorders, lies and rots, from one seed.
//!
//! It keeps exactly the promises of [`Disk`] and no other: a crash keeps or loses every unsynced 512-byte sector
//! and every unsynced directory entry on its own. Faults are armed by the test and counted when they strike.

mod content;
mod faults;
mod names;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use parking_lot::Mutex;

use crate::disk::{DirEntry, Disk, DiskFile, DiskLock, OpenMode};
use content::Content;
pub use faults::{DamageKind, FaultCounters};
use names::{Names, Node};

/// A simulated disk; clones share it.
#[derive(Clone)]
pub struct FaultyDisk {
    state: Arc<Mutex<State>>,
}

struct State {
    rng: fastrand::Rng,
    names: Names,
    files: BTreeMap<u64, Content>,
    next_file: u64,
    /// Counts crashes and kills; handles of an earlier life are refused.
    life: u64,
    locks: BTreeSet<PathBuf>,
    capacity: Option<u64>,
    ignore_syncs: bool,
    syncs_until_failure: Option<u64>,
    bytes_until_write_error: Option<u64>,
    no_descriptors: bool,
    operations_until_off: Option<u64>,
    /// An operation was refused for lack of power.
    refused: bool,
    /// Reads that asked for what is at hand.
    tries: u64,
    counters: FaultCounters,
}

impl Clone for State {
    fn clone(&self) -> Self {
        Self {
            rng: self.rng.clone(),
            names: self.names.clone(),
            files: self.files.clone(),
            next_file: self.next_file,
            life: self.life,
            locks: BTreeSet::new(),
            capacity: self.capacity,
            ignore_syncs: self.ignore_syncs,
            syncs_until_failure: self.syncs_until_failure,
            bytes_until_write_error: self.bytes_until_write_error,
            no_descriptors: self.no_descriptors,
            operations_until_off: self.operations_until_off,
            refused: self.refused,
            tries: self.tries,
            counters: self.counters,
        }
    }
}

fn input_output_error() -> io::Error {
    rustix::io::Errno::IO.into()
}

fn no_space() -> io::Error {
    rustix::io::Errno::NOSPC.into()
}

fn power_is_off() -> io::Error {
    io::Error::new(io::ErrorKind::NotConnected, "the simulated disk has no power")
}

fn stale_handle() -> io::Error {
    rustix::io::Errno::STALE.into()
}

/// How many of `bytes` written at `offset` end on a sector boundary: what stops a write in the middle stops it there.
fn whole_sectors(offset: u64, bytes: u64) -> usize {
    let end = (offset + bytes) / content::SECTOR * content::SECTOR;
    usize::try_from(end.saturating_sub(offset)).unwrap_or(0)
}

impl State {
    /// What takes a descriptor gets none if there is none.
    fn descriptor(&self) -> io::Result<()> {
        if self.no_descriptors { Err(rustix::io::Errno::MFILE.into()) } else { Ok(()) }
    }

    /// Counts a changing operation and refuses it when the power is off.
    fn operation(&mut self) -> io::Result<()> {
        match &mut self.operations_until_off {
            Some(0) => {
                self.refused = true;
                Err(power_is_off())
            }
            Some(left) => {
                *left -= 1;
                Ok(())
            }
            None => Ok(()),
        }
    }

    fn used(&self) -> u64 {
        self.files.values().map(Content::len).sum()
    }

    fn content(&mut self, file: u64) -> io::Result<&mut Content> {
        self.files.get_mut(&file).ok_or_else(stale_handle)
    }

    fn grow_allowed(&mut self, file: u64, len: u64) -> io::Result<()> {
        let before = self.content(file)?.len();
        if let Some(capacity) = self.capacity
            && len > before
            && self.used() + (len - before) > capacity
        {
            self.counters.no_space += 1;
            return Err(no_space());
        }
        Ok(())
    }

    fn write(&mut self, file: u64, data: &[u8], offset: u64) -> io::Result<()> {
        self.grow_allowed(file, offset + data.len() as u64)?;
        if let Some(left) = &mut self.bytes_until_write_error {
            if data.len() as u64 > *left {
                let allowed = whole_sectors(offset, *left);
                self.bytes_until_write_error = None;
                self.counters.write_errors += 1;
                self.content(file)?.write(&data[..allowed], offset);
                return Err(input_output_error());
            }
            *left -= data.len() as u64;
        }
        self.content(file)?.write(data, offset);
        Ok(())
    }

    /// The write during which the power goes off, or the process dies, stores some of its sectors.
    fn write_some(&mut self, file: u64, parts: &[&[u8]], offset: u64) -> io::Result<()> {
        let data = parts.concat();
        self.grow_allowed(file, offset + data.len() as u64)?;
        let allowed = whole_sectors(offset, self.rng.u64(..=data.len() as u64));
        self.content(file)?.write(&data[..allowed], offset);
        Ok(())
    }

    fn sync(&mut self, file: u64) -> io::Result<()> {
        self.counters.syncs += 1;
        if let Some(left) = &mut self.syncs_until_failure {
            if *left == 0 {
                self.syncs_until_failure = None;
                self.counters.sync_errors += 1;
                self.content(file)?.drop_dirty();
                return Err(input_output_error());
            }
            *left -= 1;
        }
        if self.ignore_syncs {
            self.counters.syncs_ignored += 1;
        } else {
            self.content(file)?.sync();
        }
        Ok(())
    }

    /// Forgets files that no name can lead to any more. Open handles to them fail from here on, which no user of
    /// the store relies on.
    fn collect(&mut self, file: u64) {
        if !self.names.refers_to(file) {
            self.files.remove(&file);
        }
    }
}

impl FaultyDisk {
    /// An empty disk without faults.
    pub fn new(seed: u64) -> Self {
        Self {
            state: Arc::new(Mutex::new(State {
                rng: fastrand::Rng::with_seed(seed),
                names: Names::default(),
                files: BTreeMap::new(),
                next_file: 1,
                life: 0,
                locks: BTreeSet::new(),
                capacity: None,
                ignore_syncs: false,
                syncs_until_failure: None,
                bytes_until_write_error: None,
                no_descriptors: false,
                operations_until_off: None,
                refused: false,
                tries: 0,
                counters: FaultCounters::default(),
            })),
        }
    }

    /// An independent copy of the disk with everything pending on it. Pages are shared until written.
    pub fn fork(&self) -> Self {
        Self { state: Arc::new(Mutex::new(self.state.lock().clone())) }
    }

    fn new_handle(&self, file: u64, life: u64, writable: bool) -> Arc<dyn DiskFile> {
        Arc::new(FaultyFile { state: Arc::clone(&self.state), file, life, writable })
    }
}

impl Disk for FaultyDisk {
    fn open(&self, path: &Path, mode: OpenMode) -> io::Result<Arc<dyn DiskFile>> {
        let mut state = self.state.lock();
        state.descriptor()?;
        let life = state.life;
        let file = match mode {
            OpenMode::Read | OpenMode::ReadWrite | OpenMode::Reuse => {
                if state.refused {
                    return Err(power_is_off());
                }
                state.names.file(path)?
            }
            OpenMode::Create => {
                state.operation()?;
                let file = state.next_file;
                state.names.link(path, file)?;
                state.next_file += 1;
                state.files.insert(file, Content::default());
                file
            }
        };
        Ok(self.new_handle(file, life, mode != OpenMode::Read))
    }

    fn create_dir_all(&self, path: &Path) -> io::Result<()> {
        let mut state = self.state.lock();
        if state.names.get(path).is_none() {
            state.descriptor()?;
        }
        state.operation()?;
        state.names.create_dir_all(path)
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<DirEntry>> {
        let state = self.state.lock();
        state.descriptor()?;
        let mut entries = Vec::new();
        for (path, node) in state.names.children(dir)? {
            let Some(name) = path.file_name().and_then(|n| n.to_str()) else { continue };
            let len = match node {
                Node::Dir => 0,
                Node::File(file) => state.files.get(&file).map_or(0, Content::len),
            };
            entries.push(DirEntry { name: name.to_owned(), is_dir: node == Node::Dir, len });
        }
        entries.sort();
        Ok(entries)
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let mut state = self.state.lock();
        state.operation()?;
        state.names.rename(from, to)
    }

    fn remove_file(&self, path: &Path) -> io::Result<()> {
        let mut state = self.state.lock();
        state.operation()?;
        state.names.unlink(path)
    }

    fn remove_dir_all(&self, path: &Path) -> io::Result<()> {
        let mut state = self.state.lock();
        state.operation()?;
        state.names.unlink_tree(path)
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        let mut state = self.state.lock();
        state.descriptor()?;
        state.operation()?;
        state.counters.syncs += 1;
        if state.ignore_syncs {
            state.counters.syncs_ignored += 1;
            return Ok(());
        }
        state.names.sync_dir(dir);
        let files: Vec<u64> = state.files.keys().copied().collect();
        for file in files {
            state.collect(file);
        }
        Ok(())
    }

    fn exists(&self, path: &Path) -> io::Result<bool> {
        Ok(self.state.lock().names.get(path).is_some())
    }

    fn free_space(&self, _path: &Path) -> io::Result<u64> {
        let state = self.state.lock();
        Ok(state.capacity.map_or(u64::MAX / 2, |capacity| capacity.saturating_sub(state.used())))
    }

    fn lock(&self, path: &Path) -> io::Result<Option<Box<dyn DiskLock>>> {
        let mut state = self.state.lock();
        if state.names.get(path).is_none() {
            let file = state.next_file;
            state.names.link(path, file)?;
            state.next_file += 1;
            state.files.insert(file, Content::default());
        }
        if !state.locks.insert(path.to_path_buf()) {
            return Ok(None);
        }
        let life = state.life;
        Ok(Some(Box::new(FaultyLock { state: Arc::clone(&self.state), path: path.to_path_buf(), life })))
    }
}

struct FaultyLock {
    state: Arc<Mutex<State>>,
    path: PathBuf,
    life: u64,
}

impl DiskLock for FaultyLock {}

impl Drop for FaultyLock {
    fn drop(&mut self) {
        let mut state = self.state.lock();
        // A lock of a killed process is gone already and may be held by its successor.
        if state.life == self.life {
            state.locks.remove(&self.path);
        }
    }
}

struct FaultyFile {
    state: Arc<Mutex<State>>,
    file: u64,
    life: u64,
    writable: bool,
}

impl FaultyFile {
    fn with<T>(&self, action: impl FnOnce(&mut State) -> io::Result<T>) -> io::Result<T> {
        let mut state = self.state.lock();
        if state.life != self.life {
            return Err(stale_handle());
        }
        action(&mut state)
    }

    fn write(&self, parts: &[&[u8]], offset: u64) -> io::Result<()> {
        if !self.writable {
            return Err(io::ErrorKind::PermissionDenied.into());
        }
        self.with(|state| {
            let was_refused = state.refused;
            if let Err(refused) = state.operation() {
                if !was_refused {
                    state.write_some(self.file, parts, offset)?;
                }
                return Err(refused);
            }
            let total: u64 = parts.iter().map(|p| p.len() as u64).sum();
            state.grow_allowed(self.file, offset + total)?;
            let mut at = offset;
            for part in parts {
                state.write(self.file, part, at)?;
                at += part.len() as u64;
            }
            Ok(())
        })
    }

    fn change<T>(&self, action: impl FnOnce(&mut State) -> io::Result<T>) -> io::Result<T> {
        if !self.writable {
            return Err(io::ErrorKind::PermissionDenied.into());
        }
        self.with(|state| {
            state.operation()?;
            action(state)
        })
    }
}

impl DiskFile for FaultyFile {
    fn read_at(&self, out: &mut [u8], offset: u64) -> io::Result<usize> {
        self.with(|state| {
            // The power goes off with the first change it refuses: until then reads are what they were.
            if state.refused {
                return Err(power_is_off());
            }
            let read = state.content(self.file)?.read(out, offset);
            read.ok_or_else(|| {
                state.counters.reads_failed += 1;
                input_output_error()
            })
        })
    }

    /// Every other time, whatever the device would have to do.
    fn try_read_exact_at(&self, out: &mut [u8], offset: u64) -> bool {
        let outcome = self.with(|state| {
            state.tries = state.tries.wrapping_add(1);
            if state.refused || state.tries.is_multiple_of(2) {
                return Ok(false);
            }
            Ok(state.content(self.file)?.read(out, offset) == Some(out.len()))
        });
        outcome.unwrap_or(false)
    }

    fn write_all_at(&self, data: &[u8], offset: u64) -> io::Result<()> {
        self.write(&[data], offset)
    }

    fn write_vectored_all_at(&self, parts: &[&[u8]], offset: u64) -> io::Result<()> {
        self.write(parts, offset)
    }

    fn len(&self) -> io::Result<u64> {
        self.with(|state| Ok(state.content(self.file)?.len()))
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.change(|state| {
            state.grow_allowed(self.file, len)?;
            state.content(self.file)?.set_len(len);
            Ok(())
        })
    }

    fn sync_data(&self) -> io::Result<()> {
        self.change(|state| state.sync(self.file))
    }
}
