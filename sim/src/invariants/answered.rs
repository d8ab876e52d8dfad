//! An answered API call is in effect after a restart.

use linnet_ids::GroupId;

use super::{Check, broken};
use crate::facts::Facts;
use crate::restore::Found;

/// Streams whose creation was answered are there, streams whose deletion was answered are not.
pub(crate) fn calls_hold(facts: &Facts, found: &Found) -> Check {
    for stream in facts.streams.values().filter(|s| s.group != GroupId::META) {
        let here = found.streams.iter().find(|f| f.group == stream.group);
        if stream.created && !stream.ending {
            match here {
                None => return broken("answered", format!("{}: created and gone", stream.name)),
                Some(found) if found.ended => {
                    return broken("answered", format!("{}: ended without being asked", stream.name));
                }
                Some(found) => {
                    if let Err(reason) = &found.outcome {
                        return broken("answered", format!("{}: cannot be restored: {reason}", stream.name));
                    }
                }
            }
        }
        if stream.ended && here.is_some() {
            return broken("answered", format!("{}: deleted and back", stream.name));
        }
    }
    Ok(())
}
