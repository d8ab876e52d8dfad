//! How fast a consumer delivers: so much per turn, and nothing for a while to whoever has much waiting.

use std::time::Duration;

use linnet_ids::Mono;

use super::Context;

/// What a consumer delivers in one turn, so that a request for a million messages keeps neither other streams nor the
/// writing to sockets waiting.
const TURN_BYTES: u64 = 256 << 10;
/// What a message costs besides its bytes.
const MESSAGE_BYTES: u64 = 64;
/// Until a receiver that has much waiting is looked at again.
const PAUSE: Duration = Duration::from_millis(5);

/// What is left of a turn.
pub(super) struct Turn {
    left: u64,
}

impl Turn {
    pub(super) fn begin() -> Self {
        Self { left: TURN_BYTES }
    }

    pub(super) fn is_over(&self) -> bool {
        self.left == 0
    }

    /// A message of `size` bytes was sent, or looked at in vain.
    pub(super) fn charge(&mut self, size: u64) {
        self.left = self.left.saturating_sub(MESSAGE_BYTES + size);
    }
}

/// A receiver's pause: its connection has so much waiting that more would soon have it closed as a slow consumer.
#[derive(Debug, Default)]
pub(super) struct Pause(Option<Mono>);

impl Pause {
    /// True if the receiver may be sent to. A pause that was long enough goes on if nothing has changed.
    pub(super) fn is_over(&mut self, ctx: &mut Context<'_>, receiver: &[u8]) -> bool {
        let Some(until) = self.0 else { return true };
        if ctx.now >= until {
            self.0 = ctx.out.is_clogged(receiver).then(|| ctx.now + PAUSE);
        }
        self.0.is_none()
    }

    /// Something was sent: begins a pause if the receiver needs one.
    pub(super) fn look(&mut self, ctx: &mut Context<'_>, receiver: &[u8]) {
        if ctx.out.may_be_clogged() && ctx.out.is_clogged(receiver) {
            self.0 = Some(ctx.now + PAUSE);
        }
    }

    /// When to look again.
    pub(super) fn until(&self) -> Option<Mono> {
        self.0
    }
}
