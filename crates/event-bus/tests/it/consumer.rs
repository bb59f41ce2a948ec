//! A consumer gets each event until its handler is done with it, and keeps its place.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use slipway_api::events::{ALIAS_SET, EVENTS_STREAM};
use slipway_event_bus::{Consumer, EventBus, Received, inbox};
use sqlx::PgPool;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::world::{World, version, wait_for};

/// What handlers were given, in order.
#[derive(Clone, Default)]
struct Seen(Arc<Mutex<Vec<u32>>>);

impl Seen {
    fn push(&self, version: u32) {
        self.0.lock().unwrap().push(version);
    }

    fn all(&self) -> Vec<u32> {
        self.0.lock().unwrap().clone()
    }

    fn times(&self, version: u32) -> usize {
        self.0.lock().unwrap().iter().filter(|seen| **seen == version).count()
    }

    async fn wait_for(&self, count: usize) {
        wait_for("the consumer's events", || self.0.lock().unwrap().len() >= count).await;
    }
}

fn consumer(bus: &EventBus, durable: &str) -> Consumer {
    Consumer::new(bus.clone(), EVENTS_STREAM, durable, vec![ALIAS_SET.to_owned()])
}

/// Starts a consumer that notes what it gets, and acknowledges it.
fn note(world: &World, durable: &str, seen: &Seen, end: &CancellationToken) -> JoinHandle<()> {
    let seen = seen.clone();
    tokio::spawn(consumer(&world.bus, durable).run(end.clone(), move |event| {
        seen.push(version(&event));
        async { Ok(()) }
    }))
}

/// Acts on an event as services do: once, in the transaction that notes that it was handled.
async fn act_once(pool: &PgPool, event: &Received) -> Result<(), String> {
    let act = async {
        let mut transaction = pool.begin().await.map_err(slipway_event_bus::Error::from)?;
        if inbox::first_time(&mut transaction, "test", &event.id).await? {
            sqlx::query("INSERT INTO acts (version) VALUES ($1)")
                .bind(i64::from(version(event)))
                .execute(&mut *transaction)
                .await?;
        }
        transaction.commit().await?;
        Ok::<(), slipway_event_bus::Error>(())
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

#[tokio::test(flavor = "multi_thread")]
async fn events_arrive_in_their_order_and_as_they_were_committed() {
    let world = World::begin().await;
    world.start_relay();
    world.set_aliases(1..=200).await;
    let (seen, end) = (Seen::default(), CancellationToken::new());
    let running = note(&world, "test", &seen, &end);
    seen.wait_for(200).await;
    assert_eq!(seen.all(), (1..=200).collect::<Vec<_>>());
    end.cancel();
    running.await.unwrap();
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

/// A body of another version of the program, or no JSON at all.
#[tokio::test(flavor = "multi_thread")]
async fn a_body_that_does_not_parse_is_an_error_that_names_the_event() {
    let world = World::begin().await;
    let (texts, sink) = (Arc::new(Mutex::new(Vec::new())), Arc::new(Mutex::new(Vec::new())));
    let (complaints, bodies) = (Arc::clone(&texts), Arc::clone(&sink));
    tokio::spawn(consumer(&world.bus, "test").run(world.shutdown.clone(), move |event| {
        match event.parse::<slipway_api::events::AliasSet>() {
            Ok(alias) => bodies.lock().unwrap().push(alias.version),
            Err(error) => complaints.lock().unwrap().push(error.to_string()),
        }
        async { Ok(()) }
    }));
    for body in ["{", r#"{"model": 7}"#, "[]"] {
        let published = world.bus.jetstream().publish(ALIAS_SET, body.into()).await.unwrap();
        published.await.unwrap();
    }
    world.start_relay();
    world.set_alias(1).await;
    wait_for("the event that parses", || sink.lock().unwrap().len() == 1).await;
    let texts = texts.lock().unwrap();
    assert_eq!(texts.len(), 3, "{texts:?}");
    assert!(texts.iter().all(|text| text.contains(ALIAS_SET)), "{texts:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_consumer_that_starts_again_goes_on_where_it_was() {
    let world = World::begin().await;
    world.start_relay();
    let (before, end) = (Seen::default(), CancellationToken::new());
    world.set_aliases(1..=10).await;
    let running = note(&world, "test", &before, &end);
    before.wait_for(10).await;
    end.cancel();
    running.await.unwrap();
    world.set_aliases(11..=20).await;
    world.published(20).await;
    let (after, end) = (Seen::default(), CancellationToken::new());
    note(&world, "test", &after, &end);
    after.wait_for(10).await;
    // The last acknowledgement before the end may be lost with its process.
    let all: Vec<u32> = after.all().into_iter().filter(|version| *version > 10).collect();
    assert_eq!(all, (11..=20).collect::<Vec<_>>());
    end.cancel();
}

#[tokio::test(flavor = "multi_thread")]
async fn replicas_share_the_events_and_services_each_get_all() {
    let world = World::begin().await;
    world.start_relay();
    let end = CancellationToken::new();
    let (one, other, service) = (Seen::default(), Seen::default(), Seen::default());
    for (durable, seen) in [("shared", &one), ("shared", &other), ("own", &service)] {
        note(&world, durable, seen, &end);
    }
    world.set_aliases(1..=100).await;
    wait_for("all events at the replicas", || one.all().len() + other.all().len() >= 100).await;
    service.wait_for(100).await;
    let mut shared = [one.all(), other.all()].concat();
    shared.sort_unstable();
    assert_eq!(shared, (1..=100).collect::<Vec<_>>(), "each by one of them");
    assert_eq!(service.all(), (1..=100).collect::<Vec<_>>());
    end.cancel();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_consumer_gets_only_what_it_subscribed_to() {
    let world = World::begin().await;
    let seen = Arc::new(Mutex::new(Vec::new()));
    let sink = Arc::clone(&seen);
    tokio::spawn(consumer(&world.bus, "test").run(world.shutdown.clone(), move |event| {
        sink.lock().unwrap().push(event.subject);
        async { Ok(()) }
    }));
    for subject in ["slipway.registry.run.created", ALIAS_SET, "slipway.registry.alias.deleted", ALIAS_SET] {
        world.bus.jetstream().publish(subject, "{}".into()).await.unwrap().await.unwrap();
    }
    wait_for("both events", || seen.lock().unwrap().len() == 2).await;
    assert_eq!(*seen.lock().unwrap(), [ALIAS_SET, ALIAS_SET]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_consumer_goes_on_after_nats_was_unreachable() {
    let world = World::begin().await;
    world.start_relay();
    let (seen, end) = (Seen::default(), CancellationToken::new());
    note(&world, "test", &seen, &end);
    world.set_aliases(1..=3).await;
    seen.wait_for(3).await;
    world.nats.kill().await;
    world.set_aliases(4..=6).await;
    world.nats.start_again().await;
    wait_for("the events of the outage", || (4..=6).all(|version| seen.times(version) >= 1)).await;
    let mut late: Vec<u32> = seen.all().into_iter().filter(|version| *version > 3).collect();
    late.dedup();
    assert_eq!(late, [4, 5, 6], "in their order");
    end.cancel();
}
