//! Small files that are replaced as a whole and carry a checksum.

use std::io;
use std::path::Path;

use linnet_env::Disk;

/// What a file says.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Content {
    /// There is none.
    Missing,
    /// It is not what was written, or cannot be read.
    Damaged(String),
    /// What was written.
    Whole(Vec<u8>),
}

/// Reads a file that [`write()`] wrote under the same name of its kind.
pub(super) fn read(disk: &dyn Disk, path: &Path, kind: &[u8; 8]) -> Content {
    let bytes = match disk.read(path) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Content::Missing,
        Err(error) => return Content::Damaged(error.to_string()),
    };
    let content = verified(&bytes, kind).map(|content| Content::Whole(content.to_vec()));
    content.unwrap_or_else(|| Content::Damaged("its checksum does not match".to_owned()))
}

fn verified<'a>(bytes: &'a [u8], kind: &[u8; 8]) -> Option<&'a [u8]> {
    let (sum, content) = bytes.strip_prefix(kind)?.split_first_chunk()?;
    (u32::from_le_bytes(*sum) == crc32fast::hash(content)).then_some(content)
}

/// Replaces a file: after a crash it has the old or the new content.
pub(super) fn write(disk: &dyn Disk, path: &Path, kind: &[u8; 8], content: &[u8]) -> io::Result<()> {
    let sum = crc32fast::hash(content).to_le_bytes();
    disk.replace(path, &[kind, &sum[..], content].concat())
}

#[cfg(test)]
mod tests {
    use linnet_env::FaultyDisk;

    use super::*;

    #[test]
    fn what_was_written_is_read_and_anything_else_is_damage() {
        let disk = FaultyDisk::new(1);
        let dir = Path::new("/store");
        disk.create_dir_all(dir).unwrap();
        let path = dir.join("file");
        let is_damaged = |kind| matches!(read(&disk, &path, kind), Content::Damaged(_));
        assert_eq!(read(&disk, &path, b"a kind 1"), Content::Missing);
        write(&disk, &path, b"a kind 1", b"content").unwrap();
        disk.crash(1);
        assert_eq!(read(&disk, &path, b"a kind 1"), Content::Whole(b"content".to_vec()));
        assert!(is_damaged(b"a kind 2"));
        for bit in 0..8 * (8 + 4 + 7) {
            disk.flip_bit(&path, bit).unwrap();
            assert!(is_damaged(b"a kind 1"), "bit {bit}");
            disk.flip_bit(&path, bit).unwrap();
        }
        disk.truncate(&path, 11).unwrap();
        assert!(is_damaged(b"a kind 1"));
        write(&disk, &path, b"a kind 1", b"content").unwrap();
        disk.make_sector_unreadable(&path, 0).unwrap();
        assert!(is_damaged(b"a kind 1"));
    }
}
