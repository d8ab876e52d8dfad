//! Streams that are restored from a backup: unseen, then complete or gone.

use std::sync::Arc;

use linnet_assets::Command;
use linnet_ids::{StreamSeq, Wall};
use linnet_jsapi::StreamConfig;
use linnet_jsapi::errors::{self, ApiError};
use linnet_jsapi::policies::StorageType;
use linnet_jsapi::requests::StreamConfigRequest;
use linnet_jsapi::stream_rules::{self, StreamCreate};
use linnet_replication::{Assignment, Change, FLOOR_STEP, Placed, Site};
use tokio::sync::oneshot;

use super::Engine;
use super::streams::{Shown, tell_readers};
use crate::catalogue::{JsAccount, Known, Others, StreamHandle};
use crate::pump::Control;
use crate::services::ConsumerServices;

impl Engine {
    /// True if no more should be stored for now.
    pub(crate) fn is_pressed(&self) -> bool {
        self.log.is_pressed() || self.budget.is_exceeded()
    }

    /// True if the disk has been full for a while.
    pub(crate) fn is_disk_full(&self) -> bool {
        self.log.is_disk_full()
    }

    /// The configuration of a stream that is restored, judged as that of a new one. Unlike a new one it may be sealed.
    pub(crate) fn judge_restored(
        &self,
        account: &JsAccount,
        mut config: StreamConfig,
    ) -> Result<StreamConfig, ApiError> {
        let name = config.name.clone();
        let sealed = std::mem::take(&mut config.sealed);
        let wanted = StreamConfigRequest { config, ..StreamConfigRequest::default() };
        let limits = self.limits_for(account);
        let created = match &self.cluster {
            None => stream_rules::check_create(&name, &wanted, None, &Others(account), &limits)?,
            Some(cluster) => {
                let known = Known(cluster.view.streams_of(account.name()));
                stream_rules::check_create(&name, &wanted, None, &known, &limits)?
            }
        };
        match created {
            StreamCreate::New(config) => Ok(StreamConfig { sealed, ..*config }),
            StreamCreate::Same => Err(errors::STREAM_NAME_EXIST_RESTORE_FAILED),
        }
    }

    /// Begins a stream that is restored, with sequences up to `last_seq`. Nobody finds it.
    pub(crate) async fn begin_restore(
        &self,
        account: &Arc<JsAccount>,
        config: StreamConfig,
        created: Wall,
        last_seq: StreamSeq,
    ) -> Result<Arc<StreamHandle>, ApiError> {
        let group = match &self.cluster {
            None => self.new_group(),
            Some(cluster) => cluster.new_group(),
        };
        let clock = self.broker.clock();
        let assignment = Assignment {
            account: account.name().to_owned(),
            group: group.to_string(),
            created: created.0,
            live: false,
            members: Vec::new(),
            ended: false,
            reshaping: None,
            unclaimed: false,
            earlier: Vec::new(),
            continues: None,
            config,
        };
        let (disk, dir, place) = (self.disk.clone(), self.dir.clone(), self.place.clone());
        let site = Site { disk, dir, place, floor_step: FLOOR_STEP };
        let now = clock.mono();
        let begun =
            tokio::task::spawn_blocking(move || assignment.begin_restored(group, &site, last_seq, now));
        let solo = match begun.await {
            Ok(Ok(solo)) => solo,
            Ok(Err(error)) => {
                tracing::error!("Reserving the sequences of a stream that is restored: {error}");
                return Err(errors::STORAGE_RESOURCES_EXCEEDED);
            }
            Err(_) => return Err(errors::stream_restore("internal error")),
        };
        Ok(self.install(account, Box::new(solo), None, Shown::Nowhere).await)
    }

    /// Makes a stream known that is complete, unless there is another one by now. In a cluster `members` says where it
    /// shall be.
    pub(crate) async fn finish_restore(
        self: &Arc<Self>,
        account: &Arc<JsAccount>,
        handle: &Arc<StreamHandle>,
        members: Vec<Placed>,
    ) -> Result<(), ApiError> {
        if let Some(cluster) = &self.cluster {
            return self.claim_restored(cluster, account, handle, members).await;
        }
        let _one_at_a_time = self.changes.lock().await;
        let config = (*handle.config()).clone();
        if account.stream(&config.name).is_some() {
            return Err(errors::stream_restore(errors::STREAM_NAME_EXIST_RESTORE_FAILED.description));
        }
        self.judge_restored(account, config.clone())
            .map_err(|error| errors::stream_restore(error.description))?;
        let change = Change::finish_restore(handle.assignment(account, config));
        self.carry_out(change, Some(account), Some(handle.clone())).await?;
        self.show(account, handle).await
    }

    /// Lets a stream be found that was hidden.
    pub(super) async fn show(
        &self,
        account: &Arc<JsAccount>,
        handle: &Arc<StreamHandle>,
    ) -> Result<(), ApiError> {
        self.keep_consumers(account, handle).await?;
        let name = handle.config().name.clone();
        account.streams.write().insert(name.clone(), handle.clone());
        let services = ConsumerServices::new(&self.config.domain);
        let (done, opened) = oneshot::channel();
        handle.pump.control(Control::Open { key: handle.key, services: Box::new(services), done });
        let _ = opened.await;
        tell_readers(account, &name);
        Ok(())
    }

    /// Ends a stream that was not restored, with everything of it.
    pub(crate) async fn abandon_restore(&self, account: &Arc<JsAccount>, handle: &Arc<StreamHandle>) {
        if self.cluster.as_ref().is_some_and(|cluster| cluster.is_unclaimed(handle.group())) {
            // The cluster may have taken it in, or will.
            return;
        }
        let _ = handle.ask(Command::Delete).await;
        let has_log = handle.config().storage == StorageType::File;
        self.remove(account, handle, has_log).await;
    }
}
