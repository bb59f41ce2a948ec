//! The traffic tables' copies in NATS KV. Postgres has the truth; a copy that says something else is written
//! again.

use std::collections::BTreeMap;

use anyhow::Context as _;
use async_nats::jetstream::kv::{DeleteErrorKind, Entry, Operation, Store, UpdateErrorKind};
use futures::TryStreamExt as _;
use slipway_api::traffic::{TRAFFIC_BUCKET, TrafficTable};

use crate::state::State;
use crate::store::deployments;

/// Another replica of this service may write at the same time.
const MAX_TRIES: usize = 5;

/// Writes one deployment's table now. Where that fails the control loop does it later.
pub(crate) async fn soon(state: &State, deployment: &str) {
    if let Err(error) = one(state, deployment).await {
        tracing::warn!(error = format!("{error:#}"), deployment, "traffic table not published; retrying");
    }
}

async fn one(state: &State, deployment: &str) -> anyhow::Result<()> {
    anyhow::ensure!(state.bus.is_connected(), "NATS is unreachable");
    let store = state.bus.bucket(TRAFFIC_BUCKET).await?;
    for _ in 0..MAX_TRIES {
        // The copy first, then the truth: a newer table that is committed and written in between makes the
        // write below fail. The other way round an older table could replace a newer one.
        let copy = store.entry(deployment).await.context("reading the bucket")?;
        let mut connection = state.pool.acquire().await?;
        let found = deployments::find(&mut connection, deployment).await?;
        drop(connection);
        if replace(&store, deployment, copy, found.map(|found| found.traffic.0).as_ref()).await? {
            return Ok(());
        }
    }
    anyhow::bail!("the table is written concurrently by others")
}

/// Makes the copy like `table`; `false` if another replica wrote it since it was read.
async fn replace(
    store: &Store,
    key: &str,
    copy: Option<Entry>,
    table: Option<&TrafficTable>,
) -> anyhow::Result<bool> {
    let present = copy.as_ref().filter(|entry| entry.operation == Operation::Put);
    let Some(table) = table else {
        let Some(present) = present else { return Ok(true) };
        return match store.delete_expect_revision(key, Some(present.revision)).await {
            Ok(()) => Ok(true),
            Err(error) if error.kind() == DeleteErrorKind::WrongLastRevision => Ok(false),
            Err(error) => Err(error).context("removing from the bucket"),
        };
    };
    if present.is_some_and(|entry| {
        serde_json::from_slice(&entry.value).is_ok_and(|copy: TrafficTable| copy == *table)
    }) {
        return Ok(true);
    }
    let bytes = serde_json::to_vec(table)?.into();
    // A revision of 0 means: only where there is none.
    let revision = copy.map_or(0, |entry| entry.revision);
    match store.update(key, bytes, revision).await {
        Ok(_) => Ok(true),
        Err(error) if error.kind() == UpdateErrorKind::WrongLastRevision => Ok(false),
        Err(error) => Err(error).context("writing to the bucket"),
    }
}

/// Compares every copy with the truth, mends what differs, and removes copies of deployments that are gone.
pub(crate) async fn all(state: &State) -> anyhow::Result<()> {
    anyhow::ensure!(state.bus.is_connected(), "NATS is unreachable");
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

#[cfg(test)]
mod tests {
    use slipway_event_bus::{EventBus, NatsConfig};

    use super::*;

    #[tokio::test(flavor = "multi_thread")]
    async fn what_was_written_meanwhile_is_never_replaced_by_what_was_read_before() {
        let nats = slipway_testkit::nats().await;
        let bus = EventBus::connect(&NatsConfig { nats_url: nats.url.clone() }, "test").await.unwrap();
        assert!(bus.wait_for_resources(&tokio_util::sync::CancellationToken::new()).await);
        let store = bus.bucket(TRAFFIC_BUCKET).await.unwrap();
        let table = |revision| TrafficTable { revision, ..TrafficTable::empty("d", "m") };
        let now = async || store.entry("d").await.unwrap();
        let revision = async || {
            let copy = store.get("d").await.unwrap().unwrap();
            serde_json::from_slice::<TrafficTable>(&copy).unwrap().revision
        };

        let nothing = now().await;
        assert!(replace(&store, "d", nothing.clone(), Some(&table(1))).await.unwrap());
        assert!(!replace(&store, "d", nothing, Some(&table(0))).await.unwrap());
        let first = now().await;
        assert!(replace(&store, "d", first.clone(), Some(&table(2))).await.unwrap());
        assert!(!replace(&store, "d", first.clone(), Some(&table(0))).await.unwrap());
        assert_eq!(revision().await, 2);
        // Nor is it removed because the deployment was gone before.
        assert!(!replace(&store, "d", first, None).await.unwrap());
        assert_eq!(revision().await, 2);
        assert!(replace(&store, "d", now().await, None).await.unwrap());
        assert!(store.get("d").await.unwrap().is_none());
        // A deployment that is made again gets its table.
        assert!(replace(&store, "d", now().await, Some(&table(3))).await.unwrap());
        assert_eq!(revision().await, 3);
    }
}
