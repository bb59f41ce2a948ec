//! The traffic tables' copies in NATS KV. Postgres has the truth; a copy that says something else is written again.

use std::collections::BTreeMap;

use anyhow::Context as _;
use async_nats::jetstream::kv::{Operation, Store};
use futures::TryStreamExt as _;
use slipway_api::traffic::{TRAFFIC_BUCKET, TrafficTable};

use crate::state::State;
use crate::store::deployments;

/// Another replica of this service may write at the same time.
const MAX_TRIES: usize = 5;

/// Writes one deployment's table now. Where that fails the control loop does it later.
pub(crate) async fn soon(state: &State, deployment: &str) {
    if let Err(error) = one(state, deployment).await {
        tracing::warn!(
            error = format!("{error:#}"),
            deployment,
            "the traffic table reaches the replicas later"
        );
    }
}

async fn one(state: &State, deployment: &str) -> anyhow::Result<()> {
    anyhow::ensure!(state.bus.is_connected(), "NATS is away");
    let store = state.bus.bucket(TRAFFIC_BUCKET).await?;
    for _ in 0..MAX_TRIES {
        let mut connection = state.pool.acquire().await?;
        let found = deployments::find(&mut connection, deployment).await?;
        drop(connection);
        if write(&store, deployment, found.map(|found| found.traffic.0).as_ref()).await? {
            return Ok(());
        }
    }
    anyhow::bail!("others write the same table again and again")
}

/// Makes the copy like `table`; `false` where somebody else wrote meanwhile.
async fn write(store: &Store, key: &str, table: Option<&TrafficTable>) -> anyhow::Result<bool> {
    let entry = store.entry(key).await.context("reading the bucket")?;
    let present = entry.as_ref().filter(|entry| entry.operation == Operation::Put);
    let Some(table) = table else {
        if present.is_some() {
            store.delete(key).await.context("removing from the bucket")?;
        }
        return Ok(true);
    };
    if present.is_some_and(|entry| {
        serde_json::from_slice(&entry.value).is_ok_and(|copy: TrafficTable| copy == *table)
    }) {
        return Ok(true);
    }
    let bytes = serde_json::to_vec(table)?.into();
    // A revision of 0 means: only where there is none.
    let revision = entry.map_or(0, |entry| entry.revision);
    match store.update(key, bytes, revision).await {
        Ok(_) => Ok(true),
        Err(error) if error.kind() == async_nats::jetstream::kv::UpdateErrorKind::WrongLastRevision => {
            Ok(false)
        }
        Err(error) => Err(error).context("writing to the bucket"),
    }
}

/// Compares every copy with the truth, mends what differs, and removes copies of deployments that are gone.
pub(crate) async fn all(state: &State) -> anyhow::Result<()> {
    anyhow::ensure!(state.bus.is_connected(), "NATS is away");
    let store = state.bus.bucket(TRAFFIC_BUCKET).await?;
    let keys: Vec<String> = store.keys().await?.try_collect().await?;
    let mut connection = state.pool.acquire().await?;
    let tables = deployments::tables(&mut connection).await?;
    drop(connection);
    let tables: BTreeMap<String, TrafficTable> =
        tables.into_iter().map(|table| (table.deployment.clone(), table)).collect();
    for key in keys.iter().chain(tables.keys()) {
        // What differs is read once more before it is written: it may just have changed.
        let entry = store.get(key.as_str()).await?;
        let differs = match (&entry, tables.get(key)) {
            (Some(bytes), Some(table)) => {
                !serde_json::from_slice(bytes).is_ok_and(|copy: TrafficTable| copy == *table)
            }
            (None, None) => false,
            _ => true,
        };
        if differs {
            one(state, key).await?;
        }
    }
    Ok(())
}
