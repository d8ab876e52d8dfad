//! Verifies everything that streams keep in block files, a little at a time: damage is found before somebody wants to
//! read what is damaged.
//!
//! One task goes through the streams in the order of their groups, block by block. A disk thread reads a piece when it
//! has nothing else to do; then the task rests so that the configured rate is kept. Where it is stands in a file, so a
//! pass goes on after a restart; without that file, a pass begins an interval from now. Memory: one piece, and what is
//! shared with the block that is being read.

use std::io;
use std::path::Path;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Weak};
use std::time::Duration;

use linnet_assets::{Command, CommandOutcome};
use linnet_env::Disk;
use linnet_ids::{GroupId, Mono, Wall};
use linnet_store::{PinReader, Verified};
use serde::{Deserialize, Serialize};
use tokio::sync::oneshot;

use crate::disk_work::DiskWork;
use crate::engine::Engine;
use crate::inbox::StreamInbox;

/// Name of the file that says how far verifying has come.
const FILE: &str = "scrub";
/// Bytes read by one job.
const PIECE: u64 = 256 << 10;
/// What asking a stream for its next block counts as, so that many small streams are not asked all at once.
const ASKING: u64 = 4 << 10;
/// How long a stream may take to answer.
const ANSWER_MAX: Duration = Duration::from_secs(30);
/// How often it is looked whether a pass is due.
const LOOK_EVERY: Duration = Duration::from_secs(60);
/// How often progress is recorded.
const SAVE_EVERY: Duration = Duration::from_secs(30);
/// How long to stay away while the disk is behind with other work.
const PRESSED: Duration = Duration::from_millis(250);

/// How stored messages are verified in the background.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ScrubConfig {
    /// From the end of one pass to the beginning of the next; zero for never.
    pub interval: Duration,
    /// Bytes a second.
    pub rate: u64,
}

impl Default for ScrubConfig {
    fn default() -> Self {
        Self { interval: Duration::from_secs(7 * 24 * 3600), rate: 8 << 20 }
    }
}

/// How far verifying has come.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ScrubReport {
    /// When the last pass ended, or the store was first opened; nanoseconds since the Unix epoch.
    since: i64,
    /// The last complete pass.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last: Option<ScrubPass>,
    /// The one under way.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub current: Option<ScrubPass>,
}

/// One pass over all streams.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ScrubPass {
    /// When it began.
    pub began: i64,
    /// When it ended; 0 while it is under way.
    pub ended: i64,
    /// Intact messages.
    pub msgs: u64,
    /// Bytes looked at.
    pub bytes: u64,
    /// Messages that it found to be damaged.
    pub damaged: u64,
    /// Messages that the disk did not give.
    pub unread: u64,
    /// The group it has come to, and the sequence.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    at: Option<(String, u64)>,
}

impl ScrubReport {
    /// What a store directory says; from now on if it says nothing.
    pub(crate) fn load(disk: &dyn Disk, dir: &Path, now: Wall) -> Self {
        let path = dir.join(FILE);
        let fresh = Self { since: now.0, ..Self::default() };
        let found = disk.exists(&path).and_then(|there| there.then(|| disk.read(&path)).transpose());
        let parsed = found.and_then(|bytes| match bytes {
            Some(bytes) => Ok(Some(serde_json::from_slice(&bytes).map_err(io::Error::other)?)),
            None => Ok(None),
        });
        match parsed {
            Ok(Some(report)) => report,
            Ok(None) => {
                fresh.save(disk, dir);
                fresh
            }
            Err(e) => {
                tracing::warn!("  {}: {e}; verifying of stored messages begins anew", path.display());
                fresh
            }
        }
    }

    fn save(&self, disk: &dyn Disk, dir: &Path) {
        // Plain data: writing it to memory cannot fail.
        let json = serde_json::to_vec(self).expect("progress serialises");
        let path = dir.join(FILE);
        if let Err(e) = disk.replace(&path, &json) {
            tracing::warn!("Recording how far stored messages are verified, in {}: {e}", path.display());
        }
    }

    /// Time until the next pass. A clock that was set back does not put it off.
    fn wait(&self, now: Wall, interval: Duration) -> Duration {
        if self.current.is_some() {
            return Duration::ZERO;
        }
        let passed = Duration::from_nanos(u64::try_from(now.0.saturating_sub(self.since)).unwrap_or(0));
        interval.saturating_sub(passed)
    }

    /// The pass under way, begun if there is none.
    fn pass(&mut self, now: Wall) -> &mut ScrubPass {
        self.current.get_or_insert_with(|| ScrubPass { began: now.0, ..ScrubPass::default() })
    }

    fn end_pass(&mut self, now: Wall) {
        let Some(pass) = self.current.take() else { return };
        tracing::info!(
            "Verified {} stored messages ({} bytes): {} newly found to be damaged",
            pass.msgs,
            pass.bytes,
            pass.damaged
        );
        self.since = now.0;
        self.last = Some(ScrubPass { ended: now.0, at: None, ..pass });
    }
}

/// A piece for a disk thread.
pub(crate) struct ScrubPiece {
    reader: PinReader,
    done: oneshot::Sender<(PinReader, Verified)>,
}

impl ScrubPiece {
    /// A piece of what is read, and where the outcome comes.
    pub(crate) fn new(reader: PinReader) -> (Self, oneshot::Receiver<(PinReader, Verified)>) {
        let (done, outcome) = oneshot::channel();
        (Self { reader, done }, outcome)
    }

    /// Reads and verifies; blocks.
    pub(crate) fn run(mut self) {
        let verified = self.reader.verify(PIECE);
        let _ = self.done.send((self.reader, verified));
    }
}

/// The stream that is verified.
struct Target {
    group: GroupId,
    /// Gone when the stream is deleted.
    inbox: Weak<StreamInbox>,
    name: String,
}

impl Target {
    /// `None` if the stream is not served, or is deleted in this moment, which nobody answers.
    async fn ask(&self, command: Command) -> Option<CommandOutcome> {
        let asked = self.inbox.upgrade()?.command(command);
        tokio::time::timeout(ANSWER_MAX, asked).await.ok()?.ok()?.ok()
    }
}

/// Starts verifying, unless it is switched off.
pub(crate) fn start(engine: &Arc<Engine>) {
    if engine.config.scrub.interval.is_zero() {
        return;
    }
    let engine = Arc::downgrade(engine);
    tokio::spawn(async move { while Scrubber::turn(&engine).await.is_some() {} });
}

/// One look at whether a pass is due, and the pass.
struct Scrubber {
    engine: Weak<Engine>,
    saved: Mono,
}

impl Scrubber {
    async fn turn(weak: &Weak<Engine>) -> Option<()> {
        let wait = {
            let engine = running(weak)?;
            let wall = engine.broker.clock().wall();
            let mut scrub = engine.scrub.lock();
            scrub.since = scrub.since.min(wall.0);
            scrub.wait(wall, engine.config.scrub.interval)
        };
        if !wait.is_zero() {
            tokio::time::sleep(wait.min(LOOK_EVERY)).await;
            return Some(());
        }
        let saved = running(weak)?.broker.clock().mono();
        Self { engine: weak.clone(), saved }.pass().await
    }

    /// One pass over everything, from where the one before was cut off.
    async fn pass(mut self) -> Option<()> {
        let begin = {
            let engine = running(&self.engine)?;
            let at = engine.scrub.lock().pass(engine.broker.clock().wall()).at.clone();
            at.and_then(|(group, seq)| Some((GroupId::parse(&group)?, seq)))
        };
        let (group, from) = begin.unwrap_or((GroupId::META, 0));
        for target in targets_from(&*running(&self.engine)?, group) {
            let mut from = if target.group == group { from } else { 0 };
            while let Some(next) = self.block(&target, from).await? {
                from = next;
            }
        }
        let engine = running(&self.engine)?;
        engine.scrub.lock().end_pass(engine.broker.clock().wall());
        self.save(&engine).await;
        Some(())
    }

    /// Verifies the next block of a stream: where the one behind it begins, or `None` if there is none.
    async fn block(&mut self, target: &Target, from: u64) -> Option<Option<u64>> {
        while running(&self.engine)?.is_pressed() {
            tokio::time::sleep(PRESSED).await;
        }
        let Some(CommandOutcome::Block(Some(block))) = target.ask(Command::PinBlock(from)).await else {
            self.rest(ASKING).await;
            return Some(None);
        };
        let mut reader = block.messages.read();
        loop {
            let (piece, outcome) = ScrubPiece::new(reader);
            running(&self.engine)?.workers().submit(DiskWork::Scrub(Box::new(piece)));
            let (returned, verified) = outcome.await.ok()?;
            reader = returned;
            let (bytes, is_done) = (verified.bytes, verified.is_done);
            self.note(target, verified).await?;
            if is_done {
                break;
            }
            self.rest(bytes).await;
        }
        drop(reader);
        // Files that were kept for this may go.
        if let Some(inbox) = target.inbox.upgrade() {
            inbox.nudge();
        }
        let engine = running(&self.engine)?;
        let now = engine.broker.clock().wall();
        engine.scrub.lock().pass(now).at = Some((target.group.to_string(), block.next));
        if engine.broker.clock().mono().since(self.saved) >= SAVE_EVERY {
            self.save(&engine).await;
        }
        drop(engine);
        self.rest(ASKING).await;
        Some(Some(block.next))
    }

    /// Counts what a piece came to; damage is the stream's to tell.
    async fn note(&self, target: &Target, verified: Verified) -> Option<()> {
        {
            let engine = running(&self.engine)?;
            let now = engine.broker.clock().wall();
            let mut scrub = engine.scrub.lock();
            let pass = scrub.pass(now);
            pass.msgs += verified.msgs;
            pass.bytes += verified.bytes;
            pass.damaged += verified.damaged.len() as u64;
            pass.unread += verified.unread.len() as u64;
        }
        if let Some(error) = verified.unread.first() {
            let count = verified.unread.len();
            tracing::warn!("Stream '{}': {count} messages could not be verified: {error}", target.name);
        }
        if let Some(first) = verified.damaged.first() {
            let (file, offset) = (first.file.display(), first.offset);
            tracing::error!("Stream '{}': damage in {file} at byte {offset}", target.name);
            let sequences = verified.damaged.iter().map(|damaged| damaged.seq).collect();
            target.ask(Command::NoteDamage(sequences)).await;
        }
        Some(())
    }

    /// Stays away for as long as so many bytes may take.
    async fn rest(&self, bytes: u64) {
        let Some(rate) = running(&self.engine).map(|engine| engine.config.scrub.rate.max(1)) else { return };
        let nanos = u128::from(bytes) * 1_000_000_000 / u128::from(rate);
        tokio::time::sleep(Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX))).await;
    }

    async fn save(&mut self, engine: &Arc<Engine>) {
        self.saved = engine.broker.clock().mono();
        let (disk, dir, report) =
            (engine.disk().clone(), engine.dir().to_owned(), engine.scrub.lock().clone());
        // It fails only if the process ends.
        let _ = tokio::task::spawn_blocking(move || report.save(&*disk, &dir)).await;
    }
}

/// The engine, unless it is being stopped.
fn running(engine: &Weak<Engine>) -> Option<Arc<Engine>> {
    engine.upgrade().filter(|engine| !engine.stopped.load(Ordering::Relaxed))
}

/// The catalogue and the streams in files from a group on, in order. Those that come later are for the next pass.
fn targets_from(engine: &Engine, group: GroupId) -> Vec<Target> {
    let name = "catalogue of streams".to_owned();
    let mut targets = vec![Target { group: GroupId::META, inbox: Arc::downgrade(&engine.meta), name }];
    for account in engine.accounts() {
        let streams = account.streams().into_iter();
        targets.extend(streams.filter(|s| !s.cell.is_memory() && s.lost.is_none()).map(|s| Target {
            group: s.group,
            inbox: Arc::downgrade(&s.inbox),
            name: format!("{} > {}", account.name(), s.config().name),
        }));
    }
    targets.retain(|target| target.group >= group);
    targets.sort_by_key(|target| target.group);
    targets
}

#[cfg(test)]
mod tests {
    use linnet_env::FaultyDisk;

    use super::*;

    const HOUR: Duration = Duration::from_secs(3600);

    fn hours(n: i64) -> Wall {
        Wall(n * 3_600_000_000_000)
    }

    #[test]
    fn a_new_store_is_verified_an_interval_later_also_if_it_is_opened_again_meanwhile() {
        let disk = FaultyDisk::new(1);
        let dir = Path::new("/store");
        disk.create_dir_all(dir).unwrap();
        assert_eq!(ScrubReport::load(&disk, dir, hours(5)).wait(hours(5), HOUR), HOUR);
        let again = ScrubReport::load(&disk, dir, hours(6));
        assert_eq!(again.wait(hours(6), HOUR), Duration::ZERO);
        assert_eq!(again.wait(hours(6), 3 * HOUR), 2 * HOUR);
        assert_eq!(again.wait(hours(1), HOUR), HOUR, "the clock was set back");
    }

    #[test]
    fn a_pass_goes_on_where_it_was_and_counts_on() {
        let disk = FaultyDisk::new(1);
        let dir = Path::new("/store");
        disk.create_dir_all(dir).unwrap();
        let mut report = ScrubReport::load(&disk, dir, hours(0));
        let pass = report.pass(hours(1));
        (pass.msgs, pass.at) = (7, Some((GroupId::META.to_string(), 8)));
        report.save(&disk, dir);
        let mut again = ScrubReport::load(&disk, dir, hours(2));
        assert_eq!(again, report);
        assert_eq!(again.wait(hours(2), HOUR), Duration::ZERO);
        again.end_pass(hours(3));
        let last = again.last.clone().unwrap();
        assert_eq!((last.began, last.ended, last.msgs), (hours(1).0, hours(3).0, 7));
        assert_eq!(again.wait(hours(3), HOUR), HOUR);
    }

    #[test]
    fn progress_that_cannot_be_read_is_begun_anew() {
        let disk = FaultyDisk::new(1);
        let dir = Path::new("/store");
        disk.create_dir_all(dir).unwrap();
        disk.replace(&dir.join(FILE), b"{").unwrap();
        let report = ScrubReport::load(&disk, dir, hours(4));
        assert_eq!(report.wait(hours(4), HOUR), HOUR);
    }
}
