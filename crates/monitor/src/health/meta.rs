//! What is wrong with the meta group of a cluster, in nats-server's words, most important first.

use std::time::Duration;

use linnet_jetstream::{MetaPhase, MetaStatus};

/// How long it is shown that the server did not run.
const STALL_SHOWN: Duration = Duration::from_secs(300);

/// The first thing that is wrong.
pub(super) fn problem(status: &MetaStatus) -> Option<String> {
    let text = match status {
        MetaStatus { write_error: Some(error), .. } => {
            return Some(format!("JetStream meta layer write error: {error}"));
        }
        MetaStatus { apply_error: Some(error), .. } => {
            return Some(format!("JetStream meta layer apply error: {error}"));
        }
        MetaStatus { phase: MetaPhase::Stopped, .. } => "JetStream meta layer is not running",
        MetaStatus { phase: MetaPhase::Recovering, hears_somebody: false, .. } => {
            "JetStream is still recovering meta layer"
        }
        MetaStatus { phase: MetaPhase::Recovering, .. } | MetaStatus { leader: None, .. } => {
            "JetStream has not established contact with a meta leader"
        }
        MetaStatus { is_current: false, .. } => "JetStream is not current with the meta leader",
        _ => return None,
    };
    Some(text.to_owned())
}

/// What helps to find out why, which nats-server does not tell.
pub(super) fn warnings(status: &MetaStatus) -> Vec<String> {
    let mut warnings = Vec::new();
    if !status.missing.is_empty() {
        let each = status.missing.iter().map(|(who, since)| format!("{who} ({} s)", since.as_secs()));
        let each = each.collect::<Vec<_>>().join(", ");
        warnings.push(format!("Waiting for {each} before the JetStream meta group is founded"));
    }
    if status.phase == MetaPhase::Joining {
        warnings.push("This server waits to be added to the JetStream meta group".to_owned());
    }
    if !status.strangers.is_empty() {
        warnings.push(format!(
            "Servers of another JetStream meta group are connected, which was founded apart from this one: {}",
            status.strangers.join(", ")
        ));
    }
    let away = status.peers.iter().filter(|peer| !peer.is_reachable);
    let away = away.map(|peer| format!("{} (for {} s)", peer.name, peer.unheard.as_secs()));
    let away = away.collect::<Vec<_>>().join(", ");
    if !away.is_empty() {
        warnings.push(format!(
            "Members of the JetStream meta group that cannot be heard: {away}; {} of {} are needed",
            status.quorum, status.size
        ));
    }
    if let Some(stall) = status.stall.filter(|stall| stall.ago < STALL_SHOWN) {
        warnings.push(format!(
            "This server did not run for {:.1} s, {} s ago: it was stopped, or others had the processor",
            stall.lasted.as_secs_f64(),
            stall.ago.as_secs()
        ));
    }
    warnings
}
