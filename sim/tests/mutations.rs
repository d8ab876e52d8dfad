//! The checks notice a broken server, each within a stated number of seeds.

use linnet_sim::{Mutation, caught};

/// Seeds within which each mutation must be caught, and the promises whose breaking may show it.
const BOUNDS: [(Mutation, u64); 31] = [
    (Mutation::IgnoreSyncs, 10),
    (Mutation::AckBeforeCommit, 10),
    (Mutation::LoseLastRecord, 10),
    (Mutation::CheckpointBeforeSync, 10),
    (Mutation::LoseConsumerDeltas, 50),
    (Mutation::OldCheckpointBody, 10),
    (Mutation::ForgetNames, 20),
    (Mutation::LoseRemovals, 20),
    (Mutation::CheckpointTooFar, 50),
    (Mutation::ForgetFloors, 300),
    (Mutation::SkipInReads, 100),
    (Mutation::WrongTimes, 20),
    (Mutation::MiscountPurges, 50),
    (Mutation::MiscountSubjects, 20),
    (Mutation::LoseResets, 300),
    (Mutation::ShiftStarts, 100),
    (Mutation::IgnorePauses, 100),
    (Mutation::RedeliverInProgress, 100),
    (Mutation::MiscountPending, 20),
    (Mutation::WrongSizes, 50),
    (Mutation::OverfillRequests, 20),
    (Mutation::IgnorePriorities, 300),
    (Mutation::IgnoreOverflow, 300),
    (Mutation::LosePins, 300),
    (Mutation::LoseUnheard, 100),
    (Mutation::WrongBeats, 100),
    (Mutation::AckFastAhead, 50),
    (Mutation::LoseCopies, 50),
    (Mutation::PlainFiles, 10),
    (Mutation::SpoilTaken, 100),
    (Mutation::LoseRestored, 300),
];

#[test]
fn every_mutation_is_caught() {
    for mutation in Mutation::ALL {
        let bound = BOUNDS.iter().find(|(m, _)| *m == mutation).map_or(0, |(_, bound)| *bound);
        let found = caught(mutation, 0..bound);
        let Some((seed, violation)) = found else { panic!("{mutation:?} is not caught in {bound} seeds") };
        println!("{mutation:?}: seed {seed}: {}: {}", violation.invariant, violation.text);
    }
}
