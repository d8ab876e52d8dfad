//! Consumers that the catalogue keeps: durable ones of streams in memory, which have no log.

use linnet_assets::{Command, CommandOutcome, ConsumerCommand};
use linnet_jsapi::errors::ApiError;
use linnet_replication::KeptConsumer;

use super::Engine;
use crate::catalogue::{JsAccount, StreamHandle};

impl Engine {
    /// True if the catalogue keeps consumers of the stream. In a cluster it is the replicas that have them.
    fn keeps_consumers(&self, handle: &StreamHandle) -> bool {
        handle.cell.is_memory() && self.cluster.is_none()
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
                self.ask_catalogue(consumer.store(account.name(), &stream)).await?;
                kept.insert(name.to_owned());
            }
            None if kept.contains(name) => {
                self.ask_catalogue(KeptConsumer::forget(account.name(), &stream, name)).await?;
                kept.remove(name);
            }
            None => {}
        }
        Ok(())
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
