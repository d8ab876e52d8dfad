//! Calls that wait for other servers do so in tasks of their own, so that a stream without a leader holds up nobody but
//! those who ask for it.

use std::collections::HashMap;
use std::sync::Arc;

use linnet_jsapi::subjects::ApiRequest;
use parking_lot::Mutex;

/// Calls of one account that wait at a time.
const OF_ACCOUNT_MAX: usize = 256;
/// Calls that wait at a time.
const ALL_MAX: usize = 1024;

/// The calls that wait, by account.
#[derive(Default)]
pub(super) struct Waiting(Mutex<HashMap<String, usize>>);

/// The place of a call that waits.
pub(super) struct Place {
    of: Arc<Waiting>,
    account: String,
}

impl Waiting {
    /// A place for a call; `None` if too many wait.
    pub(super) fn enter(self: &Arc<Self>, account: &str) -> Option<Place> {
        let mut counts = self.0.lock();
        if counts.values().sum::<usize>() >= ALL_MAX {
            return None;
        }
        let count = counts.entry(account.to_owned()).or_default();
        if *count >= OF_ACCOUNT_MAX {
            return None;
        }
        *count += 1;
        Some(Place { of: self.clone(), account: account.to_owned() })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut counts = self.of.0.lock();
        if let Some(count) = counts.get_mut(&self.account) {
            *count -= 1;
            if *count == 0 {
                counts.remove(&self.account);
            }
        }
    }
}

/// True for what a server of a cluster may ask others about.
pub(super) fn may_wait(api: &ApiRequest<'_>) -> bool {
    matches!(
        api,
        ApiRequest::AccountInfo
            | ApiRequest::StreamCreate { .. }
            | ApiRequest::StreamUpdate { .. }
            | ApiRequest::StreamDelete { .. }
            | ApiRequest::StreamList
            | ApiRequest::StreamRestore { .. }
            | ApiRequest::StreamPeerRemove { .. }
            | ApiRequest::StreamPeerEvacuate { .. }
            | ApiRequest::StreamCancelMove { .. }
            | ApiRequest::ServerRemove
            | ApiRequest::ServerEvacuate
            | ApiRequest::AccountStreamMove { .. }
            | ApiRequest::AccountStreamCancelMove { .. }
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_account_that_waits_a_lot_leaves_room_for_others() {
        let waiting = Arc::new(Waiting::default());
        let mut of_a: Vec<Place> = (0..OF_ACCOUNT_MAX).map(|_| waiting.enter("A").unwrap()).collect();
        assert!(waiting.enter("A").is_none());
        drop(waiting.enter("B").unwrap());
        of_a.pop();
        of_a.push(waiting.enter("A").unwrap());
        for account in ["B", "C", "D"] {
            of_a.extend((0..OF_ACCOUNT_MAX).map(|_| waiting.enter(account).unwrap()));
        }
        assert!(waiting.enter("E").is_none(), "there is a bound for all");
        drop(of_a);
        assert!(waiting.0.lock().is_empty(), "nothing is kept of who does not wait");
    }
}
