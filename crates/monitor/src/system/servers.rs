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
pub(crate) struct Servers {
    known: HashMap<String, Known>,
    /// The servers that there were routes to, and the first connection to each.
    connected: BTreeMap<String, u64>,
}

/// What is different about the servers that there are routes to.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Found {
    /// The accounts that had connections on servers that are gone.
    pub(crate) left_by: Vec<String>,
    /// Somebody has come.
    pub(crate) has_new: bool,
}

/// What is known of a server.
#[derive(Debug, Default)]
struct Known {
    /// The last number of what it said.
    seq: u64,
    heard: Mono,
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
        self.known.len() + 1
    }

    fn entry(&mut self, id: &str, now: Mono) -> Option<&mut Known> {
        if !self.known.contains_key(id) && self.known.len() >= SERVERS_MAX {
            return None;
        }
        let known = self.known.entry(id.to_owned()).or_default();
        known.heard = now;
        Some(known)
    }

    /// There are routes to these servers now. Whoever has another first connection than before has been away.
    pub(crate) fn compare(&mut self, present: BTreeMap<String, u64>, now: Mono) -> Found {
        let before = std::mem::take(&mut self.connected);
        let differs = |a: &BTreeMap<String, u64>, b: &BTreeMap<String, u64>| {
            a.iter()
                .filter(|(id, first)| b.get(id.as_str()) != Some(*first))
                .map(|(id, _)| id.clone())
                .collect()
        };
        let (gone, new): (Vec<String>, Vec<String>) =
            (differs(&before, &present), differs(&present, &before));
        let left_by = gone.iter().flat_map(|id| self.left(id)).collect();
        for id in &new {
            self.entry(id, now);
        }
        self.connected = present;
        Found { left_by, has_new: !new.is_empty() }
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
        self.known.remove(id).map(|known| known.connections.into_keys().collect()).unwrap_or_default()
    }

    /// Forgets servers that have been silent for too long; the accounts that had connections there.
    pub(crate) fn expire(&mut self, now: Mono) -> Vec<String> {
        let is_silent = |known: &Known| now.since(known.heard) > SILENCE_MAX;
        let is_gone = |id: &String, known: &Known| is_silent(known) && !self.connected.contains_key(id);
        let gone = self.known.iter().filter(|(id, known)| is_gone(id, known)).map(|(id, _)| id.clone());
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
        self.known.values().filter_map(|known| known.connections.get(account)).sum()
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
        servers.compare(routes(&[("A", 7)]), at(0));
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

    fn routes(to: &[(&str, u64)]) -> BTreeMap<String, u64> {
        to.iter().map(|(id, first)| ((*id).to_owned(), *first)).collect()
    }

    #[test]
    fn who_has_come_and_gone_is_seen_however_much_has_happened_meanwhile() {
        let mut servers = Servers::default();
        let compare = |servers: &mut Servers, to: &[(&str, u64)]| {
            let found = servers.compare(routes(to), at(0));
            (found.left_by, found.has_new)
        };
        let none = Vec::<String>::new;
        assert_eq!(compare(&mut servers, &[("A", 1), ("B", 2)]), (none(), true));
        servers.has_connections("A", "X", 2, at(0));
        servers.has_connections("B", "Y", 2, at(0));
        assert_eq!(compare(&mut servers, &[("A", 1), ("B", 2)]), (none(), false), "nothing is new");
        assert_eq!(compare(&mut servers, &[("B", 2)]), (vec!["X".to_owned()], false), "A is gone");
        assert_eq!(compare(&mut servers, &[("B", 9)]), (vec!["Y".to_owned()], true), "B was away");
        assert_eq!((servers.connections("Y"), servers.count()), (0, 2));
        assert_eq!(compare(&mut servers, &[]), (none(), false));
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
