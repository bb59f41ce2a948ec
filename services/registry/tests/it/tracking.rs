//! Runs, params, metrics, searches: what clients rely on.

use std::collections::BTreeSet;

use reqwest::{Method, StatusCode};
use serde_json::json;

use crate::world::World;

#[tokio::test(flavor = "multi_thread")]
async fn what_is_logged_is_found_again() {
    let world = World::begin().await;
    let run = world.run().await;
    let metric = |value: serde_json::Value, step: i64| {
        json!({"run_id": run, "key": "loss",
        "value": value, "timestamp": 5, "step": step})
    };
    for (value, step) in
        [(json!(0.5), 1), (json!("NaN"), 2), (json!("Infinity"), 3), (json!(0.25), 4), (json!(0.25), 4)]
    {
        world.post("runs/log-metric", metric(value, step)).await;
    }
    world.post("runs/log-parameter", json!({"run_id": run, "key": "lr", "value": "0.1"})).await;
    world.post("runs/log-parameter", json!({"run_id": run, "key": "lr", "value": "0.1"})).await;
    let changed = json!({"run_id": run, "key": "lr", "value": "0.2"});
    world
        .refused(
            Method::POST,
            "runs/log-parameter",
            changed,
            "INVALID_PARAMETER_VALUE",
            "Changing param values",
        )
        .await;
    let found = world.get(&format!("/api/2.0/mlflow/runs/get?run_id={run}")).await;
    assert_eq!(
        found["run"]["data"]["metrics"],
        json!([{"key": "loss", "value": 0.25, "timestamp": 5, "step": 4}])
    );
    assert_eq!(found["run"]["data"]["params"], json!([{"key": "lr", "value": "0.1"}]));
    let history = world
        .get(&format!("/api/2.0/mlflow/metrics/get-history?run_id={run}&metric_key=loss&max_results=2"))
        .await;
    assert_eq!(history["metrics"][1]["value"], "NaN");
    let token = history["next_page_token"].as_str().unwrap();
    let rest = world
        .get(&format!("/api/2.0/mlflow/metrics/get-history?run_id={run}&metric_key=loss&page_token={token}"))
        .await;
    let steps: Vec<i64> =
        rest["metrics"].as_array().unwrap().iter().map(|point| point["step"].as_i64().unwrap()).collect();
    assert_eq!(steps, [3, 4], "a repeated point is one point, and a page goes on where the last one ended");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refused_batch_logs_nothing() {
    let world = World::begin().await;
    let run = world.run().await;
    let batch = json!({"run_id": run, "metrics": [{"key": "a", "value": 1, "timestamp": 1}],
        "params": [{"key": "../x", "value": "1"}], "tags": []});
    world.refused(Method::POST, "runs/log-batch", batch, "INVALID_PARAMETER_VALUE", "params[0].key").await;
    let many: Vec<_> =
        (0..1001).map(|step| json!({"key": "a", "value": 1, "timestamp": 1, "step": step})).collect();
    let batch = json!({"run_id": run, "metrics": many});
    world
        .refused(Method::POST, "runs/log-batch", batch, "INVALID_PARAMETER_VALUE", "at most 1000 metrics")
        .await;
    let found = world.get(&format!("/api/2.0/mlflow/runs/get?run_id={run}")).await;
    assert_eq!(found["run"]["data"].get("metrics"), None);
    world.post("runs/delete", json!({ "run_id": run })).await;
    let late = json!({"run_id": run, "key": "a", "value": "1"});
    world
        .refused(
            Method::POST,
            "runs/set-tag",
            late,
            "INVALID_PARAMETER_VALUE",
            "must be in the 'active' state",
        )
        .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn searches_filter_order_and_page() {
    let world = World::begin().await;
    for number in 0..5 {
        let tags = json!([{"key": "parity", "value": if number % 2 == 0 { "even" } else { "odd" }}]);
        let body = json!({"experiment_id": "0", "run_name": format!("r{number}"), "start_time": number,
            "tags": tags});
        let made = world.post("runs/create", body).await;
        let metric = json!({"run_id": made["run"]["info"]["run_id"], "key": "score", "value": 10 - number,
            "timestamp": 1});
        world.post("runs/log-metric", metric).await;
    }
    let search = |token: &str| {
        json!({"experiment_ids": ["0"], "filter": "tags.parity = 'even' and metrics.score > 6",
        "order_by": ["metrics.score ASC"], "max_results": 1, "page_token": token})
    };
    let name = |answer: &serde_json::Value| answer["runs"][0]["info"]["run_name"].clone();
    let first = world.post("runs/search", search("")).await;
    let token = first["next_page_token"].as_str().unwrap();
    let second = world.post("runs/search", search(token)).await;
    assert_eq!((name(&first), name(&second)), (json!("r2"), json!("r0")));
    assert_eq!(second.get("next_page_token"), None);
    let other = json!({"experiment_ids": ["0"], "page_token": token});
    world.refused(Method::POST, "runs/search", other, "INVALID_PARAMETER_VALUE", "another filter").await;
    let broken = json!({"experiment_ids": ["0"], "filter": "tags.a = 'x' OR tags.b = 'y'"});
    world.refused(Method::POST, "runs/search", broken, "INVALID_PARAMETER_VALUE", "position").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_not_served_says_so_in_mlflows_shape() {
    let world = World::begin().await;
    let (status, answer) = world.try_call(Method::POST, "gateway/routes", json!({})).await;
    assert_eq!((status, &answer["error_code"]), (StatusCode::NOT_FOUND, &json!("ENDPOINT_NOT_FOUND")));
    // Spans come as protobuf; that they are not served is the answer, and not that they are no JSON.
    let spans = world.http.post(format!("{}/v1/traces", world.url));
    let answered = spans.header("content-type", "application/x-protobuf").body("spans").send().await.unwrap();
    assert_eq!(answered.status(), StatusCode::NOT_FOUND);
    let text = answered.text().await.unwrap();
    assert!(text.contains("ENDPOINT_NOT_FOUND") && text.contains("API for traces"), "{text}");
    // An address that ends with a slash leads to doubled ones.
    let listed = world.raw(Method::POST, "//api//2.0/mlflow/experiments/search", "{}").await;
    assert_eq!(listed.status(), StatusCode::OK);
    let response = world.raw(Method::POST, "/api/2.0/mlflow/runs/create", "{\"experiment_id\": ").await;
    assert_eq!(response.status(), StatusCode::BAD_REQUEST);
    assert!(response.text().await.unwrap().contains("not valid JSON"));
    let missing = json!({"experiment_id": "999"});
    world.refused(Method::POST, "runs/create", missing, "RESOURCE_DOES_NOT_EXIST", "999").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn many_at_once_are_answered_each_for_itself() {
    let world = World::begin().await;
    let (run, deleted) = (world.run().await, world.run().await);
    world.post("runs/delete", json!({"run_id": deleted})).await;
    world.post("runs/log-parameter", json!({"run_id": run, "key": "lr", "value": "0.1"})).await;
    let absent = "0".repeat(32);
    let body = |number: usize| match number % 8 {
        0 => json!({"run_id": run, "params": [{"key": "lr", "value": "0.2"}],
            "metrics": [{"key": "refused", "value": 1, "timestamp": number}]}),
        1 => json!({"run_id": deleted, "tags": [{"key": "a", "value": "b"}]}),
        2 => json!({"run_id": absent, "tags": [{"key": "a", "value": "b"}]}),
        _ => {
            json!({"run_id": run,
                "metrics": [{"key": "loss", "value": number, "timestamp": number, "step": number}],
            "params": [{"key": "lr", "value": "0.1"}], "tags": [{"key": "at", "value": number.to_string()}]})
        }
    };
    let answers = futures::future::join_all((0..160).map(|number| {
        let request =
            world.http.post(format!("{}/api/2.0/mlflow/runs/log-batch", world.url)).json(&body(number));
        async move {
            let response = request.send().await.unwrap();
            (number, response.status(), response.json::<serde_json::Value>().await.unwrap())
        }
    }));
    for (number, status, answer) in answers.await {
        let (expected, word) = match number % 8 {
            0 => (StatusCode::BAD_REQUEST, "Attempted logging new value '0.2'"),
            1 => (StatusCode::BAD_REQUEST, "Current state is deleted"),
            2 => (StatusCode::NOT_FOUND, "not found"),
            _ => (StatusCode::OK, ""),
        };
        assert_eq!(status, expected, "{number}: {answer}");
        assert!(answer["message"].as_str().unwrap_or_default().contains(word), "{number}: {answer}");
    }
    let found = world.get(&format!("/api/2.0/mlflow/runs/get?run_id={run}")).await;
    assert_eq!(
        found["run"]["data"]["metrics"],
        json!([{"key": "loss", "value": 159.0, "timestamp": 159, "step": 159}]),
        "the latest point, and nothing of a refused batch"
    );
    let history =
        world.get(&format!("/api/2.0/mlflow/metrics/get-history?run_id={run}&metric_key=loss")).await;
    assert_eq!(history["metrics"].as_array().unwrap().len(), 100, "every accepted point is there once");
}

/// Ids of the runs that a search finds, page by page.
async fn found_by(world: &World, search: &serde_json::Value, page: usize) -> Vec<String> {
    let (mut found, mut token) = (Vec::new(), String::new());
    loop {
        let mut body = search.clone();
        body["max_results"] = json!(page);
        body["page_token"] = json!(token);
        let answer = world.post("runs/search", body).await;
        for run in answer["runs"].as_array().into_iter().flatten() {
            found.push(run["info"]["run_name"].as_str().unwrap().to_owned());
        }
        match answer["next_page_token"].as_str() {
            Some(next) => token = next.to_owned(),
            None => return found,
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn pages_of_any_size_show_every_run_once_and_in_order() {
    let world = World::begin().await;
    // Two start times, so that there are ties; the id decides between them, and so it is given.
    let values = ["0.5", "0.25", "NaN", "", "0.5", "-1", "Infinity", "", "NaN", "0.5", "7"];
    for (number, value) in values.iter().enumerate() {
        let body = json!({"run_id": format!("{number:032x}"), "run_name": number.to_string(),
            "start_time": 1_000 + number % 2});
        world.post("runs/create", body).await;
        if !value.is_empty() {
            let body =
                json!({"run_id": format!("{number:032x}"), "key": "acc", "value": value, "timestamp": 1});
            world.post("runs/log-metric", body).await;
        }
    }
    let searches = [
        (json!([]), "", "1 3 5 7 9 0 2 4 6 8 10"),
        (json!(["start_time ASC"]), "", "0 2 4 6 8 10 1 3 5 7 9"),
        (json!(["metrics.acc DESC"]), "", "6 10 9 0 4 1 5 2 8 3 7"),
        (json!(["metrics.acc ASC"]), "", "5 1 9 0 4 10 6 2 8 3 7"),
        (json!(["metrics.acc DESC"]), "metrics.acc >= 0.5 AND metrics.acc != 7", "6 9 0 4"),
        (json!(["metrics.acc ASC", "start_time ASC"]), "metrics.acc = 0.5", "0 4 9"),
    ];
    for (order_by, filter, expected) in searches {
        let search = json!({"experiment_ids": ["0"], "order_by": order_by, "filter": filter});
        let expected: Vec<&str> = expected.split(' ').collect();
        for page in [1, 2, 3, 5, 100] {
            assert_eq!(found_by(&world, &search, page).await, expected, "{search} in pages of {page}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn of_many_runs_begun_at_once_only_the_wrong_ones_are_refused() {
    let world = World::begin().await;
    let body = |number: usize| match number {
        5 => json!({"experiment_id": "77", "start_time": 1}),
        6 => json!({"experiment_id": "first", "start_time": 1}),
        // One of these two is the first.
        7 | 8 => json!({"experiment_id": "0", "run_id": "the-same", "start_time": 1}),
        _ => json!({"experiment_id": "0", "run_name": format!("run {number}"), "start_time": number,
            "tags": [{"key": "number", "value": number.to_string()}]}),
    };
    let asked = (0..40).map(|number| world.try_call(Method::POST, "runs/create", body(number)));
    let answers = futures::future::join_all(asked).await;
    let refused: Vec<&str> = answers.iter().filter_map(|(_, answer)| answer["error_code"].as_str()).collect();
    assert_eq!(refused.len(), 3, "{refused:?}");
    let codes: BTreeSet<&str> = refused.into_iter().collect();
    let expected = ["INVALID_PARAMETER_VALUE", "RESOURCE_ALREADY_EXISTS", "RESOURCE_DOES_NOT_EXIST"];
    assert_eq!(codes, BTreeSet::from(expected));
    for (number, (_, answer)) in answers.iter().enumerate().filter(|(number, _)| !(5..9).contains(number)) {
        let run = answer["run"]["info"]["run_id"].as_str().unwrap();
        let found = world.get(&format!("/api/2.0/mlflow/runs/get?run_id={run}")).await;
        assert_eq!(found["run"]["info"], answer["run"]["info"], "what was answered is what is stored");
        assert!(found["run"]["data"]["tags"].to_string().contains(&format!("\"{number}\"")), "{found}");
    }
    assert_eq!(world.events("slipway.registry.run.created", 37).await.len(), 37);
}
