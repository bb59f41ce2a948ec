//! The control loop: the replica that leads steps every rollout in progress.

use std::collections::HashMap;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use crate::facts::Judged;
use crate::state::State;
use crate::store::deployments::{self, Deployment};
use crate::store::rollouts::{self, StoredRollout};
use crate::{alias, change, drills, traffic_publisher};

/// The loop runs at least this often while a rollout is in progress…
const MAX_PAUSE_MS: u64 = 1_000;
const MIN_PAUSE_MS: u64 = 50;
/// …and this often while none is. Commits of all replicas wake it.
const IDLE_PAUSE_MS: u64 = 4_000;
/// Words of replicas within this time make one round together.
const GATHER_MS: u64 = 5;
/// How often the revisions of all traffic tables are compared with those of their copies.
const REPAIR_INTERVAL: Duration = Duration::from_secs(3);
/// Every how many of these comparisons the tables themselves are compared.
const REPAIRS_PER_COMPARISON: u32 = 20;

/// Steps rollouts during one term of this replica.
pub(crate) async fn run(state: State) {
    let leading = Leading(state);
    if let Err(error) = lead(&leading.0).await {
        tracing::warn!(error = format!("{error:#}"), "control loop failed; restarting it");
    }
}

/// A term: its facts are no longer gathered when it is over.
struct Leading(State);

impl Drop for Leading {
    fn drop(&mut self) {
        self.0.facts.read_again();
    }
}

async fn lead(state: &State) -> anyhow::Result<()> {
    let mut elsewhere = state.outbox.commits_elsewhere();
    let mut repaired: Option<Instant> = None;
    let (mut repairs, mut readings): (u32, u64) = (0, 0);
    let mut connections = 0;
    loop {
        let read_again = std::mem::replace(&mut readings, state.copies.readings()) != readings;
        if renewed(state, &mut connections).await || read_again {
            (repaired, repairs) = (None, 0);
        }
        if let Err(error) = traffic_publisher::doubtful(state).await {
            tracing::debug!(error = format!("{error:#}"), "traffic tables not compared; retrying");
        }
        if repaired.is_none_or(|at| at.elapsed() >= REPAIR_INTERVAL) {
            let compared = if repairs.is_multiple_of(REPAIRS_PER_COMPARISON) || !state.copies.has_head() {
                traffic_publisher::all(state).await
            } else {
                traffic_publisher::revisions(state).await
            };
            match compared {
                Ok(()) => (repaired, repairs) = (Some(Instant::now()), repairs.wrapping_add(1)),
                Err(error) => {
                    tracing::debug!(error = format!("{error:#}"), "traffic tables not compared; retrying");
                }
            }
            if let Err(problem) = alias::follow_pending(state).await {
                tracing::warn!(%problem, "pending alias moves not followed; retrying");
            }
        }
        let pause = round(state).await?.min(drills::round(state).await);
        let gathered = Duration::from_millis(GATHER_MS);
        tokio::select! {
            () = state.wake.notified() => tokio::time::sleep(gathered).await,
            () = state.copies.doubts.notified() => tokio::time::sleep(gathered).await,
            _ = elsewhere.changed() => tokio::time::sleep(gathered).await,
            () = tokio::time::sleep(pause) => {}
        }
    }
}

/// Whether the connection to NATS was restored since the last call. The server may have lost its storage
/// meanwhile: what all services expect there is made again, and facts are read again.
async fn renewed(state: &State, seen: &mut u64) -> bool {
    let connections = state.bus.client().statistics().connects.load(Ordering::Relaxed);
    if connections == *seen || !state.bus.is_connected() {
        return false;
    }
    if let Err(error) = state.bus.ensure_resources().await {
        tracing::debug!(%error, "streams and buckets not created; retrying");
        return false;
    }
    state.facts.read_again();
    *seen = connections;
    true
}

/// Steps every rollout in progress once; answers with the time until the next round.
async fn round(state: &State) -> anyhow::Result<Duration> {
    let mut connection = state.pool.acquire().await?;
    let active = rollouts::active(&mut connection).await?;
    let keys: Vec<i64> = active.iter().map(|stored| stored.deployment_key).collect();
    let found = deployments::of_keys(&mut connection, &keys).await?;
    drop(connection);
    let found: HashMap<i64, Deployment> =
        found.into_iter().map(|deployment| (deployment.deployment_key, deployment)).collect();
    let table = |stored: &StoredRollout| {
        found.get(&stored.deployment_key).map(|found| found.traffic.0.clone()).unwrap_or_default()
    };
    let judged: Vec<Judged<'_>> = active
        .iter()
        .map(|stored| Judged { id: stored.id, rollout: &stored.state, table: table(stored) })
        .collect();
    state.facts.keep(&state.bus, &judged);
    let mut pause_ms = if active.is_empty() { IDLE_PAUSE_MS } else { MAX_PAUSE_MS };
    for stored in &active {
        pause_ms = pause_ms.min(stored.state.strategy().analysis.interval_ms);
        // What is read here is read again behind the deployment's lock, if there is anything to do.
        let deployment = found.get(&stored.deployment_key);
        if deployment.is_none_or(|deployment| !change::is_due(state, stored, deployment)) {
            continue;
        }
        if let Err(problem) = change::drive(state, stored.id, None).await {
            // One rollout's trouble does not hold up the others.
            tracing::warn!(rollout_id = %stored.id, %problem, "rollout step failed; retrying");
        }
    }
    Ok(Duration::from_millis(pause_ms.max(MIN_PAUSE_MS)))
}
