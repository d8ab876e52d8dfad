//! Core messages at full speed: publishers that write prebuilt frames, subscribers that count.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use anyhow::{Context as _, Result, bail};

use crate::conn::{Conn, Scratch};
use crate::frames;
use crate::measure::{Limit, Meter, Sample};
use crate::readers::Readers;
use crate::target::Target;
use crate::{clock, stats};

/// Bytes per write of a publisher, unless every message of it is multiplied by a large fan-out.
const CHUNK_BYTES: usize = 64 * 1024;

/// Bytes that may be on their way to all subscribers together. It keeps a server that reads faster than this machine's
/// subscribers can from cutting them off as slow consumers, and is far more than the sockets' buffers hold.
const UNDELIVERED_BYTES_MAX: u64 = 16 * 1024 * 1024;

/// A warm-up lasts this part of the measurement.
pub(crate) const WARM_UP_DIVISOR: u32 = 4;

/// Whole frames, written at once.
#[derive(Clone, Debug)]
struct Chunk {
    bytes: Vec<u8>,
    messages: u64,
}

/// What one publisher writes, over and over.
#[derive(Clone, Debug)]
pub(crate) struct Feed {
    chunks: Vec<Chunk>,
}

impl Feed {
    /// The same payload to these subjects in turn.
    pub(crate) fn new<'a>(
        subjects: impl IntoIterator<Item = &'a str>,
        payload_bytes: usize,
        fan_out: u64,
    ) -> Self {
        let payload = vec![b'x'; payload_bytes];
        let mut frames = Vec::new();
        for subject in subjects {
            let mut frame = Vec::new();
            frames::put_pub(&mut frame, subject.as_bytes(), None, &payload);
            frames.push(frame);
        }
        let multiplied = usize::try_from(fan_out / 10).unwrap_or(usize::MAX).max(1);
        Self { chunks: chunks(&frames, (CHUNK_BYTES / multiplied).max(4096)) }
    }
}

/// Repeats the frames until they fill at least one chunk.
fn chunks(frames: &[Vec<u8>], chunk_bytes: usize) -> Vec<Chunk> {
    let mut done = Vec::new();
    let mut open = Chunk { bytes: Vec::new(), messages: 0 };
    loop {
        for frame in frames {
            open.bytes.extend_from_slice(frame);
            open.messages += 1;
            if open.bytes.len() >= chunk_bytes {
                done.push(std::mem::replace(&mut open, Chunk { bytes: Vec::new(), messages: 0 }));
            }
        }
        if frames.is_empty() || !done.is_empty() {
            break;
        }
    }
    if open.messages > 0 {
        done.push(open);
    }
    done
}

/// A pattern of publishers and subscribers.
#[derive(Clone, Debug)]
pub(crate) struct Traffic {
    /// One publishing connection each.
    pub(crate) feeds: Vec<Feed>,
    /// One subscribing connection each: its SUB lines.
    pub(crate) subscriptions: Vec<Vec<u8>>,
    /// Deliveries of every message.
    pub(crate) fan_out: u64,
    /// The size of a payload.
    pub(crate) payload_bytes: usize,
    /// SUB and UNSUB pairs per second by another connection meanwhile.
    pub(crate) churn_per_second: Option<u32>,
    /// The servers that subscribers are at, in turn. Publishers are at the first.
    pub(crate) places: &'static [usize],
}

impl Traffic {
    /// Warms the server up, then measures it.
    pub(crate) fn run(&self, target: &Target, limit: Limit) -> Result<Sample> {
        let mut scratch = Scratch::large();
        let mut subscribers = Vec::new();
        for (lines, place) in self.subscriptions.iter().zip(self.places.iter().cycle()) {
            let mut conn = Conn::open(target.addr_of(*place)?, &mut scratch)?;
            conn.send(lines)?;
            conn.flush(&mut scratch)?;
            subscribers.push(conn);
        }
        target.await_interest(self.places.iter().filter(|place| **place > 0).count())?;
        let readers = Readers::spawn(subscribers)?;
        let mut publishers = Vec::new();
        for _ in &self.feeds {
            publishers.push(Conn::open(target.addr, &mut scratch)?);
        }
        let Some(rate) = self.churn_per_second else {
            return self.measure(target, limit, &mut publishers, &readers);
        };
        let churner = Conn::open(target.addr, &mut scratch)?;
        let stop = AtomicBool::new(false);
        std::thread::scope(|scope| {
            let churn = scope.spawn(|| churn(churner, rate, &stop));
            let sample = self.measure(target, limit, &mut publishers, &readers);
            stop.store(true, Ordering::Release);
            let churn_rate = churn.join().map_err(|_| anyhow::anyhow!("the churning thread panicked"))??;
            Ok(Sample { churn_rate: Some(churn_rate), ..sample? })
        })
    }

    fn measure(
        &self,
        target: &Target,
        limit: Limit,
        publishers: &mut [Conn],
        readers: &Readers,
    ) -> Result<Sample> {
        self.phase(limit.fraction(WARM_UP_DIVISOR), publishers, readers)?;
        let meter = Meter::start(target)?;
        let published = self.phase(limit, publishers, readers)?;
        meter.finish(published * self.fan_out.max(1))
    }

    /// Publishes until the limit, then waits until everything has been processed and delivered.
    fn phase(&self, limit: Limit, publishers: &mut [Conn], readers: &Readers) -> Result<u64> {
        let received_before = readers.received();
        let published = AtomicU64::new(0);
        let pace = Pace {
            readers,
            received_before,
            published: &published,
            fan_out: self.fan_out,
            undelivered_max: UNDELIVERED_BYTES_MAX / (self.payload_bytes as u64 + 32),
        };
        let share = limit.share(publishers.len());
        std::thread::scope(|scope| {
            let threads: Vec<_> = publishers
                .iter_mut()
                .zip(&self.feeds)
                .map(|(conn, feed)| scope.spawn(|| publish(conn, feed, share, &pace)))
                .collect();
            threads.into_iter().try_for_each(|thread| {
                thread.join().map_err(|_| anyhow::anyhow!("a publishing thread panicked"))?
            })
        })?;
        let published = published.into_inner();
        readers.await_received(received_before + published * self.fan_out)?;
        Ok(published)
    }
}

/// Keeps publishers from running too far ahead of the subscribers.
struct Pace<'a> {
    readers: &'a Readers,
    received_before: u64,
    published: &'a AtomicU64,
    fan_out: u64,
    undelivered_max: u64,
}

impl Pace<'_> {
    fn count(&self, messages: u64) -> Result<()> {
        let published = self.published.fetch_add(messages, Ordering::AcqRel) + messages;
        if self.fan_out == 0 || self.is_near(published) {
            return Ok(());
        }
        clock::wait_for("delivery of earlier messages", Duration::from_secs(30), || {
            self.readers.check()?;
            Ok(self.is_near(published))
        })
    }

    fn is_near(&self, published: u64) -> bool {
        let delivered = self.readers.received() - self.received_before;
        (published * self.fan_out).saturating_sub(delivered) <= self.undelivered_max
    }
}

fn publish(conn: &mut Conn, feed: &Feed, limit: Limit, pace: &Pace<'_>) -> Result<()> {
    if feed.chunks.is_empty() {
        bail!("nothing to publish");
    }
    let budget = limit.begin();
    let mut sent = 0;
    for chunk in feed.chunks.iter().cycle() {
        if budget.is_spent(sent, clock::now()) {
            break;
        }
        conn.send(&chunk.bytes).context("publishing")?;
        sent += chunk.messages;
        pace.count(chunk.messages)?;
    }
    // The server's socket may hold megabytes: only the answer to a PING shows that all of it was read.
    conn.flush(&mut Scratch::large()).context("waiting for the server to read everything")
}

/// The time between two batches of a churning client.
const CHURN_TICK: Duration = Duration::from_millis(10);

/// Subscribes to new subjects and drops them one tick later, at a steady rate. Returns the rate that was reached.
fn churn(mut conn: Conn, per_second: u32, stop: &AtomicBool) -> Result<f64> {
    let mut scratch = Scratch::large();
    let per_tick = u64::from(per_second) / 100;
    let start = clock::now();
    let mut next = start;
    let mut sid = 1;
    let mut batch = Vec::new();
    while !stop.load(Ordering::Acquire) {
        batch.clear();
        for old in sid.max(per_tick + 1) - per_tick..sid {
            batch.extend_from_slice(format!("UNSUB {old}\r\n").as_bytes());
        }
        for new in sid..sid + per_tick {
            frames::put_sub(&mut batch, &format!("churn.{new}"), None, new);
        }
        sid += per_tick;
        conn.send(&batch)?;
        conn.flush(&mut scratch).context("churning")?;
        next += CHURN_TICK;
        clock::pace(next);
    }
    Ok(stats::per_second(sid - 1, start.elapsed().as_secs_f64()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn small_frames_fill_one_chunk() {
        let feed = Feed::new(["a"], 16, 1);
        assert_eq!(feed.chunks.len(), 1);
        assert!(feed.chunks[0].bytes.len() >= CHUNK_BYTES);
        assert_eq!(
            feed.chunks[0].messages as usize * "PUB a 16\r\n0123456789012345\r\n".len(),
            feed.chunks[0].bytes.len()
        );
    }

    #[test]
    fn every_subject_is_published_to() {
        let subjects: Vec<String> = (0..2000).map(|index| format!("s.{index}")).collect();
        let feed = Feed::new(subjects.iter().map(String::as_str), 128, 1);
        assert!(feed.chunks.len() > 1);
        assert_eq!(feed.chunks.iter().map(|chunk| chunk.messages).sum::<u64>(), 2000);
    }

    #[test]
    fn large_fan_out_makes_small_chunks() {
        assert!(Feed::new(["a"], 128, 100).chunks[0].bytes.len() < CHUNK_BYTES / 5);
    }
}
