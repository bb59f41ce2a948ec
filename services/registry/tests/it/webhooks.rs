//! A caller that has no NATS is told by HTTP: signed, again after failures, and nothing is lost.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use reqwest::{Method, StatusCode};
use serde_json::{Value, json};

use crate::receiver::Receiver;
use crate::world::{MODEL, World};

async fn add(world: &World, name: &str, url: &str, events: &[&str]) -> Value {
    let (status, answer) =
        world.v1(Method::POST, "webhooks", json!({"name": name, "url": url, "events": events})).await;
    assert_eq!(status, StatusCode::CREATED, "{answer}");
    answer
}

/// A model of a new name, of which one event tells.
async fn tell(world: &World, name: &str) {
    world.post("registered-models/create", json!({ "name": name })).await;
}

/// The deliveries in a state, once there are so many.
async fn deliveries(world: &World, name: &str, state: &str, count: usize) -> Vec<Value> {
    let started = Instant::now();
    loop {
        let found = world.get(&format!("/api/v1/webhooks/{name}/deliveries?state={state}")).await;
        let found = found["deliveries"].as_array().unwrap().clone();
        if found.len() == count {
            return found;
        }
        assert!(started.elapsed() < Duration::from_secs(30), "{count} {state}: {found:?}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_event_arrives_signed_as_a_cloud_event_and_only_where_it_is_wanted() {
    let (world, receiver) = (World::begin().await, Receiver::begin().await);
    tell(&world, "before").await;
    world.events("slipway.registry.model.", 1).await;
    let made = add(&world, "models", &receiver.url(), &["slipway.registry.model.*"]).await;
    let secret = made["secret"].as_str().unwrap().to_owned();
    let other = Receiver::begin().await;
    add(&world, "others", &other.url(), &["slipway.registry.run.created"]).await;
    tell(&world, "churn").await;
    let run = world.run().await;

    let call = receiver.wait_for(1).await.remove(0);
    assert!(call.is_signed_with(&secret), "{call:?}");
    assert_eq!(call.header("content-type"), "application/cloudevents+json");
    let event = call.event();
    assert_eq!(event["id"], call.header("webhook-id"));
    assert_eq!(
        (&event["specversion"], &event["type"], &event["subject"], &event["source"]),
        (
            &json!("1.0"),
            &json!("slipway.registry.model.created"),
            &json!("churn"),
            &json!("slipway/registry")
        )
    );
    assert_eq!(event["data"]["id"], "churn");
    let told = other.wait_for(1).await;
    assert_eq!((told.len(), &told[0].event()["subject"]), (1, &json!(run)));
    let done = deliveries(&world, "models", "delivered", 1).await;
    assert_eq!((&done[0]["attempts"], &done[0]["last_status"]), (&json!(1), &json!(204)));
    assert_eq!(receiver.calls().len(), 1, "what was before the webhook is not told");

    // Nobody reads a secret again, and the event of the webhook itself does not hold its address.
    let shown = world.get("/api/v1/webhooks/models").await;
    assert!(shown["secret"].is_null() && shown["url"] == receiver.url(), "{shown}");
    let listed = world.get("/api/v1/webhooks?limit=1").await;
    assert_eq!(listed["webhooks"].as_array().unwrap().len(), 1);
    assert!(listed["next_page_token"].is_string());
    for event in world.events("slipway.registry.webhook.", 2).await {
        assert!(!String::from_utf8_lossy(&event.data).contains("127.0.0.1"), "{event:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn failures_are_tried_again_and_a_redirect_is_one() {
    let (world, receiver) = (World::begin().await, Receiver::begin().await);
    receiver.answer(&[500, 302, 429]);
    add(&world, "w", &receiver.url(), &["slipway.*.model.created"]).await;
    tell(&world, "churn").await;
    let calls = receiver.wait_for(4).await;
    let done = deliveries(&world, "w", "delivered", 1).await;
    assert_eq!((&done[0]["attempts"], &done[0]["last_error"]), (&json!(4), &Value::Null));
    let ids: BTreeSet<&str> = calls.iter().map(|call| call.header("webhook-id")).collect();
    assert_eq!(ids.len(), 1, "each attempt has the id of its event");
    assert!(calls.iter().all(|call| call.body == calls[0].body));
    assert!(calls.iter().all(|call| call.event()["subject"] == "churn"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dead_letter_is_kept_and_arrives_when_it_is_replayed() {
    let world = World::begin().await;
    let port = slipway_testkit::free_port().unwrap();
    let url = format!("http://127.0.0.1:{port}/hook");
    let made = add(&world, "away", &url, &["slipway.registry.model.created"]).await;
    tell(&world, "a").await;
    tell(&world, "b").await;
    let dead = deliveries(&world, "away", "dead", 2).await;
    assert_eq!(dead[0]["attempts"], 4);
    assert!(dead[0]["last_error"].as_str().unwrap().contains("refused"), "{}", dead[0]);
    assert!(dead[0]["last_status"].is_null() && dead[0]["finished_at_unix_ms"].is_number());

    let receiver = Receiver::on(port).await;
    let path = format!("webhooks/away/deliveries/{}/replay", dead[1]["id"].as_str().unwrap());
    assert_eq!(world.v1(Method::POST, &path, json!({})).await.0, StatusCode::ACCEPTED);
    let call = receiver.wait_for(1).await.remove(0);
    assert_eq!(
        (&call.event()["subject"], call.header("webhook-id")),
        (&json!("a"), dead[1]["event_id"].as_str().unwrap())
    );
    assert!(call.is_signed_with(made["secret"].as_str().unwrap()));
    deliveries(&world, "away", "dead", 1).await;

    // Everything since a moment: both events, as often as it is asked for.
    let body = json!({"since": "2020-01-01T00:00:00Z"});
    let (status, answer) = world.v1(Method::POST, "webhooks/away/replay", body).await;
    assert_eq!((status, &answer["queued"]), (StatusCode::ACCEPTED, &json!(2)), "{answer}");
    receiver.wait_for(3).await;
    deliveries(&world, "away", "delivered", 2).await;
    let missing = world.v1(Method::POST, "webhooks/away/deliveries/999/replay", json!({})).await;
    assert_eq!(missing.0, StatusCode::NOT_FOUND);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_receiver_that_is_gone_for_good_is_left_alone() {
    let (world, receiver) = (World::begin().await, Receiver::begin().await);
    receiver.answer(&[410]);
    add(&world, "w", &receiver.url(), &["slipway.registry.model.created"]).await;
    tell(&world, "a").await;
    deliveries(&world, "w", "dead", 1).await;
    let shown = world.get("/api/v1/webhooks/w").await;
    assert_eq!(shown["enabled"], false);
    assert!(shown["disabled_reason"].as_str().unwrap().contains("410"), "{shown}");
    world.events("slipway.registry.webhook.disabled", 1).await;
    tell(&world, "b").await;
    world.events("slipway.registry.model.created", 2).await;
    // Switched on it begins with what happens from then on.
    let (status, shown) = world.v1(Method::PATCH, "webhooks/w", json!({"enabled": true})).await;
    assert_eq!((status, &shown["disabled_reason"]), (StatusCode::OK, &Value::Null));
    tell(&world, "c").await;
    let calls = receiver.wait_for(2).await;
    assert_eq!(calls[1].event()["subject"], "c");
    assert_eq!(world.v1(Method::DELETE, "webhooks/w", json!({})).await.0, StatusCode::NO_CONTENT);
    assert_eq!(world.v1(Method::DELETE, "webhooks/w", json!({})).await.0, StatusCode::NOT_FOUND);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_slow_receiver_holds_up_nobody_else() {
    let (world, slow, quick) = (World::begin().await, Receiver::begin().await, Receiver::begin().await);
    slow.answer(&[0; 40]);
    add(&world, "slow", &slow.url(), &["slipway.registry.model.created"]).await;
    add(&world, "quick", &quick.url(), &["slipway.registry.model.created"]).await;
    for number in 0..10 {
        tell(&world, &format!("m{number}")).await;
    }
    quick.wait_for(10).await;
    // A call lasts a second at most here; four of them go at a time.
    assert!(slow.calls().len() <= 8, "{} calls of the slow one", slow.calls().len());
}

#[tokio::test(flavor = "multi_thread")]
async fn two_replicas_deliver_once_and_a_rotated_secret_signs_beside_the_new_one() {
    let (world, receiver) = (World::begin().await, Receiver::begin().await);
    let other = world.replica().await;
    let made = add(&world, "w", &receiver.url(), &["slipway.registry.model.created"]).await;
    for number in 0..20 {
        tell(if number % 2 == 0 { &world } else { &other }, &format!("m{number}")).await;
    }
    deliveries(&other, "w", "delivered", 20).await;
    let calls = receiver.calls();
    let ids: BTreeSet<&str> = calls.iter().map(|call| call.header("webhook-id")).collect();
    assert_eq!((calls.len(), ids.len()), (20, 20));

    let (_, rotated) = other.v1(Method::POST, "webhooks/w/rotate-secret", json!({"overlap_s": 3_600})).await;
    let (old, new) = (made["secret"].as_str().unwrap(), rotated["secret"].as_str().unwrap());
    let (_, tested) = world.v1(Method::POST, "webhooks/w/test", json!({})).await;
    assert_eq!((&tested["delivered"], &tested["status"]), (&json!(true), &json!(204)), "{tested}");
    let call = receiver.wait_for(21).await.pop().unwrap();
    assert!(call.is_signed_with(old) && call.is_signed_with(new));
    assert_eq!(call.event()["type"], "slipway.registry.webhook.tested");
    let mine = "whsec_AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=";
    let (_, rotated) =
        world.v1(Method::POST, "webhooks/w/rotate-secret", json!({"secret": mine, "overlap_s": 0})).await;
    assert!(rotated["secret"].is_null(), "{rotated}");
    world.v1(Method::POST, "webhooks/w/test", json!({})).await;
    let call = receiver.wait_for(22).await.pop().unwrap();
    assert!(call.is_signed_with(mine) && !call.is_signed_with(new));
}

/// A registry as a process of its own, killed with calls under way and events that nobody has looked at yet.
#[tokio::test(flavor = "multi_thread")]
async fn a_killed_registry_loses_no_delivery() {
    let (world, receiver) = (World::begin().await, Receiver::begin().await);
    add(&world, "w", &receiver.url(), &["slipway.registry.model.created"]).await;
    world.stop().await;
    // The calls that are under way at the kill get no answer.
    receiver.answer(&[0; 4]);
    let mut process = world.process().await;
    let doomed = process.world(&world);
    for number in 0..8 {
        tell(&doomed, &format!("m{number}")).await;
    }
    receiver.wait_for(4).await;
    process.kill();
    let next = world.replica().await;
    deliveries(&next, "w", "delivered", 8).await;
    let told: BTreeSet<String> =
        receiver.calls().iter().map(|call| call.event()["subject"].as_str().unwrap().to_owned()).collect();
    assert_eq!(told, (0..8).map(|number| format!("m{number}")).collect());
    let page = next.get("/api/v1/webhooks/w/deliveries").await;
    assert_eq!(page["deliveries"].as_array().unwrap().len(), 8, "one row an event");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_webhook_is_refused_by_the_name_of_its_field() {
    let world = World::begin().await;
    let right = json!({"name": "w", "url": "http://127.0.0.1:9/", "events": ["slipway.>"]});
    for (field, value) in [
        ("name", json!("a b")),
        ("url", json!("ftp://example.org")),
        ("url", json!("http://me:secret@example.org")),
        ("events", json!([])),
        ("events", json!(["other.>"])),
        ("events", json!(["slipway.registry.model.craeted"])),
        ("secret", json!("short")),
        ("enabled", json!("yes")),
    ] {
        let mut body = right.clone();
        body[field] = value;
        let (status, answer) = world.v1(Method::POST, "webhooks", body).await;
        assert_eq!((status, &answer["field"]), (StatusCode::BAD_REQUEST, &json!(field)), "{answer}");
        assert!(!answer.to_string().contains("short"), "a secret is not repeated");
    }
    assert_eq!(world.v1(Method::POST, "webhooks", right.clone()).await.0, StatusCode::CREATED);
    let (status, answer) = world.v1(Method::POST, "webhooks", right).await;
    assert_eq!((status, &answer["code"]), (StatusCode::CONFLICT, &json!("conflict")), "{answer}");
    let since = world.v1(Method::POST, "webhooks/w/replay", json!({"since": "yesterday"})).await;
    assert_eq!(since.1["field"], "since");
}

/// MLflow's enums, from `entity.action`.
fn mlflow_events(names: &[&str]) -> Vec<Value> {
    let event = |name: &&str| {
        let (entity, action) = name.split_once('.').unwrap();
        json!({"entity": entity.to_uppercase(), "action": action.to_uppercase()})
    };
    names.iter().map(event).collect()
}

/// A webhook made as MLflow's client makes it.
async fn add_mlflow(world: &World, name: &str, url: &str, events: &[&str], more: Value) -> Value {
    let mut body = json!({"name": name, "url": url, "events": mlflow_events(events)});
    body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    world.post("webhooks", body).await["webhook"].take()
}

#[expect(clippy::too_many_lines, reason = "one story, told from its beginning to its end")]
#[tokio::test(flavor = "multi_thread")]
async fn a_webhook_of_mlflows_api_is_told_as_by_mlflow() {
    let (world, signed, plain) = (World::begin().await, Receiver::begin().await, Receiver::begin().await);
    let wanted = [
        "registered_model.created",
        "model_version.created",
        "model_version_tag.set",
        "model_version_tag.deleted",
        "model_version_alias.created",
        "model_version_alias.deleted",
        "prompt.created",
    ];
    let made =
        add_mlflow(&world, "All", &signed.url(), &wanted, json!({"secret": "hush", "description": "d"}))
            .await;
    assert_eq!((&made["status"], &made["description"]), (&json!("ACTIVE"), &json!("d")), "{made}");
    assert_eq!(made["events"], json!(mlflow_events(&wanted)));
    assert!(made["secret"].is_null() && made["creation_timestamp"].is_number(), "{made}");
    add_mlflow(&world, "tags", &plain.url(), &["model_version_tag.set"], json!({})).await;

    let body = json!({"name": "churn", "description": "leaves?", "tags": [{"key": "team", "value": "risk"}]});
    world.post("registered-models/create", body).await;
    let model_id = world.onnx_model(MODEL).await;
    world.version("churn", &model_id).await;
    let at = |more: Value| {
        let mut body = json!({"name": "churn", "version": "1"});
        body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        body
    };
    world.post("model-versions/set-tag", at(json!({"key": "k", "value": "v"}))).await;
    world.call(Method::PATCH, "model-versions/update", at(json!({"description": "nobody asked"}))).await;
    world.call(Method::DELETE, "model-versions/delete-tag", at(json!({"key": "k"}))).await;
    world.post("registered-models/alias", at(json!({"alias": "champion"}))).await;
    world
        .call(Method::DELETE, "registered-models/alias", json!({"name": "churn", "alias": "champion"}))
        .await;

    let calls = signed.wait_for(6).await;
    let data = |name: &str| {
        let (entity, action) = name.split_once('.').unwrap();
        let event = calls.iter().map(crate::receiver::Call::event);
        let found = event.filter(|event| event["entity"] == entity && event["action"] == action);
        let found: Vec<Value> = found.collect();
        assert_eq!(found.len(), 1, "{name}: {calls:?}");
        assert!(found[0]["timestamp"].as_str().unwrap().ends_with("+00:00"), "{found:?}");
        found[0]["data"].clone()
    };
    assert_eq!(
        data("registered_model.created"),
        json!({"name": "churn", "description": "leaves?", "tags": {"team": "risk"}})
    );
    let version = data("model_version.created");
    assert_eq!(version["source"], format!("models:/{model_id}"));
    assert!(version["run_id"].is_string() && version["description"].is_null(), "{version}");
    assert_eq!((&version["version"], &version["tags"]), (&json!("1"), &json!({})));
    assert_eq!(data("model_version_tag.set"), at(json!({"key": "k", "value": "v"})));
    assert_eq!(data("model_version_tag.deleted"), at(json!({"key": "k"})));
    assert_eq!(data("model_version_alias.created"), at(json!({"alias": "champion"})));
    assert_eq!(data("model_version_alias.deleted"), json!({"name": "churn", "alias": "champion"}));
    for call in &calls {
        assert!(call.is_signed_for_mlflow("hush"), "{call:?}");
        assert_eq!(call.header("content-type"), "application/json");
    }
    let call = plain.wait_for(1).await.remove(0);
    assert_eq!(call.event()["data"]["value"], "v");
    assert!(!call.headers.contains_key("x-mlflow-signature"), "there is no secret: {call:?}");
    assert_eq!(deliveries(&world, "All", "delivered", 6).await.len(), 6);
}

#[tokio::test(flavor = "multi_thread")]
async fn webhooks_of_both_apis_are_changed_and_tested_by_mlflows_api() {
    let (world, receiver) = (World::begin().await, Receiver::begin().await);
    let made =
        add_mlflow(&world, "mine", &receiver.url(), &["prompt.created"], json!({"secret": "old"})).await;
    add(&world, "aliases", &receiver.url(), &["slipway.registry.alias.set"]).await;
    add(&world, "drift", &receiver.url(), &["slipway.drift-monitor.>"]).await;
    let listed = world.get("/api/2.0/mlflow/webhooks?max_results=1").await;
    assert_eq!(listed["webhooks"][0]["name"], "aliases", "what MLflow has no name for is not shown");
    assert_eq!(listed["webhooks"][0]["events"], json!(mlflow_events(&["model_version_alias.created"])));
    let token = listed["next_page_token"].as_str().unwrap();
    let rest = world.get(&format!("/ajax-api/2.0/mlflow/webhooks?page_token={token}")).await;
    assert_eq!((&rest["webhooks"], &rest["next_page_token"]), (&json!([made]), &Value::Null));
    let shown = world.get("/api/v1/webhooks/mine").await;
    assert_eq!((&shown["format"], &shown["id"]), (&json!("mlflow"), &made["webhook_id"]), "{shown}");
    assert_eq!((&shown["events"], &shown["mlflow_events"]), (&json!([]), &json!(["prompt.created"])));
    assert_eq!(world.get("/api/v1/webhooks/drift").await["format"], "cloudevents");

    // A test sends a sample of the first event, or of the one that is asked for.
    let path = format!("webhooks/{}", made["webhook_id"].as_str().unwrap());
    let tested = world.post(&format!("{path}/test"), json!({})).await;
    assert_eq!(tested["result"], json!({"success": true, "response_status": 204, "response_body": ""}));
    receiver.answer(&[500]);
    let asked = json!({"event": {"entity": "MODEL_VERSION_TAG", "action": "SET"}});
    let tested = world.post(&format!("{path}/test"), asked).await["result"].take();
    assert_eq!((&tested["success"], &tested["response_status"]), (&json!(false), &json!(500)), "{tested}");
    assert_eq!(tested["response_body"], "not today");
    assert_eq!(tested.get("error_message"), None, "the receiver answered: {tested}");
    let nowhere = json!({"url": "http://127.0.0.1:1/"});
    world.call(Method::PATCH, &path, nowhere).await;
    let tested = world.post(&format!("{path}/test"), json!({})).await["result"].take();
    assert_eq!((&tested["success"], &tested["response_status"]), (&json!(false), &Value::Null), "{tested}");
    assert!(tested["error_message"].as_str().unwrap().starts_with("Failed to test webhook: "), "{tested}");
    world.call(Method::PATCH, &path, json!({ "url": receiver.url() })).await;
    let calls = receiver.wait_for(2).await;
    assert_eq!((&calls[0].event()["entity"], &calls[1].event()["action"]), (&json!("prompt"), &json!("set")));
    assert!(calls[0].is_signed_for_mlflow("old") && calls[1].event()["data"]["value"].is_string());
    assert_eq!(calls[0].event()["data"]["description"], "An example prompt", "MLflow's own example");

    // Renamed, with another event and secret; the old secret is over at once.
    let body =
        json!({"name": "yours", "events": mlflow_events(&["registered_model.created"]), "secret": "new"});
    let changed = world.call(Method::PATCH, &path, body).await["webhook"].take();
    assert_eq!((&changed["name"], &changed["url"]), (&json!("yours"), &made["url"]), "{changed}");
    assert_eq!(world.get(&format!("/api/2.0/mlflow/{path}")).await["webhook"], changed);
    tell(&world, "churn").await;
    let call = receiver.wait_for(3).await.pop().unwrap();
    assert_eq!(call.event()["data"]["name"], "churn");
    assert!(call.is_signed_for_mlflow("new"));
    world.call(Method::PATCH, &path, json!({"status": "DISABLED"})).await;
    assert_eq!(world.get("/api/v1/webhooks/yours").await["enabled"], false);
    let (status, refused) = world.v1(Method::PATCH, "webhooks/yours", json!({"events": ["slipway.>"]})).await;
    assert_eq!((status, &refused["field"]), (StatusCode::BAD_REQUEST, &json!("events")));

    let alias = format!("webhooks/{}", listed["webhooks"][0]["webhook_id"].as_str().unwrap());
    let changed = world.call(Method::PATCH, &alias, json!({"description": "by MLflow"})).await;
    assert_eq!(changed["webhook"]["description"], "by MLflow");
    let events = json!({"events": mlflow_events(&["registered_model.created"])});
    world.refused(Method::PATCH, &alias, events, "INVALID_PARAMETER_VALUE", "patterns").await;
    let weak = json!({"secret": "weak"});
    world.refused(Method::PATCH, &alias, weak, "INVALID_PARAMETER_VALUE", "whsec_").await;
    world.call(Method::DELETE, &path, json!({})).await;
    world.refused(Method::GET, &path, json!({}), "RESOURCE_DOES_NOT_EXIST", "not found").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_webhook_is_refused_in_mlflows_shape() {
    let world = World::begin().await;
    let right = json!({"name": "w", "url": "http://127.0.0.1:9/",
        "events": mlflow_events(&["registered_model.created"])});
    for (field, value, text) in [
        ("name", json!(""), "Missing value for required parameter 'name'"),
        ("name", json!("a b"), "Webhook name 'a b' is invalid"),
        ("url", Value::Null, "Missing value for required parameter 'url'"),
        ("url", json!("   "), "Webhook URL cannot be empty or just whitespace: '   '"),
        (
            "url",
            json!("ftp://example.org"),
            "Invalid webhook URL scheme: 'ftp'. Allowed schemes are: http, https.",
        ),
        ("url", json!("http://[invalid"), "Invalid webhook URL"),
        ("url", json!("example.org"), "Invalid webhook URL"),
        ("events", json!([]), "Missing value for required parameter 'events'"),
        ("events", json!([{"entity": "RUN", "action": "CREATED"}]), "Invalid entity 'RUN'"),
        ("events", json!([{"entity": "PROMPT", "action": "SET"}]), "Valid actions are: ['created']"),
        ("status", json!("PAUSED"), "Invalid webhook status 'PAUSED'"),
        ("description", json!("x".repeat(1_001)), "at most 1000 characters"),
        ("secret", json!("x".repeat(1_001)), "at most 1000 characters"),
    ] {
        let mut body = right.clone();
        body[field] = value;
        world.refused(Method::POST, "webhooks", body, "INVALID_PARAMETER_VALUE", text).await;
    }
    world.post("webhooks", right.clone()).await;
    world.refused(Method::POST, "webhooks", right, "RESOURCE_ALREADY_EXISTS", "'w'").await;
    world
        .refused(
            Method::GET,
            "webhooks?max_results=1001",
            json!({}),
            "INVALID_PARAMETER_VALUE",
            "max_results",
        )
        .await;
    world
        .refused(Method::GET, "webhooks?page_token=zz", json!({}), "INVALID_PARAMETER_VALUE", "page token")
        .await;
    world
        .refused(Method::POST, "webhooks/none/test", json!({}), "RESOURCE_DOES_NOT_EXIST", "not found")
        .await;
}
