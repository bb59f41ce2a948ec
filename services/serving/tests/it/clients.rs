//! Triton's and KServe's own programs, unmodified: their clients, by the check scripts, and Triton's load
//! generator.

use std::path::{Path, PathBuf};
use std::process::Command;

use slipway_api::traffic::TrafficTable;

use crate::serving::{Serving, cache};
use crate::world::{DEPLOYMENT, World, eventually, table};

/// A Python with what examples/clients/requirements.txt names.
const PYTHON: &str = "SLIPWAY_CLIENT_PYTHON";
/// A Python with what examples/clients/kserve-requirements.txt names.
const KSERVE_PYTHON: &str = "SLIPWAY_KSERVE_PYTHON";
/// NVIDIA's `perf_analyzer`, which is in the wheel of that name.
const PERF_ANALYZER: &str = "SLIPWAY_PERF_ANALYZER";

fn script(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples/clients").join(name)
}

/// Runs a check script against a server with a linear model and those of `further`; `arguments` go to the
/// script next to the addresses and the rows.
async fn run_checks(command: &mut Command, further: &[&str], arguments: &[&str]) {
    let (world, cache) = (World::start().await, cache());
    world.put(&table(1, &world.version("1", "linear_minus_one.onnx").await)).await;
    for (number, name) in (2..).zip(further) {
        let stable = Some(world.version(&number.to_string(), &format!("{name}.onnx")).await);
        world.put(&TrafficTable { stable, ..TrafficTable::empty(*name, DEPLOYMENT) }).await;
    }
    let serving = Serving::ready(&world, &cache).await;
    for name in further.iter().chain([&DEPLOYMENT]) {
        let ready = async || {
            let (status, _) = serving.get(&format!("/v2/models/{name}/ready")).await;
            status.is_success().then_some(())
        };
        eventually("every deployment is ready", ready).await;
    }
    let rows = cache.path().join("rows.json");
    std::fs::write(&rows, "[[1.0, 1.0], [0.0, 0.25], [-1.0, 2.0]]").expect("the rows are written");
    command.args(["--http", &serving.rest, "--grpc", &serving.grpc, "--deployment", DEPLOYMENT, "--verbose"]);
    command.args(arguments).arg("--rows").arg(rows);
    let status = tokio::task::block_in_place(|| command.status()).expect("the script starts");
    assert!(status.success());
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs SLIPWAY_CLIENT_PYTHON, a Python with examples/clients/requirements.txt"]
async fn the_triton_client_finds_nothing_to_complain_of() {
    let python = std::env::var_os(PYTHON).expect("SLIPWAY_CLIENT_PYTHON names a Python");
    let models = ["identities", "brain_identity", "classes"];
    let arguments = ["--identities", "identities", "--brain", "brain_identity", "--classes", "classes"];
    run_checks(Command::new(python).arg(script("check_triton_client.py")), &models, &arguments).await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs SLIPWAY_KSERVE_PYTHON, a Python with examples/clients/kserve-requirements.txt"]
async fn the_kserve_clients_find_nothing_to_complain_of() {
    let python = std::env::var_os(KSERVE_PYTHON).expect("SLIPWAY_KSERVE_PYTHON names a Python");
    let arguments = ["--identities", "identities"];
    run_checks(Command::new(python).arg(script("check_kserve_client.py")), &["identities"], &arguments).await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs SLIPWAY_PERF_ANALYZER, NVIDIA's load generator"]
async fn perf_analyzer_measures_both_protocols_and_reads_our_statistics() {
    let program = std::env::var_os(PERF_ANALYZER).expect("SLIPWAY_PERF_ANALYZER names the program");
    let (world, cache) = (World::start().await, cache());
    world.put(&table(1, &world.version("1", "linear_minus_one.onnx").await)).await;
    let stable = Some(world.version("2", "identities.onnx").await);
    world.put(&TrafficTable { stable, ..TrafficTable::empty("identities", DEPLOYMENT) }).await;
    let serving = Serving::ready(&world, &cache).await;
    let identities = async || {
        let (status, metadata) = serving.get("/v2/models/identities").await;
        status.is_success().then_some(metadata)
    };
    let metadata = eventually("every deployment is ready", identities).await;
    // Their one dimension is the batch, so the analyzer has to be told how long it is.
    let shapes: Vec<String> = metadata["inputs"]
        .as_array()
        .expect("a list")
        .iter()
        .flat_map(|input| ["--shape".to_owned(), format!("{}:3", input["name"].as_str().expect("a name"))])
        .collect();
    let (rest, grpc) = (serving.rest.replace("http://", ""), serving.grpc.replace("http://", ""));
    let http = ["-i", "http", "-u", &rest];
    let grpc = ["-i", "grpc", "-u", &grpc];
    let none: Vec<String> = Vec::new();
    for (model, at, more, shapes) in [
        (DEPLOYMENT, http, "--concurrency-range 1:2", &none),
        (DEPLOYMENT, http, "-b 4 --input-tensor-format json --output-tensor-format json", &none),
        (DEPLOYMENT, http, "--request-rate-range 50 -x 1", &none),
        (DEPLOYMENT, grpc, "-b 8 -a --concurrency-range 2", &none),
        (DEPLOYMENT, grpc, "--streaming", &none),
        (DEPLOYMENT, grpc, "--grpc-compression-algorithm gzip --shared-memory none", &none),
        ("identities", http, "", &shapes),
        ("identities", grpc, "", &shapes),
    ] {
        let mut command = Command::new(&program);
        command.args(["-m", model, "--measurement-interval", "500", "-s", "999", "--max-trials", "4"]);
        command.args(at).args(more.split_whitespace()).args(shapes);
        let output = tokio::task::spawn_blocking(move || command.output()).await.expect("it is waited for");
        let output = output.expect("it starts");
        let said = [output.stdout, output.stderr].concat();
        let said = String::from_utf8_lossy(&said);
        assert!(output.status.success(), "{model} {at:?} {more}: {said}");
        assert!(said.contains("Avg request latency:") && said.contains("compute infer"), "{said}");
        assert!(!said.contains("Failed") && said.contains("throughput: "), "{said}");
    }
}
