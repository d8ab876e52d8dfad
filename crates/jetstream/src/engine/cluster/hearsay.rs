//! Whether another server knows a leader of the catalogue's group, or of a stream. One that hears of none itself does not
//! say that there is none while others know better: every client hears every server.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use linnet_ids::{GroupId, Mono};

use super::asks::{ASK_LED, ASK_LED_STREAMS, gather};
use super::{Cluster, Engine, LEADERLESS_AFTER};
use crate::catalogue::StreamHandle;

/// How often others are asked.
const ASK_EVERY: Duration = Duration::from_secs(1);
/// How long they may take.
const ANSWER_WITHIN: Duration = Duration::from_secs(1);

/// Who has been without a leader for so long would have heard of one.
const CERTAIN_AFTER: Duration = Duration::from_secs(3);
/// Streams that others are asked about at once.
const STREAMS_AT_ONCE: usize = 1000;

/// What others said of streams that have had no leader here for long.
#[derive(Default)]
pub(super) struct StreamHearsay {
    asked: Option<Mono>,
    /// Nobody who can be heard knew a leader of these.
    leaderless: HashSet<GroupId>,
}

/// What others said.
#[derive(Default)]
pub(super) struct Hearsay {
    asked: Option<Mono>,
    /// Somebody knows a leader, or nobody was asked since there is none here.
    may_be_led: bool,
    has_answer: bool,
}

impl Hearsay {
    /// True if it is certain that nobody who can be heard knows a leader.
    fn is_leaderless(&self) -> bool {
        self.has_answer && !self.may_be_led
    }
}

/// Asks the others as long as this server has no leader.
pub(super) fn look_after(cluster: &Arc<Cluster>) {
    let now = cluster.link.clock().mono();
    let mut hearsay = cluster.hearsay.lock();
    if cluster.leaderless_for().is_none_or(|elapsed| elapsed + ASK_EVERY < LEADERLESS_AFTER) {
        *hearsay = Hearsay::default();
        return;
    }
    if hearsay.asked.is_some_and(|asked| now.since(asked) < ASK_EVERY) {
        return;
    }
    hearsay.asked = Some(now);
    drop(hearsay);
    let cluster = cluster.clone();
    tokio::spawn(async move {
        let answers = gather::<bool>(&cluster, ASK_LED, ANSWER_WITHIN, Vec::new()).await;
        let mut hearsay = cluster.hearsay.lock();
        hearsay.may_be_led = answers.into_iter().any(|(_, is_led)| is_led);
        hearsay.has_answer = true;
    });
}

/// Asks the others about streams here that have had no leader for long.
pub(super) fn look_after_streams(engine: &Arc<Engine>, cluster: &Arc<Cluster>) {
    let now = cluster.link.clock().mono();
    {
        let mut hearsay = cluster.stream_hearsay.lock();
        if hearsay.asked.is_some_and(|asked| now.since(asked) < ASK_EVERY) {
            return;
        }
        hearsay.asked = Some(now);
    }
    let is_long = |since: Mono| now.since(since) + ASK_EVERY >= LEADERLESS_AFTER;
    let all = engine.accounts().into_iter().flat_map(|account| account.streams());
    let without = all.filter(|handle| {
        handle.cell().replica().and_then(|state| state.leaderless_since).is_some_and(is_long)
    });
    let groups: Vec<GroupId> = without.map(|handle| handle.group()).collect();
    if groups.is_empty() {
        cluster.stream_hearsay.lock().leaderless.clear();
        return;
    }
    let cluster = cluster.clone();
    tokio::spawn(async move {
        let mut leaderless = HashSet::new();
        for some in groups.chunks(STREAMS_AT_ONCE) {
            let names: Vec<String> = some.iter().map(GroupId::to_string).collect();
            let Ok(question) = serde_json::to_vec(&names) else { return };
            let led = gather::<Vec<String>>(&cluster, ASK_LED_STREAMS, ANSWER_WITHIN, question).await;
            let led: HashSet<GroupId> =
                led.iter().flat_map(|(_, led)| led).filter_map(|group| GroupId::parse(group)).collect();
            leaderless.extend(some.iter().filter(|group| !led.contains(group)));
        }
        cluster.stream_hearsay.lock().leaderless = leaderless;
    });
}

impl Engine {
    /// Those of some groups of which this server knows a leader.
    pub(super) fn led_of(&self, groups: &[String]) -> Vec<String> {
        let wanted: HashSet<GroupId> = groups.iter().filter_map(|group| GroupId::parse(group)).collect();
        let all = self.accounts().into_iter().flat_map(|account| account.streams());
        let is_led = |handle: &StreamHandle| handle.cell().replica().is_some_and(|s| s.leader.is_some());
        let led = all.filter(|handle| wanted.contains(&handle.group()) && is_led(handle));
        led.map(|handle| handle.group().to_string()).collect()
    }
}

impl Cluster {
    /// True if a stream that has had no leader here for long has none that anybody knows.
    pub(super) fn is_leaderless_stream(&self, group: GroupId) -> bool {
        self.stream_hearsay.lock().leaderless.contains(&group)
    }

    /// For how long this server has had no leader of the catalogue's group.
    pub(crate) fn leaderless_for(&self) -> Option<Duration> {
        self.meta.load().leaderless_since.map(|since| self.link.clock().mono().since(since))
    }

    /// True if this server knows a leader, or has not been without one for long, or another server knows one.
    pub(crate) async fn may_be_led(self: &Arc<Self>) -> bool {
        self.leaderless_for().is_none_or(|elapsed| elapsed < CERTAIN_AFTER)
            || gather::<bool>(self, ASK_LED, ANSWER_WITHIN, Vec::new())
                .await
                .into_iter()
                .any(|(_, is_led)| is_led)
    }

    /// True if this server may say for the cluster that there is no leader: it is one of those who elect, and nobody it can
    /// hear knows one.
    pub(super) fn speaks_for_leaderless(&self) -> bool {
        let me = self.me();
        let elects = self.meta.load().report.as_ref().is_some_and(|r| r.status.membership.is_voter(me));
        elects && self.hearsay.lock().is_leaderless()
    }
}
