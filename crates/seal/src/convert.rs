//! Brings the files of a store to the present key.

use std::io;
use std::path::Path;
use std::sync::Arc;

use linnet_env::{Disk, DiskFile, OpenMode, Rng};

use crate::disk::SealedDisk;
use crate::file::is_zero;
use crate::header::{Found, Header};
use crate::key::KeyRing;

/// Ends the name of a file that is being converted.
const UNFINISHED: &str = ".sealing";
/// Bytes copied at a time.
const COPY: usize = 1 << 20;
/// What a disk loses at once.
const SECTOR: usize = 512;
/// Stands for what cannot be read: not zeros, which would say that nobody has written there.
const UNREADABLE: u8 = 0xff;

/// What a conversion did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Converted {
    /// Files that were written anew.
    pub files: u64,
    /// Bytes of their content.
    pub bytes: u64,
    /// Files that stay as they are because neither copy of their header is intact.
    pub damaged: u64,
    /// Sectors that could not be read.
    pub unreadable_sectors: u64,
}

/// Encrypts every file below `dir`, except those of these names in `dir` itself, with the ring's present key and cipher.
/// `from_plain` says that files without a header are plain. Each file is replaced by its new form at once, so that after a
/// crash the next call goes on. Nothing else may use the directory meanwhile.
pub fn convert(
    disk: &Arc<dyn Disk>,
    ring: &Arc<KeyRing>,
    rng: &Arc<dyn Rng>,
    dir: &Path,
    except: &[&str],
    from_plain: bool,
) -> io::Result<Converted> {
    let sealed = SealedDisk::new(disk.clone(), ring.clone(), rng.clone());
    let mut run = Run { disk, ring, sealed, from_plain, done: Converted::default() };
    run.directory(dir, except)?;
    Ok(run.done)
}

struct Run<'a> {
    disk: &'a Arc<dyn Disk>,
    ring: &'a KeyRing,
    sealed: SealedDisk,
    from_plain: bool,
    done: Converted,
}

fn at(path: &Path) -> impl Fn(io::Error) -> io::Error {
    let path = path.display().to_string();
    move |error| io::Error::new(error.kind(), format!("{path}: {error}"))
}

impl Run<'_> {
    fn directory(&mut self, dir: &Path, except: &[&str]) -> io::Result<()> {
        let entries = self.disk.list(dir).map_err(at(dir))?;
        let (unfinished, entries): (Vec<_>, Vec<_>) =
            entries.into_iter().partition(|entry| !entry.is_dir && entry.name.ends_with(UNFINISHED));
        for entry in unfinished {
            let path = dir.join(entry.name);
            self.disk.remove_file(&path).map_err(at(&path))?;
        }
        for entry in entries {
            let path = dir.join(&entry.name);
            if entry.is_dir {
                self.directory(&path, &[])?;
            } else if !except.contains(&entry.name.as_str()) {
                self.file(&path).map_err(at(&path))?;
            }
        }
        // Also for what an earlier run renamed and had no time to sync.
        self.disk.sync_dir(dir).map_err(at(dir))
    }

    /// Converts a file if need be.
    fn file(&mut self, path: &Path) -> io::Result<()> {
        let file = self.disk.open(path, OpenMode::Read)?;
        let source: Arc<dyn DiskFile> = match Header::find(&*file, self.ring)? {
            Found::Empty => return Ok(()),
            Found::Header(header)
                if header.key == self.ring.present().0 && header.cipher == self.ring.cipher =>
            {
                return Ok(());
            }
            Found::Header(_) | Found::OtherKey => Arc::new(self.sealed.wrap(file, OpenMode::Read)?),
            Found::Nothing if self.from_plain => file,
            Found::Damaged | Found::Nothing => {
                self.done.damaged += 1;
                return Ok(());
            }
        };
        let mut name = path.as_os_str().to_owned();
        name.push(UNFINISHED);
        let unfinished = Path::new(&name);
        if let Err(error) = self.write(&*source, unfinished) {
            // On a full disk it would keep the space whose lack made this fail.
            let _ = self.disk.remove_file(unfinished);
            return Err(error);
        }
        self.disk.rename(unfinished, path)?;
        self.done.files += 1;
        Ok(())
    }

    fn write(&mut self, from: &dyn DiskFile, path: &Path) -> io::Result<()> {
        let len = from.len()?;
        let to = self.sealed.open(path, OpenMode::Create)?;
        let mut buffer = vec![0; COPY];
        // Zeros are held back: at the end of a file they are space that nobody has written, and stay zeros.
        let (mut offset, mut zeros) = (0, 0_u64);
        while offset < len {
            let step = usize::try_from(len - offset).map_or(COPY, |left| left.min(COPY));
            let piece = buffer.get_mut(..step).unwrap_or_default();
            self.read(from, piece, offset)?;
            let used = piece.len()
                - piece.rchunks(SECTOR).take_while(|s| is_zero(s)).map(<[u8]>::len).sum::<usize>();
            if used > 0 {
                write_zeros(&*to, offset - zeros, zeros)?;
                to.write_all_at(piece.get(..used).unwrap_or_default(), offset)?;
                zeros = 0;
            }
            zeros += (step - used) as u64;
            offset += step as u64;
        }
        if zeros > 0 {
            let start = len - zeros;
            let aligned = start.next_multiple_of(SECTOR as u64).min(len);
            write_zeros(&*to, start, aligned - start)?;
            let whole = (len - aligned) / SECTOR as u64 * SECTOR as u64;
            to.write_zeros_at(usize::try_from(whole).map_err(|_| io::ErrorKind::FileTooLarge)?, aligned)?;
            write_zeros(&*to, aligned + whole, len - aligned - whole)?;
        }
        to.sync_data()?;
        self.done.bytes += len;
        Ok(())
    }

    /// Reads, around what cannot be read.
    fn read(&mut self, from: &dyn DiskFile, out: &mut [u8], offset: u64) -> io::Result<()> {
        if from.read_exact_at(out, offset).is_ok() {
            return Ok(());
        }
        for (at, sector) in (offset..).step_by(SECTOR).zip(out.chunks_mut(SECTOR)) {
            if from.read_exact_at(sector, at).is_err() {
                sector.fill(UNREADABLE);
                self.done.unreadable_sectors += 1;
            }
        }
        Ok(())
    }
}

/// Writes zeros that are content.
fn write_zeros(to: &dyn DiskFile, mut offset: u64, mut len: u64) -> io::Result<()> {
    let zeros = vec![0; COPY];
    while len > 0 {
        let step = usize::try_from(len).map_or(COPY, |left| left.min(COPY));
        to.write_all_at(zeros.get(..step).unwrap_or_default(), offset)?;
        offset += step as u64;
        len -= step as u64;
    }
    Ok(())
}
