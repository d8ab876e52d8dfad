//! What is wrong with the meta group of a cluster, in nats-server's words, most important first.

use linnet_jetstream::{MetaPhase, MetaStatus};

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
    let away = status.peers.iter().filter(|peer| !peer.is_reachable).map(|peer| peer.name.as_str());
    let away = away.collect::<Vec<_>>().join(", ");
    if !away.is_empty() {
        warnings.push(format!(
            "Members of the JetStream meta group that cannot be heard: {away}; {} of {} are needed",
            status.quorum, status.size
        ));
    }
    warnings
}
