//! Calls on their way into the audit trail: what does not fit is counted, and the trail says how many are
//! missing.

use serde_json::Value;
use slipway_access::audit::{MAX_REFUSED_PER_MINUTE, calls};
use slipway_access::{Caller, Refused};
use slipway_event_bus::EventBus;
use slipway_service_kit::metrics::Metrics;
use tokio_util::sync::CancellationToken;

use crate::following::{LIMIT, connect};

/// Places of the queue, and the call that is being sent.
const QUEUE: u64 = 4_096;

/// Numbers of answered and refused calls, and those that the trail says are missing.
async fn told(bus: &EventBus, service: &str) -> (u64, u64, Vec<Value>) {
    let stream = bus.jetstream().get_stream("SLIPWAY_EVENTS").await.unwrap();
    let mut found = (0, 0, Vec::new());
    for sequence in 1..=stream.get_info().await.unwrap().state.last_sequence {
        let Ok(message) = stream.get_raw_message(sequence).await else { continue };
        match message.subject.strip_prefix(&format!("slipway.{service}.call.")) {
            Some("answered") => found.0 += 1,
            Some("refused") => found.1 += 1,
            Some("omitted") => found.2.push(serde_json::from_slice(&message.payload).unwrap()),
            _ => {}
        }
    }
    found
}

fn caller(name: &str) -> Caller {
    Caller { principal: name.into(), credential: "token:1".into(), ..Caller::anyone(String::new()) }
}

#[tokio::test(flavor = "multi_thread")]
async fn calls_that_do_not_fit_are_counted_in_the_trail() {
    let nats = slipway_testkit::nats().await;
    let bus = connect(&nats).await;
    let metrics = Metrics::new();
    let (calls, sender) = calls("launcher", &metrics);
    let denied = Refused::Denied("'eve': no".to_owned());
    // Nothing is sent yet: a client that is refused over and over cannot take the places of changes.
    for _ in 0..MAX_REFUSED_PER_MINUTE + 40 {
        calls.record(&caller("eve"), "GET", "/api/v1/jobs", Some(&denied));
    }
    let answered = QUEUE + 500;
    for number in 0..answered {
        calls.record(&caller("ann"), "POST", &format!("/api/v1/jobs/{number}/cancel"), None);
    }
    let dropped = 40 + u64::from(MAX_REFUSED_PER_MINUTE) + 500;
    let line = format!("slipway_access_audit_calls_dropped_total {dropped}");
    assert!(metrics.render().contains(&line), "{line}: {}", metrics.render());

    let shutdown = CancellationToken::new();
    let sending = tokio::spawn(sender.run(bus.clone(), shutdown.clone()));
    let begun = std::time::Instant::now();
    let stream = bus.jetstream().get_stream("SLIPWAY_EVENTS").await.unwrap();
    while stream.get_info().await.unwrap().state.messages <= QUEUE {
        assert!(begun.elapsed() < LIMIT, "the calls are not sent");
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
    let (sent, refused, omitted) = told(&bus, "launcher").await;
    assert_eq!((sent + refused, refused), (QUEUE, u64::from(MAX_REFUSED_PER_MINUTE)));
    assert_eq!(omitted.len(), 1, "{omitted:?}");
    let missing = &omitted[0];
    assert_eq!(missing["omitted"]["answered"], answered - sent);
    assert_eq!(missing["omitted"]["refused"], 40);
    assert!(missing["omitted"]["since_unix_ms"].as_u64().unwrap() > 1_700_000_000_000);
    assert_eq!((&missing["principal"], &missing["service"]), (&"system".into(), &"launcher".into()));
    shutdown.cancel();
    sending.await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_service_that_stops_sends_what_waits_and_says_what_is_missing() {
    let nats = slipway_testkit::nats().await;
    let bus = connect(&nats).await;
    let (calls, sender) = calls("serving", &Metrics::new());
    let denied = Refused::Denied("'eve': no".to_owned());
    for _ in 0..MAX_REFUSED_PER_MINUTE + 5 {
        calls.record(&caller("eve"), "GET", "/v2/models", Some(&denied));
    }
    calls.record(&caller("ann"), "POST", "/v2/logging", None);
    // Stopped before it sent anything.
    let shutdown = CancellationToken::new();
    shutdown.cancel();
    sender.run(bus.clone(), shutdown).await;
    let (answered, refused, omitted) = told(&bus, "serving").await;
    assert_eq!((answered, refused), (1, u64::from(MAX_REFUSED_PER_MINUTE)));
    let missing: u64 = omitted.iter().map(|row| row["omitted"]["refused"].as_u64().unwrap()).sum();
    assert_eq!(missing, 5, "{omitted:?}");
}
