//! What the bucket of traffic tables has, as a watch of it tells: every replica of the service knows which
//! table each deployment's serving replicas have, without asking for one after the other.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_nats::jetstream::kv::{Entry, Operation, Store};
use slipway_api::traffic::{
    Pool, TABLE_MARKER_MAX_AGE_S, TABLES_HEAD_KEY, TRAFFIC_BUCKET, Target, TrafficTable,
};
use slipway_event_bus::EventBus;
use slipway_runtime::clock::now_unix_ms;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

/// Pause before a lost watch is restarted.
const REWATCH_DELAY_MS: u64 = 250;
/// The mark of a deletion that is older than this stays.
const TOMBSTONE_AGE_MS: u64 = 3_000 * TABLE_MARKER_MAX_AGE_S;
/// Earlier tables of a deployment whose place in the bucket is remembered.
const MAX_EARLIER: usize = 4;

/// The entries of the bucket. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub(crate) struct Copies {
    known: Arc<Mutex<Known>>,
    /// Told when an entry is not as this process wrote it.
    pub(crate) doubts: Arc<Notify>,
}

#[derive(Debug, Default)]
struct Known {
    /// The bucket, once it was read to its end on this connection.
    bucket: Option<Bucket>,
    copies: BTreeMap<String, Copy>,
    /// Keys whose entries may differ from the truth.
    doubtful: BTreeSet<String>,
    has_head: bool,
    /// Marks of deletions that do not go by themselves: earlier releases left them.
    tombstones: Vec<Tombstone>,
    /// How often it was read as a whole.
    readings: u64,
    /// When the bucket was created that `copies` are of.
    created_unix_ms: Option<u64>,
}

/// A bucket that was read.
#[derive(Debug, Clone)]
pub(crate) struct Bucket {
    pub(crate) store: Store,
    pub(crate) created_unix_ms: u64,
}

/// One entry.
#[derive(Debug, Clone, Default)]
struct Copy {
    /// Place in the bucket.
    revision: u64,
    /// `None`: it does not parse.
    table: Option<TrafficTable>,
    /// Places of this table and those before, with their own revisions, the newest first.
    places: VecDeque<Place>,
}

#[derive(Debug, Clone, Copy)]
struct Place {
    entry: u64,
    table: u64,
}

/// The mark of a deletion.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Tombstone {
    pub(crate) key: String,
    /// Its place in the bucket.
    pub(crate) revision: u64,
}

/// Where a deployment's newest table is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Placed {
    /// Which bucket.
    pub(crate) bucket_created_unix_ms: u64,
    /// Place of the entry.
    pub(crate) entry: u64,
    /// Revision of the table.
    pub(crate) table: u64,
    /// Versions that it names.
    pub(crate) targets: Vec<Target>,
    /// Whether the deployment has replicas of its own.
    pub(crate) is_dedicated: bool,
    /// What the pool does for it.
    pub(crate) pool: Option<Pool>,
}

impl Copies {
    /// Where the newest table of a deployment is; `None` where the bucket has none, or was not read yet.
    pub(crate) fn placed(&self, deployment: &str) -> Option<Placed> {
        let known = self.lock();
        let bucket_created_unix_ms = known.created_unix_ms?;
        let copy = known.copies.get(deployment)?;
        let table = copy.table.as_ref()?;
        Some(Placed {
            bucket_created_unix_ms,
            entry: copy.revision,
            table: table.revision,
            targets: table.targets().cloned().collect(),
            is_dedicated: table.dedicated,
            pool: table.pool,
        })
    }

    /// Who answers which share of a deployment's requests.
    pub(crate) fn weights(&self, deployment: &str) -> Vec<(Target, u8)> {
        let known = self.lock();
        let table = known.copies.get(deployment).and_then(|copy| copy.table.as_ref());
        table.map(TrafficTable::weights).unwrap_or_default()
    }

    /// Revision of the table that a deployment had at a place in the bucket, where that is remembered.
    pub(crate) fn table_at(&self, deployment: &str, entry: u64) -> Option<u64> {
        let known = self.lock();
        let places = &known.copies.get(deployment)?.places;
        places.iter().find(|place| place.entry <= entry).map(|place| place.table)
    }

    /// As after a bucket was read that has nothing.
    #[cfg(test)]
    pub(crate) fn read_for_tests(&self, created_unix_ms: u64) {
        self.lock().created_unix_ms = Some(created_unix_ms);
    }

    /// The bucket, where it was read.
    pub(crate) fn bucket(&self) -> Option<Bucket> {
        self.lock().bucket.clone()
    }

    /// How often the bucket was read as a whole.
    pub(crate) fn readings(&self) -> u64 {
        self.lock().readings
    }

    /// Whether the bucket says that it is complete.
    pub(crate) fn has_head(&self) -> bool {
        self.lock().has_head
    }

    /// Place of an entry; 0 where there is none.
    pub(crate) fn revision(&self, key: &str) -> u64 {
        self.lock().copies.get(key).map_or(0, |copy| copy.revision)
    }

    /// Whether the entry of a deployment is this table.
    pub(crate) fn is_same(&self, key: &str, table: Option<&TrafficTable>) -> bool {
        match (self.lock().copies.get(key), table) {
            (Some(copy), Some(table)) => copy.table.as_ref() == Some(table),
            (copy, table) => copy.is_none() && table.is_none(),
        }
    }

    /// Keys of all entries.
    pub(crate) fn keys(&self) -> Vec<String> {
        self.lock().copies.keys().cloned().collect()
    }

    /// Deployments whose table here has another revision than `truth` says, or that only one side has.
    pub(crate) fn differing(&self, truth: &BTreeMap<String, u64>) -> Vec<String> {
        let known = self.lock();
        let revision = |key: &str| Some(known.copies.get(key)?.table.as_ref()?.revision);
        let only_here = known.copies.keys().filter(|key| !truth.contains_key(*key)).cloned();
        let other = truth.iter().filter(|(key, wanted)| revision(key) != Some(**wanted));
        other.map(|(key, _)| key.clone()).chain(only_here).collect()
    }

    /// This process wrote an entry; `None`: it deleted it.
    pub(crate) fn wrote(&self, key: &str, revision: u64, table: Option<&TrafficTable>) {
        let mut known = self.lock();
        let is_older = known.copies.get(key).is_none_or(|copy| copy.revision < revision);
        if table.is_none() || is_older {
            known.put(key, revision, table.cloned(), table.is_some());
        }
    }

    /// Keys whose entries have to be compared with the truth; the caller does that.
    pub(crate) fn take_doubtful(&self) -> BTreeSet<String> {
        std::mem::take(&mut self.lock().doubtful)
    }

    /// Marks of deletions that are to be removed; the caller does that.
    pub(crate) fn take_tombstones(&self) -> Vec<Tombstone> {
        std::mem::take(&mut self.lock().tombstones)
    }

    /// An entry has to be compared with the truth.
    pub(crate) fn doubt(&self, key: &str) {
        self.lock().doubtful.insert(key.to_owned());
    }

    /// This process has written the head.
    pub(crate) fn wrote_head(&self) {
        self.lock().has_head = true;
    }

    fn heard(&self, entry: Entry) {
        let is_put = entry.operation == Operation::Put;
        let mut known = self.lock();
        if entry.key == TABLES_HEAD_KEY {
            known.has_head = is_put;
            if is_put {
                return;
            }
        } else {
            if known.copies.get(&entry.key).is_some_and(|copy| copy.revision >= entry.revision) {
                return;
            }
            let table = if is_put { serde_json::from_slice(&entry.value).ok() } else { None };
            known.put(&entry.key, entry.revision, table, is_put);
            known.doubtful.insert(entry.key);
        }
        drop(known);
        self.doubts.notify_one();
    }

    fn lock(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Known {
    fn put(&mut self, key: &str, revision: u64, table: Option<TrafficTable>, is_put: bool) {
        if !is_put {
            self.copies.remove(key);
            return;
        }
        let copy = self.copies.entry(key.to_owned()).or_default();
        if let Some(table) = &table {
            copy.places.push_front(Place { entry: revision, table: table.revision });
            copy.places.truncate(MAX_EARLIER);
        }
        (copy.revision, copy.table) = (revision, table);
    }

    /// Replaces everything by what a bucket has now.
    fn replace(&mut self, all: Vec<Entry>, bucket: Bucket) {
        let earlier = std::mem::take(self);
        for entry in all {
            let is_put = entry.operation == Operation::Put;
            if entry.key == TABLES_HEAD_KEY {
                self.has_head = is_put;
                continue;
            }
            if !is_put && is_tombstone(&entry) {
                self.tombstones.push(Tombstone { key: entry.key.clone(), revision: entry.revision });
            }
            let table = if is_put { serde_json::from_slice(&entry.value).ok() } else { None };
            self.put(&entry.key, entry.revision, table, is_put);
        }
        // Places of earlier tables stay known, where it is the same bucket.
        let same = earlier.created_unix_ms == Some(bucket.created_unix_ms);
        let copies = if same { earlier.copies } else { BTreeMap::new() };
        for (key, copy) in copies {
            if let Some(entry) = self.copies.get_mut(&key) {
                let oldest = entry.places.back().map_or(u64::MAX, |place| place.entry);
                entry.places.extend(copy.places.into_iter().filter(|place| place.entry < oldest));
                entry.places.truncate(MAX_EARLIER);
            }
        }
        self.readings = earlier.readings + 1;
        self.created_unix_ms = Some(bucket.created_unix_ms);
        self.bucket = Some(bucket);
    }
}

/// Whether the mark of a deletion would be gone if it went by itself.
fn is_tombstone(entry: &Entry) -> bool {
    let created_ms = u64::try_from(entry.created.unix_timestamp_nanos() / 1_000_000).unwrap_or_default();
    now_unix_ms().saturating_sub(created_ms) > TOMBSTONE_AGE_MS
}

/// Watches until `shutdown`.
pub(crate) async fn watch(bus: EventBus, copies: Copies, shutdown: CancellationToken) {
    loop {
        tokio::select! {
            () = shutdown.cancelled() => return,
            ended = follow(&bus, &copies) => {
                if let Err(error) = ended {
                    tracing::debug!(error = format!("{error:#}"), "watch of the traffic tables restarts");
                }
            }
        }
        copies.lock().bucket = None;
        tokio::select! {
            () = shutdown.cancelled() => return,
            () = tokio::time::sleep(Duration::from_millis(REWATCH_DELAY_MS)) => {}
        }
    }
}

async fn follow(bus: &EventBus, copies: &Copies) -> anyhow::Result<()> {
    let (all, mut followed) = bus.follow_bucket(TRAFFIC_BUCKET).await?;
    let bucket = Bucket { store: followed.store().clone(), created_unix_ms: followed.created_unix_ms() };
    copies.lock().replace(all, bucket);
    copies.doubts.notify_one();
    while let Some(entry) = followed.next().await? {
        copies.heard(entry);
    }
    Ok(())
}
