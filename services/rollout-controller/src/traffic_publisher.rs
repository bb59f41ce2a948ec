//! The traffic tables' copies in NATS KV. Postgres has the truth; a copy that says something else is written
//! again.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::Context as _;
use async_nats::jetstream::kv::{DeleteErrorKind, Entry, Operation, Store, UpdateErrorKind};
use slipway_api::traffic::{
    TABLE_MARKER_MAX_AGE_S, TABLES_HEAD_KEY, TRAFFIC_BUCKET, TablesHead, TrafficTable,
};
use slipway_runtime::clock::now_unix_ms;

use crate::copies::Bucket;
use crate::state::State;
use crate::store::deployments;

/// Another replica of this service may write at the same time.
const MAX_TRIES: usize = 5;

/// A table that a transaction writes.
#[derive(Debug, Clone)]
pub(crate) struct Written {
    pub(crate) table: TrafficTable,
    /// Place of the copy that it replaces, see [`Copies::revision`](crate::copies::Copies::revision).
    replaces: u64,
}

impl Written {
    /// A table that was written behind the lock of its deployment. Copies of earlier tables may still be
    /// written; those of later ones are written after the commit, and then this one replaces nothing.
    pub(crate) fn behind_the_lock(state: &State, table: TrafficTable) -> Self {
        let replaces = state.copies.revision(&table.deployment);
        Self { table, replaces }
    }
}

/// Writes one deployment's table now: the one that was just committed, if it is known. Where that fails the
/// control loop does it later.
pub(crate) async fn soon(state: &State, deployment: &str, written: Option<Written>) {
    // On the heap: every change of a deployment would carry the place for it.
    if let Err(error) = Box::pin(one(state, deployment, written)).await {
        tracing::warn!(error = format!("{error:#}"), deployment, "traffic table not published; retrying");
        state.copies.doubt(deployment);
        state.wake.notify_one();
    }
}

/// An entry as far as it is known: what it is replaced by counts only while it is still the same.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Seen {
    /// Its place; 0 where there is none.
    revision: u64,
    /// Whether it is the table already, or absent where there is none.
    is_same: bool,
    /// Whether it is an entry and not the mark of a deletion.
    is_put: bool,
}

impl Seen {
    fn of(copy: Option<&Entry>, table: Option<&TrafficTable>) -> Self {
        let present = copy.filter(|entry| entry.operation == Operation::Put);
        let is_same = match (present, table) {
            (Some(entry), Some(table)) => {
                serde_json::from_slice(&entry.value).is_ok_and(|copy: TrafficTable| copy == *table)
            }
            (present, table) => present.is_none() && table.is_none(),
        };
        Self { revision: copy.map_or(0, |entry| entry.revision), is_same, is_put: present.is_some() }
    }
}

async fn one(state: &State, deployment: &str, mut written: Option<Written>) -> anyhow::Result<()> {
    anyhow::ensure!(state.bus.is_connected(), "NATS is unreachable");
    let bucket = state.copies.bucket();
    let store = match &bucket {
        Some(Bucket { store, .. }) => store.clone(),
        None => state.bus.bucket(TRAFFIC_BUCKET).await?,
    };
    for attempt in 0..MAX_TRIES {
        // The copy first, then the truth: a newer table that is committed and written in between makes the
        // write below fail. The other way round an older table could replace a newer one. What the watch has
        // told is asked for only where it proves to be old.
        let told = bucket.is_some() && attempt == 0;
        let committed = written.take().filter(|_| told);
        let revision = match &committed {
            Some(committed) => committed.replaces,
            None => state.copies.revision(deployment),
        };
        let copy = if told { None } else { store.entry(deployment).await.context("reading the bucket")? };
        let found = match committed {
            Some(committed) => Some(committed.table),
            None => {
                let mut connection = state.pool.acquire().await?;
                deployments::find(&mut connection, deployment).await?.map(|found| found.traffic.0)
            }
        };
        let table = found.as_ref();
        let seen = if told {
            Seen { revision, is_same: state.copies.is_same(deployment, table), is_put: revision > 0 }
        } else {
            Seen::of(copy.as_ref(), table)
        };
        match replace(&store, deployment, seen, table).await? {
            Replaced::Same => return Ok(()),
            Replaced::Written(revision) => {
                state.copies.wrote(deployment, revision, table);
                return Ok(());
            }
            Replaced::Meanwhile => {}
        }
    }
    anyhow::bail!("the table is written concurrently by others")
}

/// What came of replacing an entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Replaced {
    /// Nothing had to be done.
    Same,
    /// The table has this place now; 0 where it was removed.
    Written(u64),
    /// Another replica wrote it since it was seen.
    Meanwhile,
}

/// Makes the copy like `table`, unless another replica wrote it since it was seen.
async fn replace(
    store: &Store,
    key: &str,
    seen: Seen,
    table: Option<&TrafficTable>,
) -> anyhow::Result<Replaced> {
    if seen.is_same {
        return Ok(Replaced::Same);
    }
    let Some(table) = table else {
        if !seen.is_put {
            return Ok(Replaced::Same);
        }
        return remove(store, key, seen.revision).await;
    };
    let bytes = serde_json::to_vec(table)?.into();
    // A revision of 0 means: only where there is none.
    match store.update(key, bytes, seen.revision).await {
        Ok(revision) => Ok(Replaced::Written(revision)),
        Err(error) if error.kind() == UpdateErrorKind::WrongLastRevision => Ok(Replaced::Meanwhile),
        Err(error) => Err(error).context("writing to the bucket"),
    }
}

/// Removes an entry with all that the bucket has of it. The mark of the deletion goes by itself.
async fn remove(store: &Store, key: &str, revision: u64) -> anyhow::Result<Replaced> {
    let age = Duration::from_secs(TABLE_MARKER_MAX_AGE_S);
    let removed = match store.purge_expect_revision_with_ttl(key, revision, age).await {
        Err(error) if error.kind() != DeleteErrorKind::WrongLastRevision => {
            // A server or a bucket that cannot do that keeps the mark.
            store.purge_expect_revision(key, Some(revision)).await
        }
        removed => removed,
    };
    match removed {
        Ok(()) => Ok(Replaced::Written(0)),
        Err(error) if error.kind() == DeleteErrorKind::WrongLastRevision => Ok(Replaced::Meanwhile),
        Err(error) => Err(error).context("removing from the bucket"),
    }
}

/// Compares every copy with the truth, writes what differs again, and removes copies of deployments that are
/// gone. Then the bucket says that it is complete.
pub(crate) async fn all(state: &State) -> anyhow::Result<()> {
    let bucket = read(state)?;
    // What is written from now on is doubted anew.
    state.copies.take_doubtful();
    let mut connection = state.pool.acquire().await?;
    let tables = deployments::tables(&mut connection).await?;
    drop(connection);
    let tables: BTreeMap<String, TrafficTable> =
        tables.into_iter().map(|table| (table.deployment.clone(), table)).collect();
    let gone = state.copies.keys().into_iter().filter(|key| !tables.contains_key(key));
    let differ = tables.iter().filter(|&(key, table)| !state.copies.is_same(key, Some(table)));
    let differing: Vec<String> = gone.chain(differ.map(|(key, _)| key.clone())).collect();
    for key in differing {
        // It is read once more before it is written: it may just have changed.
        one(state, &key, None).await?;
    }
    if !state.copies.has_head() {
        let head = TablesHead { complete_since_unix_ms: now_unix_ms() };
        bucket.store.put(TABLES_HEAD_KEY, serde_json::to_vec(&head)?.into()).await?;
        state.copies.wrote_head();
    }
    for tombstone in state.copies.take_tombstones() {
        // Where the server or the bucket cannot do that, the mark stays; it harms nobody.
        let age = Duration::from_secs(TABLE_MARKER_MAX_AGE_S);
        let _ = bucket.store.purge_expect_revision_with_ttl(tombstone.key, tombstone.revision, age).await;
    }
    Ok(())
}

/// Compares copies that somebody else wrote.
pub(crate) async fn doubtful(state: &State) -> anyhow::Result<()> {
    read(state)?;
    let mut doubtful = state.copies.take_doubtful();
    while let Some(key) = doubtful.pop_first() {
        if let Err(error) = one(state, &key, None).await {
            state.copies.doubt(&key);
            // Those that were not looked at are as doubtful as before.
            doubtful.iter().for_each(|key| state.copies.doubt(key));
            return Err(error);
        }
    }
    Ok(())
}

/// Compares the revisions of all copies with the truth: another replica may have failed to write one.
pub(crate) async fn revisions(state: &State) -> anyhow::Result<()> {
    read(state)?;
    let mut connection = state.pool.acquire().await?;
    let truth = deployments::revisions(&mut connection).await?;
    drop(connection);
    for key in state.copies.differing(&truth) {
        one(state, &key, None).await?;
    }
    Ok(())
}

fn read(state: &State) -> anyhow::Result<Bucket> {
    anyhow::ensure!(state.bus.is_connected(), "NATS is unreachable");
    state.copies.bucket().context("the bucket has not been read yet")
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

        let replace = async |copy: Option<Entry>, table: Option<TrafficTable>| {
            let seen = Seen::of(copy.as_ref(), table.as_ref());
            replace(&store, "d", seen, table.as_ref()).await.unwrap() != Replaced::Meanwhile
        };

        let nothing = now().await;
        assert!(replace(nothing.clone(), Some(table(1))).await);
        assert!(!replace(nothing, Some(table(0))).await);
        let first = now().await;
        assert!(replace(first.clone(), Some(table(2))).await);
        assert!(!replace(first.clone(), Some(table(0))).await);
        assert_eq!(revision().await, 2);
        // Nor is it removed because the deployment was gone before.
        assert!(!replace(first, None).await);
        assert_eq!(revision().await, 2);
        assert!(replace(now().await, None).await);
        assert!(store.get("d").await.unwrap().is_none());
        // A deployment that is made again gets its table.
        assert!(replace(now().await, Some(table(3))).await);
        assert_eq!(revision().await, 3);
    }
}
