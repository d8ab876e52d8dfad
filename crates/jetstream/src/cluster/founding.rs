//! How the meta group of a domain comes into being: runs the ballot of rule R6.

mod file;
mod task;
#[cfg(test)]
mod tests;

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use linnet_env::{Disk, OsRng, Rng};
use linnet_raft::Incarnation;
use linnet_replication::raft::{ClusterId, Founding};
use parking_lot::Mutex;
use tokio::sync::{mpsc, oneshot, watch};

use super::link::Link;
use file::RecordFile;
use task::{Command, Task};

/// Words of other servers that wait; further ones are lost, and said again.
const MAIL_MAX: usize = 1024;

/// Where a server stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Foundation {
    /// Nothing is founded, as far as it knows. It was founded before and is not any more: what this server founded can
    /// never work, and it is to drop what it has of that group.
    Waiting,
    /// It is one of the first voters of the group.
    Founded {
        /// Who founded what.
        founding: Founding,
        /// [`Founder::begun`] was called in this or an earlier process: a log without the group has lost it.
        has_begun: bool,
    },
    /// A group exists that does not list this server in this life: it may be added to it, or is a member already.
    Joins(Founding),
}

/// Somebody a server waits for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Missing {
    /// Name of the server, or where it should be.
    pub(crate) who: String,
    /// For how long it has been missing.
    pub(crate) since: Duration,
}

/// The server's part in the ballot. It ends when the link stops.
pub(crate) struct Founder {
    state: watch::Receiver<Foundation>,
    missing: Arc<Mutex<Vec<Missing>>>,
    commands: mpsc::Sender<Command>,
    life: watch::Receiver<Incarnation>,
}

impl Founder {
    /// Goes on from what is written in the directory of the store.
    pub(crate) fn start(link: &Arc<Link>, domain: &str, disk: Arc<dyn Disk>, dir: &Path) -> Self {
        Self::start_seeded(link, domain, RecordFile::new(disk, dir), OsRng.next_u64())
    }

    fn start_seeded(link: &Arc<Link>, domain: &str, file: RecordFile, seed: u64) -> Self {
        let (mail, said) = mpsc::channel(MAIL_MAX);
        let (commands, told) = mpsc::channel(4);
        let (say, state) = watch::channel(Foundation::Waiting);
        let (tell_life, life) = watch::channel(0);
        let missing: Arc<Mutex<Vec<Missing>>> = Arc::default();
        *link.ballots.lock() = Some(mail);
        let task = Task::open(link, domain.to_owned(), file, seed, say, tell_life, missing.clone());
        tokio::spawn(task.run(said, told));
        Self { state, missing, commands, life }
    }

    /// Where this server stands now.
    pub(crate) fn state(&self) -> Foundation {
        self.state.borrow().clone()
    }

    /// The same, to wait for changes.
    pub(crate) fn watch(&self) -> watch::Receiver<Foundation> {
        self.state.clone()
    }

    /// The life in which this server takes part; 0 before it is written.
    pub(crate) fn life(&self) -> Incarnation {
        *self.life.borrow()
    }

    /// Whom this server waits for; empty if it waits for nobody.
    pub(crate) fn missing(&self) -> Vec<Missing> {
        self.missing.lock().clone()
    }

    /// The log has this server's first state of the group that it founded. Returns once that is written; false if it
    /// cannot be.
    pub(crate) async fn begun(&self) -> bool {
        self.command(Command::Begun).await
    }

    /// The cluster that this server belongs to, or is to join.
    pub(crate) fn cluster(&self) -> Option<ClusterId> {
        match &*self.state.borrow() {
            Foundation::Waiting => None,
            Foundation::Founded { founding, .. } | Foundation::Joins(founding) => Some(founding.cluster),
        }
    }

    /// This server is a member of the group that it joined, and says so to servers that found one. Returns once that is
    /// written; false if it cannot be.
    pub(crate) async fn belongs_to(&self, founding: Founding) -> bool {
        self.command(|done| Command::BelongsTo(founding, done)).await
    }

    /// The cluster was dissolved: this server belongs to none, and looks for another. Returns once that is written; false
    /// if it cannot be.
    pub(crate) async fn leave(&self, cluster: ClusterId) -> bool {
        self.command(|done| Command::Leave(cluster, done)).await
    }

    async fn command(&self, command: impl FnOnce(oneshot::Sender<bool>) -> Command) -> bool {
        let (done, is_done) = oneshot::channel();
        self.commands.send(command(done)).await.is_ok() && is_done.await.unwrap_or(false)
    }
}
