//! Directory entries: the live tree, the durable tree, and the changes that lie between the two.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Node {
    Dir,
    File(u64),
}

type Tree = BTreeMap<PathBuf, Node>;

#[derive(Clone)]
enum Change {
    Link { path: PathBuf, file: u64 },
    Unlink { path: PathBuf },
    UnlinkTree { path: PathBuf },
    Rename { from: PathBuf, to: PathBuf, moved: Vec<(PathBuf, Node)> },
}

/// A change and the directories whose sync it still waits for.
#[derive(Clone)]
struct Pending {
    change: Change,
    unsynced: Vec<PathBuf>,
}

#[derive(Clone, Default)]
pub(super) struct Names {
    live: Tree,
    stable: Tree,
    pending: Vec<Pending>,
}

fn parent(path: &Path) -> PathBuf {
    path.parent().map_or_else(PathBuf::new, Path::to_path_buf)
}

fn is_root(path: &Path) -> bool {
    path.as_os_str().is_empty() || path.parent().is_none()
}

fn below(tree: &Tree, dir: &Path) -> Vec<(PathBuf, Node)> {
    tree.range(dir.to_path_buf()..)
        .take_while(|(path, _)| path.starts_with(dir))
        .map(|(path, node)| (path.clone(), *node))
        .collect()
}

fn apply(tree: &mut Tree, change: &Change) {
    let has_parent = |tree: &Tree, path: &Path| {
        let dir = parent(path);
        is_root(&dir) || tree.contains_key(&dir)
    };
    match change {
        Change::Link { path, file } => {
            if has_parent(tree, path) {
                tree.insert(path.clone(), Node::File(*file));
            }
        }
        Change::Unlink { path } => {
            tree.remove(path);
        }
        Change::UnlinkTree { path } => {
            for (path, _) in below(tree, path) {
                tree.remove(&path);
            }
        }
        Change::Rename { from, to, moved } => {
            for (path, _) in below(tree, from) {
                tree.remove(&path);
            }
            if has_parent(tree, to) {
                for (path, node) in moved {
                    tree.insert(path.clone(), *node);
                }
            }
        }
    }
}

impl Names {
    pub(super) fn get(&self, path: &Path) -> Option<Node> {
        if is_root(path) { Some(Node::Dir) } else { self.live.get(path).copied() }
    }

    pub(super) fn file(&self, path: &Path) -> io::Result<u64> {
        match self.get(path) {
            Some(Node::File(file)) => Ok(file),
            Some(Node::Dir) => Err(io::ErrorKind::IsADirectory.into()),
            None => Err(io::ErrorKind::NotFound.into()),
        }
    }

    fn need_dir(&self, path: &Path) -> io::Result<()> {
        match self.get(path) {
            Some(Node::Dir) => Ok(()),
            Some(Node::File(_)) => Err(io::ErrorKind::NotADirectory.into()),
            None => Err(io::ErrorKind::NotFound.into()),
        }
    }

    fn change(&mut self, change: Change, unsynced: Vec<PathBuf>) {
        apply(&mut self.live, &change);
        self.pending.push(Pending { change, unsynced });
    }

    pub(super) fn link(&mut self, path: &Path, file: u64) -> io::Result<()> {
        self.need_dir(&parent(path))?;
        if self.get(path).is_some() {
            return Err(io::ErrorKind::AlreadyExists.into());
        }
        self.change(Change::Link { path: path.to_path_buf(), file }, vec![parent(path)]);
        Ok(())
    }

    pub(super) fn unlink(&mut self, path: &Path) -> io::Result<()> {
        self.file(path)?;
        self.change(Change::Unlink { path: path.to_path_buf() }, vec![parent(path)]);
        Ok(())
    }

    pub(super) fn unlink_tree(&mut self, path: &Path) -> io::Result<()> {
        self.need_dir(path)?;
        self.change(Change::UnlinkTree { path: path.to_path_buf() }, vec![parent(path)]);
        Ok(())
    }

    pub(super) fn rename(&mut self, from: &Path, to: &Path) -> io::Result<()> {
        let node = self.get(from).ok_or(io::ErrorKind::NotFound)?;
        self.need_dir(&parent(to))?;
        match (node, self.get(to)) {
            (_, None) | (Node::File(_), Some(Node::File(_))) => {}
            (Node::File(_), Some(Node::Dir)) => return Err(io::ErrorKind::IsADirectory.into()),
            (Node::Dir, Some(_)) => return Err(io::ErrorKind::AlreadyExists.into()),
        }
        let moved = below(&self.live, from)
            .into_iter()
            .filter_map(|(path, node)| {
                let rest = path.strip_prefix(from).ok()?;
                Some((if rest.as_os_str().is_empty() { to.to_path_buf() } else { to.join(rest) }, node))
            })
            .collect();
        let mut unsynced = vec![parent(from)];
        if parent(to) != unsynced[0] {
            unsynced.push(parent(to));
        }
        self.change(Change::Rename { from: from.to_path_buf(), to: to.to_path_buf(), moved }, unsynced);
        Ok(())
    }

    /// Creates a directory whose entry is durable at once, as [`crate::Disk::create_dir_all`] promises.
    pub(super) fn create_dir_all(&mut self, path: &Path) -> io::Result<()> {
        if is_root(path) {
            return Ok(());
        }
        match self.get(path) {
            Some(Node::Dir) => {}
            Some(Node::File(_)) => return Err(io::ErrorKind::AlreadyExists.into()),
            None => {
                self.create_dir_all(&parent(path))?;
                self.sync_dir(&parent(path));
                self.live.insert(path.to_path_buf(), Node::Dir);
                self.stable.insert(path.to_path_buf(), Node::Dir);
            }
        }
        Ok(())
    }

    pub(super) fn sync_dir(&mut self, dir: &Path) {
        for pending in &mut self.pending {
            pending.unsynced.retain(|waiting| waiting != dir);
        }
        let stable = &mut self.stable;
        self.pending.retain(|pending| {
            if pending.unsynced.is_empty() {
                apply(stable, &pending.change);
            }
            !pending.unsynced.is_empty()
        });
    }

    /// Power loss: every pending change survives or not, on its own. Returns how many did not.
    pub(super) fn crash(&mut self, coin: &mut dyn FnMut() -> bool) -> u64 {
        let mut lost = 0;
        for pending in std::mem::take(&mut self.pending) {
            if coin() {
                apply(&mut self.stable, &pending.change);
            } else {
                lost += 1;
            }
        }
        self.live = self.stable.clone();
        lost
    }

    /// Direct children of a directory.
    pub(super) fn children(&self, dir: &Path) -> io::Result<Vec<(PathBuf, Node)>> {
        self.need_dir(dir)?;
        Ok(below(&self.live, dir).into_iter().filter(|(path, _)| path.parent() == Some(dir)).collect())
    }

    /// Every file below a directory.
    pub(super) fn files_below(&self, dir: &Path) -> Vec<(PathBuf, u64)> {
        below(&self.live, dir)
            .into_iter()
            .filter_map(|(path, node)| match node {
                Node::File(file) => Some((path, file)),
                Node::Dir => None,
            })
            .collect()
    }

    /// True if some name, live or durable or in between, leads to the file.
    pub(super) fn refers_to(&self, file: u64) -> bool {
        let node = Node::File(file);
        self.live.values().chain(self.stable.values()).any(|n| *n == node)
            || self.pending.iter().any(|p| match &p.change {
                Change::Link { file: linked, .. } => *linked == file,
                Change::Rename { moved, .. } => moved.iter().any(|(_, n)| *n == node),
                _ => false,
            })
    }

    /// Takes a name away from the live and the durable tree, as damage does.
    pub(super) fn lose(&mut self, path: &Path) -> bool {
        self.stable.remove(path);
        self.pending.retain(|p| !matches!(&p.change, Change::Link { path: linked, .. } if linked == path));
        self.live.remove(path).is_some()
    }
}
