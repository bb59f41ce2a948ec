//! The control loop: one replica of the service leads and steps every rollout in progress.

use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use tokio_util::sync::CancellationToken;

use crate::facts::Judged;
use crate::state::State;
use crate::store::leader::LeaderLock;
use crate::store::{deployments, rollouts};
use crate::{alias, change, traffic_publisher};

/// A replica that is not the leader tries this often to become it.
const CANDIDACY_MS: u64 = 1_000;
/// The loop runs at least this often: a leader notices this soon that it lost its lock.
const MAX_PAUSE_MS: u64 = 1_000;
const MIN_PAUSE_MS: u64 = 50;
/// Words of replicas within this time make one round together.
const GATHER_MS: u64 = 5;
/// How often all traffic tables are compared with their copies.
const REPAIR_INTERVAL: Duration = Duration::from_secs(3);

/// Leads while no other replica does, until `shutdown`.
pub(crate) async fn run(state: State, shutdown: CancellationToken) {
    while !shutdown.is_cancelled() {
        tokio::select! {
            () = shutdown.cancelled() => return,
            led = lead(&state) => {
                if let Err(error) = led {
                    tracing::debug!(error = format!("{error:#}"), "not the leader");
                }
            }
        }
        tokio::select! {
            () = shutdown.cancelled() => return,
            () = tokio::time::sleep(Duration::from_millis(CANDIDACY_MS)) => {}
        }
    }
}

/// Leads until the lock is lost.
async fn lead(state: &State) -> anyhow::Result<()> {
    let Some(mut lock) = LeaderLock::take(&state.pool).await? else { return Ok(()) };
    tracing::info!("leading: rollouts are driven by this replica");
    let mut repaired: Option<Instant> = None;
    let mut connections = 0;
    loop {
        lock.check().await?;
        if renewed(state, &mut connections).await {
            repaired = None;
        }
        if repaired.is_none_or(|at| at.elapsed() > REPAIR_INTERVAL) {
            match traffic_publisher::all(state).await {
                Ok(()) => repaired = Some(Instant::now()),
                Err(error) => {
                    tracing::debug!(error = format!("{error:#}"), "traffic tables not compared; retrying");
                }
            }
            if let Err(problem) = alias::follow_pending(state).await {
                tracing::warn!(%problem, "pending alias moves not followed; retrying");
            }
        }
        let pause = round(state).await?;
        tokio::select! {
            () = state.wake.notified() => tokio::time::sleep(Duration::from_millis(GATHER_MS)).await,
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
    let mut judged = Vec::new();
    for stored in &active {
        let deployment = deployments::find(&mut connection, &stored.deployment).await?;
        let table = deployment.map(|deployment| deployment.traffic.0).unwrap_or_default();
        judged.push(Judged { id: stored.id, rollout: &stored.state, table });
    }
    drop(connection);
    state.facts.keep(&state.bus, &judged);
    let mut pause_ms = MAX_PAUSE_MS;
    for stored in &active {
        pause_ms = pause_ms.min(stored.state.strategy().analysis.interval_ms);
        if let Err(problem) = change::drive(state, stored.id, None).await {
            // One rollout's trouble does not hold up the others.
            tracing::warn!(rollout_id = %stored.id, %problem, "rollout step failed; retrying");
        }
    }
    Ok(Duration::from_millis(pause_ms.max(MIN_PAUSE_MS)))
}
