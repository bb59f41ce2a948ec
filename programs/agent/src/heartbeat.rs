//! Heartbeats: they keep the lease, and bring the request to stop.

use std::time::Duration;

use tokio::time::MissedTickBehavior;

use crate::launcher::{CallError, Launcher};
use crate::stop::{Stop, Stops};
use crate::warnings::Warnings;

/// One heartbeat may take this long; a slow one must not delay the next decision.
const CALL_TIMEOUT_MS: u64 = 5_000;

/// Sends heartbeats for as long as it is polled. After `patience` without an answer the attempt is out of
/// contact.
pub(crate) async fn run(
    launcher: Launcher,
    stops: Stops,
    warnings: Warnings,
    interval: Duration,
    patience: Duration,
) {
    let mut ticks = tokio::time::interval(interval.max(Duration::from_millis(1)));
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut complained = false;
    loop {
        ticks.tick().await;
        match tokio::time::timeout(Duration::from_millis(CALL_TIMEOUT_MS), launcher.heartbeat(warnings.all()))
            .await
        {
            Ok(Ok(answer)) => {
                complained = false;
                if answer.cancel {
                    stops.request(Stop::Cancelled { grace: Duration::from_millis(answer.grace_period_ms) });
                }
            }
            Ok(Err(CallError::Fenced(reason))) => {
                tracing::warn!(%reason, "attempt replaced by another one");
                stops.request(Stop::Fenced);
                return;
            }
            Ok(Err(error)) => complain(&mut complained, &error.to_string()),
            Err(_) => complain(&mut complained, "no answer in time"),
        }
        if launcher.silence() > patience {
            stops.request(Stop::OutOfContact);
            return;
        }
    }
}

fn complain(complained: &mut bool, reason: &str) {
    if !std::mem::replace(complained, true) {
        tracing::warn!(%reason, "heartbeat not answered; the command continues");
    }
}
