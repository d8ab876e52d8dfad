//! Consumers that other streams read this one with. They are nobody else's concern: the log says nothing of them, and
//! they are gone with their listener or the leader.

use linnet_jsapi::info::ConsumerInfo;

use super::{Moment, Stream};
use crate::entry::Attach;
use crate::output::{Advisory, Output};

impl Stream {
    pub(super) fn is_direct(&self, name: &str) -> bool {
        let consumer = self.by_name.get(name).and_then(|id| self.consumers.get(*id));
        consumer.is_some_and(|consumer| consumer.config.direct)
    }

    /// Names of the others.
    pub(super) fn lasting_names(&self) -> Vec<String> {
        self.by_name.keys().filter(|name| self.direct == 0 || !self.is_direct(name)).cloned().collect()
    }

    pub(super) fn attach_direct(
        &mut self,
        attach: Attach,
        at: Moment,
        out: &mut dyn Output,
    ) -> Option<ConsumerInfo> {
        let name = attach.name.clone();
        self.apply_detach(&name, at, out);
        let id = self.install_consumer(attach, at.now);
        out.advise(Advisory::ConsumerCreated { consumer: name.clone() });
        self.mark_ready(id);
        self.consumer_info(&name, at.wall, out)
    }

    /// Consumers decide from now on what stays: who reads without leaving a trace must ask again.
    pub(super) fn end_direct(&mut self, at: Moment, out: &mut dyn Output) {
        let names: Vec<String> = self.by_name.keys().filter(|name| self.is_direct(name)).cloned().collect();
        for name in names {
            self.apply_detach(&name, at, out);
        }
    }
}
