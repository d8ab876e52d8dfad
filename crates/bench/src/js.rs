//! JetStream's API by raw requests.

use std::net::SocketAddr;

use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use serde_json::{Value, json};

use crate::clock;
use crate::conn::{Conn, Scratch};
use crate::frames::{self, Frame, Msg};
use crate::window;

/// The stream of all workloads.
pub(crate) const STREAM: &str = "BENCH";
/// The subject it stores.
pub(crate) const SUBJECT: &str = "bench.js";
/// The consumer of the workloads that have one.
pub(crate) const CONSUMER: &str = "PULL";

/// Where a stream keeps its messages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum StreamStorage {
    /// Files.
    File,
    /// Memory.
    Memory,
}

/// How long a cluster may take until it creates a stream.
const CREATED_WITHIN: Duration = Duration::from_secs(30);
/// The API's code for a cluster that has no leader yet, or not enough servers.
const NOT_YET: [u64; 2] = [10008, 10005];

/// A client of the API: one request at a time.
#[derive(Debug)]
pub(crate) struct Api {
    conn: Conn,
    scratch: Scratch,
    inbox: String,
}

impl Api {
    /// Connects.
    pub(crate) fn open(addr: SocketAddr) -> Result<Self> {
        let mut scratch = Scratch::large();
        let mut conn = Conn::open(addr, &mut scratch)?;
        let inbox = window::inbox();
        let mut line = Vec::new();
        frames::put_sub(&mut line, &format!("{inbox}.*"), None, 1);
        conn.send(&line)?;
        Ok(Self { conn, scratch, inbox })
    }

    /// Creates the stream with one replica.
    pub(crate) fn create_stream(&mut self, storage: StreamStorage) -> Result<()> {
        self.call(&format!("STREAM.CREATE.{STREAM}"), &stream(storage, 1)).map(|_| ())
    }

    /// Creates the stream in a cluster, once that can. The name of the server that leads it.
    pub(crate) fn create_replicated_stream(
        &mut self,
        storage: StreamStorage,
        replicas: usize,
    ) -> Result<String> {
        let mut leader = None;
        clock::wait_for("a replicated stream", CREATED_WITHIN, || {
            let answer = self.exchange(&format!("STREAM.CREATE.{STREAM}"), &stream(storage, replicas))?;
            let code = answer.pointer("/error/err_code").and_then(Value::as_u64);
            if code.is_none_or(|code| !NOT_YET.contains(&code)) && answer.get("error").is_some() {
                bail!("the stream was refused: {answer}");
            }
            leader = answer.pointer("/cluster/leader").and_then(Value::as_str).map(str::to_owned);
            Ok(leader.is_some())
        })?;
        leader.context("nobody leads the stream")
    }

    /// Removes the stream. On a server that runs already, an earlier workload's is in the way.
    pub(crate) fn delete_stream_if_any(&mut self) -> Result<()> {
        self.delete_if_any(STREAM)
    }

    /// Removes a stream, if it is there.
    pub(crate) fn delete_if_any(&mut self, stream: &str) -> Result<()> {
        let answer = self.exchange(&format!("STREAM.DELETE.{stream}"), &Value::Null)?;
        match answer.pointer("/error/err_code").and_then(Value::as_u64) {
            // The API's code for a stream that does not exist.
            None | Some(10059) => Ok(()),
            Some(_) => bail!("the stream cannot be deleted: {answer}"),
        }
    }

    /// The number of messages the stream says it holds.
    pub(crate) fn stream_messages(&mut self) -> Result<u64> {
        let info = self.call(&format!("STREAM.INFO.{STREAM}"), &Value::Null)?;
        number(&info, "/state/messages")
    }

    /// Creates the pull consumer.
    pub(crate) fn create_consumer(&mut self, ack_policy: &str, ack_pending_max: u64) -> Result<()> {
        let request = json!({
            "stream_name": STREAM,
            "config": {
                "name": CONSUMER, "durable_name": CONSUMER, "deliver_policy": "all", "ack_policy": ack_policy,
                "max_ack_pending": if ack_policy == "none" { 0 } else { ack_pending_max },
                "replay_policy": "instant",
            },
        });
        self.call(&format!("CONSUMER.CREATE.{STREAM}.{CONSUMER}"), &request).map(|_| ())
    }

    /// How far the consumer is.
    pub(crate) fn consumer_state(&mut self) -> Result<ConsumerState> {
        let info = self.call(&format!("CONSUMER.INFO.{STREAM}.{CONSUMER}"), &Value::Null)?;
        Ok(ConsumerState {
            delivered: number(&info, "/delivered/stream_seq")?,
            ack_floor: number(&info, "/ack_floor/stream_seq")?,
            ack_pending: number(&info, "/num_ack_pending")?,
        })
    }

    /// The answer to a call; an error if it is refused.
    pub(crate) fn call(&mut self, call: &str, body: &Value) -> Result<Value> {
        let answer = self.exchange(call, body)?;
        match answer.get("error") {
            Some(error) => bail!("{call} was refused: {error}"),
            None => Ok(answer),
        }
    }

    fn exchange(&mut self, call: &str, body: &Value) -> Result<Value> {
        let payload = if body.is_null() { String::new() } else { body.to_string() };
        let reply = format!("{}.1", self.inbox);
        let mut frame = Vec::new();
        frames::put_pub(
            &mut frame,
            format!("$JS.API.{call}").as_bytes(),
            Some(reply.as_bytes()),
            payload.as_bytes(),
        );
        self.conn.send(&frame)?;
        let mut answer = None;
        while answer.is_none() {
            self.conn.read(&mut self.scratch, |frame| {
                if let Frame::Msg(msg) = frame {
                    answer = Some(parse(&msg).with_context(|| format!("the answer to {call}"))?);
                }
                Ok(())
            })?;
        }
        answer.context("no answer")
    }
}

/// How far a consumer is, in stream sequences.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct ConsumerState {
    /// The last message that was delivered.
    pub(crate) delivered: u64,
    /// Everything up to it is acknowledged.
    pub(crate) ack_floor: u64,
    /// Delivered and not acknowledged.
    pub(crate) ack_pending: u64,
}

/// The configuration of the stream.
fn stream(storage: StreamStorage, replicas: usize) -> Value {
    let storage = match storage {
        StreamStorage::File => "file",
        StreamStorage::Memory => "memory",
    };
    json!({
        "name": STREAM, "subjects": [SUBJECT], "storage": storage, "retention": "limits", "discard": "old",
        "num_replicas": replicas, "max_consumers": -1, "max_msgs": -1, "max_bytes": -1, "max_age": 0,
    })
}

fn parse(msg: &Msg<'_>) -> Result<Value> {
    if let Some(status) = msg.status() {
        bail!("status {}: is JetStream enabled?", String::from_utf8_lossy(status));
    }
    serde_json::from_slice(msg.payload).context("not JSON")
}

fn number(value: &Value, pointer: &str) -> Result<u64> {
    value.pointer(pointer).and_then(Value::as_u64).with_context(|| format!("no {pointer} in {value}"))
}

/// Whether a publish was acknowledged and not refused.
pub(crate) fn check_pub_ack(msg: &Msg<'_>) -> Result<()> {
    let has = |part: &[u8]| memchr::memmem::find(msg.payload, part).is_some();
    if has(b"\"error\"") || !has(b"\"seq\"") {
        bail!("a publish was answered with {}", String::from_utf8_lossy(msg.payload));
    }
    Ok(())
}
