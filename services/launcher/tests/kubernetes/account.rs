//! The account of the launcher, with what it may do.

use std::path::Path;

use serde_json::{Value, json};
use slipway_kubernetes_testkit::TestNamespace;

/// What the launcher may do, as people install it.
pub(crate) const ROLE: &str = include_str!("../../../../deploy/kubernetes/launcher-role.yaml");
/// Name of the Role, and of the account that gets it.
pub(crate) const ACCOUNT: &str = "slipway-launcher";

/// The kubeconfig of a service account with this Role, with the API server at this URL.
pub(crate) fn kubeconfig(namespace: &TestNamespace<'_>, role: &str, server: Option<&str>) -> Value {
    let mut config = namespace.account(ACCOUNT, role).unwrap();
    if let Some(server) = server {
        config["clusters"][0]["cluster"] = json!({"server": server});
    }
    config
}

/// Writes a kubeconfig; its path.
pub(crate) fn written(kubeconfig: &Value, folder: &Path) -> String {
    let path = folder.join("kubeconfig");
    std::fs::write(&path, kubeconfig.to_string()).unwrap();
    path.display().to_string()
}
