//! An event acts once, however often it is delivered: the consumer's transaction and its inbox.

use std::collections::BTreeMap;

use slipway_event_bus::Received;
use slipway_outbox::inbox;
use sqlx::PgPool;

use crate::stream::{Seen, consumer, version, wait_for};
use crate::world::World;

/// Acts on an event as services do: once, in the transaction that notes that it was handled.
async fn act_once(pool: &PgPool, event: &Received) -> Result<(), String> {
    let act = async {
        let mut transaction = pool.begin().await?;
        if inbox::first_time(&mut transaction, "test", &event.id).await? {
            sqlx::query("INSERT INTO acts (version) VALUES ($1)")
                .bind(i64::from(version(event)))
                .execute(&mut *transaction)
                .await?;
        }
        transaction.commit().await?;
        Ok::<(), sqlx::Error>(())
    };
    act.await.map_err(|error| error.to_string())
}

async fn with_acts() -> World {
    let world = World::begin().await;
    sqlx::query("CREATE TABLE acts (version BIGINT NOT NULL)").execute(&world.pool).await.unwrap();
    world.start_relay();
    world
}

async fn acts(world: &World) -> BTreeMap<i64, i64> {
    let acts: Vec<(i64, i64)> = sqlx::query_as("SELECT version, count(*) FROM acts GROUP BY version")
        .fetch_all(&world.pool)
        .await
        .unwrap();
    acts.into_iter().collect()
}

/// The handler's transaction fails at first.
#[tokio::test(flavor = "multi_thread")]
async fn an_event_whose_handler_failed_comes_again_and_acts_once() {
    let world = with_acts().await;
    let attempts = Seen::default();
    let (pool, tries) = (world.pool.clone(), attempts.clone());
    tokio::spawn(consumer(&world.bus, "test").run(world.shutdown.clone(), move |event| {
        let (pool, tries) = (pool.clone(), tries.clone());
        async move {
            tries.push(version(&event));
            if tries.all().len() == 1 {
                return Err("not yet".to_owned());
            }
            act_once(&pool, &event).await
        }
    }));
    world.set_alias(1).await;
    attempts.wait_for(2).await;
    world.wait_for_rows("SELECT count(*) FROM acts", 1).await;
    assert_eq!(world.count("SELECT count(*) FROM inbox").await, 1);
}

/// The handler commits, and NATS does not hear of it: so it is when a process ends before it acknowledges.
#[tokio::test(flavor = "multi_thread")]
async fn an_event_that_is_delivered_twice_acts_once() {
    let world = with_acts().await;
    let deliveries = Seen::default();
    let (pool, seen) = (world.pool.clone(), deliveries.clone());
    tokio::spawn(consumer(&world.bus, "test").run(world.shutdown.clone(), move |event| {
        let (pool, seen) = (pool.clone(), seen.clone());
        async move {
            act_once(&pool, &event).await?;
            seen.push(version(&event));
            let first = seen.times(version(&event)) == 1;
            if first { Err("committed, and not acknowledged".to_owned()) } else { Ok(()) }
        }
    }));
    world.set_aliases(1..=5).await;
    deliveries.wait_for(10).await;
    assert_eq!(acts(&world).await, (1..=5).map(|version| (version, 1)).collect());
    for version in 1..=5 {
        assert_eq!(deliveries.times(version), 2, "{version}");
    }
}

/// One event always fails: those behind it are handled, and it is tried again.
#[tokio::test(flavor = "multi_thread")]
async fn a_poison_message_holds_up_no_other() {
    let world = with_acts().await;
    let attempts = Seen::default();
    let (pool, tries) = (world.pool.clone(), attempts.clone());
    tokio::spawn(consumer(&world.bus, "test").run(world.shutdown.clone(), move |event| {
        let (pool, tries) = (pool.clone(), tries.clone());
        async move {
            tries.push(version(&event));
            if version(&event) == 2 {
                return Err("it cannot be handled".to_owned());
            }
            act_once(&pool, &event).await
        }
    }));
    world.set_aliases(1..=6).await;
    world.wait_for_rows("SELECT count(*) FROM acts", 5).await;
    wait_for("a third attempt", || attempts.times(2) >= 3).await;
    assert_eq!(acts(&world).await, [1, 3, 4, 5, 6].map(|version| (version, 1)).into());
    for version in [1, 3, 4, 5, 6] {
        assert_eq!(attempts.times(version), 1, "{version}");
    }
    world.set_alias(7).await;
    world.wait_for_rows("SELECT count(*) FROM acts", 6).await;
}
