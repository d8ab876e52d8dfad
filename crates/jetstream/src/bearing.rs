//! How the replica of a stream is doing, judged without asking it.

use std::time::Duration;

use linnet_ids::{LogIndex, Mono, PeerId};
use linnet_raft::Bearing;

/// What was committed so long ago should be applied.
const BEHIND_AFTER: Duration = Duration::from_secs(1);

/// Where a replica stands. Its pump publishes it whenever it changes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct ReplicaState {
    /// Whom it takes for the leader.
    pub(crate) leader: Option<PeerId>,
    /// That is itself.
    pub(crate) is_leader: bool,
    /// Since when it knows none.
    pub(crate) leaderless_since: Option<Mono>,
    /// It has forgotten what it knew and does not count.
    is_amnesiac: bool,
    /// It has something of its group.
    holds: bool,
    /// Since when it lacks something that was committed then.
    behind_since: Option<Mono>,
    /// It had everything under some leader, since this process began.
    was_current: bool,
}

/// Follows a replica from turn to turn.
#[derive(Debug, Default)]
pub(crate) struct Follower {
    state: ReplicaState,
    /// What was committed at `behind_since`.
    wanted: LogIndex,
}

impl Follower {
    /// Looks at the replica. The state, if it changed.
    pub(crate) fn look(&mut self, bearing: &Bearing, now: Mono) -> Option<ReplicaState> {
        let before = self.state;
        let state = &mut self.state;
        state.leader = bearing.leader;
        state.is_leader = bearing.is_leader;
        state.is_amnesiac = bearing.is_amnesiac;
        state.holds = bearing.last > 0;
        state.leaderless_since = match bearing.leader {
            Some(_) => None,
            None => before.leaderless_since.or(Some(now)),
        };
        let has_all = bearing.committed > 0 && bearing.applied >= bearing.committed;
        if bearing.is_leader || (has_all && !bearing.is_amnesiac) {
            state.behind_since = None;
            state.was_current |= bearing.leader.is_some();
        } else if before.behind_since.is_none() || (self.wanted > 0 && bearing.applied >= self.wanted) {
            state.behind_since = Some(now);
            self.wanted = bearing.committed;
        }
        (self.state != before).then_some(self.state)
    }
}

impl ReplicaState {
    /// It counts for nothing in its group, and holds something.
    pub(crate) fn is_relic(&self) -> bool {
        self.is_amnesiac && self.holds
    }

    /// What is wrong with it (jetstream-clustering 2.3), if anything is. A replica without a leader that has all it
    /// knows of is well.
    pub(crate) fn problem(&self, now: Mono, hears: impl FnOnce(PeerId) -> bool) -> Option<&'static str> {
        let is_behind = self.is_amnesiac
            || self.behind_since.is_some_and(|since| !self.was_current || now.since(since) > BEHIND_AFTER);
        match self.leader {
            None if is_behind || !self.was_current => Some("group node unhealthy"),
            None => None,
            Some(_) if is_behind => Some("stream catching up"),
            Some(leader) if !self.is_leader && !hears(leader) => Some("group node unhealthy"),
            Some(_) => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const UNHEALTHY: Option<&str> = Some("group node unhealthy");
    const CATCHING_UP: Option<&str> = Some("stream catching up");

    fn at(millis: u64) -> Mono {
        Mono(millis * 1_000_000)
    }

    /// Applied and committed under a leader, or under none.
    fn bearing(leader: Option<&str>, applied: LogIndex, committed: LogIndex) -> Bearing {
        let leader = leader.map(PeerId::of_name);
        Bearing { leader, is_leader: false, is_amnesiac: false, applied, last: applied, committed }
    }

    /// What a replica that went through these is said to be, at the time of the last.
    fn judged(steps: &[(u64, Bearing)]) -> Option<&'static str> {
        let mut follower = Follower::default();
        for (millis, bearing) in steps {
            follower.look(bearing, at(*millis));
        }
        follower.state.problem(at(steps.last().unwrap().0), |peer| peer == PeerId::of_name("n1"))
    }

    #[test]
    fn replicas_are_judged_by_what_they_lack_and_for_how_long() {
        let (led, alone) = (|a, c| bearing(Some("n1"), a, c), |a, c| bearing(None, a, c));
        type Row<'a> = (&'a str, &'a [(u64, Bearing)], Option<&'a str>);
        let table: &[Row<'_>] = &[
            ("it has everything", &[(0, led(5, 5))], None),
            ("nothing is committed that it knows of", &[(0, led(0, 0))], CATCHING_UP),
            ("it begins behind", &[(0, led(1, 5))], CATCHING_UP),
            ("it came in late and has caught up", &[(0, led(1, 5)), (10, led(5, 5))], None),
            ("entries are on their way", &[(0, led(5, 5)), (10, led(5, 9)), (900, led(8, 20))], None),
            ("they do not come", &[(0, led(5, 5)), (10, led(5, 9)), (1100, led(8, 20))], CATCHING_UP),
            (
                "it is always a little behind",
                &[(0, led(5, 5)), (10, led(5, 9)), (900, led(9, 20)), (1800, led(20, 30))],
                None,
            ),
            ("the leader cannot be heard", &[(0, bearing(Some("n2"), 5, 5))], UNHEALTHY),
            ("it has met no leader yet", &[(0, alone(5, 5))], UNHEALTHY),
            ("its leader is lost", &[(0, led(5, 5)), (60_000, alone(5, 5))], None),
            ("the same, and it lacks something", &[(0, led(5, 9)), (60_000, alone(5, 9))], UNHEALTHY),
            ("it leads", &[(0, Bearing { is_leader: true, ..bearing(Some("n2"), 0, 5) })], None),
            ("it has forgotten", &[(0, Bearing { is_amnesiac: true, ..led(5, 5) })], CATCHING_UP),
        ];
        for (what, steps, expected) in table {
            assert_eq!(judged(steps), *expected, "{what}");
        }
    }

    #[test]
    fn only_changes_are_told() {
        let mut follower = Follower::default();
        assert!(follower.look(&bearing(Some("n1"), 5, 5), at(0)).is_some());
        assert_eq!(follower.look(&bearing(Some("n1"), 6, 6), at(1)), None);
        let alone = follower.look(&bearing(None, 6, 6), at(2)).unwrap();
        assert_eq!(alone.leaderless_since, Some(at(2)));
        assert_eq!(follower.look(&bearing(None, 6, 6), at(3)), None);
    }
}
