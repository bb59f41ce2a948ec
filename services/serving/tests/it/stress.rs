//! Too much to do, clients that go away, and the end of the process: nothing is harmed and nothing is lost
//! silently.

use std::io::Write as _;
use std::net::TcpStream;
use std::sync::Arc;

use futures::future::join_all;
use reqwest::StatusCode;
use serde_json::{Value, json};
use tokio::task::JoinHandle;

use crate::serving::{Serving, answer, cache};
use crate::world::{DEPLOYMENT, World, eventually, table};

/// A request that takes the slow model some milliseconds a row.
pub(crate) fn slow(rows: usize) -> Value {
    json!({"inputs": [
        {"name": "x", "shape": [rows, 1], "datatype": "FP32", "data": vec![2.0; rows]},
        {"name": "numbers", "shape": [rows, 1], "datatype": "INT64", "data": (0..rows).collect::<Vec<_>>()},
        {"name": "text", "shape": [rows, 1], "datatype": "BYTES", "data": vec!["a"; rows]},
        {"name": "flags", "shape": [rows], "datatype": "BOOL", "data": vec![true; rows]},
    ]})
}

async fn serve_slow(world: &World, cache: &tempfile::TempDir, more: &[(&str, &str)]) -> Serving {
    world.put(&table(1, &world.version("1", "slow.onnx").await)).await;
    let serving = Serving::start(world, cache, more).await;
    serving.wait_until_ready().await;
    world.routed(1).await;
    serving
}

/// Whether, while `long` is not answered, all of so many other requests were seen to have arrived and some of
/// them to wait.
async fn some_wait<T>(serving: &Serving, others: usize, long: &JoinHandle<T>) -> bool {
    while !long.is_finished() {
        let waiting = metric(serving, "slipway_serving_requests_waiting", "").await;
        let answered = metric(serving, "nv_inference_request_success", "").await;
        if waiting > 0.0 && waiting + answered >= others as f64 {
            return true;
        }
    }
    false
}

/// The value of a metric, summed over its labels.
async fn metric(serving: &Serving, name: &str, label: &str) -> f64 {
    let text = serving
        .http
        .get(format!("{}/metrics", serving.metrics))
        .send()
        .await
        .expect("an answer")
        .text()
        .await
        .expect("text");
    let lines = text.lines().filter(|line| line.starts_with(&format!("{name}{{")) && line.contains(label));
    lines.filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok()).sum()
}

#[tokio::test(flavor = "multi_thread")]
async fn more_than_fits_the_queue_is_refused_at_once_and_the_rest_is_answered_in_batches() {
    let (world, cache) = (World::start().await, cache());
    let more = [("SLIPWAY_SERVING_QUEUE_LIMIT", "16"), ("SLIPWAY_SERVING_INSTANCES", "1")];
    let serving = Arc::new(serve_slow(&world, &cache, &more).await);
    let url = serving.url(&format!("/v2/models/{DEPLOYMENT}/infer"));
    let asked = (0..200).map(|_| serving.http.post(&url).json(&slow(2)).send());
    let (mut answered, mut refused) = (0, 0);
    for response in join_all(asked).await {
        let response = response.unwrap();
        match response.status() {
            StatusCode::OK => answered += 1,
            status => {
                assert_eq!(status, StatusCode::SERVICE_UNAVAILABLE);
                assert_eq!(response.headers()["retry-after"], "1");
                refused += 1;
            }
        }
    }
    assert!(answered >= 17 && refused > 0, "{answered} answered, {refused} refused");
    assert_eq!(
        metric(&serving, "slipway_serving_requests_dropped_total", "queue-full").await,
        f64::from(refused)
    );
    // Every row was counted, in fewer runs than requests.
    let (_, stats) = serving.get(&format!("/v2/models/{DEPLOYMENT}/stats")).await;
    let stats = &stats["model_stats"][0];
    assert_eq!(stats["inference_count"], 2 * answered);
    assert!(stats["execution_count"].as_u64().unwrap() < answered, "{stats}");
    assert_eq!(
        metric(&serving, "slipway_serving_run_rows_sum", "").await,
        f64::from(2 * u32::try_from(answered).unwrap())
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn clients_that_go_away_leave_the_server_unharmed() {
    let (world, cache) = (World::start().await, cache());
    let serving = serve_slow(&world, &cache, &[("SLIPWAY_SERVING_INSTANCES", "1")]).await;
    let address = serving.rest.trim_start_matches("http://").to_owned();
    let body = slow(8).to_string();
    let head = format!(
        "POST /v2/models/{DEPLOYMENT}/infer HTTP/1.1\r\nhost: localhost\r\ncontent-length: {}\r\n\r\n",
        body.len()
    );
    let grpc = tonic::transport::Endpoint::from_shared(serving.grpc.clone()).unwrap();
    for round in 0..20 {
        for client in 0..24 {
            let mut stream = TcpStream::connect(&address).unwrap();
            stream.write_all(head.as_bytes()).unwrap();
            // Some leave in the middle of the body, the others while they wait.
            let sent = if client % 3 == 0 { body.len() / 2 } else { body.len() };
            stream.write_all(&body.as_bytes()[..sent]).unwrap();
        }
        let mut client =
            slipway_api::inference::grpc_inference_service_client::GrpcInferenceServiceClient::new(
                grpc.connect().await.unwrap(),
            );
        let call = tokio::spawn(async move {
            let request = slipway_api::inference::ModelInferRequest {
                model_name: DEPLOYMENT.into(),
                ..Default::default()
            };
            let _ = client.model_infer(request).await;
        });
        if round % 2 == 0 {
            call.abort();
        }
        let (status, _) = serving.get("/v2/health/live").await;
        assert_eq!(status, StatusCode::OK);
    }
    eventually("nothing waits", || async {
        let waiting = metric(&serving, "slipway_serving_requests_waiting", "").await;
        (waiting == 0.0).then_some(())
    })
    .await;
    let (status, body) = serving.infer(&slow(3)).await;
    assert_eq!((status, body["outputs"][1]["data"].clone()), (StatusCode::OK, json!([0, 1, 2])));
    assert!(metric(&serving, "slipway_serving_requests_dropped_total", "cancelled").await > 0.0);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_asked_before_the_end_is_answered_and_recorded() {
    let (world, cache) = (World::start().await, cache());
    let mut serving = serve_slow(&world, &cache, &[("SLIPWAY_SERVING_INSTANCES", "1")]).await;
    let url = serving.url(&format!("/v2/models/{DEPLOYMENT}/infer"));
    let ask = |id: String, body: Value| {
        let request = serving.http.post(&url).header("x-request-id", id).json(&body);
        tokio::spawn(async move { answer(request).await })
    };
    // The only instance is kept busy by a long request, which is as long as it takes on this machine to see
    // the others wait behind it.
    let (mut asked, mut rows) = (Vec::new(), 500);
    loop {
        let long = ask(format!("long-{rows}"), slow(rows));
        let others: Vec<_> = (0..24).map(|at| ask(format!("{rows}-{at}"), slow(2))).collect();
        let seen = some_wait(&serving, asked.len() + others.len(), &long).await;
        asked.push(long);
        asked.extend(others);
        if seen {
            break;
        }
        rows *= 2;
    }
    assert_eq!(serving.terminate(), Some(0));
    for call in &mut asked {
        assert_eq!(call.await.unwrap().0, StatusCode::OK);
    }
    let records = world.records("records of all of them", |records| records.len() >= asked.len()).await;
    assert_eq!(records.len(), asked.len());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_that_would_be_late_is_not_run() {
    let (world, cache) = (World::start().await, cache());
    let serving = serve_slow(&world, &cache, &[("SLIPWAY_SERVING_INSTANCES", "1")]).await;
    let mut hurried = slow(1);
    hurried["parameters"] = json!({"timeout": 1, "priority": 1});
    let (long, late) = (slow(300), hurried);
    let (first, second) = tokio::join!(serving.infer(&long), serving.infer(&late));
    assert_eq!(first.0, StatusCode::OK);
    assert_eq!(second.0, StatusCode::SERVICE_UNAVAILABLE, "{}", second.1);
    assert!(second.1["error"].as_str().unwrap().contains("timeout of 1 µs"), "{}", second.1);
}
