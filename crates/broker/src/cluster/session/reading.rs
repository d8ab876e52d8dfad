//! Bytes of a route to operations.

use std::cell::RefCell;
use std::sync::atomic::Ordering;

use linnet_links::Closing;
use linnet_wire::client::Error;
use linnet_wire::route::{Form, Parsed, parse};

use super::super::route::LINE_FACTOR;
use super::{RouteSession, Stop};
use crate::close::CloseReason;

/// Bytes read per call.
const READ_MAX: usize = 64 * 1024;
/// Read calls between two chances for other tasks.
const READS_PER_TURN: usize = 8;

thread_local! {
    /// What is read never outlives a call here: clearing room for the most that can come would cost more than most reads.
    static READ_BUFFER: RefCell<Vec<u8>> = RefCell::new(vec![0; READ_MAX]);
}

impl RouteSession {
    /// Reads until the socket is empty or others are to have their turn, and acts on what came. Lines that wait to be written
    /// and keep-alives are among those others: a route that is never silent must not hold them up.
    pub(super) async fn read_some(&mut self) -> Result<(), Stop> {
        for _ in 0..READS_PER_TURN {
            if !self.read()? {
                return Ok(());
            }
            if self.decoder.is_none() {
                self.act_on_buffer()?;
            }
            let mut packed = std::mem::take(&mut self.packed);
            let mut input = packed.as_slice();
            while self.unpack(&mut input)? {
                self.act_on_buffer()?;
            }
            packed.clear();
            self.packed = packed;
        }
        tokio::task::yield_now().await;
        Ok(())
    }

    /// Reads once. False if the socket is empty.
    pub(super) fn read(&mut self) -> Result<bool, Stop> {
        let into = if self.decoder.is_some() { &mut self.packed } else { &mut self.buffer };
        let read = READ_BUFFER.with_borrow_mut(|buffer| {
            let read = self.link.read(buffer);
            into.extend_from_slice(buffer.get(..*read.as_ref().unwrap_or(&0)).unwrap_or_default());
            read
        });
        match read {
            Ok(0) => Err(Stop::silent(CloseReason::ClientClosed)),
            Ok(_) => Ok(true),
            Err(e) if e.kind() == std::io::ErrorKind::WouldBlock => Ok(false),
            Err(e) => {
                if e.kind() == std::io::ErrorKind::InvalidData {
                    self.complain(&format!("read error: {e}"));
                }
                Err(Stop::silent(CloseReason::ReadError))
            }
        }
    }

    /// Puts the next block into the buffer, if what is read is compressed and a whole block has come. One at a time: a
    /// few bytes can be compressed megabytes.
    pub(super) fn unpack(&mut self, input: &mut &[u8]) -> Result<bool, Stop> {
        let Some(decoder) = &mut self.decoder else { return Ok(false) };
        let unpacked = decoder.next(input, &mut self.buffer);
        if decoder.is_between_chunks() {
            decoder.shrink_to(READ_MAX);
        }
        unpacked.map_err(|error| {
            self.complain(&format!("read error: {error}"));
            Stop::silent(CloseReason::ReadError)
        })
    }

    /// Acts on what the buffer holds.
    pub(super) fn act_on_buffer(&mut self) -> Result<(), Stop> {
        self.keep_up();
        let was_plain = self.decoder.is_none();
        let buffer = std::mem::take(&mut self.buffer);
        let acted = self.act(&buffer);
        self.count();
        self.publisher.flush();
        let used = acted?;
        self.buffer = buffer;
        self.buffer.drain(..used);
        if was_plain && self.decoder.is_some() {
            // What came behind the last plain line is compressed.
            self.packed.append(&mut self.buffer);
        }
        if self.buffer.is_empty() {
            self.buffer.shrink_to(READ_MAX);
        }
        // A client that does not keep up is not waited for: the route carries the messages of others, too.
        self.publisher.take_slow();
        Ok(())
    }

    /// Acts on every whole operation, up to one behind which everything is compressed; returns how many bytes they took.
    pub(super) fn act(&mut self, buffer: &[u8]) -> Result<usize, Stop> {
        let was_plain = self.decoder.is_none();
        let mut at = 0;
        let mut form = self.form();
        loop {
            match parse(&buffer[at..], &form) {
                Parsed::Op(op, used) => {
                    at += used;
                    let was_established = self.established.is_some();
                    self.on_op(op)?;
                    if !was_established && self.established.is_some() {
                        form = self.form();
                    }
                    if was_plain && self.decoder.is_some() {
                        return Ok(at);
                    }
                }
                Parsed::Incomplete { .. } if self.is_strangers_message(&buffer[at..]) => {
                    return Err(self.closing(Closing::Said("Authorization Violation".to_owned())));
                }
                Parsed::Incomplete { .. } => return Ok(at),
                // As long as nobody knows who it is, what it says is judged by its first letter.
                Parsed::Error(Error::UnknownOperation) if self.is_no_connect(&buffer[at..]) => {
                    return Err(self.closing(Closing::Said("Authorization Violation".to_owned())));
                }
                Parsed::Error(error) => {
                    self.complain(&format!("Router protocol violation: {error}"));
                    return Err(refusal(error));
                }
            }
        }
    }

    /// True for what may have a body, from a connection of which nobody knows yet who it is: no byte of it is waited
    /// for.
    fn is_strangers_message(&self, bytes: &[u8]) -> bool {
        let begins_message = |first: &u8| matches!(first.to_ascii_uppercase(), b'R' | b'H' | b'L');
        self.established.is_none() && bytes.first().is_some_and(begins_message)
    }

    /// True if CONNECT is waited for and this cannot become it.
    fn is_no_connect(&self, bytes: &[u8]) -> bool {
        self.handshake.awaits_connect()
            && bytes.first().is_some_and(|first| !first.eq_ignore_ascii_case(&b'C'))
    }

    pub(super) fn form(&self) -> Form {
        Form { max_line: self.shared.config.load().max_control_line * LINE_FACTOR, ..self.route.form() }
    }

    pub(super) fn count(&mut self) {
        let (msgs, bytes) = (std::mem::take(&mut self.in_msgs), std::mem::take(&mut self.in_bytes));
        self.route.interests.store(self.remote.len(), Ordering::Relaxed);
        let conn = &self.route.conn;
        conn.in_msgs.fetch_add(msgs, Ordering::Relaxed);
        conn.in_bytes.fetch_add(bytes, Ordering::Relaxed);
        self.shared.stats.in_msgs.fetch_add(msgs, Ordering::Relaxed);
        self.shared.stats.in_bytes.fetch_add(bytes, Ordering::Relaxed);
        self.shared.stats.route_in_msgs.fetch_add(msgs, Ordering::Relaxed);
        self.shared.stats.route_in_bytes.fetch_add(bytes, Ordering::Relaxed);
        conn.timers.last_activity.store(self.shared.clock.mono().0, Ordering::Relaxed);
    }
}

fn refusal(error: Error) -> Stop {
    let reason = match error {
        Error::ControlLine => CloseReason::MaximumControlLineExceeded,
        _ => CloseReason::ProtocolViolation,
    };
    let said = match error {
        Error::Malformed | Error::HeadersUnsupported => None,
        _ => Some(error.to_string()),
    };
    Stop { reason, said }
}
