//! A consumer gets each event until its handler is done with it, and keeps its place.

use std::sync::{Arc, Mutex};

use slipway_api::events::{ALIAS_SET, AliasSet};
use slipway_event_bus::Received;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::stream::{Seen, consumer, version, wait_for};
use crate::world::World;

/// Starts a consumer with a handler, until the end of the test or of `end`.
fn handle<R>(
    world: &World,
    durable: &str,
    end: &CancellationToken,
    handler: impl FnMut(Received) -> R + Send + 'static,
) -> JoinHandle<()>
where
    R: Future<Output = Result<(), String>> + Send + 'static,
{
    tokio::spawn(consumer(&world.bus, durable).run(end.clone(), handler))
}

/// Starts a consumer that notes what it gets, and acknowledges it.
fn note(world: &World, durable: &str, seen: &Seen, end: &CancellationToken) -> JoinHandle<()> {
    let seen = seen.clone();
    handle(world, durable, end, move |event| {
        seen.push(version(&event));
        async { Ok(()) }
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn events_arrive_in_their_order_and_as_they_were_committed() {
    let world = World::begin().await;
    world.set_aliases(1..=200).await;
    let (seen, end) = (Seen::default(), CancellationToken::new());
    let running = note(&world, "test", &seen, &end);
    seen.wait_for(200).await;
    assert_eq!(seen.all(), (1..=200).collect::<Vec<_>>());
    end.cancel();
    running.await.unwrap();
}

/// A handler that fails gets its event again, and the other events in between.
#[tokio::test(flavor = "multi_thread")]
async fn an_event_whose_handler_failed_comes_again() {
    let world = World::begin().await;
    let attempts = Seen::default();
    let tries = attempts.clone();
    handle(&world, "test", &world.shutdown, move |event| {
        tries.push(version(&event));
        let fails = version(&event) == 2 && tries.times(2) < 3;
        async move { if fails { Err("not yet".to_owned()) } else { Ok(()) } }
    });
    world.set_aliases(1..=4).await;
    wait_for("a third attempt", || attempts.times(2) == 3).await;
    world.set_alias(5).await;
    wait_for("the event after it", || attempts.times(5) == 1).await;
    for version in [1, 3, 4, 5] {
        assert_eq!(attempts.times(version), 1, "{version}");
    }
    assert_eq!(attempts.times(2), 3, "acknowledged events do not come again");
}

/// A body of another version of the program, or no JSON at all.
#[tokio::test(flavor = "multi_thread")]
async fn a_body_that_does_not_parse_is_an_error_that_names_the_event() {
    let world = World::begin().await;
    let (texts, sink) = (Arc::new(Mutex::new(Vec::new())), Arc::new(Mutex::new(Vec::new())));
    let (complaints, bodies) = (Arc::clone(&texts), Arc::clone(&sink));
    handle(&world, "test", &world.shutdown, move |event| {
        match event.parse::<AliasSet>() {
            Ok(alias) => bodies.lock().unwrap().push(alias.version),
            Err(error) => complaints.lock().unwrap().push(error.to_string()),
        }
        async { Ok(()) }
    });
    for body in ["{", r#"{"model": 7}"#, "[]"] {
        let published = world.bus.jetstream().publish(ALIAS_SET, body.into()).await.unwrap();
        published.await.unwrap();
    }
    world.set_alias(1).await;
    wait_for("the event that parses", || sink.lock().unwrap().len() == 1).await;
    let texts = texts.lock().unwrap();
    assert_eq!(texts.len(), 3, "{texts:?}");
    assert!(texts.iter().all(|text| text.contains(ALIAS_SET)), "{texts:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_consumer_that_starts_again_goes_on_where_it_was() {
    let world = World::begin().await;
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
    // The last acknowledgement before the end may be lost with its process. A message that was on its way to
    // that process comes later than the others.
    let new = || after.all().into_iter().filter(|version| *version > 10).collect::<Vec<u32>>();
    wait_for("the events after the end", || new().len() >= 10).await;
    let mut new = new();
    new.sort_unstable();
    assert_eq!(new, (11..=20).collect::<Vec<_>>());
    end.cancel();
}

#[tokio::test(flavor = "multi_thread")]
async fn replicas_share_the_events_and_services_each_get_all() {
    let world = World::begin().await;
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
    handle(&world, "test", &world.shutdown, move |event| {
        sink.lock().unwrap().push(event.subject);
        async { Ok(()) }
    });
    for subject in ["slipway.registry.run.created", ALIAS_SET, "slipway.registry.alias.deleted", ALIAS_SET] {
        world.bus.jetstream().publish(subject, "{}".into()).await.unwrap().await.unwrap();
    }
    wait_for("both events", || seen.lock().unwrap().len() == 2).await;
    assert_eq!(*seen.lock().unwrap(), [ALIAS_SET, ALIAS_SET]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_consumer_goes_on_after_nats_was_unreachable() {
    let world = World::begin().await;
    let (seen, end) = (Seen::default(), CancellationToken::new());
    note(&world, "test", &seen, &end);
    world.set_aliases(1..=3).await;
    seen.wait_for(3).await;
    world.nats.kill().await;
    world.nats.start_again().await;
    world.set_aliases(4..=6).await;
    wait_for("the events after the outage", || (4..=6).all(|version| seen.times(version) >= 1)).await;
    let mut late: Vec<u32> = seen.all().into_iter().filter(|version| *version > 3).collect();
    late.dedup();
    assert_eq!(late, [4, 5, 6], "in their order");
    end.cancel();
}

/// A handler that takes longer than NATS waits for an acknowledgement, and the events behind it.
#[tokio::test(flavor = "multi_thread")]
async fn an_event_that_takes_long_is_delivered_once() {
    let world = World::begin().await;
    let seen = Seen::default();
    let noted = seen.clone();
    handle(&world, "test", &world.shutdown, move |event| {
        noted.push(version(&event));
        let long = version(&event) == 1;
        async move {
            if long {
                tokio::time::sleep(std::time::Duration::from_secs(12)).await;
            }
            Ok(())
        }
    });
    world.set_aliases(1..=20).await;
    seen.wait_for(20).await;
    world.set_alias(21).await;
    wait_for("the event after them", || seen.times(21) == 1).await;
    assert_eq!(seen.all(), (1..=21).collect::<Vec<_>>());
}

/// A replica that hangs has taken events, and acknowledges nothing.
#[tokio::test(flavor = "multi_thread")]
async fn events_of_a_replica_that_hangs_go_to_another_one_within_seconds() {
    let world = World::begin().await;
    let (before, end) = (Seen::default(), CancellationToken::new());
    let running = note(&world, "test", &before, &end);
    world.set_alias(1).await;
    before.wait_for(1).await;
    end.cancel();
    running.await.unwrap();
    let stream = world.bus.jetstream().get_stream(slipway_api::events::EVENTS_STREAM).await.unwrap();
    let durable: async_nats::jetstream::consumer::PullConsumer = stream.get_consumer("test").await.unwrap();
    world.set_aliases(2..=4).await;
    let mut taken = durable.fetch().max_messages(3).messages().await.unwrap();
    let mut hanging = Vec::new();
    while let Some(message) = futures::StreamExt::next(&mut taken).await {
        hanging.push(message.unwrap());
    }
    assert_eq!(hanging.len(), 3);
    let started = std::time::Instant::now();
    let after = Seen::default();
    note(&world, "test", &after, &world.shutdown);
    after.wait_for(3).await;
    // It used to be 30 s.
    assert!(started.elapsed() < std::time::Duration::from_secs(20), "{:?}", started.elapsed());
}

/// A durable consumer that an earlier version of the program made.
#[tokio::test(flavor = "multi_thread")]
async fn a_consumer_of_an_earlier_version_gets_the_present_limits_and_keeps_its_filters() {
    use async_nats::jetstream::consumer;
    let world = World::begin().await;
    let stream = world.bus.jetstream().get_stream(slipway_api::events::EVENTS_STREAM).await.unwrap();
    let old = consumer::pull::Config {
        durable_name: Some("test".to_owned()),
        filter_subjects: vec![ALIAS_SET.to_owned(), "slipway.launcher.>".to_owned()],
        ack_wait: std::time::Duration::from_secs(30),
        max_deliver: 1_000,
        max_ack_pending: 64,
        ..consumer::pull::Config::default()
    };
    stream.create_consumer(old).await.unwrap();
    let seen = Seen::default();
    note(&world, "test", &seen, &world.shutdown);
    world.set_alias(1).await;
    seen.wait_for(1).await;
    let found: consumer::PullConsumer = stream.get_consumer("test").await.unwrap();
    let config = &found.cached_info().config;
    assert_eq!(config.ack_wait, std::time::Duration::from_secs(5));
    assert_eq!(config.filter_subjects, ["slipway.launcher.>", ALIAS_SET]);
}

/// What a replica took and did not answer goes to the next one before later events, not seconds after them.
#[tokio::test(flavor = "multi_thread")]
async fn a_consumer_that_ends_gives_back_what_it_has_taken() {
    let world = World::begin().await;
    let (begun, end) = (Seen::default(), CancellationToken::new());
    let taken = begun.clone();
    let running = handle(&world, "test", &end, move |event| {
        taken.push(version(&event));
        std::future::pending()
    });
    world.set_aliases(1..=10).await;
    wait_for("the first event", || begun.times(1) == 1).await;
    // The others are taken, too, while the first is being handled.
    tokio::time::sleep(std::time::Duration::from_millis(300)).await;
    end.cancel();
    running.await.unwrap();
    tokio::time::sleep(std::time::Duration::from_secs(1)).await;
    world.set_alias(11).await;
    let seen = Seen::default();
    note(&world, "test", &seen, &world.shutdown);
    seen.wait_for(11).await;
    assert_eq!(seen.all(), (1..=11).collect::<Vec<_>>());
}
