//! What Jepsen found in nats-server 2.12.1, repeated: each run counts acknowledged messages, their sequences, and streams.

use super::injuries::Injury;
use super::rot::{How, Part};
use super::{FEW_ROUNDS, Plan, disks, soak};
use crate::harness::not_allowed;

#[test]
fn nothing_acknowledged_is_lost_when_the_power_of_all_servers_fails() {
    if let Some(why) = disks::missing() {
        return not_allowed(&why);
    }
    let injuries = &[Injury::Power(3), Injury::Power(2), Injury::Power(1)];
    soak(Plan { injuries, rounds: FEW_ROUNDS, has_images: true, ..Plan::default() });
}

#[test]
fn nothing_acknowledged_is_lost_when_one_server_crashes_and_others_pause() {
    if let Some(why) = disks::missing() {
        return not_allowed(&why);
    }
    let injuries = &[Injury::PowerAndPause];
    soak(Plan { injuries, rounds: FEW_ROUNDS, has_images: true, ..Plan::default() });
}

#[test]
fn nothing_acknowledged_is_lost_when_messages_of_a_minority_rot() {
    rots(&[Part::Streams], &[How::Flip, How::Blank, How::Swap, How::Cut, How::Remove]);
}

#[test]
fn nothing_acknowledged_is_lost_when_the_log_of_a_minority_rots() {
    rots(&[Part::Log, Part::LogTail], &[How::Flip, How::Blank, How::Swap, How::Cut]);
}

/// In nats-server a damaged state of the meta group had every stream deleted.
#[test]
fn no_stream_is_deleted_when_the_catalogue_of_a_minority_rots() {
    rots(&[Part::Catalogue], &[How::Flip, How::Blank, How::Swap, How::Cut, How::Remove]);
}

#[test]
fn no_stream_is_deleted_when_assignments_of_a_minority_rot() {
    rots(&[Part::Assigned, Part::Identity], &[How::Flip, How::Blank, How::Cut]);
}

fn rots(parts: &[Part], hows: &[How]) {
    let all = parts.iter().flat_map(|part| hows.iter().map(|how| Injury::RotOf(*part, *how)));
    let injuries: Vec<Injury> = all.collect();
    soak(Plan { injuries: &injuries, rounds: FEW_ROUNDS, ..Plan::default() });
}
