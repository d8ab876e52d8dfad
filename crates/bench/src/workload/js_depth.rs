//! What streams do besides taking messages in: other streams that follow, readers of every form, keys and queues.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};

use super::{Context, Goal, Storage, Workload};
use crate::clock;
use crate::conn::{Conn, Scratch};
use crate::frames::{self, Frame, Msg};
use crate::js::{Api, STREAM, SUBJECT, check_pub_ack};
use crate::measure::{Limit, Meter, Sample, histogram};
use crate::traffic::WARM_UP_DIVISOR;
use crate::window::{self, Window};

/// Messages per second of measuring that are prepared.
const PER_SECOND: f64 = 250_000.0;
/// Of a filler's messages, one in this many is waited for.
const FILL_STEP: u64 = 1000;
/// Subjects of the workloads with many keys.
const KEYS: usize = 10_240;
const IN_FLIGHT: usize = 512;
/// How long a stream may take to follow another.
const FOLLOW_TIMEOUT: Duration = Duration::from_secs(120);
const PAYLOAD: [u8; 128] = [b'x'; 128];

pub(super) const WORKLOADS: &[Workload] = &[
    Workload {
        name: "js-many-subjects",
        about: "stream on disk, 512 publishes in flight to 10 240 subjects, 128 B, servers' default sync",
        storage: Storage::ServerDefault,
        servers: 1,
        goal: Goal::rate(1.5),
        run: |context| put(context, json!({})),
    },
    Workload {
        name: "js-kv-put",
        about: "as js-many-subjects, one message kept per subject, as key-value buckets do",
        storage: Storage::ServerDefault,
        servers: 1,
        goal: Goal::rate(1.5),
        run: |context| put(context, json!({"max_msgs_per_subject": 1, "discard": "new"})),
    },
    Workload {
        name: "js-kv-get",
        about: "direct get of the last message of a subject, 64 in flight, 128 B",
        storage: Storage::ServerDefault,
        servers: 1,
        goal: Goal::rate(1.5),
        run: get,
    },
    Workload {
        name: "js-kv-watch",
        about: "a watcher of 10 240 keys gets each change while 512 puts are in flight, 128 B",
        storage: Storage::ServerDefault,
        servers: 1,
        goal: Goal::rate(1.5),
        run: watch,
    },
    Workload {
        name: "js-ordered",
        about: "push consumer with flow control and heartbeats, as ordered consumers are, 128 B",
        storage: Storage::ServerDefault,
        servers: 1,
        goal: Goal::rate(1.5),
        run: |context| read(context, 1, "all"),
    },
    Workload {
        name: "js-last-per-subject",
        about: "push consumer of the newest message of each subject, as many subjects as messages, 128 B",
        storage: Storage::ServerDefault,
        servers: 1,
        goal: Goal::rate(1.5),
        run: |context| read(context, u64::MAX, "last_per_subject"),
    },
    Workload {
        name: "js-purge-subject",
        about: "purge of one of two subjects, messages removed per second",
        storage: Storage::ServerDefault,
        servers: 1,
        goal: Goal::rate(1.5),
        run: purge,
    },
    Workload {
        name: "js-mirror",
        about: "a mirror catches up with its origin on 1 000 subjects, both on disk, 128 B",
        storage: Storage::ServerDefault,
        servers: 1,
        goal: Goal::rate(1.5),
        run: |context| follow(context, "mirror"),
    },
    Workload {
        name: "js-source",
        about: "a stream takes over its source on 1 000 subjects, both on disk, 128 B",
        storage: Storage::ServerDefault,
        servers: 1,
        goal: Goal::rate(1.5),
        run: |context| follow(context, "sources"),
    },
];

fn prepared(context: &Context<'_>) -> u64 {
    match context.limit {
        Limit::Time(time) => (time.as_secs_f64() * PER_SECOND).ceil() as u64,
        Limit::Messages(messages) => messages,
    }
}

fn create(api: &mut Api, more: &Value) -> Result<()> {
    api.delete_stream_if_any()?;
    let mut config = json!({
        "name": STREAM, "subjects": [SUBJECT, format!("{SUBJECT}.*")], "allow_direct": true, "num_replicas": 1,
    });
    if let (Some(config), Some(more)) = (config.as_object_mut(), more.as_object()) {
        config.extend(more.clone());
    }
    api.call(&format!("STREAM.CREATE.{STREAM}"), &config).map(|_| ())
}

/// Stores messages on `subjects` subjects in turn.
fn fill(addr: SocketAddr, messages: u64, subjects: u64) -> Result<()> {
    let mut scratch = Scratch::large();
    let mut conn = Conn::open(addr, &mut scratch)?;
    let inbox = window::inbox();
    let mut out = Vec::new();
    frames::put_sub(&mut out, &inbox, None, 1);
    for n in 1..=messages {
        let is_last = n % FILL_STEP == 0 || n == messages;
        let subject = format!("{SUBJECT}.{}", n % subjects);
        frames::put_pub(&mut out, subject.as_bytes(), is_last.then_some(inbox.as_bytes()), &PAYLOAD);
        if is_last {
            conn.send(&out)?;
            out.clear();
            let mut is_answered = false;
            while !is_answered {
                conn.read(&mut scratch, |frame| {
                    if let Frame::Msg(msg) = frame {
                        is_answered = true;
                        check_pub_ack(&msg)?;
                    }
                    Ok(())
                })?;
            }
        }
    }
    Ok(())
}

fn put(context: &Context<'_>, more: Value) -> Result<Sample> {
    let addr = context.target.addr;
    let mut api = Api::open(addr)?;
    create(&mut api, &more)?;
    let subject = |n: usize| format!("{SUBJECT}.{n}");
    let mut window = Window::over(addr, subject, KEYS, &PAYLOAD, IN_FLIGHT)?;
    window.run(context.limit.fraction(WARM_UP_DIVISOR), &mut histogram()?, check_pub_ack)?;
    let mut latency = histogram()?;
    let meter = Meter::start(context.target)?;
    let acknowledged = window.run(context.limit, &mut latency, check_pub_ack)?;
    Ok(meter.finish(acknowledged)?.with_latency(&latency))
}

fn get(context: &Context<'_>) -> Result<Sample> {
    let addr = context.target.addr;
    let mut api = Api::open(addr)?;
    create(&mut api, &json!({}))?;
    fill(addr, KEYS as u64, KEYS as u64)?;
    let subject = |n: usize| format!("$JS.API.DIRECT.GET.{STREAM}.{SUBJECT}.{n}");
    let mut window = Window::over(addr, subject, KEYS, b"", 64)?;
    window.run(context.limit.fraction(WARM_UP_DIVISOR), &mut histogram()?, |_| Ok(()))?;
    let mut latency = histogram()?;
    let meter = Meter::start(context.target)?;
    let answered = window.run(context.limit, &mut latency, |msg| {
        ensure!(msg.payload == PAYLOAD.as_slice(), "a get was answered with another message");
        Ok(())
    })?;
    Ok(meter.finish(answered)?.with_latency(&latency))
}

/// Reads everything through a push consumer.
fn read(context: &Context<'_>, subjects: u64, deliver_policy: &str) -> Result<Sample> {
    let addr = context.target.addr;
    let total = prepared(context);
    let mut api = Api::open(addr)?;
    create(&mut api, &json!({}))?;
    fill(addr, total, subjects)?;
    let mut scratch = Scratch::large();
    let (mut conn, inbox) = listen(addr, &mut scratch)?;
    let meter = Meter::start(context.target)?;
    push_to(&mut api, &inbox, deliver_policy)?;
    receive(&mut conn, &mut scratch, total, |_| Ok(()))?;
    meter.finish(total)
}

/// A connection that is subscribed to an inbox.
fn listen(addr: SocketAddr, scratch: &mut Scratch) -> Result<(Conn, String)> {
    let mut conn = Conn::open(addr, scratch)?;
    let inbox = window::inbox();
    let mut out = Vec::new();
    frames::put_sub(&mut out, &inbox, None, 1);
    conn.send(&out)?;
    conn.flush(scratch)?;
    Ok((conn, inbox))
}

/// Creates a push consumer as clients do that read in order.
fn push_to(api: &mut Api, inbox: &str, deliver_policy: &str) -> Result<()> {
    let request = json!({
        "stream_name": STREAM,
        "config": {
            "deliver_subject": inbox, "deliver_policy": deliver_policy, "ack_policy": "none", "max_deliver": 1,
            "filter_subject": format!("{SUBJECT}.*"),
            "flow_control": true, "idle_heartbeat": 5_000_000_000_u64, "mem_storage": true, "num_replicas": 1,
        },
    });
    api.call(&format!("CONSUMER.CREATE.{STREAM}"), &request).map(|_| ())
}

/// A watcher that has seen every key gets what is put. The bucket keeps enough of each key that nothing is replaced
/// before the watcher has it.
fn watch(context: &Context<'_>) -> Result<Sample> {
    let addr = context.target.addr;
    let total = prepared(context);
    let mut api = Api::open(addr)?;
    create(&mut api, &json!({"max_msgs_per_subject": 64, "discard": "new"}))?;
    fill(addr, KEYS as u64, KEYS as u64)?;
    let mut scratch = Scratch::large();
    let (mut conn, inbox) = listen(addr, &mut scratch)?;
    push_to(&mut api, &inbox, "last_per_subject")?;
    receive(&mut conn, &mut scratch, KEYS as u64, |_| Ok(()))?;
    let subject = |n: usize| format!("{SUBJECT}.{n}");
    let mut window = Window::over(addr, subject, KEYS, &PAYLOAD, IN_FLIGHT)?;
    let meter = Meter::start(context.target)?;
    std::thread::scope(|scope| {
        let puts = scope.spawn(move || window.run(Limit::Messages(total), &mut histogram()?, check_pub_ack));
        receive(&mut conn, &mut scratch, total, |_| Ok(()))?;
        match puts.join() {
            Ok(put) => put.map(|_| ()),
            Err(panic) => std::panic::resume_unwind(panic),
        }
    })?;
    meter.finish(total)
}

/// Receives what a push consumer sends and answers its flow control, until `total` messages have come.
pub(super) fn receive(
    conn: &mut Conn,
    scratch: &mut Scratch,
    total: u64,
    mut check: impl FnMut(&Msg<'_>) -> Result<()>,
) -> Result<()> {
    let mut received = 0;
    let mut out = Vec::new();
    while received < total {
        conn.read(scratch, |frame| {
            let Frame::Msg(msg) = frame else { return Ok(()) };
            match (msg.status(), msg.reply()) {
                (None, _) => {
                    check(&msg)?;
                    received += 1;
                }
                (Some(_), Some(reply)) => frames::put_pub(&mut out, reply, None, b""),
                (Some(_), None) => {}
            }
            Ok(())
        })?;
        if !out.is_empty() {
            conn.send(&out)?;
            out.clear();
        }
    }
    Ok(())
}

fn purge(context: &Context<'_>) -> Result<Sample> {
    let total = prepared(context);
    let mut api = Api::open(context.target.addr)?;
    create(&mut api, &json!({}))?;
    fill(context.target.addr, total, 2)?;
    let meter = Meter::start(context.target)?;
    let answer = api.call(&format!("STREAM.PURGE.{STREAM}"), &json!({"filter": format!("{SUBJECT}.0")}))?;
    let purged = answer["purged"].as_u64().context("a purge says how much it removed")?;
    ensure!(purged == total / 2, "{purged} messages were purged, not {}", total / 2);
    meter.finish(purged)
}

/// Another stream takes everything over.
fn follow(context: &Context<'_>, role: &str) -> Result<Sample> {
    let addr = context.target.addr;
    let total = prepared(context);
    let mut api = Api::open(addr)?;
    let follower = format!("{STREAM}-{role}");
    api.delete_if_any(&follower)?;
    create(&mut api, &json!({}))?;
    fill(addr, total, 1000)?;
    let origin = json!({"name": STREAM});
    let config = match role {
        "mirror" => json!({"name": follower, "mirror": origin, "num_replicas": 1}),
        _ => json!({"name": follower, "sources": [origin], "num_replicas": 1}),
    };
    let meter = Meter::start(context.target)?;
    api.call(&format!("STREAM.CREATE.{follower}"), &config)?;
    clock::wait_for("the stream that follows", FOLLOW_TIMEOUT, || {
        Ok(api.call(&format!("STREAM.INFO.{follower}"), &Value::Null)?["state"]["messages"] == total)
    })?;
    meter.finish(total)
}
