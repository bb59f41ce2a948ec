//! Heartbeats: they renew the lease, and bring the request to stop.

use std::time::Duration;

use slipway_domain::training::Lease;

use crate::group::Peers;
use crate::launcher::{CallError, Launcher, jittered};
use crate::stop::{Stop, Stops};
use crate::warnings::Warnings;

/// One heartbeat may take this long; a launcher that hangs must not keep the agent from the next one.
const CALL_TIMEOUT_MS: u64 = 4_000;
/// A call takes at most this part of a lease.
const CALLS_PER_LEASE: u64 = 6;

/// Sends heartbeats for as long as it is polled. Where none was answered for too long, the attempt is out of
/// contact.
pub(crate) async fn run(
    launcher: Launcher,
    stops: Stops,
    warnings: Warnings,
    peers: Peers,
    interval: Duration,
    lease: Lease,
) {
    let mut told = peers.told();
    let stop_after = Duration::from_millis(lease.stop_after_ms());
    let call_timeout = Duration::from_millis(CALL_TIMEOUT_MS.min(lease.ms() / CALLS_PER_LEASE));
    let interval_ms = u64::try_from(interval.as_millis()).unwrap_or(u64::MAX).max(1);
    let mut complained = false;
    loop {
        let left = stop_after.saturating_sub(launcher.unrenewed());
        if left.is_zero() {
            stops.request(Stop::OutOfContact { grace: last_grace(lease) });
            return;
        }
        let now = told.borrow_and_update().clone();
        let pause = match launcher.heartbeat(warnings.all(), now, call_timeout.min(left)).await {
            Ok(answer) => {
                complained = false;
                let grace = Duration::from_millis(answer.grace_period_ms);
                if answer.kill {
                    stops.request(Stop::PeerFailed);
                } else if answer.cancel {
                    stops.request(Stop::Cancelled { grace });
                } else if answer.stop {
                    stops.request(Stop::WithPeers { grace });
                }
                peers.heed(&answer);
                interval
            }
            Err(CallError::Fenced(reason)) => {
                tracing::warn!(%reason, "attempt replaced by another one");
                stops.request(Stop::Fenced);
                return;
            }
            Err(error) => {
                complain(&mut complained, &error.to_string());
                jittered(interval_ms)
            }
        };
        let pause = pause.min(stop_after.saturating_sub(launcher.unrenewed()));
        // What is news goes out at once.
        let _ = tokio::time::timeout(pause, told.changed()).await;
    }
}

/// Time that a command has to save a checkpoint before everything is killed: most of what is left then.
fn last_grace(lease: Lease) -> Duration {
    Duration::from_millis((lease.kill_after_ms() - lease.stop_after_ms()) / 4 * 3)
}

fn complain(complained: &mut bool, reason: &str) {
    if !std::mem::replace(complained, true) {
        tracing::warn!(%reason, "heartbeat not answered; the command continues");
    }
}
