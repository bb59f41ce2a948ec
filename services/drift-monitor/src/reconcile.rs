//! One reader of prediction records for each deployment that has monitors.

use std::collections::{HashMap, HashSet};
use std::time::Duration;

use slipway_runtime::task;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::state::State;
use crate::{reader, store};

/// How often the list of monitors is read where no change was announced: another replica may have changed it.
const POLL_MS: u64 = 2_000;

struct Reader {
    end: CancellationToken,
    task: JoinHandle<()>,
}

/// Readers by deployment, and the monitors that have metrics.
#[derive(Default)]
struct Known {
    readers: HashMap<String, Reader>,
    monitors: HashSet<String>,
}

/// Runs until `shutdown`.
pub(crate) async fn run(state: State, shutdown: CancellationToken) {
    let mut changes = state.changes.subscribe();
    let mut known = Known::default();
    while !shutdown.is_cancelled() {
        if let Err(error) = match_monitors(&state, &mut known, &shutdown).await {
            tracing::debug!(%error, "list of monitors not read; retrying");
        }
        tokio::select! {
            () = shutdown.cancelled() => break,
            // The sender lives as long as the service.
            _ = changes.changed() => {}
            () = tokio::time::sleep(Duration::from_millis(POLL_MS)) => {}
        }
    }
    for reader in known.readers.into_values() {
        reader.end.cancel();
        let _ = reader.task.await;
    }
}

async fn match_monitors(state: &State, known: &mut Known, shutdown: &CancellationToken) -> sqlx::Result<()> {
    let monitors = store::monitors::names(&state.pool).await?;
    let names: HashSet<String> = monitors.iter().map(|(name, _)| name.clone()).collect();
    for gone in known.monitors.difference(&names) {
        state.metrics.forget(gone);
    }
    known.monitors = names;
    let deployments: HashSet<String> = monitors.into_iter().map(|(_, deployment)| deployment).collect();
    known.readers.retain(|deployment, reader| {
        let there = deployments.contains(deployment);
        if !there {
            reader.end.cancel();
        }
        if there && reader.task.is_finished() {
            tracing::error!(deployment, "reader of prediction records ended early; restarting");
        }
        there && !reader.task.is_finished()
    });
    for deployment in deployments {
        known.readers.entry(deployment.clone()).or_insert_with(|| {
            let end = shutdown.child_token();
            let task = task::detached("reader", reader::run(state.clone(), deployment, end.clone()));
            Reader { end, task }
        });
    }
    state.metrics.states(store::monitors::count_by_status(&state.pool).await?);
    Ok(())
}
