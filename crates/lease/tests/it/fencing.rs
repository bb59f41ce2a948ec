//! Writes of a leader name its term.

use std::time::Duration;

use slipway_lease::{begin, fence};

use crate::world::{END_HOLDER, PATIENCE, World};

#[tokio::test(flavor = "multi_thread")]
async fn a_transaction_of_a_term_that_is_over_fails() {
    let world = World::begin().await;
    let (first, second) = (world.replica().await, world.replica().await);
    let old = first.term().await;
    let mut transaction = world.pool.begin().await.unwrap();
    old.fence(&mut transaction).await.unwrap();
    transaction.commit().await.unwrap();
    world.count(END_HOLDER).await;
    second.term().await;
    let mut transaction = world.pool.begin().await.unwrap();
    let refused = old.fence(&mut transaction).await.unwrap_err();
    assert!(refused.to_string().contains("its term 1 is over"), "{refused}");
    assert!(slipway_service_kit::db::is_unavailable(&refused), "it may go well elsewhere");
}

/// The old leader is in the middle of a transaction: its successor begins when that has ended, and no sooner.
#[tokio::test(flavor = "multi_thread")]
async fn the_next_term_begins_after_the_transactions_of_the_one_before() {
    let world = World::begin().await;
    let (first, second) = (world.replica().await, world.replica().await);
    let old = first.term().await;
    let mut transaction = world.pool.begin().await.unwrap();
    old.fence(&mut transaction).await.unwrap();
    world.count(END_HOLDER).await;
    let waits = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() \
        AND wait_event_type = 'Lock' AND query LIKE 'UPDATE lease %'";
    world.wait_for(waits, 1).await;
    assert!(second.lease.term().is_none());
    sqlx::query("INSERT INTO writes (term) VALUES (1)").execute(&mut *transaction).await.unwrap();
    transaction.commit().await.unwrap();
    assert_eq!(second.term().await.number(), 2);
    assert_eq!(world.count("SELECT count(*) FROM writes").await, 1);
}

/// As before, but the old leader hangs: Postgres ends its transaction.
#[tokio::test(flavor = "multi_thread")]
async fn a_transaction_that_hangs_does_not_hold_up_the_next_term() {
    let world = World::begin().await;
    let (first, second) = (world.replica().await, world.replica().await);
    let old = first.term().await;
    let mut transaction = world.pool.begin().await.unwrap();
    old.fence(&mut transaction).await.unwrap();
    sqlx::query("INSERT INTO writes (term) VALUES (1)").execute(&mut *transaction).await.unwrap();
    world.count(END_HOLDER).await;
    assert_eq!(second.term().await.number(), 2);
    transaction.commit().await.unwrap_err();
    assert_eq!(world.count("SELECT count(*) FROM writes").await, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn transactions_are_fenced_in_the_work_of_a_leader_alone() {
    let world = World::begin().await;
    let (first, second) = (world.replica().await, world.replica().await);
    first.term().await;
    // A request is served by any replica.
    begin(&world.pool).await.unwrap();
    let (told, mut outcomes) = tokio::sync::mpsc::unbounded_channel();
    let (lease, shutdown, pool) = (first.lease.clone(), first.shutdown.clone(), world.pool.clone());
    tokio::spawn(async move {
        let work = |term: slipway_lease::Term| {
            let (pool, told) = (pool.clone(), told.clone());
            async move {
                begin(&pool).await.unwrap();
                let _ = told.send("led");
                // It goes on in spite of the end of its term.
                tokio::task::block_in_place(|| {
                    while term.is_current() {
                        std::thread::sleep(Duration::from_millis(10));
                    }
                });
                let mut connection = tokio::task::block_in_place(|| {
                    tokio::runtime::Handle::current().block_on(pool.acquire())
                })
                .unwrap();
                let fenced = tokio::task::block_in_place(|| {
                    tokio::runtime::Handle::current().block_on(fence(&mut connection))
                });
                let _ = told.send(if fenced.is_err() { "fenced" } else { "wrote" });
            }
        };
        lease.lead(shutdown, work).await;
    });
    let outcome = tokio::time::timeout(PATIENCE, outcomes.recv()).await.unwrap();
    assert_eq!(outcome, Some("led"));
    world.count(END_HOLDER).await;
    second.term().await;
    let outcome = tokio::time::timeout(PATIENCE, outcomes.recv()).await.unwrap();
    assert_eq!(outcome, Some("fenced"));
}
