//! Every mutation is noticed by the walks.

use crate::mutation::Mutation;
use crate::walk::{Shape, attempt};

const WITHOUT_WIPES: Shape = Shape { servers: 3, voters: 3, wipes: false, changes: false };
const WITH_WIPES: Shape = Shape { servers: 3, voters: 3, wipes: true, changes: false };
const TWO: Shape = Shape { servers: 2, voters: 2, wipes: true, changes: false };
const WITH_CHANGES: Shape = Shape { servers: 5, voters: 3, wipes: true, changes: true };
const SHAPES: [&Shape; 4] = [&WITHOUT_WIPES, &WITH_WIPES, &TWO, &WITH_CHANGES];

/// Walks of every shape within which a mutation must be noticed.
const SEEDS: u64 = 1000;

/// How many walks it takes, and what was noticed.
fn notice(mutation: Mutation) -> Option<(u64, String)> {
    let walks = (0..SEEDS).flat_map(|seed| SHAPES.map(|shape| (seed, shape)));
    (1..).zip(walks).find_map(|(walks, (seed, shape))| {
        attempt(500_000 + seed, shape, Some(mutation)).err().map(|text| (walks, text))
    })
}

#[test]
fn every_mutation_is_noticed() {
    let mut missed = Vec::new();
    for mutation in Mutation::ALL {
        match notice(mutation) {
            Some((walks, text)) => {
                let text: String = text.chars().take(150).collect();
                eprintln!("{mutation:?}: {walks} walks: {text}");
            }
            None => missed.push(mutation),
        }
    }
    assert_eq!(missed, [], "not noticed within {SEEDS} walks of every shape");
}

#[test]
fn nothing_is_noticed_where_nothing_is_wrong() {
    for seed in 0..100 {
        for shape in SHAPES {
            assert_eq!(attempt(500_000 + seed, shape, None).err(), None);
        }
    }
}
