//! One reader of prediction records for each deployment that has monitors, in the replica that has the
//! deployment's partition.

use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use slipway_lease::{Partitions, Term};
use slipway_runtime::task;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::metrics::DriftMetrics;
use crate::state::State;
use crate::{reader, store};

/// Deployments are divided among the replicas in so many partitions. All releases have to have the same
/// number: replicas of two of them may run at once.
pub(crate) const PARTITIONS: u16 = 64;
/// How often the list of monitors is read where no change was announced.
const POLL_MS: u64 = 5_000;

struct Reader {
    /// The term of the deployment's partition that it reads in.
    term: Term,
    end: CancellationToken,
    task: JoinHandle<Option<()>>,
}

/// Readers by deployment.
type Readers = HashMap<String, Reader>;

/// Reads what belongs to this replica's partitions until `shutdown`.
pub(crate) async fn run(state: State, partitions: Partitions, shutdown: CancellationToken) {
    let (mut changes, mut owned) = (state.changes.subscribe(), partitions.owned());
    let mut readers = Readers::new();
    while !shutdown.is_cancelled() {
        let terms = owned.borrow_and_update().clone();
        if let Err(error) = match_monitors(&state, &mut readers, &partitions, &terms, &shutdown).await {
            tracing::debug!(%error, "list of monitors not read; retrying");
        }
        tokio::select! {
            () = shutdown.cancelled() => break,
            // The senders live as long as the service.
            _ = changes.changed() => {}
            _ = owned.changed() => {}
            () = tokio::time::sleep(Duration::from_millis(POLL_MS)) => {}
        }
    }
    for (_, reader) in readers {
        reader.end.cancel();
        let _ = reader.task.await;
    }
}

async fn match_monitors(
    state: &State,
    readers: &mut Readers,
    partitions: &Partitions,
    terms: &BTreeMap<u16, Term>,
    shutdown: &CancellationToken,
) -> sqlx::Result<()> {
    // Readers of terms that are over have ended by themselves.
    let monitored =
        if terms.is_empty() { Vec::new() } else { store::monitors::deployments(&state.pool).await? };
    let mut deployments = HashMap::new();
    for deployment in monitored {
        if let Some(term) = terms.get(&partitions.of(&deployment)) {
            deployments.insert(deployment, term);
        }
    }
    readers.retain(|deployment, reader| {
        let term = deployments.get(deployment);
        let is_due = term.is_some_and(|term| term.number() == reader.term.number());
        if !is_due {
            reader.end.cancel();
        } else if reader.task.is_finished() && reader.term.is_current() {
            tracing::error!(deployment, "reader of prediction records ended early; restarting");
        }
        is_due && !reader.task.is_finished()
    });
    for (deployment, term) in deployments {
        readers.entry(deployment.clone()).or_insert_with(|| {
            let end = shutdown.child_token();
            let reading = reader::run(state.clone(), deployment, end.clone());
            let task = task::detached("reader", term.clone().carry(reading));
            Reader { term: term.clone(), end, task }
        });
    }
    Ok(())
}

/// Counts monitors by state until `shutdown`, in the replica that leads.
pub(crate) async fn count(state: State, shutdown: CancellationToken) {
    /// The next leader shows them.
    struct Shown(DriftMetrics);
    impl Drop for Shown {
        fn drop(&mut self) {
            self.0.states(Vec::new());
        }
    }
    let (mut changes, shown) = (state.changes.subscribe(), Shown(state.metrics.clone()));
    while !shutdown.is_cancelled() {
        match store::monitors::count_by_status(&state.pool).await {
            Ok(counts) => shown.0.states(counts),
            Err(error) => tracing::debug!(%error, "monitors not counted; retrying"),
        }
        tokio::select! {
            () = shutdown.cancelled() => return,
            _ = changes.changed() => {}
            () = tokio::time::sleep(Duration::from_millis(POLL_MS)) => {}
        }
    }
}
