//! What a repository of manifests needs: policies that refuse broken specs, health for Argo CD and Flux, and
//! overlays for Kustomize. All of it meets a real API server; left out where none can run.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on can only fail")]

mod admission;
mod argocd;
mod flux;
mod overlays;
mod reports;

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use slipway_kubernetes_testkit::{Cluster, Level};

/// Nothing here takes longer unless it is broken.
const PATIENCE: Duration = Duration::from_secs(120);

/// A file or folder of `deploy`.
fn deploy(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../deploy").join(path)
}

fn text(path: &str) -> String {
    std::fs::read_to_string(deploy(path)).unwrap()
}

/// An API server that knows Slipway's resources.
fn cluster() -> Option<&'static Cluster> {
    static PREPARED: std::sync::Once = std::sync::Once::new();
    let cluster = Cluster::shared(Level::Api)?;
    PREPARED.call_once(|| {
        for name in ["modeldeployments", "trainingjobs"] {
            define(cluster, &format!("{name}.slipway.dev"), &text(&format!("kubernetes/{name}.yaml")));
        }
    });
    Some(cluster)
}

/// Installs a resource, and waits until it is there.
fn define(cluster: &Cluster, name: &str, definition: &str) {
    cluster.apply(definition).unwrap();
    let started = Instant::now();
    let is_established = || {
        let found = cluster.get(&["crd", name]).unwrap();
        let mut conditions = found["status"]["conditions"].as_array().into_iter().flatten();
        conditions.any(|condition| condition["type"] == "Established" && condition["status"] == "True")
    };
    while !is_established() {
        assert!(started.elapsed() < PATIENCE, "{name} is not established");
        std::thread::sleep(Duration::from_millis(100));
    }
}
