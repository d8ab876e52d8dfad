//! What applications build on streams: objects in chunks, queues of work.

use std::net::SocketAddr;

use anyhow::{Context as _, Result, bail, ensure};
use rustix::buffer::spare_capacity;
use rustix::event::epoll;
use serde_json::json;

use super::js_depth::receive;
use super::{Context, Goal, Storage, Workload};
use crate::conn::{Conn, Scratch};
use crate::frames::{self, Frame};
use crate::js::{Api, CONSUMER, STREAM, SUBJECT, StreamStorage, check_pub_ack};
use crate::measure::{Limit, Meter, Sample, histogram};
use crate::window::{self, Window};

/// Bytes of an object's chunk, as clients cut them.
const CHUNK: usize = 128 * 1024;
/// Chunks that are on their way at a time.
const CHUNKS_IN_FLIGHT: usize = 16;
/// Chunks stored for each second of reading.
const CHUNKS_PER_SECOND: f64 = 4_000.0;
const WORKERS: usize = 100;
/// Jobs that a worker asks for at once.
const BATCH: u64 = 10;
/// Jobs prepared for each second of measuring.
const JOBS_PER_SECOND: f64 = 200_000.0;

pub(super) const WORKLOADS: &[Workload] = &[
    Workload {
        name: "js-object-put",
        about: "chunks of 128 KiB, 16 in flight, to one subject of a stream on disk",
        storage: Storage::AsAsked,
        servers: 1,
        goal: Goal::rate(1.5),
        run: put,
    },
    Workload {
        name: "js-object-put-defaults",
        about: "the same with each server's own sync setting",
        storage: Storage::ServerDefault,
        servers: 1,
        goal: Goal::rate(1.5),
        run: put,
    },
    Workload {
        name: "js-object-get",
        about: "push consumer with flow control over chunks of 128 KiB, as objects are read",
        storage: Storage::ServerDefault,
        servers: 1,
        goal: Goal::rate(1.5),
        run: get,
    },
    Workload {
        name: "js-work-queue",
        about: "100 workers on connections of their own take jobs of 128 B, 10 at a time, and acknowledge each",
        storage: Storage::ServerDefault,
        servers: 1,
        goal: Goal::rate(1.5),
        run: work,
    },
];

fn prepared(context: &Context<'_>, per_second: f64) -> u64 {
    match context.limit {
        Limit::Time(time) => (time.as_secs_f64() * per_second).ceil() as u64,
        Limit::Messages(messages) => messages,
    }
}

fn put(context: &Context<'_>) -> Result<Sample> {
    let addr = context.target.addr;
    let mut api = Api::open(addr)?;
    api.delete_stream_if_any()?;
    api.create_stream(StreamStorage::File)?;
    let mut window = Window::open(addr, SUBJECT, &vec![b'x'; CHUNK], CHUNKS_IN_FLIGHT)?;
    window.run(Limit::Messages(CHUNKS_IN_FLIGHT as u64), &mut histogram()?, check_pub_ack)?;
    let mut latency = histogram()?;
    let meter = Meter::start(context.target)?;
    let stored = window.run(context.limit, &mut latency, check_pub_ack)?;
    Ok(meter.finish(stored)?.with_latency(&latency))
}

fn get(context: &Context<'_>) -> Result<Sample> {
    let addr = context.target.addr;
    let total = prepared(context, CHUNKS_PER_SECOND);
    let mut api = Api::open(addr)?;
    api.delete_stream_if_any()?;
    api.create_stream(StreamStorage::File)?;
    let mut filler = Window::open(addr, SUBJECT, &vec![b'x'; CHUNK], CHUNKS_IN_FLIGHT)?;
    filler.run(Limit::Messages(total), &mut histogram()?, check_pub_ack).context("filling the stream")?;
    let mut scratch = Scratch::large();
    let mut conn = Conn::open(addr, &mut scratch)?;
    let inbox = window::inbox();
    let mut out = Vec::new();
    frames::put_sub(&mut out, &inbox, None, 1);
    conn.send(&out)?;
    conn.flush(&mut scratch)?;
    let meter = Meter::start(context.target)?;
    let request = json!({
        "stream_name": STREAM,
        "config": {
            "deliver_subject": inbox, "deliver_policy": "all", "ack_policy": "none", "max_deliver": 1,
            "flow_control": true, "idle_heartbeat": 5_000_000_000_u64, "mem_storage": true, "num_replicas": 1,
        },
    });
    api.call(&format!("CONSUMER.CREATE.{STREAM}"), &request)?;
    receive(&mut conn, &mut scratch, total, |msg| {
        ensure!(msg.payload.len() == CHUNK, "a chunk has {} bytes", msg.payload.len());
        Ok(())
    })?;
    meter.finish(total)
}

fn work(context: &Context<'_>) -> Result<Sample> {
    let addr = context.target.addr;
    let total = prepared(context, JOBS_PER_SECOND);
    let warm_up = total / 10;
    let mut api = Api::open(addr)?;
    api.delete_stream_if_any()?;
    let config = json!({
        "name": STREAM, "subjects": [SUBJECT], "retention": "workqueue", "num_replicas": 1,
    });
    api.call(&format!("STREAM.CREATE.{STREAM}"), &config)?;
    let mut filler = Window::open(addr, SUBJECT, &[b'x'; 128], 1024)?;
    filler.run(Limit::Messages(total), &mut histogram()?, check_pub_ack).context("filling the stream")?;
    api.create_consumer("explicit", WORKERS as u64 * BATCH * 2)?;
    let mut workers = Workers::open(addr)?;
    workers.take(warm_up)?;
    let meter = Meter::start(context.target)?;
    workers.take(total - warm_up)?;
    let sample = meter.finish(total - warm_up)?;
    crate::clock::wait_for("an empty queue", std::time::Duration::from_secs(20), || {
        Ok(api.stream_messages()? == 0)
    })?;
    Ok(sample)
}

/// Connections that take jobs, turned by one thread.
struct Workers {
    epoll: rustix::fd::OwnedFd,
    workers: Vec<Worker>,
    scratch: Scratch,
    /// The request for the next jobs, without who asks.
    next: String,
}

struct Worker {
    conn: Conn,
    inbox: String,
    /// Jobs asked for and not there yet.
    owed: u64,
}

impl Workers {
    fn open(addr: SocketAddr) -> Result<Self> {
        let epoll = epoll::create(epoll::CreateFlags::CLOEXEC).context("epoll_create")?;
        let mut scratch = Scratch::large();
        let mut workers = Vec::with_capacity(WORKERS);
        for index in 0..WORKERS {
            let mut conn = Conn::open(addr, &mut scratch)?;
            let inbox = window::inbox();
            let mut line = Vec::new();
            frames::put_sub(&mut line, &inbox, None, 1);
            conn.send(&line)?;
            conn.flush(&mut scratch)?;
            let data = epoll::EventData::new_u64(index as u64);
            epoll::add(&epoll, conn.stream(), data, epoll::EventFlags::IN).context("epoll_ctl")?;
            workers.push(Worker { conn, inbox, owed: 0 });
        }
        let next = format!("$JS.API.CONSUMER.MSG.NEXT.{STREAM}.{CONSUMER}");
        Ok(Self { epoll, workers, scratch, next })
    }

    /// Takes exactly this many jobs and acknowledges them.
    fn take(&mut self, wanted: u64) -> Result<()> {
        let (mut requested, mut received) = (0, 0);
        let mut out = Vec::new();
        for at in 0..self.workers.len() {
            self.ask(at, wanted, &mut requested, &mut out)?;
        }
        let mut events = Vec::with_capacity(WORKERS);
        while received < wanted {
            events.clear();
            match epoll::wait(&self.epoll, spare_capacity(&mut events), None) {
                Ok(_) | Err(rustix::io::Errno::INTR) => {}
                Err(errno) => return Err(errno).context("epoll_wait"),
            }
            for event in &events {
                let at = usize::try_from(event.data.u64()).unwrap_or(usize::MAX);
                let Some(worker) = self.workers.get_mut(at) else { continue };
                worker.conn.read(&mut self.scratch, |frame| {
                    let Frame::Msg(msg) = frame else { return Ok(()) };
                    if let Some(status) = msg.status() {
                        bail!("a pull request ended with status {}", String::from_utf8_lossy(status));
                    }
                    let reply = msg.reply().context("a message has no ack subject")?;
                    frames::put_pub(&mut out, reply, None, b"+ACK");
                    received += 1;
                    worker.owed = worker.owed.saturating_sub(1);
                    Ok(())
                })?;
                self.ask(at, wanted, &mut requested, &mut out)?;
            }
        }
        ensure!(received == wanted, "{received} jobs arrived, {wanted} were asked for");
        Ok(())
    }

    /// Sends what a worker has to say; one without a job asks for more.
    fn ask(&mut self, at: usize, wanted: u64, requested: &mut u64, out: &mut Vec<u8>) -> Result<()> {
        let Some(worker) = self.workers.get_mut(at) else { return Ok(()) };
        let batch = BATCH.min(wanted - *requested);
        if worker.owed == 0 && batch > 0 {
            let body = format!("{{\"batch\":{batch},\"expires\":15000000000}}");
            frames::put_pub(out, self.next.as_bytes(), Some(worker.inbox.as_bytes()), body.as_bytes());
            worker.owed = batch;
            *requested += batch;
        }
        let outcome = if out.is_empty() { Ok(()) } else { worker.conn.send(out) };
        out.clear();
        outcome
    }
}
