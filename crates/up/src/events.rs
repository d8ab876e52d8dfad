//! Everything that `run` reacts to, in one bounded queue.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};

use signal_hook::consts::{SIGCHLD, SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

use crate::control::Reply;
use crate::{Error, Request, Result};

/// Events that wait; who has more to tell waits, too.
const WAITING_MAX: usize = 16;

/// What happened.
pub(crate) enum Event {
    /// A child has ended, was stopped, or continues.
    Child,
    /// Everything is to stop.
    Stop,
    /// Another process asks for something.
    Asked(Request, SyncSender<Reply>),
}

/// The queue's end for reading, and whether a stop was asked for.
pub(crate) struct Events {
    pub(crate) queue: Receiver<Event>,
    pub(crate) sender: SyncSender<Event>,
    /// Set as soon as a signal to stop arrives, also while the queue is not read.
    pub(crate) is_stopping: Arc<AtomicBool>,
}

impl Events {
    /// Listens to signals from now on.
    pub(crate) fn listen() -> Result<Self> {
        let mut signals = Signals::new([SIGCHLD, SIGHUP, SIGINT, SIGTERM]).map_err(Error::Events)?;
        let (sender, queue) = sync_channel(WAITING_MAX);
        let is_stopping = Arc::new(AtomicBool::new(false));
        let (to, flag) = (sender.clone(), is_stopping.clone());
        let forward = move || {
            for signal in signals.forever() {
                let is_forwarded = if signal == SIGCHLD {
                    // All children are looked at for each of these, so one that is full has one that stands for this.
                    !matches!(to.try_send(Event::Child), Err(TrySendError::Disconnected(_)))
                } else {
                    flag.store(true, Ordering::Relaxed);
                    to.send(Event::Stop).is_ok()
                };
                if !is_forwarded {
                    return;
                }
            }
        };
        std::thread::Builder::new().name("signals".to_owned()).spawn(forward).map_err(Error::Events)?;
        Ok(Self { queue, sender, is_stopping })
    }
}
