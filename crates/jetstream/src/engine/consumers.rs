//! Consumers that the catalogue keeps: durable ones of streams in memory, which have no log.

use linnet_assets::{Command, CommandOutcome, ConsumerCommand};
use linnet_jsapi::errors::{self, ApiError};
use linnet_replication::KeptConsumer;

use super::Engine;
use super::cluster::Cluster;
use crate::catalogue::{JsAccount, StreamHandle};
use linnet_replication::cluster::MetaRequest;

impl Engine {
    /// True if the catalogue keeps consumers of the stream. Where there are several replicas, those have them.
    fn keeps_consumers(&self, handle: &StreamHandle) -> bool {
        let has_one = |cluster: &Cluster| {
            cluster.view.of_group(handle.group).is_none_or(|assignment| assignment.members.len() < 2)
        };
        handle.cell.is_memory() && self.cluster.as_ref().is_none_or(|cluster| has_one(cluster))
    }

    /// Has the catalogue keep the consumers that a stream in memory has now, and no others: it has one replica again, or
    /// another one.
    pub(super) async fn keep_present_consumers(
        &self,
        cluster: &Cluster,
        account: &JsAccount,
        handle: &StreamHandle,
    ) -> Result<(), ApiError> {
        let known = cluster.view.consumers_of(&handle.group.to_string());
        handle.kept.lock().await.extend(known.iter().map(|consumer| consumer.name.clone()));
        for consumer in known {
            self.keep_consumer(account, handle, &consumer.name).await?;
        }
        self.keep_consumers(account, handle).await
    }

    /// Has the catalogue know what became of a consumer: its definition if it is a durable one of a stream in memory,
    /// nothing if there is none. To be called after each change and before it is answered.
    pub(crate) async fn keep_consumer(
        &self,
        account: &JsAccount,
        handle: &StreamHandle,
        name: &str,
    ) -> Result<(), ApiError> {
        if !self.keeps_consumers(handle) {
            return Ok(());
        }
        // What is stored last is what the stream has last.
        let mut kept = handle.kept.lock().await;
        let command = Command::Consumer(ConsumerCommand::Definition(name.to_owned()));
        let CommandOutcome::Definition(definition) = handle.ask(command).await? else { return Ok(()) };
        let stream = handle.config().name.clone();
        match definition.filter(|definition| !definition.config.durable_name.is_empty()) {
            Some(definition) => {
                let consumer = KeptConsumer::of(handle.group, *definition);
                self.have_kept(account.name(), &stream, consumer).await?;
                kept.insert(name.to_owned());
            }
            None if kept.contains(name) => {
                self.have_dropped(account.name(), &stream, handle, name).await?;
                kept.remove(name);
            }
            None => {}
        }
        Ok(())
    }

    async fn have_kept(&self, account: &str, stream: &str, consumer: KeptConsumer) -> Result<(), ApiError> {
        let Some(cluster) = &self.cluster else {
            return self.ask_catalogue(consumer.store(account, stream)).await.map(|_| ());
        };
        let (account, stream) = (account.to_owned(), stream.to_owned());
        let is_kept = self
            .tell_meta(cluster, MetaRequest::Keep { account, stream, consumer: Box::new(consumer) })
            .await;
        if is_kept { Ok(()) } else { Err(errors::CLUSTER_NOT_AVAIL) }
    }

    async fn have_dropped(
        &self,
        account: &str,
        stream: &str,
        handle: &StreamHandle,
        name: &str,
    ) -> Result<(), ApiError> {
        let Some(cluster) = &self.cluster else {
            return self.ask_catalogue(KeptConsumer::forget(account, stream, name)).await.map(|_| ());
        };
        let request = MetaRequest::Drop {
            account: account.to_owned(),
            stream: stream.to_owned(),
            group: handle.group.to_string(),
            consumer: name.to_owned(),
        };
        let is_dropped = self.tell_meta(cluster, request).await;
        if is_dropped { Ok(()) } else { Err(errors::CLUSTER_NOT_AVAIL) }
    }

    /// [`Engine::keep_consumer`] for every consumer of a stream that came with some.
    pub(crate) async fn keep_consumers(
        &self,
        account: &JsAccount,
        handle: &StreamHandle,
    ) -> Result<(), ApiError> {
        if !self.keeps_consumers(handle) {
            return Ok(());
        }
        let CommandOutcome::Names(names) = handle.ask(Command::Consumer(ConsumerCommand::Names)).await?
        else {
            return Ok(());
        };
        for name in names {
            self.keep_consumer(account, handle, &name).await?;
        }
        Ok(())
    }
}
