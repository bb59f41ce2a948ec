//! Clients that come and go for minutes: nothing grows. Not run by default:
//! `SLIPWAY_SOAK_S=600 cargo test -p slipway-serving --test it -- --ignored --nocapture soak`.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use reqwest::StatusCode;
use slipway_api::inference::grpc_inference_service_client::GrpcInferenceServiceClient;
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpStream;

use crate::grpc::floats_request;
use crate::serving::{Serving, cache, point};
use crate::world::{DEPLOYMENT, World, eventually, table};

/// How long, where `SLIPWAY_SOAK_S` says nothing.
const DEFAULT_S: u64 = 120;
/// What the process may take more at the end than after the first quarter.
const GROWTH_LIMIT_KIB: u64 = 16 * 1024;
/// Clients of each kind.
const CLIENTS: usize = 8;

/// Asks over a kept connection, again and again.
async fn stay(serving: Arc<Serving>, stop: Arc<AtomicBool>, answered: Arc<AtomicU64>) {
    while !stop.load(Ordering::Relaxed) {
        let (status, body) = serving.infer(&point([0.0, 0.0])).await;
        assert_eq!(status, StatusCode::OK, "{body}");
        answered.fetch_add(1, Ordering::Relaxed);
    }
}

/// The same over gRPC; every other call is given up.
async fn call(serving: Arc<Serving>, stop: Arc<AtomicBool>, answered: Arc<AtomicU64>) {
    let mut client = GrpcInferenceServiceClient::connect(serving.grpc.clone()).await.expect("it listens");
    while !stop.load(Ordering::Relaxed) {
        let _given_up =
            tokio::time::timeout(Duration::from_micros(50), client.model_infer(floats_request())).await;
        client.model_infer(floats_request()).await.expect("an answer");
        answered.fetch_add(1, Ordering::Relaxed);
    }
}

/// Connects, sends some of a request, and goes: in the header, in the body, or before the answer.
async fn leave(serving: Arc<Serving>, stop: Arc<AtomicBool>, left: Arc<AtomicU64>) {
    let address = serving.rest.trim_start_matches("http://").to_owned();
    let body = point([0.0, 0.0]).to_string();
    let request = format!(
        "POST /v2/models/{DEPLOYMENT}/infer HTTP/1.1\r\nhost: {address}\r\ncontent-type: application/json\r\n\
         content-length: {}\r\n\r\n{body}",
        body.len()
    );
    let cuts = [20, request.len() - body.len() / 2, request.len()];
    for at in 0_usize.. {
        if stop.load(Ordering::Relaxed) {
            return;
        }
        let Ok(mut stream) = TcpStream::connect(&address).await else { continue };
        let _gone = stream.write_all(&request.as_bytes()[..cuts[at % cuts.len()]]).await;
        // A reset, as of a client that was killed, and not an orderly end.
        let _ = stream.set_zero_linger();
        left.fetch_add(1, Ordering::Relaxed);
    }
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "runs for minutes"]
async fn soak_with_clients_that_leave_grows_nothing() {
    let seconds =
        std::env::var("SLIPWAY_SOAK_S").ok().and_then(|text| text.parse().ok()).unwrap_or(DEFAULT_S);
    let (world, cache) = (World::start().await, cache());
    world.put(&table(1, &world.version("1", "linear_minus_one.onnx").await)).await;
    let serving = Arc::new(Serving::ready(&world, &cache).await);
    world.routed(1).await;
    let (stop, answered, left) = (Arc::new(AtomicBool::new(false)), Arc::default(), Arc::default());
    let mut clients = tokio::task::JoinSet::new();
    for _ in 0..CLIENTS {
        clients.spawn(stay(Arc::clone(&serving), Arc::clone(&stop), Arc::clone(&answered)));
        clients.spawn(call(Arc::clone(&serving), Arc::clone(&stop), Arc::clone(&answered)));
        clients.spawn(leave(Arc::clone(&serving), Arc::clone(&stop), Arc::clone(&left)));
    }
    let (begun, whole) = (Instant::now(), Duration::from_secs(seconds));
    let mut first = None;
    while begun.elapsed() < whole {
        tokio::time::sleep(whole / 12).await;
        let memory = serving.memory_kib();
        println!(
            "{:>5} s {:>10} answered {:>9} left {:>6} MiB {:>4} descriptors",
            begun.elapsed().as_secs(),
            answered.load(Ordering::Relaxed),
            left.load(Ordering::Relaxed),
            memory / 1024,
            serving.descriptors()
        );
        if begun.elapsed() > whole / 4 {
            first.get_or_insert(memory);
        }
    }
    stop.store(true, Ordering::Relaxed);
    while let Some(ended) = clients.join_next().await {
        ended.expect("no client was cut off or refused");
    }
    let (first, last) = (first.expect("it took longer than a quarter"), serving.memory_kib());
    assert!(last < first + GROWTH_LIMIT_KIB, "from {first} to {last} KiB");
    eventually("connections of those who left are closed", || async {
        (serving.descriptors() < 200).then_some(())
    })
    .await;
    assert_eq!(serving.predict([0.0, 0.0]).await.score, -1.0);
}
