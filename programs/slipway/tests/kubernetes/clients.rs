//! Clients of other projects, unmodified.

use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::json;
use slipway_kubernetes_testkit::{Cluster, Level};

use crate::kserve::compatible;
use crate::rollouts::{MODEL, immediate};
use crate::world::{World, manifest, on_a_cluster};

const KSERVE_PYTHON: &str = "SLIPWAY_KSERVE_PYTHON";

/// Runs one of the examples for clients, on the network of the cluster; what it prints.
fn run(python: &Path, script: &str, arguments: &[&str]) -> String {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples/clients");
    let mut command = Command::new(python);
    command.current_dir(folder).arg(script).args(arguments);
    let ended = tokio::task::block_in_place(|| command.output()).unwrap();
    let told =
        format!("{}{}", String::from_utf8_lossy(&ended.stdout), String::from_utf8_lossy(&ended.stderr));
    assert!(ended.status.success(), "{told}");
    told
}

fn address(world: &World) -> String {
    world.kubectl(&["get", "service", "fraud", "--output", "jsonpath={.spec.clusterIP}"])
}

#[test]
fn tritonclient_is_answered_by_the_service() {
    let Some(python) = slipway_testkit::python_with("tritonclient.grpc, tritonclient.http") else {
        eprintln!("left out: no Python environment with tritonclient; `cargo xtask setup` makes one");
        return;
    };
    on_a_cluster(async |world| {
        world.client.register(MODEL, "right-1.onnx").await;
        world.apply(&manifest(json!({"version": "1"}), &immediate()));
        world.wait("condition=Ready");
        let (http, grpc) = (format!("{}:8000", address(&world)), format!("{}:8001", address(&world)));
        let arguments = [
            &["--deployment", "fraud", "--row", "1.0,0.0", "--outputs", "label,score"][..],
            &["--http", &http, "--grpc", &grpc],
        ]
        .concat();
        let told = run(&python, "predict_tritonclient.py", &arguments);
        for answer in [
            "HTTP binary: version 1 answers [1]",
            "HTTP JSON: version 1 answers [1]",
            "gRPC: version 1 answers [1]",
        ] {
            assert!(told.contains(answer), "{told}");
        }
    });
}

#[test]
#[ignore = "needs SLIPWAY_KSERVE_PYTHON, a Python with examples/clients/kserve-requirements.txt"]
fn the_sdk_of_kserve_deploys_and_predicts() {
    on_a_cluster(async |mut world| {
        compatible(&mut world).await;
        let uri = world.store_outside("sdk/model.onnx", "right-1.onnx").await;
        let python = PathBuf::from(std::env::var_os(KSERVE_PYTHON).expect(KSERVE_PYTHON));
        let kubeconfig = Cluster::shared(Level::Node).unwrap().kubeconfig();
        let arguments = ["--kubeconfig", kubeconfig.to_str().unwrap(), "--namespace", world.namespace.name()];
        println!(
            "{}",
            run(&python, "check_kserve_sdk.py", &[&arguments[..], &["--storage-uri", &uri]].concat())
        );
    });
}
