//! What is committed is published: once, in order, and whatever ends in between.

use slipway_api::events::ALIAS_SET;
use slipway_outbox::{Outbox, Prepared};

use crate::stream::{alias, versions};
use crate::world::{END_RELAYS, World};

/// Rows that one round of a relay publishes at most.
const BATCH_ROWS: usize = 256;
/// Transactions of this database that were rolled back so far.
const FAILED: &str = "(SELECT xact_rollback FROM pg_stat_database WHERE datname = current_database())";

#[tokio::test(flavor = "multi_thread")]
async fn what_is_committed_is_published_once_and_in_order() {
    let world = World::begin().await;
    world.start_relay();
    for version in 1..=300 {
        world.set_alias(version).await;
    }
    let mut transaction = world.pool.begin().await.unwrap();
    world.outbox.enqueue(&mut transaction, &alias(999)).await.unwrap();
    transaction.rollback().await.unwrap();
    let events = world.published(300).await;
    assert_eq!(versions(&events), (1..=300).collect::<Vec<_>>());
    assert_eq!(events[0].subject, ALIAS_SET);
    assert_eq!(events[0].entity, "m@champion");
    assert!(!events[0].time.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn events_wait_while_nats_is_unreachable() {
    let world = World::begin().await;
    world.start_relay();
    world.set_alias(1).await;
    world.published(1).await;
    world.nats.kill().await;
    for version in 2..=20 {
        world.set_alias(version).await;
    }
    world.nats.start_again().await;
    assert_eq!(versions(&world.published(20).await), (1..=20).collect::<Vec<_>>());
}

/// The relay has published and has not committed: the worst moment for its end. The rows are still in the
/// outbox then, and what takes them up publishes them again; JetStream recognises them by their ids.
#[tokio::test(flavor = "multi_thread")]
async fn a_relay_that_ends_between_publish_and_commit_duplicates_nothing() {
    let world = World::begin().await;
    world.set_aliases(1..=3).await;
    // Rows can be read, and not be deleted.
    let mut lock = world.pool.begin().await.unwrap();
    sqlx::query("LOCK TABLE outbox IN SHARE MODE").execute(&mut *lock).await.unwrap();
    let relay = world.start_relay();
    world.wait_for_stored(3).await;
    assert_eq!(world.count("SELECT count(*) FROM outbox").await, 3, "published, and not committed");
    relay.abort();
    let _ = relay.await;
    world.count(END_RELAYS).await;
    lock.rollback().await.unwrap();
    // Another replica's relay, or that of the next start.
    world.start_relay();
    world.set_alias(4).await;
    assert_eq!(versions(&world.published(4).await), [1, 2, 3, 4]);
}

/// As before, but the database ends the relay's connection: the same relay goes on.
#[tokio::test(flavor = "multi_thread")]
async fn a_relay_whose_connection_breaks_before_the_commit_goes_on_by_itself() {
    let world = World::begin().await;
    world.set_aliases(1..=3).await;
    let lock = world.start_blocked_relay(3).await;
    assert_eq!(world.count(END_RELAYS).await, 1);
    lock.rollback().await.unwrap();
    world.set_alias(4).await;
    assert_eq!(versions(&world.published(4).await), [1, 2, 3, 4]);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_relays_of_several_replicas_keep_the_order() {
    let world = World::begin().await;
    for _ in 0..4 {
        world.start_relay();
    }
    for first in (1..=400).step_by(8) {
        world.set_aliases(first..first + 8).await;
    }
    assert_eq!(versions(&world.published(400).await), (1..=400).collect::<Vec<_>>());
}

#[tokio::test(flavor = "multi_thread")]
async fn another_replica_takes_over_from_a_relay_that_stopped() {
    let world = World::begin().await;
    let first = world.start_relay();
    world.set_aliases(1..=2).await;
    world.published(2).await;
    first.abort();
    let _ = first.await;
    world.set_aliases(3..=4).await;
    world.start_relay();
    assert_eq!(versions(&world.published(4).await), [1, 2, 3, 4]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_long_backlog_is_published_in_rounds_of_limited_size() {
    let world = World::begin().await;
    let backlog = BATCH_ROWS * 2 + 40;
    world.set_aliases(1..=u32::try_from(backlog).unwrap()).await;
    let lock = world.start_blocked_relay(BATCH_ROWS).await;
    assert_eq!(world.stored().await, BATCH_ROWS, "one round, and no more before its commit");
    lock.rollback().await.unwrap();
    let events = world.published(backlog).await;
    assert_eq!(versions(&events), (1..=u32::try_from(backlog).unwrap()).collect::<Vec<_>>());
}

/// A wake-up may get lost, e.g. because another replica committed.
#[tokio::test(flavor = "multi_thread")]
async fn what_another_replica_commits_is_published_without_a_wake_up() {
    let world = World::begin().await;
    world.start_relay();
    let mut transaction = world.pool.begin().await.unwrap();
    world.outbox.enqueue(&mut transaction, &alias(1)).await.unwrap();
    transaction.commit().await.unwrap();
    assert_eq!(versions(&world.published(1).await), [1]);
}

#[tokio::test(flavor = "multi_thread")]
async fn events_of_one_statement_keep_their_order_their_ids_and_their_traces() {
    let world = World::begin().await;
    let trace = |version: u32| format!("00-0af7651916cd43dd8448eb211c80319c-{version:016x}-01");
    let prepared: Vec<Prepared> =
        (1..=50).map(|version| Prepared::new(&alias(version), Some(trace(version))).unwrap()).collect();
    let mut transaction = world.pool.begin().await.unwrap();
    world.outbox.enqueue_all(&mut transaction, &prepared).await.unwrap();
    transaction.commit().await.unwrap();
    let (ids,): (Vec<String>,) = sqlx::query_as("SELECT array_agg(id::TEXT ORDER BY seq) FROM outbox")
        .fetch_one(&world.pool)
        .await
        .unwrap();
    world.start_relay();
    let events = world.published(50).await;
    assert_eq!(versions(&events), (1..=50).collect::<Vec<_>>());
    assert_eq!(events.iter().map(|event| event.id.clone()).collect::<Vec<_>>(), ids);
    for event in &events {
        assert_eq!(event.traceparent, Some(trace(crate::stream::version(event))));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_relay_outlives_the_table_that_it_reads() {
    let world = World::begin().await;
    world.start_relay();
    world.set_alias(1).await;
    world.published(1).await;
    let before = world.count(&format!("SELECT {FAILED}")).await;
    sqlx::query("ALTER TABLE outbox RENAME TO hidden").execute(&world.pool).await.unwrap();
    // At least one round has failed.
    let failed = format!("{FAILED} > {before}");
    world.wait_for_rows(&format!("SELECT ({failed})::INT::BIGINT"), 1).await;
    sqlx::query("ALTER TABLE hidden RENAME TO outbox").execute(&world.pool).await.unwrap();
    world.set_alias(2).await;
    assert_eq!(versions(&world.published(2).await), [1, 2]);
}

/// Its relay does not publish: it tells the one that leads.
#[tokio::test(flavor = "multi_thread")]
async fn what_a_replica_that_does_not_lead_commits_waits_for_no_poll() {
    const EVENTS: u32 = 12;
    let world = World::begin().await;
    world.start_relay();
    world.set_alias(1).await;
    world.published(1).await;
    let other = Outbox::default();
    world.start_relay_with(world.pool.clone(), other.clone());
    // Until it is in line, and knows that it does not lead.
    world
        .wait_for_rows(
            "SELECT count(*) FROM pg_locks WHERE relation = 'lease_lock'::REGCLASS AND NOT granted",
            1,
        )
        .await;
    let started = std::time::Instant::now();
    for version in 2..=EVENTS {
        let mut transaction = world.pool.begin().await.unwrap();
        other.enqueue(&mut transaction, &alias(version)).await.unwrap();
        transaction.commit().await.unwrap();
        other.wake();
        world.wait_for_stored(usize::try_from(version).unwrap()).await;
    }
    // Each would wait for half of the poll interval of 5 s on average.
    assert!(started.elapsed() < std::time::Duration::from_secs(15), "{:?}", started.elapsed());
    assert_eq!(versions(&world.published(EVENTS as usize).await), (1..=EVENTS).collect::<Vec<_>>());
}

/// The relay hangs between publish and commit, and another replica's relay publishes meanwhile.
#[tokio::test(flavor = "multi_thread")]
async fn a_relay_whose_term_is_over_removes_nothing() {
    let world = World::begin().await;
    world.set_aliases(1..=3).await;
    let lock = world.start_blocked_relay(3).await;
    // Another leader began its term.
    assert_eq!(world.count(END_RELAYS).await, 1);
    sqlx::query("UPDATE lease SET term = term + 1").execute(&world.pool).await.unwrap();
    lock.rollback().await.unwrap();
    world.start_relay();
    world.set_alias(4).await;
    assert_eq!(versions(&world.published(4).await), [1, 2, 3, 4]);
    assert!(world.count("SELECT term FROM lease").await >= 3, "the first relay's term was the first one");
}
