//! One thing at a time is done here about the streams of one name: an earlier one that is still being begun would take the
//! place of the one that is there by then.

use std::sync::Arc;

use super::Cluster;

/// Account and name of a stream, or nothing for the catalogue.
pub(super) type Name = (String, String);

/// Something is being done about a name until this is dropped.
pub(super) struct Busy {
    cluster: Arc<Cluster>,
    name: Name,
    is_kept: bool,
}

impl Cluster {
    /// Leave to do something about the streams of a name; `None` if something is being done.
    pub(super) fn take_on(self: &Arc<Self>, account: &str, stream: &str) -> Option<Busy> {
        let name = (account.to_owned(), stream.to_owned());
        let is_free = self.busy.lock().insert(name.clone());
        is_free.then(|| Busy { cluster: self.clone(), name, is_kept: false })
    }
}

impl Busy {
    /// Nothing else is to be done about it while the store is open.
    pub(super) fn keep(mut self) {
        self.is_kept = true;
    }
}

impl Drop for Busy {
    fn drop(&mut self) {
        if !self.is_kept {
            self.cluster.busy.lock().remove(&self.name);
        }
    }
}
