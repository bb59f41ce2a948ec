//! Replicas divide the partitions among themselves, and writes of an owner name its term.

use std::collections::BTreeSet;
use std::time::Instant;

use slipway_lease::{Partitions, Term};
use slipway_service_kit::metrics::Metrics;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::world::{PATIENCE, World};

const COUNT: u16 = 64;
/// Sessions that make a replica a member.
const MEMBERS: &str = "FROM pg_locks JOIN pg_stat_activity a USING (pid) \
    WHERE locktype = 'advisory' AND granted AND a.datname = current_database()";

/// One that takes part, until it is dropped.
struct Owner {
    partitions: Partitions,
    metrics: Metrics,
    shutdown: CancellationToken,
    competing: JoinHandle<()>,
}

impl Drop for Owner {
    fn drop(&mut self) {
        self.competing.abort();
    }
}

impl Owner {
    fn start(world: &World) -> Self {
        let (metrics, shutdown) = (Metrics::new(), CancellationToken::new());
        let partitions = Partitions::new(world.pool.clone(), &metrics, COUNT);
        let competing = tokio::spawn(partitions.clone().compete(shutdown.clone()));
        Self { partitions, metrics, shutdown, competing }
    }

    fn owned(&self) -> BTreeSet<u16> {
        self.partitions.owned().borrow().keys().copied().collect()
    }

    fn term(&self, partition: u16) -> Term {
        self.partitions.owned().borrow()[&partition].clone()
    }
}

/// Waits until each partition has one owner among these, and each of these has some.
async fn divided(owners: &[&Owner]) {
    let started = Instant::now();
    loop {
        let shares: Vec<BTreeSet<u16>> = owners.iter().map(|owner| owner.owned()).collect();
        let union: BTreeSet<u16> = shares.iter().flatten().copied().collect();
        let sum: usize = shares.iter().map(BTreeSet::len).sum();
        if union.len() == usize::from(COUNT) && sum == union.len() && shares.iter().all(|own| !own.is_empty())
        {
            return;
        }
        assert!(started.elapsed() < PATIENCE, "{shares:?}");
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn replicas_divide_the_partitions_and_take_over_those_of_one_that_ends() {
    let world = World::begin().await;
    let first = Owner::start(&world);
    divided(&[&first]).await;
    let (second, third) = (Owner::start(&world), Owner::start(&world));
    divided(&[&first, &second, &third]).await;
    let shown = |owner: &Owner| format!("\nslipway_partitions {}\n", owner.owned().len());
    assert!(first.metrics.render().contains(&shown(&first)));
    let (kept, given) = (first.owned(), second.owned());
    let term = second.term(*given.first().unwrap());
    second.shutdown.cancel();
    tokio::time::timeout(PATIENCE, term.over()).await.unwrap();
    assert!(second.owned().is_empty() && second.metrics.render().contains("\nslipway_partitions 0\n"));
    divided(&[&first, &third]).await;
    assert!(first.owned().is_superset(&kept), "what it had stays with it");
    drop(third);
    divided(&[&first]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_partition_passes_on_after_its_owners_transactions_and_later_ones_fail() {
    let world = World::begin().await;
    let first = Owner::start(&world);
    divided(&[&first]).await;
    let old = first.term(0);
    let mut transaction = world.pool.begin().await.unwrap();
    old.fence(&mut transaction).await.unwrap();
    assert_eq!(world.count(&format!("SELECT count(pg_terminate_backend(pid)) {MEMBERS}")).await, 1);
    let waits = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() \
        AND wait_event_type = 'Lock' AND query LIKE 'UPDATE lease_partitions %'";
    world.wait_for(waits, 1).await;
    sqlx::query("INSERT INTO writes (term) VALUES (1)").execute(&mut *transaction).await.unwrap();
    transaction.commit().await.unwrap();
    divided(&[&first]).await;
    assert_eq!(first.term(0).number(), old.number() + 1);
    let mut transaction = world.pool.begin().await.unwrap();
    let refused = old.fence(&mut transaction).await.unwrap_err();
    assert!(slipway_lease::Lost::caused(&refused), "{refused}");
    assert!(!slipway_lease::Lost::caused(&sqlx::Error::PoolTimedOut));
    drop(transaction);
    assert_eq!(world.count("SELECT count(*) FROM writes").await, 1);
    // Each partition has terms of its own, and work of one is fenced by them.
    let carried = first.term(1).carry(async { slipway_lease::begin(&world.pool).await.is_ok() }).await;
    assert_eq!(carried, Some(true));
    let carried = old.carry(async { slipway_lease::begin(&world.pool).await.is_ok() }).await;
    assert_eq!(carried, None, "a term that is over does no work");
}

#[tokio::test(flavor = "multi_thread")]
async fn members_do_not_hold_back_vacuum() {
    let world = World::begin().await;
    let (first, second) = (Owner::start(&world), Owner::start(&world));
    divided(&[&first, &second]).await;
    let idle = format!(
        "SELECT count(*) {MEMBERS} AND a.state = 'idle in transaction' AND a.backend_xid IS NULL \
         AND a.backend_xmin IS NULL"
    );
    world.wait_for(&idle, 2).await;
    assert_eq!(world.count(&format!("SELECT count(*) {MEMBERS}")).await, 2);
}
