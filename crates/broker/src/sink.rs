use std::sync::Arc;

use crate::account::Account;
use crate::conn::Conn;
use crate::subscription::Subscription;

/// A message on its way into a service inside the server. Borrows the publisher's read buffer: whoever wants to
/// keep it copies it.
#[derive(Clone, Copy)]
pub struct Delivery<'a> {
    /// Account the message was published in.
    pub account: &'a Arc<Account>,
    /// Connection it came from; `None` if a service inside the server published it.
    pub origin: Option<&'a Arc<Conn>>,
    /// Name of the server that sent it by a route; `None` if it came to this one.
    pub server: Option<&'a str>,
    /// The subscription that matched.
    pub subscription: &'a Subscription,
    /// Subject that receivers see.
    pub subject: &'a [u8],
    /// Reply subject, empty when absent.
    pub reply: &'a [u8],
    /// Length of the header block at the start of `body`.
    pub header_len: usize,
    /// Header block and payload.
    pub body: &'a [u8],
}

impl<'a> Delivery<'a> {
    /// The header block.
    pub fn headers(&self) -> &'a [u8] {
        self.body.get(..self.header_len).unwrap_or_default()
    }

    /// The payload.
    pub fn payload(&self) -> &'a [u8] {
        self.body.get(self.header_len..).unwrap_or_default()
    }
}

/// A service inside the server that receives messages.
pub trait Sink: Send + Sync {
    /// Takes a message. Runs on the publisher's reader task, so it must neither block nor publish: it copies into
    /// a bounded queue and returns.
    fn deliver(&self, delivery: &Delivery<'_>);
}
