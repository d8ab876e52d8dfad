//! A disk that is looked at and not changed: what is written to it stays in memory.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use linnet_env::{DirEntry, Disk, DiskFile, DiskLock, OpenMode};
use parking_lot::Mutex;

const PAGE: usize = 4096;
/// Pages that may be written: 512 MiB. Opening a store writes a few.
const PAGES_MAX: usize = 1 << 17;

/// The disk below with what was done to it since.
pub(super) struct OverlayDisk {
    below: Arc<dyn Disk>,
    /// What is not as it is below. What is under an entry is hidden unless it has one itself.
    names: Mutex<BTreeMap<PathBuf, Node>>,
    pages: Arc<AtomicUsize>,
}

#[derive(Clone)]
enum Node {
    Gone,
    Dir,
    File(Arc<OverlayFile>),
}

/// Where a path leads.
enum Found {
    Nothing,
    Dir,
    File(Arc<OverlayFile>),
    /// As it is below.
    Below,
}

impl OverlayDisk {
    pub(super) fn new(below: Arc<dyn Disk>) -> Self {
        Self { below, names: Mutex::default(), pages: Arc::default() }
    }

    fn find(&self, path: &Path) -> Found {
        let names = self.names.lock();
        match names.get(path) {
            Some(Node::Gone) => return Found::Nothing,
            Some(Node::Dir) => return Found::Dir,
            Some(Node::File(file)) => return Found::File(file.clone()),
            None => {}
        }
        let is_hidden = path.ancestors().skip(1).any(|above| names.contains_key(above));
        if is_hidden { Found::Nothing } else { Found::Below }
    }

    fn file_below(&self, path: &Path) -> io::Result<Arc<OverlayFile>> {
        let file = self.below.open(path, OpenMode::Read)?;
        let len = file.len()?;
        Ok(Arc::new(OverlayFile::new(Some((file, len)), self.pages.clone())))
    }

    fn set(&self, path: &Path, node: Node) {
        self.names.lock().insert(path.to_owned(), node);
    }

    /// Moves a file, or a directory with everything in it.
    fn move_node(&self, from: &Path, to: &Path) -> io::Result<()> {
        if let Ok(entries) = self.list(from) {
            self.set(to, Node::Dir);
            for entry in entries {
                self.move_node(&from.join(&entry.name), &to.join(&entry.name))?;
            }
        } else {
            let file = match self.find(from) {
                Found::File(file) => file,
                Found::Below => self.file_below(from)?,
                Found::Nothing | Found::Dir => return Err(io::ErrorKind::NotFound.into()),
            };
            self.set(to, Node::File(file));
        }
        self.set(from, Node::Gone);
        Ok(())
    }
}

impl Disk for OverlayDisk {
    fn open(&self, path: &Path, mode: OpenMode) -> io::Result<Arc<dyn DiskFile>> {
        match (self.find(path), mode) {
            (Found::File(_), OpenMode::Create) => Err(io::ErrorKind::AlreadyExists.into()),
            (Found::File(file), _) => Ok(file),
            (Found::Below, OpenMode::Read) => self.below.open(path, mode),
            (Found::Below, OpenMode::Create) if self.below.exists(path)? => {
                Err(io::ErrorKind::AlreadyExists.into())
            }
            (Found::Below | Found::Nothing, OpenMode::Create) => {
                let file = Arc::new(OverlayFile::new(None, self.pages.clone()));
                self.set(path, Node::File(file.clone()));
                Ok(file)
            }
            (Found::Below, _) => {
                let file = self.file_below(path)?;
                self.set(path, Node::File(file.clone()));
                Ok(file)
            }
            (Found::Nothing | Found::Dir, _) => Err(io::ErrorKind::NotFound.into()),
        }
    }

    fn create_dir_all(&self, path: &Path) -> io::Result<()> {
        let missing = path.ancestors().take_while(|dir| !self.exists(dir).unwrap_or(true));
        for dir in missing.map(Path::to_owned).collect::<Vec<_>>() {
            self.set(&dir, Node::Dir);
        }
        Ok(())
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<DirEntry>> {
        let mut entries = match self.find(dir) {
            Found::Nothing => return Err(io::ErrorKind::NotFound.into()),
            Found::File(_) => return Err(io::ErrorKind::NotADirectory.into()),
            Found::Dir => Vec::new(),
            Found::Below => self.below.list(dir)?,
        };
        let names = self.names.lock();
        for (path, node) in names.range(dir.to_owned()..).take_while(|(path, _)| path.starts_with(dir)) {
            let Some(name) = path.file_name().and_then(|name| name.to_str()) else { continue };
            if path.parent() != Some(dir) {
                continue;
            }
            entries.retain(|entry| entry.name != name);
            let name = name.to_owned();
            match node {
                Node::Gone => {}
                Node::Dir => entries.push(DirEntry { name, is_dir: true, len: 0 }),
                Node::File(file) => entries.push(DirEntry { name, is_dir: false, len: file.len()? }),
            }
        }
        entries.sort();
        Ok(entries)
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.move_node(from, to)
    }

    fn remove_file(&self, path: &Path) -> io::Result<()> {
        if !self.exists(path)? {
            return Err(io::ErrorKind::NotFound.into());
        }
        self.set(path, Node::Gone);
        Ok(())
    }

    fn remove_dir_all(&self, path: &Path) -> io::Result<()> {
        if !self.exists(path)? {
            return Err(io::ErrorKind::NotFound.into());
        }
        self.names.lock().retain(|known, _| !known.starts_with(path));
        self.set(path, Node::Gone);
        Ok(())
    }

    fn sync_dir(&self, _: &Path) -> io::Result<()> {
        Ok(())
    }

    fn exists(&self, path: &Path) -> io::Result<bool> {
        match self.find(path) {
            Found::Nothing => Ok(false),
            Found::Dir | Found::File(_) => Ok(true),
            Found::Below => self.below.exists(path),
        }
    }

    fn free_space(&self, path: &Path) -> io::Result<u64> {
        self.below.free_space(path)
    }

    fn lock(&self, path: &Path) -> io::Result<Option<Box<dyn DiskLock>>> {
        self.below.lock(path)
    }
}

/// A file of which pages were written.
struct OverlayFile {
    below: Option<Arc<dyn DiskFile>>,
    state: Mutex<FileState>,
    /// Pages of all files.
    pages: Arc<AtomicUsize>,
}

struct FileState {
    len: u64,
    /// What the file below holds counts up to here.
    below_len: u64,
    pages: BTreeMap<u64, Box<[u8; PAGE]>>,
}

impl OverlayFile {
    fn new(below: Option<(Arc<dyn DiskFile>, u64)>, pages: Arc<AtomicUsize>) -> Self {
        let len = below.as_ref().map_or(0, |(_, len)| *len);
        let state = FileState { len, below_len: len, pages: BTreeMap::new() };
        Self { below: below.map(|(file, _)| file), state: Mutex::new(state), pages }
    }

    /// What is below, and zeros behind its end.
    fn read_below(&self, state: &FileState, out: &mut [u8], offset: u64) -> io::Result<()> {
        let there =
            usize::try_from(state.below_len.saturating_sub(offset)).unwrap_or(usize::MAX).min(out.len());
        let (from_file, zeros) = out.split_at_mut(there);
        zeros.fill(0);
        match &self.below {
            Some(below) if !from_file.is_empty() => below.read_exact_at(from_file, offset),
            _ => Ok(()),
        }
    }

    fn write(&self, state: &mut FileState, data: &[u8], offset: u64) -> io::Result<()> {
        let mut done = 0;
        while done < data.len() {
            let (no, within) = split(offset + done as u64);
            let step = (PAGE - within).min(data.len() - done);
            if !state.pages.contains_key(&no) {
                if self.pages.fetch_add(1, Ordering::Relaxed) >= PAGES_MAX {
                    return Err(io::ErrorKind::StorageFull.into());
                }
                let mut page = Box::new([0; PAGE]);
                if step < PAGE {
                    self.read_below(state, &mut page[..], no * PAGE as u64)?;
                }
                state.pages.insert(no, page);
            }
            if let (Some(page), Some(data)) = (state.pages.get_mut(&no), data.get(done..done + step)) {
                page[within..within + step].copy_from_slice(data);
            }
            done += step;
        }
        state.len = state.len.max(offset + data.len() as u64);
        Ok(())
    }
}

/// Page of a place, and where in the page.
fn split(offset: u64) -> (u64, usize) {
    let size = PAGE as u64;
    (offset / size, usize::try_from(offset % size).unwrap_or(0))
}

impl DiskFile for OverlayFile {
    fn read_at(&self, out: &mut [u8], offset: u64) -> io::Result<usize> {
        let state = self.state.lock();
        let there = usize::try_from(state.len.saturating_sub(offset)).unwrap_or(usize::MAX).min(out.len());
        let Some(out) = out.get_mut(..there) else { return Ok(0) };
        let mut done = 0;
        while done < out.len() {
            let (no, within) = split(offset + done as u64);
            // Up to the next page that was written, what is below is read at once.
            let next = state.pages.range(no..).next().map(|(no, _)| *no);
            let step = match next {
                Some(next) if next == no => (PAGE - within).min(out.len() - done),
                Some(next) => {
                    let until = next * PAGE as u64 - (offset + done as u64);
                    usize::try_from(until).unwrap_or(usize::MAX).min(out.len() - done)
                }
                None => out.len() - done,
            };
            let Some(part) = out.get_mut(done..done + step) else { break };
            match state.pages.get(&no) {
                Some(page) => part.copy_from_slice(&page[within..within + step]),
                None => self.read_below(&state, part, offset + done as u64)?,
            }
            done += step;
        }
        Ok(there)
    }

    fn write_all_at(&self, data: &[u8], offset: u64) -> io::Result<()> {
        self.write(&mut self.state.lock(), data, offset)
    }

    fn write_vectored_all_at(&self, parts: &[&[u8]], offset: u64) -> io::Result<()> {
        let mut at = offset;
        for part in parts {
            self.write(&mut self.state.lock(), part, at)?;
            at += part.len() as u64;
        }
        Ok(())
    }

    fn write_zeros_at(&self, len: usize, offset: u64) -> io::Result<()> {
        let mut state = self.state.lock();
        let end = offset + len as u64;
        if offset >= state.len && offset >= state.below_len {
            state.len = end;
            return Ok(());
        }
        self.write(&mut state, &vec![0; len], offset)
    }

    fn len(&self) -> io::Result<u64> {
        Ok(self.state.lock().len)
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        let mut state = self.state.lock();
        if len < state.len {
            state.below_len = state.below_len.min(len);
            let (no, within) = split(len);
            let _ = state.pages.split_off(&(no + u64::from(within > 0)));
            if let Some(page) = state.pages.get_mut(&no) {
                page[within..].fill(0);
            }
        }
        state.len = len;
        Ok(())
    }

    fn sync_data(&self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use linnet_env::FaultyDisk;

    use super::*;

    fn disks() -> (FaultyDisk, OverlayDisk) {
        let below = FaultyDisk::new(1);
        below.create_dir_all(Path::new("/s/d")).unwrap();
        below.replace(Path::new("/s/d/f"), &[7; 10_000]).unwrap();
        (below.clone(), OverlayDisk::new(Arc::new(below)))
    }

    fn names(disk: &dyn Disk, dir: &str) -> Vec<String> {
        disk.list(Path::new(dir)).unwrap().into_iter().map(|entry| entry.name).collect()
    }

    #[test]
    fn writes_are_read_back_and_do_not_reach_the_disk_below() {
        let (below, disk) = disks();
        let path = Path::new("/s/d/f");
        let file = disk.open(path, OpenMode::ReadWrite).unwrap();
        file.write_all_at(&[1; 5000], 3000).unwrap();
        file.write_all_at(&[2; 10], 11_000).unwrap();
        let mut expected = vec![7; 10_000];
        expected[3000..8000].fill(1);
        expected.resize(11_000, 0);
        expected.extend([2; 10]);
        assert_eq!(disk.read(path).unwrap(), expected);
        file.set_len(4000).unwrap();
        file.set_len(6000).unwrap();
        expected.truncate(4000);
        expected.resize(6000, 0);
        assert_eq!(disk.read(path).unwrap(), expected);
        assert_eq!(below.read(path).unwrap(), [7; 10_000]);
    }

    #[test]
    fn names_change_in_front_of_the_disk_only() {
        let (below, disk) = disks();
        disk.create_dir_all(Path::new("/s/q/r")).unwrap();
        disk.rename(Path::new("/s/d"), Path::new("/s/q/d")).unwrap();
        assert_eq!(
            (names(&disk, "/s"), names(&disk, "/s/q/d")),
            (vec!["q".to_owned()], vec!["f".to_owned()])
        );
        assert_eq!(disk.read(Path::new("/s/q/d/f")).unwrap(), [7; 10_000]);
        assert!(disk.open(Path::new("/s/d/f"), OpenMode::Read).is_err());
        disk.create_dir_all(Path::new("/s/d")).unwrap();
        assert_eq!(names(&disk, "/s/d"), Vec::<String>::new(), "what was moved does not come back");
        disk.replace(Path::new("/s/d/g"), b"new").unwrap();
        disk.remove_dir_all(Path::new("/s/q")).unwrap();
        assert_eq!(names(&disk, "/s"), ["d"]);
        assert_eq!(
            (names(&below, "/s"), names(&below, "/s/d")),
            (vec!["d".to_owned()], vec!["f".to_owned()])
        );
    }

    #[test]
    fn what_is_kept_in_memory_is_bounded() {
        let (_, disk) = disks();
        let file = disk.open(Path::new("/s/d/g"), OpenMode::Create).unwrap();
        file.write_zeros_at(64 << 20, 0).unwrap();
        assert_eq!(disk.pages.load(Ordering::Relaxed), 0, "zeros take no memory");
        disk.pages.store(PAGES_MAX, Ordering::Relaxed);
        assert_eq!(file.write_all_at(b"x", 0).unwrap_err().kind(), io::ErrorKind::StorageFull);
    }
}
