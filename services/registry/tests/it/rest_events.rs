//! Events over REST v1: past ones page by page, live ones as server-sent events.

use std::time::Duration;

use reqwest::{Method, StatusCode};
use serde_json::{Value, json};
use slipway_api::rest::registry::{EventStreamQuery, EventsQuery, NewExperiment, NewModel};
use slipway_client::registry::EventStream;
use slipway_client::{Error, Registry};

use crate::world::World;

const PATIENCE: Duration = Duration::from_secs(30);

async fn experiment(client: &Registry, name: &str) -> String {
    let new = NewExperiment { name: name.to_owned(), ..NewExperiment::default() };
    client.create_experiment(&new).await.unwrap().experiment_id
}

fn follow(client: &Registry, event_type: &str, since: Option<&str>) -> EventStream {
    client.follow_events(EventStreamQuery {
        event_type: Some(event_type.to_owned()),
        since: since.map(str::to_owned),
    })
}

/// The subject of the next event.
async fn next(stream: &mut EventStream) -> String {
    tokio::time::timeout(PATIENCE, stream.next()).await.expect("no event arrives").unwrap().subject
}

/// All past events of a type, `limit` at a time.
async fn history(client: &Registry, event_type: &str, limit: u32) -> Vec<String> {
    let mut query =
        EventsQuery { event_type: Some(event_type.to_owned()), limit: Some(limit), ..EventsQuery::default() };
    let mut subjects = Vec::new();
    loop {
        let page = client.events(&query).await.unwrap();
        assert!(page.events.len() <= limit as usize);
        subjects.extend(page.events.into_iter().map(|event| event.subject));
        query.page_token = page.next_page_token;
        if query.page_token.is_none() {
            return subjects;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn past_events_are_listed_page_by_page_and_by_type() {
    let world = World::begin().await;
    let client = world.client();
    let mut ids = Vec::new();
    for name in ["a", "b", "c"] {
        ids.push(experiment(&client, name).await);
    }
    client.create_model(&NewModel { name: "m".to_owned(), ..NewModel::default() }).await.unwrap();
    world.events("slipway.registry.", 4).await;
    assert_eq!(history(&client, "slipway.registry.experiment.", 2).await, ids);
    assert_eq!(history(&client, "slipway.registry.experiment.cre", 1).await, ids);
    assert_eq!(history(&client, "slipway.registry.model.created", 50).await, ["m"]);
    assert_eq!(history(&client, "", 50).await.len(), 4);
    assert_eq!(history(&client, "slipway.nothing.", 50).await, Vec::<String>::new());
    let page = client.events(&EventsQuery::default()).await.unwrap();
    assert_eq!(page.events[0].data.0["details"]["name"], "a");
    assert!(page.events.iter().all(|event| !event.id.is_empty() && event.time.contains('T')));
    let later = EventsQuery { since: Some("2999-01-01T00:00:00Z".to_owned()), ..EventsQuery::default() };
    assert_eq!(client.events(&later).await.unwrap().events.len(), 0);
    for (path, field) in [
        ("events?type=slipway.%3E", "type"),
        ("events?since=yesterday", "since"),
        ("events?page_token=x", "page_token"),
        ("events/stream?since=yesterday", "since"),
        ("events/stream?type=a%20b", "type"),
    ] {
        world.refused_field(Method::GET, path, Value::Null, field).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_delivers_live_events_and_resumes_behind_the_last_one() {
    let world = World::begin().await;
    let client = world.client();
    let first = experiment(&client, "before").await;
    world.events("slipway.registry.", 1).await;
    let mut past = follow(&client, "slipway.registry.experiment.", Some("2000-01-01T00:00:00Z"));
    assert_eq!(next(&mut past).await, first);
    let second = experiment(&client, "meanwhile").await;
    assert_eq!(next(&mut past).await, second, "past and live events are one stream");

    // As a browser does it: the ID of the last event in a header.
    let url = format!("{}/api/v1/events/stream?type=slipway.registry.experiment.", world.url);
    let open = async |last: Option<&str>| {
        let request = world.http.get(&url);
        let request = last.iter().fold(request, |request, id| request.header("last-event-id", *id));
        request.send().await.unwrap()
    };
    let response = open(None).await;
    assert_eq!(response.headers()["content-type"], "text/event-stream");
    let mut reader = slipway_client::sse::Reader::new(body(response));
    let third = experiment(&client, "third").await;
    let message = tokio::time::timeout(PATIENCE, reader.next()).await.unwrap().unwrap().unwrap();
    assert_eq!(message.event, "slipway.registry.experiment.created");
    let event: Value = serde_json::from_str(&message.data).unwrap();
    assert_eq!(event["subject"], third.as_str(), "without `since` a stream starts with what happens now");
    drop(reader);
    let fourth = experiment(&client, "while disconnected").await;
    world.events("slipway.registry.", 4).await;
    let mut reader = slipway_client::sse::Reader::new(body(open(message.id.as_deref()).await));
    let message = tokio::time::timeout(PATIENCE, reader.next()).await.unwrap().unwrap().unwrap();
    let event: Value = serde_json::from_str(&message.data).unwrap();
    assert_eq!(event["subject"], fourth.as_str(), "nothing is lost and nothing comes twice");
    assert_eq!(open(Some("none")).await.status(), StatusCode::BAD_REQUEST);

    assert_eq!([next(&mut past).await, next(&mut past).await], [third, fourth]);
    world.stop().await;
    let ended = tokio::time::timeout(PATIENCE, past.next()).await.expect("the stop ends the stream");
    assert!(matches!(ended, Err(Error::Unreachable(_))), "{ended:?}");
}

fn body(response: reqwest::Response) -> slipway_client::ByteStream {
    use futures::StreamExt as _;
    let chunks = response.bytes_stream();
    Box::pin(chunks.map(|chunk| chunk.map_err(|error| Error::Unreachable(error.to_string()))))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_caller_sees_events_of_what_it_may_read_and_none_after_its_token_is_revoked() {
    let world = World::guarded(&[]).await;
    let admin = world.admin();
    let (ours, theirs) = (admin.experiment("ours").await, admin.experiment("theirs").await);
    let scope = format!("experiment:{ours}");
    let eve = world.person("eve", &[(&scope, "viewer"), ("model:ours", "viewer")]).await;
    let viewer = world.person("vi", &[("*", "viewer")]).await;
    let (run, foreign) = (admin.run(&ours).await, admin.run(&theirs).await);
    for run in [&run, &foreign] {
        let point = json!({"run_id": run, "key": "a", "value": 1.0, "timestamp": 1});
        admin.post("runs/log-metric", point).await;
    }
    for name in ["ours", "theirs"] {
        admin.post("registered-models/create", json!({ "name": name })).await;
        admin.put_file(&format!("{ours}/{run}/artifacts/{name}.txt"), b"x").await;
    }
    admin.put_file(&format!("{theirs}/{foreign}/artifacts/a.txt"), b"x").await;
    world.events("slipway.registry.artifact", 3).await;
    let time = "2026-01-31T12:00:00Z";
    world
        .publish_at("slipway.launcher.job.started", "j", time, json!({"job_id": "j"}).to_string().into())
        .await;
    let rollout = |model: &str| json!({"deployment": "d", "model": model}).to_string().into_bytes();
    world.publish_at("slipway.rollout-controller.deployment.created", "d1", time, rollout("ours")).await;
    world.publish_at("slipway.rollout-controller.deployment.created", "d2", time, rollout("theirs")).await;

    let mut seen = history(&eve.client(), "", 3).await;
    seen.sort();
    let mut expected = vec![ours.clone(), run.clone(), run.clone(), "ours".to_owned(), "d1".to_owned()];
    expected.extend(["ours", "theirs"].map(|name| format!("{ours}/{run}/artifacts/{name}.txt")));
    expected.sort();
    assert_eq!(seen, expected);
    let all = history(&viewer.client(), "", 50).await;
    assert!(all.contains(&foreign) && all.contains(&"j".to_owned()), "{all:?}");
    assert!(history(&viewer.client(), "slipway.registry.token.", 50).await.is_empty(), "for administrators");
    assert!(!history(&admin.client(), "slipway.registry.token.", 50).await.is_empty());

    let mut stream = follow(&eve.client(), "slipway.registry.run.", Some("2000-01-01T00:00:00Z"));
    assert_eq!([next(&mut stream).await, next(&mut stream).await], [run.clone(), run.clone()]);
    for run in [&foreign, &run] {
        admin.post("runs/set-tag", json!({"run_id": run, "key": "a", "value": "b"})).await;
    }
    assert_eq!(next(&mut stream).await, run, "live events are filtered, too");

    let tokens = admin.get("/api/v1/tokens").await;
    let token =
        tokens["tokens"].as_array().unwrap().iter().find(|token| token["principal"] == "eve").unwrap();
    admin.client().revoke_token(token["id"].as_str().unwrap()).await.unwrap();
    let ended = tokio::time::timeout(PATIENCE, stream.next()).await.expect("the revocation ends the stream");
    assert!(ended.unwrap_err().to_string().contains("revoked"));
    let refused = stream.next().await.unwrap_err();
    assert!(refused.is_about_access(), "{refused}");
}
