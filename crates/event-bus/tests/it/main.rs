//! Outbox, relay and consumers, with a real Postgres and a real NATS.
#![expect(clippy::unwrap_used, clippy::panic, reason = "a test that cannot go on can only fail")]

use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};

use slipway_api::events::{ALIAS_SET, AliasSet, EVENTS_STREAM};
use slipway_event_bus::{Consumer, EventBus, NatsConfig, Outbox, Received, Relay, inbox, records};
use slipway_testkit::TestNats;
use sqlx::PgPool;
use tokio_util::sync::CancellationToken;

const TABLES: &str = "CREATE TABLE outbox (seq BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY, id UUID NOT NULL UNIQUE, \
    subject TEXT NOT NULL, event_type TEXT NOT NULL, entity TEXT NOT NULL, data JSONB NOT NULL, traceparent TEXT, \
    occurred_at TIMESTAMPTZ NOT NULL DEFAULT now(), published_at TIMESTAMPTZ); \
    CREATE TABLE inbox (consumer TEXT NOT NULL, event_id TEXT NOT NULL, handled_at TIMESTAMPTZ NOT NULL DEFAULT now(), \
    PRIMARY KEY (consumer, event_id));";

struct World {
    nats: TestNats,
    pool: PgPool,
    bus: EventBus,
    outbox: Outbox,
    shutdown: CancellationToken,
}

impl World {
    async fn begin() -> Self {
        let nats = slipway_testkit::nats().await;
        let pool = PgPool::connect(&slipway_testkit::postgres().await.url).await.unwrap();
        sqlx::raw_sql(TABLES).execute(&pool).await.unwrap();
        let config = NatsConfig { nats_url: nats.url.clone() };
        let bus = EventBus::connect(&config, "test").await.unwrap();
        let shutdown = CancellationToken::new();
        assert!(bus.wait_for_resources(&shutdown).await);
        let outbox = Outbox::default();
        let relay = Relay::new(pool.clone(), bus.clone(), outbox.clone(), "slipway/test");
        tokio::spawn(relay.run(shutdown.clone()));
        Self { nats, pool, bus, outbox, shutdown }
    }

    async fn set_alias(&self, version: u32) {
        let mut transaction = self.pool.begin().await.unwrap();
        self.outbox.enqueue(&mut transaction, &alias(version)).await.unwrap();
        transaction.commit().await.unwrap();
        self.outbox.wake();
    }

    /// Everything in the stream, once `count` messages are there.
    async fn published(&self, count: usize) -> Vec<Received> {
        let seen = Arc::new(Mutex::new(Vec::new()));
        let end = CancellationToken::new();
        let (bus, sink, until) = (self.bus.clone(), Arc::clone(&seen), end.clone());
        let reader = tokio::spawn(async move {
            records::read_from(&bus, EVENTS_STREAM, SystemTime::UNIX_EPOCH, &until, |message| {
                sink.lock().unwrap().push(Received::from_message(message));
            })
            .await;
        });
        wait_for(|| seen.lock().unwrap().len() >= count).await;
        // What comes twice would come now.
        tokio::time::sleep(Duration::from_millis(300)).await;
        end.cancel();
        reader.await.unwrap();
        let seen = seen.lock().unwrap();
        seen.clone()
    }
}

fn alias(version: u32) -> AliasSet {
    AliasSet {
        model: "m".into(),
        alias: "champion".into(),
        version: version.to_string(),
        unchanged: false,
        model_id: String::new(),
    }
}

async fn wait_for(mut done: impl FnMut() -> bool) {
    for _ in 0..600 {
        if done() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    panic!("waited 30 s in vain");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_committed_is_published_once_and_in_order() {
    let world = World::begin().await;
    for version in 1..=300 {
        world.set_alias(version).await;
    }
    let mut transaction = world.pool.begin().await.unwrap();
    world.outbox.enqueue(&mut transaction, &alias(999)).await.unwrap();
    transaction.rollback().await.unwrap();
    let events = world.published(300).await;
    let versions: Vec<u32> =
        events.iter().map(|event| event.parse::<AliasSet>().unwrap().version.parse().unwrap()).collect();
    assert_eq!(versions, (1..=300).collect::<Vec<_>>());
    assert_eq!(events[0].subject, ALIAS_SET);
    assert_eq!(events[0].entity, "m@champion");
    assert!(!events[0].time.is_empty());
    world.shutdown.cancel();
}

#[tokio::test(flavor = "multi_thread")]
async fn events_wait_while_nats_is_away() {
    let world = World::begin().await;
    world.set_alias(1).await;
    world.published(1).await;
    world.nats.kill().await;
    for version in 2..=20 {
        world.set_alias(version).await;
    }
    world.nats.start_again().await;
    let events = world.published(20).await;
    let versions: Vec<u32> =
        events.iter().map(|event| event.parse::<AliasSet>().unwrap().version.parse().unwrap()).collect();
    assert_eq!(versions, (1..=20).collect::<Vec<_>>());
    world.shutdown.cancel();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_consumer_that_fails_sees_the_event_again_and_acts_once() {
    let world = World::begin().await;
    let attempts = Arc::new(Mutex::new(0));
    let consumer = Consumer::new(world.bus.clone(), EVENTS_STREAM, "test", vec![ALIAS_SET.to_owned()]);
    let (pool, tries) = (world.pool.clone(), Arc::clone(&attempts));
    tokio::spawn(consumer.run(world.shutdown.clone(), move |event| {
        let (pool, tries) = (pool.clone(), Arc::clone(&tries));
        async move {
            *tries.lock().unwrap() += 1;
            let first_try = *tries.lock().unwrap() == 1;
            let mut transaction = pool.begin().await.map_err(|error| error.to_string())?;
            inbox::first_time(&mut transaction, "test", &event.id)
                .await
                .map_err(|error| error.to_string())?;
            if first_try {
                return Err("not yet".to_owned());
            }
            transaction.commit().await.map_err(|error| error.to_string())
        }
    }));
    world.set_alias(1).await;
    wait_for(|| *attempts.lock().unwrap() >= 2).await;
    let mut handled = 0;
    for _ in 0..100 {
        (handled,) =
            sqlx::query_as::<_, (i64,)>("SELECT count(*) FROM inbox").fetch_one(&world.pool).await.unwrap();
        if handled == 1 {
            break;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert_eq!(handled, 1);
    world.shutdown.cancel();
}
