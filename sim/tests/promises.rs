//! Single promises in the open: what the sweep relies on, and seeds that once broke one.

use linnet_sim::{Mode, Mutation, acks_around_failing_sync, caught, replay};

#[test]
fn with_a_failing_sync_no_ack_leaves() {
    for seed in 0..20 {
        let (before, after) = acks_around_failing_sync(seed).expect("no promise breaks");
        assert!(before > 0, "seed {seed}: nothing was acknowledged at all");
        assert_eq!(before, after, "seed {seed}");
    }
}

#[test]
fn with_the_syncs_removed_the_checks_fail() {
    let caught_in = (0..20).filter(|seed| caught(Mutation::IgnoreSyncs, *seed..seed + 1).is_some()).count();
    assert!(caught_in > 10, "{caught_in} of 20 seeds");
}

fn holds(seed: u64, mode: Mode) {
    let (_, outcome) = replay(seed, mode);
    assert_eq!(outcome, Ok(()), "seed {seed}");
}

#[test]
fn an_id_used_again_after_the_window_is_known_after_a_restart() {
    [177, 283, 788].into_iter().for_each(|seed| holds(seed, Mode::Faults));
}

#[test]
fn a_replay_over_a_checkpoint_counts_deliveries_once() {
    [3, 7, 10].into_iter().for_each(|seed| holds(seed, Mode::Faults));
}

#[test]
fn readers_of_cold_messages_do_not_starve_each_other() {
    holds(1473, Mode::Faults);
}

#[test]
fn a_seal_without_space_does_not_stop_the_log() {
    [746, 809, 882].into_iter().for_each(|seed| holds(seed, Mode::Faults));
}

#[test]
fn a_stream_whose_log_is_lost_does_not_begin_anew() {
    [3244, 3750, 5698].into_iter().for_each(|seed| holds(seed, Mode::Damage));
}

#[test]
fn a_group_whose_log_end_is_lost_takes_no_checkpoint_of_it() {
    holds(5899, Mode::Damage);
}

#[test]
fn restarts_in_a_row_leave_the_log_within_its_bound() {
    holds(3971, Mode::Damage);
}

#[test]
fn unreadable_blocks_stay_on_disk() {
    [17, 207, 264].into_iter().for_each(|seed| holds(seed, Mode::Damage));
}

#[test]
fn a_second_loss_of_the_log_uses_no_sequence_again() {
    holds(42, Mode::Damage);
}

#[test]
fn a_stream_that_was_not_served_because_its_log_is_lost_does_not_begin_anew_later() {
    holds(3357, Mode::Damage);
}

#[test]
fn a_last_batch_that_rots_after_a_failing_write_may_look_torn() {
    holds(3512, Mode::Damage);
}

#[test]
fn what_a_consumer_does_while_it_is_replaced_is_not_its_successors() {
    [245, 10539].into_iter().for_each(|seed| holds(seed, Mode::Faults));
}

#[test]
fn what_is_acknowledged_before_a_reset_does_not_come_back() {
    holds(11534, Mode::Faults);
}

#[test]
fn what_damage_took_and_no_log_removed_is_told_of() {
    [107, 479, 1661].into_iter().for_each(|seed| holds(seed, Mode::Damage));
}

#[test]
fn a_trace_tells_what_happened() {
    let (lines, outcome) = replay(3, Mode::Faults);
    assert_eq!(outcome, Ok(()));
    assert!(lines.iter().any(|line| line.starts_with("publish")));
}
