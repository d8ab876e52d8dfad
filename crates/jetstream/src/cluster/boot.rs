use std::io;
use std::path::Path;

use linnet_env::Disk;
use linnet_ids::Wall;

use super::checked_file::{self, Content};

const KIND: &[u8; 8] = b"LDSBOOT1";
const FILE: &str = "boot";

/// Draws the number of this opening of a store, larger than that of any before: other servers tell by it which of what
/// they hear is of an earlier one. It is durable when this returns.
pub(crate) fn next_boot(disk: &dyn Disk, dir: &Path, wall: Wall) -> io::Result<u64> {
    let path = dir.join(FILE);
    let previous = match checked_file::read(disk, &path, KIND) {
        Content::Missing => 0,
        Content::Damaged(why) => {
            // The clock is later than what was there before, unless it was set back.
            tracing::warn!("{}: {why}; the time is the number of this start", path.display());
            0
        }
        Content::Whole(bytes) => bytes.try_into().map_or(0, u64::from_le_bytes),
    };
    let boot = previous.saturating_add(1).max(u64::try_from(wall.0).unwrap_or(0));
    checked_file::write(disk, &path, KIND, &boot.to_le_bytes())?;
    Ok(boot)
}

#[cfg(test)]
mod tests {
    use linnet_env::FaultyDisk;

    use super::*;

    #[test]
    fn every_opening_has_a_larger_number_whatever_the_clock_says() {
        let disk = FaultyDisk::new(1);
        let dir = Path::new("/store");
        disk.create_dir_all(dir).unwrap();
        let next = |wall| next_boot(&disk, dir, Wall(wall)).unwrap();
        assert_eq!(next(1000), 1000);
        disk.crash(1);
        assert_eq!(next(1000), 1001);
        assert_eq!(next(5), 1002, "the clock was set back");
        assert_eq!(next(-5), 1003);
        disk.flip_bit(&dir.join(FILE), 100).unwrap();
        assert_eq!(next(2000), 2000, "a damaged number does not keep the server from starting");
        disk.fail_sync_after(0);
        assert!(next_boot(&disk, dir, Wall(3000)).is_err(), "a number that is not durable is none");
    }
}
