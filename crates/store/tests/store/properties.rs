use proptest::prelude::*;

use crate::support::SMALL;
use crate::world::{Step, World};

fn step() -> impl Strategy<Value = Step> {
    let jump = prop_oneof![8 => Just(0_u64), 2 => 1_u64..6, 1 => 0_u64..100_000];
    let append =
        (0_usize..6, any::<bool>(), prop_oneof![6 => 0_usize..60, 1 => 0_usize..900], jump, 0_i64..3)
            .prop_map(|(subject, headers, len, jump, pause)| Step::Append {
                subject,
                headers,
                len,
                jump,
                pause,
            });
    prop_oneof![
        20 => append,
        6 => (any::<u64>(), any::<bool>()).prop_map(|(pick, erase)| Step::Remove { pick, erase }),
        3 => (0_usize..20).prop_map(|count| Step::RemoveFirst { count }),
        1 => (0_u64..9).prop_map(|by| Step::Skip { by }),
        1 => Just(Step::Clear),
        1 => prop_oneof![Just(-1_i64), Just(1), Just(3), Just(100)].prop_map(Step::MaxPerSubject),
        2 => any::<bool>().prop_map(Step::Compression),
        3 => any::<bool>().prop_map(|all| Step::TakeWrites { all }),
        3 => (0_usize..8).prop_map(Step::RunWrite),
        3 => (0_usize..8).prop_map(Step::GiveWrite),
        2 => Just(Step::BeginCheckpoint),
        2 => Just(Step::RunCheckpoint),
        2 => Just(Step::GiveCheckpoint),
        2 => any::<bool>().prop_map(|delete| Step::Record { delete }),
        1 => Just(Step::WriteEverything),
        1 => Just(Step::Checkpoint),
        1 => any::<bool>().prop_map(|delete_strays| Step::Reopen { delete_strays }),
        1 => Just(Step::Check),
    ]
}

fn run(mut world: World, steps: &[Step]) -> Result<(), TestCaseError> {
    for step in steps {
        world.step(step).map_err(TestCaseError::fail)?;
    }
    world.step(&Step::Check).map_err(TestCaseError::fail)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 150, ..ProptestConfig::default() })]

    #[test]
    fn a_file_store_agrees_with_the_model(steps in proptest::collection::vec(step(), 1..150)) {
        run(World::on_disk(1, SMALL), &steps)?;
    }

    #[test]
    fn a_memory_store_agrees_with_the_model(steps in proptest::collection::vec(step(), 1..150)) {
        run(World::in_memory(SMALL), &steps)?;
    }
}
