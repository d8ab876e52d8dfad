//! A pull consumer that reads a stream from its beginning.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};

use super::{Context, Goal, Storage, Workload};
use crate::clock;
use crate::conn::{Conn, Scratch};
use crate::frames::{self, Frame};
use crate::js::{Api, CONSUMER, STREAM, SUBJECT, StreamStorage, check_pub_ack};
use crate::measure::{Limit, Meter, Sample, histogram};
use crate::window::{self, Window};

/// Messages asked for by one request; two requests are open at a time.
const BATCH: u64 = 500;
const OPEN_REQUESTS: u64 = 2;

/// Messages stored for each second of measuring. Without acks more are needed for a time worth measuring.
const PER_SECOND_WITHOUT_ACK: f64 = 500_000.0;
const PER_SECOND_WITH_ACK: f64 = 300_000.0;

/// How long the last acknowledgements may take to be counted.
const ACK_TIMEOUT: Duration = Duration::from_secs(20);

pub(super) const WORKLOADS: &[Workload] = &[
    Workload {
        name: "js-pull-no-ack",
        about: "pull consumer without acks, batches of 500, stream on disk, 128 B, servers' default sync",
        storage: Storage::ServerDefault,
        servers: 1,
        goal: Goal::NONE,
        run: |context| pull(context, Acks::None),
    },
    Workload {
        name: "js-pull-explicit-ack",
        about: "pull consumer, every message acknowledged, batches of 500, stream on disk, 128 B, servers' default sync",
        storage: Storage::ServerDefault,
        servers: 1,
        goal: Goal::rate(1.5),
        run: |context| pull(context, Acks::Explicit),
    },
];

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Acks {
    None,
    Explicit,
}

fn pull(context: &Context<'_>, acks: Acks) -> Result<Sample> {
    let addr = context.target.addr;
    let mut api = Api::open(addr)?;
    api.delete_stream_if_any()?;
    api.create_stream(StreamStorage::File)?;
    pull_from(context, &mut api, addr, acks)
}

/// Fills the stream, which is empty, and reads it by the server at `addr`.
pub(super) fn pull_from(
    context: &Context<'_>,
    api: &mut Api,
    addr: SocketAddr,
    acks: Acks,
) -> Result<Sample> {
    let per_second = if acks == Acks::None { PER_SECOND_WITHOUT_ACK } else { PER_SECOND_WITH_ACK };
    let total = match context.limit {
        Limit::Time(time) => (time.as_secs_f64() * per_second).ceil() as u64,
        Limit::Messages(messages) => messages,
    };
    let warm_up = total / 10;
    let mut filler = Window::open(addr, SUBJECT, &[b'x'; 128], 1024)?;
    filler.run(Limit::Messages(total), &mut histogram()?, check_pub_ack).context("filling the stream")?;
    let policy = if acks == Acks::None { "none" } else { "explicit" };
    api.create_consumer(policy, BATCH * OPEN_REQUESTS * 2)?;

    let mut puller = Puller::open(addr, acks)?;
    puller.take(warm_up)?;
    let meter = Meter::start(context.target)?;
    puller.take(total - warm_up)?;
    if acks == Acks::Explicit {
        clock::wait_for("acknowledgement of every message", ACK_TIMEOUT, || {
            let state = api.consumer_state()?;
            Ok(state.ack_floor == total && state.ack_pending == 0)
        })?;
    }
    let sample = meter.finish(total - warm_up)?;
    let state = api.consumer_state()?;
    ensure!(state.delivered == total, "{total} messages arrived, the consumer counts {}", state.delivered);
    Ok(sample)
}

/// A client that keeps pull requests open.
struct Puller {
    conn: Conn,
    scratch: Scratch,
    inbox: String,
    acks: Acks,
}

impl Puller {
    fn open(addr: SocketAddr, acks: Acks) -> Result<Self> {
        let mut scratch = Scratch::large();
        let mut conn = Conn::open(addr, &mut scratch)?;
        let inbox = window::inbox();
        let mut line = Vec::new();
        frames::put_sub(&mut line, &inbox, None, 1);
        conn.send(&line)?;
        conn.flush(&mut scratch)?;
        Ok(Self { conn, scratch, inbox, acks })
    }

    /// Receives exactly this many messages, and acknowledges them where that is asked for.
    fn take(&mut self, wanted: u64) -> Result<()> {
        let next = format!("$JS.API.CONSUMER.MSG.NEXT.{STREAM}.{CONSUMER}");
        let (mut requested, mut received) = (0, 0);
        let mut out = Vec::new();
        while received < wanted {
            while requested < wanted && requested - received <= BATCH * (OPEN_REQUESTS - 1) {
                let batch = BATCH.min(wanted - requested);
                let body = format!("{{\"batch\":{batch},\"expires\":15000000000}}");
                frames::put_pub(&mut out, next.as_bytes(), Some(self.inbox.as_bytes()), body.as_bytes());
                requested += batch;
            }
            if !out.is_empty() {
                self.conn.send(&out)?;
                out.clear();
            }
            self.conn.read(&mut self.scratch, |frame| {
                let Frame::Msg(msg) = frame else { return Ok(()) };
                if let Some(status) = msg.status() {
                    bail!("a pull request ended with status {}", String::from_utf8_lossy(status));
                }
                received += 1;
                if self.acks == Acks::Explicit {
                    let reply = msg.reply().context("a message has no ack subject")?;
                    frames::put_pub(&mut out, reply, None, b"+ACK");
                }
                Ok(())
            })?;
        }
        ensure!(received == wanted, "{received} messages arrived, {wanted} were asked for");
        self.conn.send(&out)
    }
}
