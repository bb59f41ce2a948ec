//! The unmodified Triton client, by its check script.

use std::path::{Path, PathBuf};
use std::process::Command;

use slipway_api::traffic::TrafficTable;

use crate::serving::{Serving, cache};
use crate::world::{DEPLOYMENT, World, eventually, table};

/// A Python with what examples/clients/requirements.txt names.
const PYTHON: &str = "SLIPWAY_CLIENT_PYTHON";

fn script() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples/clients/check_triton_client.py")
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs SLIPWAY_CLIENT_PYTHON, a Python with examples/clients/requirements.txt"]
async fn the_triton_client_finds_nothing_to_complain_of() {
    let python = std::env::var_os(PYTHON).expect("SLIPWAY_CLIENT_PYTHON names a Python");
    let (world, cache) = (World::start().await, cache());
    world.put(&table(1, &world.version("1", "linear_minus_one.onnx").await)).await;
    let further = [("identities", "2"), ("brain_identity", "3"), ("classes", "4")];
    for (name, version) in further {
        let stable = Some(world.version(version, &format!("{name}.onnx")).await);
        world.put(&TrafficTable { stable, ..TrafficTable::empty(name, DEPLOYMENT) }).await;
    }
    let serving = Serving::ready(&world, &cache).await;
    for name in further.map(|(name, _)| name).into_iter().chain([DEPLOYMENT]) {
        let ready = async || {
            let (status, _) = serving.get(&format!("/v2/models/{name}/ready")).await;
            status.is_success().then_some(())
        };
        eventually("every deployment is ready", ready).await;
    }
    let rows = cache.path().join("rows.json");
    std::fs::write(&rows, "[[1.0, 1.0], [0.0, 0.25], [-1.0, 2.0]]").expect("the rows are written");
    let mut command = Command::new(python);
    command.arg(script()).args([
        "--http",
        &serving.rest,
        "--grpc",
        &serving.grpc,
        "--deployment",
        DEPLOYMENT,
    ]);
    command.args(["--identities", "identities", "--brain", "brain_identity", "--classes", "classes"]);
    command.args(["--verbose", "--rows"]).arg(rows);
    let status = tokio::task::spawn_blocking(move || command.status()).await.expect("it is waited for");
    assert!(status.expect("the script starts").success());
}
