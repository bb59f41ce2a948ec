//! Child processes that are kept running: one thread a child, which starts it, watches it, and starts it
//! again.
//!
//! A thread a child and not a task: a child asks the kernel to die with the thread that started it, so that
//! nothing outlives a `slipway up` that was killed.

use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// How often a child is looked after.
const POLL_MS: u64 = 50;
/// Pause before the first restart; doubled up to the longest while the child keeps ending early.
const RESTART_DELAY_MS: u64 = 100;
const RESTART_DELAY_MAX_MS: u64 = 5_000;
/// A child that lived so long is healthy: the pause begins again.
const HEALTHY_AFTER_S: u64 = 20;

/// What can be kept running.
pub(crate) trait Child: Send {
    /// Process id, for people.
    fn pid(&self) -> u32;
    /// How it ended, where it has.
    fn ended(&mut self) -> Option<String>;
    /// Asks it to end, waits, and ends it by force at last.
    fn stop(&mut self);
}

/// A supervised child.
#[derive(Debug)]
pub(crate) struct Supervised {
    stop: Sender<()>,
    thread: JoinHandle<()>,
}

/// What happened to a child.
#[derive(Debug, Clone)]
pub(crate) enum Note {
    /// It runs, with this process id.
    Started { name: &'static str, pid: u32 },
    /// It ended by itself and is started again.
    Ended { name: &'static str, how: String },
    /// It could not be started; it is tried again.
    StartFailed { name: &'static str, why: String },
}

/// Starts a child and keeps it running until [`Supervised::stop`].
pub(crate) fn supervise<C: Child>(
    name: &'static str,
    notes: Sender<Note>,
    mut start: impl FnMut() -> anyhow::Result<C> + Send + 'static,
) -> std::io::Result<Supervised> {
    let (stop, stopped) = channel();
    let thread = std::thread::Builder::new().name(name.to_owned()).spawn(move || {
        let mut delay_ms = RESTART_DELAY_MS;
        loop {
            let began = Instant::now();
            let note = match start() {
                Ok(mut child) => {
                    // The receiver is gone only when the platform stops.
                    let _ = notes.send(Note::Started { name, pid: child.pid() });
                    match watch(&mut child, &stopped) {
                        Some(how) => Note::Ended { name, how },
                        None => return,
                    }
                }
                Err(error) => Note::StartFailed { name, why: format!("{error:#}") },
            };
            let _ = notes.send(note);
            if began.elapsed() > Duration::from_secs(HEALTHY_AFTER_S) {
                delay_ms = RESTART_DELAY_MS;
            }
            match stopped.recv_timeout(Duration::from_millis(delay_ms)) {
                Err(RecvTimeoutError::Timeout) => {}
                _ => return,
            }
            delay_ms = (delay_ms * 2).min(RESTART_DELAY_MAX_MS);
        }
    })?;
    Ok(Supervised { stop, thread })
}

/// Until the child ends by itself (how), or the stop was asked for and done (`None`).
fn watch<C: Child>(child: &mut C, stopped: &Receiver<()>) -> Option<String> {
    loop {
        if let Some(how) = child.ended() {
            return Some(how);
        }
        match stopped.recv_timeout(Duration::from_millis(POLL_MS)) {
            Err(RecvTimeoutError::Timeout) => {}
            _ => {
                child.stop();
                return None;
            }
        }
    }
}

impl Supervised {
    /// Asks the child to end; [`Self::join`] waits for it.
    pub(crate) fn stop(&self) {
        // A thread that is gone has no child any more.
        let _ = self.stop.send(());
    }

    /// Waits until the child has ended.
    pub(crate) fn join(self) {
        let _ = self.thread.join();
    }
}
