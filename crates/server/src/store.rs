//! The store of a server that does not run, on the machine's disk, with the keys of a configuration.

use std::path::Path;
use std::sync::Arc;

use linnet_conf::Options;
use linnet_env::RealDisk;
pub use linnet_jetstream::offline::*;

/// Opens the store in a directory.
pub fn open_on_disk(dir: &Path, keys: &Keys, access: Access) -> Result<OfflineStore, OfflineError> {
    OfflineStore::open(Arc::new(RealDisk), dir, keys, access)
}

/// The keys that a configuration has for its store.
pub fn keys_of(options: &Options) -> Keys {
    let encryption = crate::build::encryption(&options.jetstream);
    encryption.map_or_else(Keys::default, |e| Keys { key: Some(e.key), prev_key: e.prev_key })
}
