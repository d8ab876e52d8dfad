//! A message on its way to other servers: one line per route, whatever it is wanted for there.

use std::sync::Arc;

use super::route::Route;
use crate::subscription::SubRef;

/// The routes that the message being delivered is to go to.
#[derive(Default)]
pub(crate) struct Outgoing {
    entries: Vec<Entry>,
    used: usize,
}

/// One route and the queue groups that are to be served there.
pub(crate) struct Entry {
    pub(crate) route: Arc<Route>,
    /// Names with spaces between them.
    queues: Vec<u8>,
}

impl Entry {
    /// The names.
    pub(crate) fn queues(&self) -> impl Iterator<Item = &[u8]> {
        self.queues.split(|b| *b == b' ').filter(|name| !name.is_empty())
    }
}

impl Outgoing {
    /// The message is for a subscription on the other side of a route.
    pub(crate) fn add(&mut self, route: &Arc<Route>, sub: &SubRef) {
        let known = self.entries.iter().take(self.used).position(|entry| Arc::ptr_eq(&entry.route, route));
        let at = known.unwrap_or_else(|| self.begin(route));
        if let (Some(queue), Some(entry)) = (&sub.queue, self.entries.get_mut(at)) {
            entry.queues.push(b' ');
            entry.queues.extend_from_slice(queue);
        }
    }

    fn begin(&mut self, route: &Arc<Route>) -> usize {
        let at = self.used;
        self.used += 1;
        match self.entries.get_mut(at) {
            Some(entry) => {
                entry.route = route.clone();
                entry.queues.clear();
            }
            None => self.entries.push(Entry { route: route.clone(), queues: Vec::new() }),
        }
        at
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.used == 0
    }

    /// The routes and what is to be served there.
    pub(crate) fn entries(&self) -> &[Entry] {
        self.entries.get(..self.used).unwrap_or_default()
    }

    /// The message is on its way.
    pub(crate) fn clear(&mut self) {
        self.used = 0;
    }

    /// Lets go of routes that may be gone.
    pub(crate) fn release(&mut self) {
        self.entries.clear();
        self.used = 0;
    }
}
