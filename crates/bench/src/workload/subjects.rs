//! Many subjects, so that no cache of matches holds them all.

use super::{Goal, Storage, Workload};
use crate::frames;
use crate::traffic::{Feed, Traffic};

const SUBJECTS: u64 = 100_000;
const PAYLOAD_BYTES: usize = 128;

pub(super) const WORKLOADS: &[Workload] = &[Workload {
    name: "subjects-100k",
    about: "one publisher to 100 000 subjects in random order, one subscription for each, 128 B",
    storage: Storage::None,
    servers: 1,
    goal: Goal::NONE,
    run: |context| traffic().run(context.target, context.limit),
}];

fn traffic() -> Traffic {
    let mut subjects: Vec<String> =
        (0..SUBJECTS).map(|index| format!("bench.s{}.{index}", index % 100)).collect();
    let mut lines = Vec::new();
    for (sid, subject) in (1..).zip(&subjects) {
        frames::put_sub(&mut lines, subject, None, sid);
    }
    // The same order for every server.
    fastrand::Rng::with_seed(1).shuffle(&mut subjects);
    Traffic {
        feeds: vec![Feed::new(subjects.iter().map(String::as_str), PAYLOAD_BYTES, 1)],
        subscriptions: vec![lines],
        fan_out: 1,
        payload_bytes: PAYLOAD_BYTES,
        churn_per_second: None,
        places: &[0],
    }
}
