//! What a server does while its disk takes nothing: it leaves leading to others, and says so
//! (reliability 5.3).

use std::sync::Arc;
use std::time::Duration;

use linnet_ids::Mono;

use super::announce::{Told, own_fields, system_accounts};
use super::asks::ASK_TROUBLE;
use super::{Cluster, Engine};

/// How often other servers are told, so that one that stops telling is not avoided for long.
const TELL_EVERY: Duration = Duration::from_secs(1);
/// How long others may take to hear it.
const HEAR_WITHIN: Duration = Duration::from_secs(1);

/// What was said of the disk.
#[derive(Default)]
pub(super) struct Trouble {
    /// It takes nothing.
    is_told: bool,
    /// When others were told last.
    told: Option<Mono>,
}

/// Looks whether the disk has become full, or has space again.
pub(super) async fn look_after(engine: &Arc<Engine>, cluster: &Arc<Cluster>) {
    let is_full = engine.health.is_disk_full();
    let now = cluster.link.clock().mono();
    let (has_changed, is_due) = {
        let mut trouble = cluster.trouble.lock();
        let has_changed = std::mem::replace(&mut trouble.is_told, is_full) != is_full;
        let is_due = is_full && trouble.told.is_none_or(|told| now.since(told) >= TELL_EVERY);
        if has_changed || is_due {
            trouble.told = Some(now);
        }
        (has_changed, is_due)
    };
    if has_changed && is_full {
        engine.tell_out_of_storage("no space left on the disk");
    }
    if has_changed || is_due {
        if is_full {
            cluster.hand_over(engine).await;
        }
        let cluster = cluster.clone();
        tokio::spawn(async move {
            cluster.link.ask_all(ASK_TROUBLE, vec![u8::from(is_full)], HEAR_WITHIN).await;
        });
    }
}

impl Engine {
    /// The advisory that this server cannot store (jetstream-clustering 7).
    pub(super) fn tell_out_of_storage(&self, error: &str) {
        let mut fields = own_fields(self);
        fields.insert("error".to_owned(), error.into());
        let told = Told { topic: "SERVER.OUT_OF_STORAGE".to_owned(), kind: "server_out_of_space", fields };
        told.publish(self, &system_accounts(self));
    }

    /// The log takes nothing any more: others need not find out that this server leads nothing.
    pub async fn withdraw(&self) {
        let Some(cluster) = &self.cluster else { return };
        self.tell_out_of_storage(&self.health.log_failure().unwrap_or_default());
        cluster.news.leads_nothing();
        cluster.link.stop().await;
    }
}
