//! Two registries behind one address give the same answers.

use std::collections::BTreeSet;

use reqwest::Method;
use serde_json::{Value, json};

use crate::world::{MODEL, World};

/// Run ids of every page, asked of the two in turn.
async fn pages_in_turn(replicas: [&World; 2], body: Value) -> Vec<String> {
    let (mut found, mut token) = (Vec::new(), None);
    for turn in 0.. {
        let mut body = body.clone();
        if let Some(token) = token.take() {
            body["page_token"] = token;
        }
        let page = replicas[turn % 2].post("runs/search", body).await;
        let runs = page["runs"].as_array().cloned().unwrap_or_default();
        found.extend(runs.iter().map(|run| run["info"]["run_id"].as_str().unwrap().to_owned()));
        match page.get("next_page_token") {
            Some(next) => token = Some(next.clone()),
            None => break,
        }
    }
    found
}

#[tokio::test(flavor = "multi_thread")]
async fn what_one_wrote_the_other_reads_and_pages_go_on_at_either() {
    let one = World::begin().await;
    let other = one.replica().await;
    let mut made = BTreeSet::new();
    for number in 0..12 {
        let writer = if number % 2 == 0 { &one } else { &other };
        let run = writer.run().await;
        let metric = json!({"run_id": run, "key": "score", "value": f64::from(number), "timestamp": 1});
        let reader = if number % 2 == 0 { &other } else { &one };
        reader.post("runs/log-metric", metric).await;
        let read = writer.get(&format!("/api/2.0/mlflow/runs/get?run_id={run}")).await;
        assert_eq!(read["run"]["data"]["metrics"][0]["value"], f64::from(number));
        made.insert(run);
    }
    for order in [json!([]), json!(["metrics.score DESC"]), json!(["attributes.run_name ASC"])] {
        let body = json!({"experiment_ids": ["0"], "max_results": 5, "order_by": order});
        let found = pages_in_turn([&one, &other], body).await;
        assert_eq!(found.len(), made.len(), "{order}");
        assert_eq!(found.into_iter().collect::<BTreeSet<_>>(), made, "{order}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_both_are_asked_at_once_happens_once() {
    let one = World::begin().await;
    let other = one.replica().await;
    let model = one.onnx_model(MODEL).await;
    let _ = one.post("registered-models/create", json!({"name": "m"})).await;
    let body = json!({"name": "m", "source": format!("models:/{model}"), "model_id": model});
    let asked = (0..8).map(|number| {
        let world = if number % 2 == 0 { &one } else { &other };
        let body = body.clone();
        async move { world.post("model-versions/create", body).await["model_version"]["version"].clone() }
    });
    let versions = futures::future::join_all(asked).await;
    let numbers: BTreeSet<u32> =
        versions.iter().map(|version| version.as_str().unwrap().parse().unwrap()).collect();
    assert_eq!(numbers, (1..=8).collect(), "every number once");

    let experiments = futures::future::join_all(
        [&one, &other]
            .map(|world| world.try_call(Method::POST, "experiments/create", json!({"name": "the same"}))),
    );
    let mut codes: Vec<u16> = experiments.await.iter().map(|(status, _)| status.as_u16()).collect();
    codes.sort_unstable();
    assert_eq!(codes, [200, 400], "one made it, the other was told so");
    let events = one.events("slipway.registry.", 13).await;
    let ids: BTreeSet<&str> = events.iter().map(|event| event.id.as_str()).collect();
    assert_eq!(ids.len(), events.len(), "no event twice");
    let created =
        events.iter().filter(|event| event.subject == "slipway.registry.model-version.created").count();
    assert_eq!(created, 8);
}
