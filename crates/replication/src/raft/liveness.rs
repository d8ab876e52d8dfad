//! Which servers can be heard. Tracked per pair of servers, for all groups at once, so that an idle group costs
//! nothing.

use std::collections::BTreeMap;
use std::time::Duration;

use linnet_ids::{Mono, PeerId};
use linnet_raft::MEMBERS_MAX;

use super::frame::Beat;

/// How often servers that share a group tell each other that they are there.
pub const BEAT_EVERY: Duration = Duration::from_millis(250);
/// Silence after which a server is suspected to be gone.
pub const SUSPECT_AFTER: Duration = Duration::from_secs(1);
/// A lost connection that is not there again by then counts as silence.
const RECONNECT_WITHIN: Duration = Duration::from_millis(100);
/// A write of the log that is not done by then makes a server useless as a leader.
const STUCK_DISK_AFTER: Duration = Duration::from_secs(3);

/// What changed about a server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PeerChange {
    /// It can be heard, and hears this server.
    Reachable(PeerId),
    /// It cannot be heard, or does not hear this server.
    Unreachable(PeerId),
    /// It is another process than before.
    Restarted(PeerId),
    /// What was sent to it or by it may be lost.
    Lossy(PeerId),
}

struct Peer {
    boot: u64,
    /// When it sent its newest beat, by its own clock.
    sent: u64,
    heard: Mono,
    /// The newest moment of this server that the peer had heard of.
    heard_us: Option<Mono>,
    lost_connection: Option<Mono>,
    is_stuck: bool,
    is_reachable: bool,
}

/// What this server knows of the others.
pub struct Liveness {
    boot: u64,
    peers: BTreeMap<PeerId, Peer>,
    next_beat: Mono,
    /// When everybody was judged last.
    judged: Mono,
}

impl Liveness {
    /// For a process with this number, which no earlier one of the server had.
    pub fn new(boot: u64, now: Mono) -> Self {
        Self { boot, peers: BTreeMap::new(), next_beat: now, judged: now }
    }

    /// The number of this process.
    pub fn boot(&self) -> u64 {
        self.boot
    }

    /// The number that a server's process told last; 0 if it was never heard.
    pub fn boot_of(&self, peer: PeerId) -> u64 {
        self.peers.get(&peer).map_or(0, |p| p.boot)
    }

    /// A server said something. Frames of an earlier process of it, and of more servers than a group can have, are to be
    /// dropped: then `None`.
    pub fn on_frame(&mut self, now: Mono, peer: PeerId, boot: u64) -> Option<Vec<PeerChange>> {
        // A process that did not run for a while may be led by others since: it gives up what it led before it believes
        // what was said to the leader that it was.
        let mut changes = match now.since(self.judged) > BEAT_EVERY {
            true => self.judge_all(now),
            false => Vec::new(),
        };
        let is_full = self.peers.len() >= MEMBERS_MAX;
        match self.peers.get_mut(&peer) {
            Some(known) if boot < known.boot => return None,
            Some(known) => {
                if boot > known.boot {
                    known.boot = boot;
                    known.sent = 0;
                    known.heard_us = None;
                    known.is_stuck = false;
                    changes.push(PeerChange::Restarted(peer));
                }
                known.heard = now;
                known.lost_connection = None;
            }
            None if is_full => return None,
            None => {
                let fresh = Peer {
                    boot,
                    sent: 0,
                    heard: now,
                    heard_us: None,
                    lost_connection: None,
                    is_stuck: false,
                    is_reachable: false,
                };
                self.peers.insert(peer, fresh);
            }
        }
        changes.extend(self.judge(now, peer));
        Some(changes)
    }

    /// Takes what a server says of itself and of this one. [`Liveness::on_frame`] first.
    pub fn on_beat(&mut self, now: Mono, peer: PeerId, beat: &Beat) -> Option<PeerChange> {
        let known = self.peers.get_mut(&peer)?;
        // Only what was sent by this process tells that it is heard.
        if beat.echo_boot == self.boot {
            known.heard_us = known.heard_us.max(Some(Mono(beat.echo)));
        }
        known.sent = known.sent.max(beat.sent);
        known.is_stuck = beat.oldest_write >= STUCK_DISK_AFTER;
        self.judge(now, peer)
    }

    /// The connection to a server was lost.
    pub fn on_disconnected(&mut self, now: Mono, peer: PeerId) -> Option<PeerChange> {
        let known = self.peers.get_mut(&peer)?;
        known.lost_connection.get_or_insert(now);
        Some(PeerChange::Lossy(peer))
    }

    /// A server said that it stops.
    pub fn on_stopping(&mut self, now: Mono, peer: PeerId) -> Option<PeerChange> {
        let known = self.peers.get_mut(&peer)?;
        known.heard_us = None;
        self.judge(now, peer)
    }

    fn is_reachable(known: &Peer, now: Mono) -> bool {
        let recent = |at: Mono| now.since(at) < SUSPECT_AFTER;
        let is_connected = known.lost_connection.is_none_or(|at| now.since(at) < RECONNECT_WITHIN);
        is_connected && recent(known.heard) && known.heard_us.is_some_and(recent) && !known.is_stuck
    }

    fn judge(&mut self, now: Mono, peer: PeerId) -> Option<PeerChange> {
        let known = self.peers.get_mut(&peer)?;
        let is_reachable = Self::is_reachable(known, now);
        if is_reachable == known.is_reachable {
            return None;
        }
        known.is_reachable = is_reachable;
        Some(if is_reachable { PeerChange::Reachable(peer) } else { PeerChange::Unreachable(peer) })
    }

    fn judge_all(&mut self, now: Mono) -> Vec<PeerChange> {
        self.judged = now;
        let peers: Vec<PeerId> = self.peers.keys().copied().collect();
        peers.into_iter().filter_map(|peer| self.judge(now, peer)).collect()
    }

    /// Looks at the clock: who has been silent for too long, and whether beats are due.
    pub fn on_timeout(&mut self, now: Mono) -> (Vec<PeerChange>, bool) {
        let changes = self.judge_all(now);
        let is_due = now >= self.next_beat;
        if is_due {
            self.next_beat = now + BEAT_EVERY;
        }
        (changes, is_due)
    }

    /// When to look at the clock next.
    pub fn next_timeout(&self) -> Mono {
        let reachable = self.peers.values().filter(|p| p.is_reachable);
        let silent = reachable.flat_map(|p| {
            let heard = [Some(p.heard), p.heard_us].into_iter().flatten().map(|at| at + SUSPECT_AFTER);
            heard.chain(p.lost_connection.map(|at| at + RECONNECT_WITHIN))
        });
        silent.min().map_or(self.next_beat, |at| at.min(self.next_beat))
    }

    /// What to tell a server. `oldest_write`: age of the oldest write of this server's log that is not done.
    pub fn beat_for(&self, now: Mono, peer: PeerId, oldest_write: Duration) -> Beat {
        let (echo_boot, echo) = self.peers.get(&peer).map_or((0, 0), |p| (p.boot, p.sent));
        Beat { sent: now.0, echo_boot, echo, oldest_write }
    }

    /// True if a server can be heard and hears this one.
    pub fn hears(&self, peer: PeerId) -> bool {
        self.peers.get(&peer).is_some_and(|p| p.is_reachable)
    }

    /// How long a server has been silent; `None` if it was never heard.
    pub fn silence(&self, now: Mono, peer: PeerId) -> Option<Duration> {
        self.peers.get(&peer).map(|p| now.since(p.heard))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn peer() -> PeerId {
        PeerId::of_name("other")
    }

    fn at(millis: u64) -> Mono {
        Mono(1) + Duration::from_millis(millis)
    }

    /// A beat of the other server's process, which heard what this one sent at `heard`.
    fn beat(sent: u64, heard: u64) -> Beat {
        Beat { sent: at(sent).0, echo_boot: 7, echo: at(heard).0, oldest_write: Duration::ZERO }
    }

    fn hear(liveness: &mut Liveness, now: u64, beat: &Beat) -> Option<Vec<PeerChange>> {
        let mut changes = liveness.on_frame(at(now), peer(), 3)?;
        changes.extend(liveness.on_beat(at(now), peer(), beat));
        Some(changes)
    }

    fn reachable() -> Liveness {
        let mut liveness = Liveness::new(7, at(0));
        assert_eq!(hear(&mut liveness, 10, &beat(10, 5)), Some(vec![PeerChange::Reachable(peer())]));
        liveness
    }

    #[test]
    fn a_server_is_reachable_once_it_is_heard_and_hears() {
        let mut liveness = Liveness::new(7, at(0));
        let deaf = Beat { echo_boot: 0, echo: 0, ..beat(10, 0) };
        assert_eq!(hear(&mut liveness, 10, &deaf), Some(vec![]), "it has not heard this server");
        let of_before = Beat { echo_boot: 6, ..beat(20, 19) };
        assert_eq!(hear(&mut liveness, 20, &of_before), Some(vec![]), "it has heard an earlier process only");
        assert_eq!(hear(&mut liveness, 30, &beat(30, 20)), Some(vec![PeerChange::Reachable(peer())]));
        assert!(liveness.hears(peer()) && liveness.boot_of(peer()) == 3);
    }

    #[test]
    fn silence_in_either_direction_makes_it_unreachable() {
        let mut liveness = reachable();
        assert_eq!(liveness.on_timeout(at(1004)).0, []);
        assert_eq!(liveness.on_timeout(at(1005)).0, [PeerChange::Unreachable(peer())]);
        let mut liveness = reachable();
        assert_eq!(hear(&mut liveness, 900, &beat(900, 5)), Some(vec![]));
        assert_eq!(hear(&mut liveness, 1100, &beat(1100, 5)), Some(vec![PeerChange::Unreachable(peer())]));
        assert!(liveness.next_timeout() <= at(1100) + BEAT_EVERY);
    }

    #[test]
    fn after_a_pause_everybody_is_out_of_reach_before_anybody_is_believed() {
        let mut liveness = reachable();
        let other = PeerId::of_name("another");
        let changes = liveness.on_frame(at(20), other, 9);
        assert_eq!(changes, Some(vec![]));
        assert_eq!(liveness.on_beat(at(20), other, &beat(20, 15)), Some(PeerChange::Reachable(other)));
        liveness.on_timeout(at(250));
        let mut changes = liveness.on_frame(at(3000), other, 9).unwrap();
        changes.sort_by_key(|change| *change != PeerChange::Unreachable(peer()));
        assert_eq!(changes, [PeerChange::Unreachable(peer()), PeerChange::Unreachable(other)]);
        assert_eq!(
            liveness.on_frame(at(3001), peer(), 3),
            Some(vec![]),
            "it has not heard this server since"
        );
    }

    #[test]
    fn another_process_is_noticed_and_what_the_earlier_one_sent_is_dropped() {
        let mut liveness = reachable();
        let changes = liveness.on_frame(at(20), peer(), 4);
        assert_eq!(changes, Some(vec![PeerChange::Restarted(peer()), PeerChange::Unreachable(peer())]));
        assert_eq!(liveness.on_frame(at(30), peer(), 3), None);
        assert_eq!(liveness.on_beat(at(40), peer(), &beat(1, 35)), Some(PeerChange::Reachable(peer())));
    }

    #[test]
    fn a_lost_connection_has_a_moment_to_come_back() {
        let mut liveness = reachable();
        assert_eq!(liveness.on_disconnected(at(50), peer()), Some(PeerChange::Lossy(peer())));
        assert_eq!(liveness.on_timeout(at(149)).0, []);
        assert_eq!(hear(&mut liveness, 149, &beat(149, 140)), Some(vec![]), "it came back");
        assert_eq!(liveness.on_disconnected(at(200), peer()), Some(PeerChange::Lossy(peer())));
        assert_eq!(liveness.on_timeout(at(300)).0, [PeerChange::Unreachable(peer())]);
    }

    #[test]
    fn a_server_whose_disk_hangs_leads_nothing() {
        let mut liveness = reachable();
        let stuck = Beat { oldest_write: STUCK_DISK_AFTER, ..beat(20, 15) };
        assert_eq!(hear(&mut liveness, 20, &stuck), Some(vec![PeerChange::Unreachable(peer())]));
        assert_eq!(hear(&mut liveness, 30, &beat(30, 25)), Some(vec![PeerChange::Reachable(peer())]));
    }

    #[test]
    fn no_more_servers_are_remembered_than_a_group_can_have() {
        let mut liveness = Liveness::new(7, at(0));
        for n in 0..MEMBERS_MAX {
            assert!(liveness.on_frame(at(1), PeerId::of_name(&n.to_string()), 1).is_some());
        }
        assert_eq!(liveness.on_frame(at(2), peer(), 3), None);
        assert!(liveness.on_frame(at(2), PeerId::of_name("5"), 1).is_some());
    }

    #[test]
    fn who_stops_says_so() {
        let mut liveness = reachable();
        assert_eq!(liveness.on_stopping(at(20), peer()), Some(PeerChange::Unreachable(peer())));
    }

    #[test]
    fn beats_tell_what_was_heard_last() {
        let mut liveness = reachable();
        let told = liveness.beat_for(at(60), peer(), Duration::from_millis(5));
        assert_eq!((told.sent, told.echo_boot, told.echo), (at(60).0, 3, at(10).0));
        assert!(liveness.on_timeout(at(60)).1, "a beat is due");
        assert!(!liveness.on_timeout(at(200)).1 && liveness.on_timeout(at(310)).1);
    }
}
