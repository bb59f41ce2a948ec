//! Models that misbehave, servers that are gone, and clients that send until the last moment.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::Bytes;
use futures::future::join_all;
use reqwest::StatusCode;
use serde_json::{Value, json};
use slipway_api::inference::ModelInferRequest;
use slipway_api::inference::grpc_inference_service_client::GrpcInferenceServiceClient;
use slipway_api::inference::model_infer_request::InferInputTensor;
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tonic::Code;

use crate::grpc::floats_request;
use crate::serving::{Serving, cache, point};
use crate::world::{DEPLOYMENT, World, eventually, fixture, table};

fn put(models: &Path, name: &str, file: &str) {
    let version = models.join(name).join("1");
    std::fs::create_dir_all(&version).expect("it works");
    std::fs::write(version.join("model.onnx"), fixture(file)).expect("it works");
}

async fn serve_folder(models: &Path, cache: &tempfile::TempDir) -> (World, Serving) {
    let world = World::start().await;
    let folder = models.to_str().expect("it works");
    let settings = [("SLIPWAY_SERVING_MODEL_DIR", folder), ("SLIPWAY_SERVING_STRICT_READINESS", "false")];
    let serving = Serving::start(&world, cache, &settings).await;
    serving.wait_until_ready().await;
    (world, serving)
}

fn floats(rows: usize, values: &[f32]) -> Value {
    json!({"inputs": [{"name": "x", "shape": [rows, 2], "datatype": "FP32", "data": values}]})
}

fn index(at: i64) -> Value {
    json!({"inputs": [{"name": "index", "shape": [1], "datatype": "INT64", "data": [at]}]})
}

fn raw(model: &str, name: &str, datatype: &str, shape: &[i64], bytes: Vec<u8>) -> ModelInferRequest {
    let (name, datatype, shape) = (name.into(), datatype.into(), shape.to_vec());
    let input = InferInputTensor { name, datatype, shape, ..Default::default() };
    let raw_input_contents = vec![Bytes::from(bytes)];
    ModelInferRequest {
        model_name: model.into(),
        inputs: vec![input],
        raw_input_contents,
        ..Default::default()
    }
}

#[expect(clippy::too_many_lines, reason = "one story, told from its beginning to its end")]
#[tokio::test(flavor = "multi_thread")]
async fn models_that_misbehave_are_told_and_harm_no_other() {
    let (cache, models) = (cache(), cache());
    for (name, file) in [
        (DEPLOYMENT, "linear_minus_one.onnx"),
        ("nan", "logarithm.onnx"),
        ("throws", "gather.onnx"),
        ("liar", "liar.onnx"),
        ("unloadable", "sequence.onnx"),
        ("rubbish", "make_models.py"),
    ] {
        put(models.path(), name, file);
    }
    let (world, serving) = serve_folder(models.path(), &cache).await;
    let mut grpc = GrpcInferenceServiceClient::connect(serving.grpc.clone()).await.unwrap();

    // Without a registry nothing is kept for NATS before it is there.
    eventually("NATS is there", || async { serving.log().contains("connected to NATS").then_some(()) }).await;
    // NaN and infinity are strings in JSON, which has no other form for them, and themselves in raw tensors.
    let (status, body) = serving.post("/v2/models/nan/infer", &floats(1, &[-1.0, 0.0])).await;
    assert_eq!((status, &body["outputs"][0]["data"]), (StatusCode::OK, &json!(["NaN", "-Infinity"])));
    let (status, body) =
        serving.post("/v1/models/nan:predict", &json!({"instances": [[-1.0, 0.0], [1.0, 1.0]]})).await;
    assert_eq!((status, body), (StatusCode::OK, json!({"predictions": [["NaN", "-Infinity"], [0.0, 0.0]]})));
    let bytes = [-1.0_f32, 0.0].iter().flat_map(|value| value.to_le_bytes()).collect();
    let answer = grpc.model_infer(raw("nan", "x", "FP32", &[1, 2], bytes)).await.unwrap().into_inner();
    let values: Vec<f32> = answer.raw_output_contents[0]
        .chunks(4)
        .map(|bytes| f32::from_le_bytes(bytes.try_into().unwrap()))
        .collect();
    assert!(values[0].is_nan() && values[1] == f32::NEG_INFINITY, "{values:?}");
    let recorded = |record: &slipway_api::predictions::PredictionRecord| record.deployment == "nan";
    let records = world.records("its records", |records| records.iter().any(recorded)).await;
    let record = records.iter().find(|record| recorded(record)).unwrap();
    assert_eq!(json!(record.outputs[0].data), json!([null, null]), "records are numbers, or nothing");

    // What throws in the runtime costs its own request only, also among others at the same time.
    let asked = (0..24).map(|at| {
        let serving = &serving;
        async move {
            (at, serving.post("/v2/models/throws/infer", &index(if at == 7 { 99 } else { at % 3 })).await)
        }
    });
    for (at, (status, body)) in join_all(asked).await {
        if at == 7 {
            assert_eq!(status, StatusCode::INTERNAL_SERVER_ERROR, "{body}");
            assert!(body["error"].as_str().unwrap().contains("out of data bounds"), "{body}");
        } else {
            assert_eq!(
                (status, &body["outputs"][0]["data"][0]),
                (StatusCode::OK, &json!((at % 3 + 1) as f64))
            );
        }
    }
    let bad = raw("throws", "index", "INT64", &[1], 99_i64.to_le_bytes().to_vec());
    assert_eq!(grpc.model_infer(bad).await.unwrap_err().code(), Code::Internal);

    // An output of another shape than the signature's is answered as what it is: its shape is part of the
    // answer.
    let rows = floats(3, &[1.0, 2.0, 3.0, 4.0, 5.0, 6.0]);
    let (status, body) = serving.post("/v2/models/liar/infer", &rows).await;
    assert_eq!((status, &body["outputs"][0]["shape"]), (StatusCode::OK, &json!([2, 3])));
    assert_eq!(body["outputs"][0]["data"], json!([1.0, 2.0, 3.0, 4.0, 5.0, 6.0]));
    let instances = json!({"instances": [[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]]});
    // KServe's v1 has no shapes: values are never given to rows that they may not belong to.
    let (status, body) = serving.post("/v1/models/liar:predict", &instances).await;
    assert_eq!(status, StatusCode::INTERNAL_SERVER_ERROR);
    assert!(body["error"].as_str().unwrap().starts_with("output 'y' has the shape [2, 3]"), "{body}");

    // Those that do not load say why, and the replica is ready for the others.
    let (_, index) = serving.post("/v2/repository/index", &json!({})).await;
    for (name, reason) in [("unloadable", "output 'list'"), ("rubbish", "its file is no ONNX model")] {
        let entry = index.as_array().unwrap().iter().find(|entry| entry["name"] == name).unwrap();
        assert_eq!(entry["state"], "UNAVAILABLE");
        assert!(entry["reason"].as_str().unwrap().contains(reason), "{entry}");
        let (status, body) = serving.post(&format!("/v2/models/{name}/infer"), &floats(1, &[0.0, 0.0])).await;
        assert_eq!(status, StatusCode::SERVICE_UNAVAILABLE);
        assert!(body["error"].as_str().unwrap().contains(reason), "{body}");
    }
    assert_eq!(serving.get("/readyz").await.0, StatusCode::OK);
    assert_eq!(serving.predict([0.0, 0.0]).await.score, -1.0);
}

/// Passes connections on to a server, until it is told to be unreachable: then it ends those that there are,
/// and each new one.
struct Proxy {
    address: String,
    away: watch::Sender<bool>,
}

impl Proxy {
    async fn to(server: &str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("it is bound").to_string();
        let server = server.trim_start_matches("http://").to_owned();
        let (away, told) = watch::channel(false);
        tokio::spawn(async move {
            while let Ok((mut client, _)) = listener.accept().await {
                let (server, mut told) = (server.clone(), told.clone());
                tokio::spawn(async move {
                    let pass = async {
                        if let Ok(mut server) = TcpStream::connect(server).await {
                            let _ = tokio::io::copy_bidirectional(&mut client, &mut server).await;
                        }
                    };
                    tokio::select! {
                        biased;
                        _ = told.wait_for(|away| *away) => {}
                        () = pass => {}
                    }
                });
            }
        });
        Self { address, away }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn loaded_models_go_on_while_registry_store_and_nats_are_gone() {
    let (world, cache) = (World::start().await, cache());
    let (first, second) =
        (world.version("1", "linear_minus_one.onnx").await, world.version("2", "linear_plus_one.onnx").await);
    world.put(&table(1, &first)).await;
    let store = Proxy::to(&world.bucket.endpoint).await;
    let endpoint = format!("http://{}", store.address);
    let serving = Serving::start(&world, &cache, &[("SLIPWAY_S3_ENDPOINT", &endpoint)]).await;
    serving.wait_until_ready().await;
    world.routed(1).await;
    store.away.send_replace(true);
    world.registry.stop();
    world.nats.kill().await;
    for _ in 0..50 {
        assert_eq!(serving.predict([0.0, 0.0]).await.version, "1");
    }
    // NATS comes back first, and asks for what cannot be fetched: the version before it goes on.
    world.nats.start_again().await;
    world.put(&table(2, &second)).await;
    eventually("the second version is waited for", || async {
        let (_, index) = serving.post("/v2/repository/index", &json!({})).await;
        index.as_array()?.iter().find(|entry| entry["version"] == "2" && entry["state"] != "READY")?;
        Some(())
    })
    .await;
    assert_eq!(serving.predict([0.0, 0.0]).await.version, "1");
    assert_eq!(serving.get("/v2/health/live").await.0, StatusCode::OK);
    store.away.send_replace(false);
    world.registry.start_again().await;
    world.routed(2).await;
    assert_eq!(serving.predict([0.0, 0.0]).await.version, "2");
}

/// Asks again and again over one connection, until the server asks to leave; how many answers came.
async fn keep_asking(address: &str, answered: &AtomicUsize) -> std::io::Result<usize> {
    let body = point([0.0, 0.0]).to_string();
    let request = format!(
        "POST /v2/models/{DEPLOYMENT}/infer HTTP/1.1\r\nhost: {address}\r\ncontent-type: application/json\r\n\
         content-length: {}\r\n\r\n{body}",
        body.len()
    );
    let mut stream = BufReader::new(TcpStream::connect(address).await?);
    for count in 1.. {
        stream.write_all(request.as_bytes()).await?;
        let (mut length, mut leaves, mut line) = (0, false, String::new());
        assert!(stream.read_line(&mut line).await? > 0, "a request is lost");
        assert!(line.starts_with("HTTP/1.1 200") || line.starts_with("HTTP/1.1 503"), "{line}");
        loop {
            line.clear();
            stream.read_line(&mut line).await?;
            let header = line.trim().to_ascii_lowercase();
            if header.is_empty() {
                break;
            }
            leaves |= header == "connection: close";
            length = header
                .strip_prefix("content-length: ")
                .map_or(length, |text| text.parse().expect("it works"));
        }
        let mut answer = vec![0; length];
        stream.read_exact(&mut answer).await?;
        serde_json::from_slice::<Value>(&answer).expect("the answer is whole");
        answered.fetch_add(1, Ordering::SeqCst);
        if leaves {
            return Ok(count);
        }
    }
    unreachable!("it asks until it is told to leave")
}

#[tokio::test(flavor = "multi_thread")]
async fn clients_that_send_until_the_end_lose_no_request() {
    let (world, cache) = (World::start().await, cache());
    world.put(&table(1, &world.version("1", "linear_minus_one.onnx").await)).await;
    let mut serving = Serving::ready(&world, &cache).await;
    world.routed(1).await;
    let address = serving.rest.trim_start_matches("http://").to_owned();
    let answered = Arc::new(AtomicUsize::new(0));
    let clients: Vec<_> = (0..16)
        .map(|_| {
            let (address, answered) = (address.clone(), Arc::clone(&answered));
            tokio::spawn(async move { keep_asking(&address, &answered).await })
        })
        .collect();
    let grpc = GrpcInferenceServiceClient::connect(serving.grpc.clone()).await.unwrap();
    let callers: Vec<_> = (0..4)
        .map(|_| {
            let mut grpc = grpc.clone();
            tokio::spawn(async move {
                loop {
                    if let Err(refusal) = grpc.model_infer(floats_request()).await {
                        return refusal;
                    }
                }
            })
        })
        .collect();
    eventually("they are at work", || async { (answered.load(Ordering::SeqCst) > 500).then_some(()) }).await;
    assert_eq!(serving.terminate(), Some(0));
    for client in clients {
        assert!(client.await.unwrap().expect("no connection breaks") > 0);
    }
    for caller in callers {
        // Not sent at all, because the connection had been ended in order, or told with GOAWAY that it was
        // not looked at. One that was cut off would be a reset.
        let refusal = caller.await.unwrap();
        let unsent = matches!(refusal.code(), Code::Unavailable | Code::Cancelled);
        assert!(unsent || format!("{refusal:?}").contains("NO_ERROR, Remote"), "{refusal:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replica_that_ends_is_not_ready_and_goes_on_for_a_while() {
    let (world, cache) = (World::start().await, cache());
    world.put(&table(1, &world.version("1", "linear_minus_one.onnx").await)).await;
    let mut serving = Serving::start(&world, &cache, &[("SLIPWAY_SERVING_DRAIN_DELAY_MS", "5000")]).await;
    serving.wait_until_ready().await;
    world.routed(1).await;
    serving.ask_to_end();
    // A caller that looks is told, over new connections, too.
    eventually("it is not ready", || async {
        let (status, body) = serving.get("/readyz").await;
        (status == StatusCode::SERVICE_UNAVAILABLE && body["waiting_for"]["process"] == "it is stopping")
            .then_some(())
    })
    .await;
    let url = serving.url(&format!("/v2/models/{DEPLOYMENT}/infer"));
    // The listeners follow a moment after the probe.
    eventually("answers ask clients to leave", || async {
        let answer = serving.http.post(&url).json(&point([0.0, 0.0])).send().await.unwrap();
        assert_eq!(answer.status(), StatusCode::OK);
        (answer.headers().get("connection")? == "close").then_some(())
    })
    .await;
    assert_eq!(serving.wait(), Some(0));
}
