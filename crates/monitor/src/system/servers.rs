//! The other servers of the system, as far as they have been heard of.

use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use linnet_ids::Mono;

/// A server that says nothing for so long is forgotten, unless there is a route to it.
const SILENCE_MAX: Duration = Duration::from_secs(150);
/// Servers remembered at a time; those above it are not counted.
const SERVERS_MAX: usize = 4096;
/// Accounts whose connections on one server are remembered.
const ACCOUNTS_MAX: usize = 1 << 16;

/// Who is there.
#[derive(Debug, Default)]
pub(crate) struct Servers(HashMap<String, Known>);

/// What is known of a server.
#[derive(Debug, Default)]
struct Known {
    /// The last number of what it said.
    seq: u64,
    heard: Mono,
    has_route: bool,
    /// Its client connections by account.
    connections: BTreeMap<String, usize>,
}

/// What a message of a server means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Heard {
    /// The server was not known.
    New,
    Known,
    /// An earlier message has been overtaken.
    OutOfOrder,
}

impl Servers {
    /// All servers, this one included.
    pub(crate) fn count(&self) -> usize {
        self.0.len() + 1
    }

    fn entry(&mut self, id: &str, now: Mono) -> Option<&mut Known> {
        if !self.0.contains_key(id) && self.0.len() >= SERVERS_MAX {
            return None;
        }
        let known = self.0.entry(id.to_owned()).or_default();
        known.heard = now;
        Some(known)
    }

    /// A route to the server carries messages.
    pub(crate) fn joined(&mut self, id: &str, now: Mono) {
        if let Some(known) = self.entry(id, now) {
            known.has_route = true;
        }
    }

    /// The server tells of itself, under a number of its own.
    pub(crate) fn heard(&mut self, id: &str, seq: u64, now: Mono) -> Heard {
        let Some(known) = self.entry(id, now) else { return Heard::Known };
        let before = known.seq;
        known.seq = seq.max(before);
        match before {
            0 => Heard::New,
            before if seq <= before => Heard::OutOfOrder,
            _ => Heard::Known,
        }
    }

    /// The server is gone; the accounts that had connections there.
    pub(crate) fn left(&mut self, id: &str) -> Vec<String> {
        self.0.remove(id).map(|known| known.connections.into_keys().collect()).unwrap_or_default()
    }

    /// Forgets servers that have been silent for too long; the accounts that had connections there.
    pub(crate) fn expire(&mut self, now: Mono) -> Vec<String> {
        let is_gone = |known: &Known| !known.has_route && now.since(known.heard) > SILENCE_MAX;
        let gone = self.0.iter().filter(|(_, known)| is_gone(known)).map(|(id, _)| id.clone());
        let gone: Vec<String> = gone.collect();
        gone.iter().flat_map(|id| self.left(id)).collect()
    }

    /// An account has so many client connections on the server.
    pub(crate) fn has_connections(&mut self, id: &str, account: &str, count: usize, now: Mono) {
        let Some(known) = self.entry(id, now) else { return };
        if count == 0 {
            known.connections.remove(account);
        } else if known.connections.len() < ACCOUNTS_MAX || known.connections.contains_key(account) {
            known.connections.insert(account.to_owned(), count);
        }
    }

    /// Client connections of an account on the other servers.
    pub(crate) fn connections(&self, account: &str) -> usize {
        self.0.values().filter_map(|known| known.connections.get(account)).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: u64) -> Mono {
        Mono(seconds * 1_000_000_000)
    }

    #[test]
    fn servers_count_from_first_word_or_route_until_they_leave_or_fall_silent() {
        let mut servers = Servers::default();
        assert_eq!(servers.count(), 1);
        servers.joined("A", at(0));
        assert_eq!(servers.heard("A", 5, at(1)), Heard::New);
        assert_eq!(servers.heard("A", 5, at(2)), Heard::OutOfOrder);
        assert_eq!(servers.heard("A", 6, at(3)), Heard::Known);
        assert_eq!(servers.heard("B", 1, at(3)), Heard::New);
        assert_eq!(servers.count(), 3);
        servers.expire(at(3 + 150));
        assert_eq!(servers.count(), 3);
        servers.expire(at(3 + 151));
        assert_eq!(servers.count(), 2, "A has a route");
        servers.left("A");
        assert_eq!(servers.count(), 1);
    }

    #[test]
    fn connections_of_an_account_add_up_over_the_servers_that_are_there() {
        let mut servers = Servers::default();
        servers.has_connections("A", "X", 2, at(0));
        servers.has_connections("B", "X", 3, at(0));
        servers.has_connections("B", "Y", 1, at(0));
        assert_eq!((servers.connections("X"), servers.connections("Y")), (5, 1));
        servers.has_connections("B", "Y", 0, at(0));
        assert_eq!(servers.connections("Y"), 0);
        assert_eq!(servers.left("B"), ["X"]);
        assert_eq!(servers.connections("X"), 2);
    }
}
