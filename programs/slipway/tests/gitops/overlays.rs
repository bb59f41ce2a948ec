//! The overlays of Kustomize.

use crate::{cluster, deploy};

/// Where the overlays deploy to.
const NAMESPACES: [(&str, &str); 2] = [("staging", "models-staging"), ("production", "models-production")];

#[test]
fn the_api_server_accepts_every_overlay() {
    let Some(cluster) = cluster() else { return };
    for (overlay, namespace) in NAMESPACES {
        cluster.kubectl(&["create", "namespace", namespace]).unwrap();
        let folder = deploy("kustomize/overlays").join(overlay);
        let folder = folder.to_str().unwrap();
        // Strictly: an unknown field is an error.
        let apply = ["apply", "--server-side", "--validate=strict", "--kustomize", folder];
        cluster.kubectl(&apply).unwrap();
        let found = cluster.get(&["--namespace", namespace, "modeldeployment", "churn"]).unwrap();
        assert_eq!(found["spec"]["model"]["name"], "churn", "{found:#}");
        let (version, alias) = (&found["spec"]["model"]["version"], &found["spec"]["model"]["alias"]);
        match overlay {
            "production" => assert!(version == "1" && alias.is_null(), "{found:#}"),
            _ => assert!(version.is_null() && alias == "champion", "{found:#}"),
        }
    }
}
