//! Which of the waiting requests comes next when a consumer has priority groups (jetstream, "Priority groups").

use linnet_ids::{Mono, Wall};
use linnet_jsapi::errors::{self, ApiError};
use linnet_jsapi::info::PriorityGroupState;
use linnet_jsapi::limits::is_group_name;
use linnet_jsapi::policies::PriorityPolicy;
use linnet_jsapi::requests::NextRequest;

use super::pull::{PullRequest, send_status};
use super::{Consumer, Context};
use crate::output::{Advisory, Output};

/// The client that gets everything.
#[derive(Debug)]
pub(crate) struct Pin {
    /// What its requests say.
    pub(super) id: Vec<u8>,
    since: Wall,
    /// When it is given up unless it asks for something.
    until: Mono,
}

impl Consumer {
    /// Why the priority fields of a request are not allowed, if they are not. Bodies that are no JSON name no group.
    pub(super) fn priority_refusal(&self, wanted: &NextRequest, is_json: bool) -> Option<&'static str> {
        let policy = self.config.priority_policy;
        if (wanted.min_pending != 0 || wanted.min_ack_pending != 0) && policy != PriorityPolicy::Overflow {
            return Some("Not a Overflow Priority consumer");
        }
        if !wanted.id.is_empty() && policy != PriorityPolicy::PinnedClient {
            return Some("Not a Pinned Client Priority consumer");
        }
        if !(0..=9).contains(&wanted.priority) {
            return Some("Priority must be between 0 and 9");
        }
        if policy.is_none() || !is_json {
            return None;
        }
        if wanted.group.is_empty() {
            return Some("Priority Group missing");
        }
        (!self.config.priority_groups.contains(&wanted.group)).then_some("Invalid Priority Group")
    }

    /// True if a request names another client than the one that is pinned.
    pub(super) fn is_of_another_pin(&self, id: &str) -> bool {
        !id.is_empty() && self.pin.as_ref().is_some_and(|pin| pin.id != id.as_bytes())
    }

    /// Puts a request in line.
    pub(super) fn enqueue(&mut self, request: PullRequest) {
        if self.config.priority_policy == PriorityPolicy::Prioritized {
            let at = self.waiting.partition_point(|other| other.priority <= request.priority);
            self.waiting.insert(at, request);
        } else {
            self.waiting.push_back(request);
        }
    }

    /// Brings the first request that may be served to the front; false if there is none.
    pub(super) fn bring_to_front(&mut self, ctx: &mut Context<'_>) -> bool {
        let mut at = 0;
        while at < self.waiting.len() {
            if self.has_stale_pin(at) {
                if let Some(request) = self.waiting.remove(at) {
                    send_status(ctx, &request.reply, "423 Nats-Wrong-Pin-Id", &request.leftover());
                }
                continue;
            }
            let may_be_served = self.may_serve(at);
            if let Some(request) = self.waiting.get_mut(at)
                && may_be_served
                && request.pause.is_over(ctx, &request.reply)
            {
                if at > 0
                    && let Some(request) = self.waiting.remove(at)
                {
                    self.waiting.push_front(request);
                }
                return true;
            }
            at += 1;
        }
        false
    }

    /// The request names a client that is not pinned any more.
    fn has_stale_pin(&self, at: usize) -> bool {
        self.config.priority_policy == PriorityPolicy::PinnedClient
            && self.waiting.get(at).is_some_and(|request| {
                !request.pin.is_empty() && self.pin.as_ref().is_none_or(|pin| pin.id != request.pin)
            })
    }

    fn may_serve(&self, at: usize) -> bool {
        let Some(request) = self.waiting.get(at) else { return false };
        match self.config.priority_policy {
            PriorityPolicy::None | PriorityPolicy::Prioritized => true,
            PriorityPolicy::Overflow => {
                let (pending, open) = (request.min_pending, request.min_ack_pending);
                (pending == 0 && open == 0)
                    || (pending > 0 && self.num_pending >= pending)
                    || (open > 0 && self.state.pending.len() as u64 >= open)
            }
            PriorityPolicy::PinnedClient => self.pin.is_none() || !request.pin.is_empty(),
        }
    }

    /// Before a message goes to the request at the front: pins its client if nobody is.
    pub(super) fn pin_front(&mut self, ctx: &mut Context<'_>) {
        if self.config.priority_policy != PriorityPolicy::PinnedClient {
            return;
        }
        if self.pin.is_none() {
            let id = ctx.out.unique_id();
            ctx.out.advise(Advisory::Pinned {
                consumer: self.name.clone(),
                group: self.group().to_owned(),
                pinned_id: String::from_utf8_lossy(&id).into_owned(),
            });
            self.pin = Some(Pin { id, since: ctx.wall, until: ctx.now });
        }
        self.renew_pin(ctx);
        if let (Some(request), Some(pin)) = (self.waiting.front_mut(), &self.pin) {
            request.pin.clone_from(&pin.id);
        }
    }

    /// The pinned client shows that it is there.
    pub(super) fn renew_pin(&mut self, ctx: &Context<'_>) {
        if let Some(pin) = &mut self.pin {
            pin.until = ctx.now + self.config.priority_timeout.to_duration();
        }
    }

    /// When the pinned client is given up.
    pub(super) fn pinned_until(&self) -> Option<Mono> {
        self.pin.as_ref().map(|pin| pin.until)
    }

    /// Gives up a pinned client that has been silent for too long.
    pub(super) fn expire_pin(&mut self, ctx: &mut Context<'_>) {
        if self.pinned_until().is_some_and(|until| until <= ctx.now) {
            self.unpin(ctx.out, "timeout");
        }
    }

    fn unpin(&mut self, out: &mut dyn Output, reason: &'static str) {
        self.pin = None;
        let (consumer, group) = (self.name.clone(), self.group().to_owned());
        out.advise(Advisory::Unpinned { consumer, group, reason });
    }

    /// An operator gives up the pinned client of a group. It is told of even if there is none, as nats-server does.
    pub(crate) fn unpin_group(&mut self, group: &str, out: &mut dyn Output) -> Result<(), ApiError> {
        if !is_group_name(group) {
            return Err(errors::CONSUMER_INVALID_GROUP_NAME);
        }
        if !self.config.priority_groups.iter().any(|own| own == group) {
            return Err(errors::CONSUMER_INVALID_PRIORITY_GROUP);
        }
        self.unpin(out, "admin");
        Ok(())
    }

    /// The group that counts: the first.
    fn group(&self) -> &str {
        self.config.priority_groups.first().map_or("", String::as_str)
    }

    /// What the API tells of the groups.
    pub(super) fn group_states(&self) -> Vec<PriorityGroupState> {
        if self.config.priority_policy.is_none() {
            return Vec::new();
        }
        let pin = self.pin.as_ref();
        vec![PriorityGroupState {
            group: self.group().to_owned(),
            pinned_client_id: pin
                .map_or_else(String::new, |pin| String::from_utf8_lossy(&pin.id).into_owned()),
            pinned_ts: pin.map(|pin| pin.since),
        }]
    }
}
