//! Time, randomness and the disk as arguments.
//!
//! Engines take these traits instead of calling the operating system, so that the simulator can run them over a
//! fake clock and a disk that tears, reorders, forgets and lies. Nothing else in the workspace may read a clock
//! or touch a file of the store.

mod clock;
mod descriptors;
mod disk;
mod faulty_disk;
mod names;
mod real_disk;
mod rng;

pub use clock::{Clock, ManualClock, RealClock};
pub use descriptors::{has_descriptors, lacks_descriptors};
pub use disk::{DirEntry, Disk, DiskFile, DiskLock, OpenMode};
pub use faulty_disk::{DamageKind, FaultCounters, FaultyDisk};
pub use names::NameSource;
pub use real_disk::RealDisk;
pub use rng::{OsRng, Rng, SeededRng};
