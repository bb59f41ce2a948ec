//! Connections, streams, buckets, and what a stream holds already.

use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};

use slipway_api::events::{ALIAS_SET, EVENTS_STREAM};
use slipway_api::predictions::{LABELS_STREAM, PREDICTIONS_STREAM};
use slipway_api::traffic::TRAFFIC_BUCKET;
use slipway_event_bus::{Consumer, EventBus, NatsConfig, Received, Storage, StreamSettings, records};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::stream::{alias, version, versions, wait_for};
use crate::world::World;

#[tokio::test(flavor = "multi_thread")]
async fn a_process_starts_before_nats_and_connects_once_it_is_there() {
    let world = World::begin().await;
    world.nats.kill().await;
    let bus = EventBus::connect(&NatsConfig { nats_url: world.nats.url.clone() }, "early").await.unwrap();
    assert!(!bus.is_connected());
    let shutdown = CancellationToken::new();
    let waiting = {
        let (bus, shutdown) = (bus.clone(), shutdown.clone());
        tokio::spawn(async move { bus.wait_for_resources(&shutdown).await })
    };
    world.nats.start_again().await;
    assert!(waiting.await.unwrap(), "the streams are there");
    assert!(bus.is_connected());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_process_that_waits_for_nats_can_be_stopped() {
    let world = World::begin().await;
    world.nats.kill().await;
    let bus = EventBus::connect(&NatsConfig { nats_url: world.nats.url.clone() }, "early").await.unwrap();
    let shutdown = CancellationToken::new();
    let waiting = {
        let (bus, shutdown) = (bus.clone(), shutdown.clone());
        tokio::spawn(async move { bus.wait_for_resources(&shutdown).await })
    };
    shutdown.cancel();
    assert!(!waiting.await.unwrap(), "it is not done, and has ended");
}

#[tokio::test(flavor = "multi_thread")]
async fn credentials_that_nats_does_not_know_get_no_connection() {
    let world = World::begin().await;
    let stranger = world.nats.url.replace("tester:", "stranger:");
    assert_ne!(stranger, world.nats.url);
    let bus = EventBus::connect(&NatsConfig { nats_url: stranger }, "stranger").await.unwrap();
    assert!(bus.ensure_resources().await.is_err());
    assert!(!bus.is_connected());
}

/// Limits, storage and replicas of a stream that exists belong to its operator.
#[tokio::test(flavor = "multi_thread")]
async fn what_an_operator_changed_of_a_stream_stays_and_missing_subjects_are_added() {
    let world = World::begin().await;
    world.set_alias(1).await;
    world.published(1).await;
    for name in [EVENTS_STREAM, &format!("KV_{TRAFFIC_BUCKET}")] {
        let mut stream = world.bus.jetstream().get_stream(name).await.unwrap();
        let created = stream.info().await.unwrap().config.clone();
        let changed = async_nats::jetstream::stream::Config {
            max_bytes: 3 * 1024 * 1024,
            max_age: Duration::from_secs(3_600),
            description: Some("of an operator".to_owned()),
            ..created.clone()
        };
        world.bus.jetstream().update_stream(&changed).await.unwrap();
        world.bus.ensure_resources().await.unwrap();
        let now = stream.info().await.unwrap().config.clone();
        let shown = |config: &async_nats::jetstream::stream::Config| {
            (config.max_bytes, config.max_age, config.description.clone(), config.subjects.clone())
        };
        assert_eq!(shown(&now), shown(&changed), "{name}");
    }
    let mut stream = world.bus.jetstream().get_stream(EVENTS_STREAM).await.unwrap();
    let current = stream.info().await.unwrap().config.clone();
    // A release before this one had fewer subjects, and an operator added one.
    let fewer = async_nats::jetstream::stream::Config {
        subjects: vec![current.subjects[0].clone(), "of.an.operator".to_owned()],
        ..current.clone()
    };
    world.bus.jetstream().update_stream(&fewer).await.unwrap();
    world.bus.ensure_resources().await.unwrap();
    let now = stream.info().await.unwrap();
    let has = |subject: &String| now.config.subjects.contains(subject);
    assert!(current.subjects.iter().all(has), "{:?}", now.config.subjects);
    assert!(has(&"of.an.operator".to_owned()) && now.config.max_bytes == 3 * 1024 * 1024);
    assert_eq!(now.state.messages, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_that_cannot_be_used_is_named_with_what_is_wrong() {
    let nats = slipway_testkit::nats().await;
    let config = NatsConfig { nats_url: nats.url.clone() };
    let bus = EventBus::connect(&config, "test").await.unwrap();
    let queue = async_nats::jetstream::stream::Config {
        name: EVENTS_STREAM.to_owned(),
        subjects: vec!["slipway.registry.>".to_owned()],
        retention: async_nats::jetstream::stream::RetentionPolicy::WorkQueue,
        ..async_nats::jetstream::stream::Config::default()
    };
    wait_for("the connection", || bus.is_connected()).await;
    bus.jetstream().create_stream(queue).await.unwrap();
    let (reasons, shutdown) = (Mutex::new(Vec::new()), CancellationToken::new());
    let note = |error: &slipway_event_bus::Error| {
        reasons.lock().unwrap().push(error.to_string());
        shutdown.cancel();
    };
    assert!(!bus.prepare(&shutdown, note).await, "a work queue loses events of all services but one");
    let reason = reasons.lock().unwrap()[0].clone();
    for part in [EVENTS_STREAM, "retention `workqueue`", "expected `limits`"] {
        assert!(reason.contains(part), "{reason}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn streams_and_buckets_are_created_as_configured() {
    let nats = slipway_testkit::nats().await;
    let settings = StreamSettings {
        storage: Storage::Memory,
        events_max_bytes: 5 * 1024 * 1024,
        predictions_max_bytes: 6 * 1024 * 1024,
        labels_max_bytes: 7 * 1024 * 1024,
        labels_max_age_s: 3_600,
        buckets_max_bytes: 8 * 1024 * 1024,
        ..StreamSettings::default()
    };
    let config = NatsConfig { nats_url: nats.url.clone() };
    let bus = EventBus::connect(&config, "test").await.unwrap().with_streams(settings);
    assert!(bus.wait_for_resources(&CancellationToken::new()).await);
    let traffic = format!("KV_{TRAFFIC_BUCKET}");
    for (name, mib) in [(EVENTS_STREAM, 5), (PREDICTIONS_STREAM, 6), (LABELS_STREAM, 7), (&traffic, 8)] {
        let stream = bus.jetstream().get_stream(name).await.unwrap();
        let config = &stream.cached_info().config;
        assert_eq!(config.max_bytes, mib * 1024 * 1024, "{name}");
        assert_eq!(config.storage, async_nats::jetstream::stream::StorageType::Memory, "{name}");
        assert_eq!(config.max_age == Duration::from_secs(3_600), name == LABELS_STREAM, "{name}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_stream_and_bucket_is_bounded() {
    let world = World::begin().await;
    let jetstream = world.bus.jetstream();
    for name in [EVENTS_STREAM, PREDICTIONS_STREAM, &format!("KV_{TRAFFIC_BUCKET}")] {
        let stream = jetstream.get_stream(name).await.unwrap();
        assert!(stream.cached_info().config.max_bytes > 0, "{name}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bucket_is_made_once_and_keeps_the_last_value_of_a_key() {
    let world = World::begin().await;
    let bucket = world.bus.bucket(TRAFFIC_BUCKET).await.unwrap();
    bucket.put("d", "1".into()).await.unwrap();
    bucket.put("d", "2".into()).await.unwrap();
    let again = world.bus.bucket(TRAFFIC_BUCKET).await.unwrap();
    assert_eq!(again.get("d").await.unwrap().unwrap(), "2");
    assert!(again.get("other").await.unwrap().is_none());
}

#[tokio::test(flavor = "multi_thread")]
async fn an_event_that_is_published_again_under_its_id_is_stored_once() {
    let world = World::begin().await;
    let (id, other) = (Uuid::now_v7(), Uuid::now_v7());
    for (id, number) in [(id, 1), (id, 1), (other, 2), (id, 1)] {
        world.bus.publish_event("slipway/test", id, &alias(number)).await.unwrap();
    }
    let events = world.published(2).await;
    assert_eq!(versions(&events), [1, 2]);
    assert_eq!([&events[0].id, &events[1].id], [&id.to_string(), &other.to_string()]);
    assert_eq!((events[0].subject.as_str(), events[0].entity.as_str()), (ALIAS_SET, "m@champion"));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_published_without_a_connection_is_an_error() {
    let world = World::begin().await;
    world.nats.kill().await;
    wait_for("the loss of the connection", || !world.bus.is_connected()).await;
    assert!(world.bus.publish_event("slipway/test", Uuid::now_v7(), &alias(1)).await.is_err());
}

#[tokio::test(flavor = "multi_thread")]
async fn the_history_of_a_stream_has_a_limit_and_says_whether_there_is_more() {
    let world = World::begin().await;
    let all = || world.bus.history(EVENTS_STREAM, vec![ALIAS_SET.to_owned()], SystemTime::UNIX_EPOCH, 100);
    assert_eq!(all().await.unwrap().0.len(), 0, "an empty stream has no history");
    world.set_aliases(1..=7).await;
    world.bus.jetstream().publish("slipway.registry.run.created", "{}".into()).await.unwrap().await.unwrap();
    world.published(8).await;
    let (events, more) = all().await.unwrap();
    assert_eq!((versions(&events), more), ((1..=7).collect(), false));
    for (limit, expected) in [(3, true), (7, false)] {
        let subjects = vec![ALIAS_SET.to_owned()];
        let (events, more) =
            world.bus.history(EVENTS_STREAM, subjects, SystemTime::UNIX_EPOCH, limit).await.unwrap();
        assert_eq!((events.len(), more), (limit, expected));
    }
    let future = SystemTime::now() + Duration::from_secs(3_600);
    let (events, more) = world.bus.history(EVENTS_STREAM, Vec::new(), future, 100).await.unwrap();
    assert_eq!((events.len(), more), (0, false));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reader_goes_on_behind_the_last_message_that_it_saw() {
    let world = World::begin().await;
    let (seen, sink) = (Arc::new(Mutex::new(Vec::new())), Arc::new(Mutex::new(Vec::new())));
    for seen in [&seen, &sink] {
        let (bus, seen, end) = (world.bus.clone(), Arc::clone(seen), world.shutdown.clone());
        tokio::spawn(async move {
            records::read_from(&bus, EVENTS_STREAM, SystemTime::UNIX_EPOCH, &end, |message| {
                seen.lock().unwrap().push(version(&Received::from_message(message)));
            })
            .await;
        });
    }
    world.set_aliases(1..=5).await;
    wait_for("the first events", || [&seen, &sink].iter().all(|seen| seen.lock().unwrap().len() == 5)).await;
    world.nats.kill().await;
    world.nats.start_again().await;
    world.set_aliases(6..=9).await;
    wait_for("the later events", || [&seen, &sink].iter().all(|seen| seen.lock().unwrap().len() >= 9)).await;
    for seen in [&seen, &sink] {
        assert_eq!(*seen.lock().unwrap(), (1..=9).collect::<Vec<_>>(), "each once, in order");
    }
}

/// A service subscribes to more without losing its place, or what was published meanwhile.
#[tokio::test(flavor = "multi_thread")]
async fn a_subscription_whose_filter_changes_keeps_its_place() {
    const OTHER: &str = "slipway.registry.run.created";
    let world = World::begin().await;
    let publish = async |subject: &'static str| {
        world.bus.jetstream().publish(subject, "{}".into()).await.unwrap().await.unwrap();
    };
    let run = |subjects: Vec<String>| {
        let (seen, end) = (Arc::new(Mutex::new(Vec::new())), CancellationToken::new());
        let sink = Arc::clone(&seen);
        let consumer = Consumer::new(world.bus.clone(), EVENTS_STREAM, "test", subjects);
        let running = tokio::spawn(consumer.run(end.clone(), move |event| {
            sink.lock().unwrap().push(event.subject);
            async { Ok(()) }
        }));
        (seen, end, running)
    };
    let (narrow, wide) = (vec![ALIAS_SET.to_owned()], vec![ALIAS_SET.to_owned(), OTHER.to_owned()]);
    world.bus.ensure_filter(EVENTS_STREAM, "test", narrow.clone()).await.unwrap();
    publish(ALIAS_SET).await;
    publish(OTHER).await;
    let (seen, end, running) = run(narrow);
    wait_for("the first event", || seen.lock().unwrap().len() == 1).await;
    end.cancel();
    running.await.unwrap();
    for _ in 0..2 {
        world.bus.ensure_filter(EVENTS_STREAM, "test", wide.clone()).await.unwrap();
    }
    publish(OTHER).await;
    let (seen, end, _running) = run(wide);
    wait_for("the event of the new subject", || seen.lock().unwrap().iter().any(|seen| seen == OTHER)).await;
    end.cancel();
}
