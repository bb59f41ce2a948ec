//! Why an attempt is to stop, from whichever part of the agent finds out first.

use std::time::Duration;

use tokio::sync::watch;

/// A reason to stop the command.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Stop {
    /// The launcher asks for the end of the job.
    Cancelled {
        /// Time between SIGTERM and SIGKILL.
        grace: Duration,
    },
    /// The agent itself was stopped.
    Preempted,
    /// Another process of a distributed job was told to end, or the job is done without this one.
    WithPeers {
        /// Time between SIGTERM and SIGKILL.
        grace: Duration,
    },
    /// Another process of a distributed job has failed: end at once.
    PeerFailed,
    /// The command ran longer than it may.
    TimedOut,
    /// No launcher answered for too long: another attempt may begin soon.
    OutOfContact {
        /// Time between SIGTERM and SIGKILL, at most.
        grace: Duration,
    },
    /// Another attempt has taken over: end at once.
    Fenced,
}

impl Stop {
    /// Whether nothing that the attempt could still report would be heard.
    pub(crate) const fn is_lost(self) -> bool {
        matches!(self, Self::OutOfContact { .. } | Self::Fenced)
    }

    const fn rank(self) -> u8 {
        match self {
            Self::Cancelled { .. } | Self::Preempted | Self::WithPeers { .. } | Self::TimedOut => 0,
            Self::PeerFailed => 1,
            Self::OutOfContact { .. } => 2,
            Self::Fenced => 3,
        }
    }
}

/// The attempt's stop signal: the first reason stays, except for one that outranks it. Cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct Stops {
    sender: watch::Sender<Option<Stop>>,
}

impl Stops {
    pub(crate) fn new() -> Self {
        Self { sender: watch::channel(None).0 }
    }

    pub(crate) fn request(&self, stop: Stop) {
        let changed = self.sender.send_if_modified(|current| {
            let newer = current.is_none_or(|current| stop.rank() > current.rank());
            if newer {
                *current = Some(stop);
            }
            newer
        });
        if changed {
            tracing::info!(?stop, "launcher requests the attempt to stop");
        }
    }

    pub(crate) fn current(&self) -> Option<Stop> {
        *self.sender.borrow()
    }

    pub(crate) fn subscribe(&self) -> watch::Receiver<Option<Stop>> {
        self.sender.subscribe()
    }

    /// Returns once any reason is there.
    pub(crate) async fn any(&self) -> Stop {
        self.until(|_| true).await
    }

    /// Returns once the attempt can no longer report to the launcher.
    pub(crate) async fn lost(&self) -> Stop {
        self.until(Stop::is_lost).await
    }

    async fn until(&self, wanted: impl Fn(Stop) -> bool) -> Stop {
        let mut receiver = self.subscribe();
        let found = receiver.wait_for(|stop| stop.is_some_and(&wanted)).await.map(|stop| *stop);
        match found {
            Ok(Some(stop)) => stop,
            // The sender lives in `self`; without it nothing would ever ask.
            _ => std::future::pending().await,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_reason_stays_unless_outranked() {
        let stops = Stops::new();
        stops.request(Stop::TimedOut);
        stops.request(Stop::Cancelled { grace: Duration::ZERO });
        assert_eq!(stops.current(), Some(Stop::TimedOut));
        stops.request(Stop::Fenced);
        stops.request(Stop::OutOfContact { grace: Duration::ZERO });
        assert_eq!(stops.current(), Some(Stop::Fenced));
    }
}
