//! Argo CD: the health checks, run by Lua, and the manifests, checked by the API server.

use std::collections::BTreeMap;

use mlua::{Lua, LuaSerdeExt as _};
use serde::Deserialize;
use slipway_kubernetes_testkit::go_module;

use crate::reports::{self, Health};
use crate::{cluster, define, text};

/// Path, version and hash of the module that has Argo CD's definitions.
const ARGO_CD: (&str, &str, &str) =
    ("github.com/argoproj/argo-cd/v3", "v3.4.0", "h1:yZwfaOIzE/aQTA52mOfeZQbribmyxKYvMgirQja4eX0=");

#[derive(Debug, Deserialize)]
struct Patch {
    data: BTreeMap<String, String>,
}

/// What a health check returns.
#[derive(Debug, Deserialize)]
struct Judged {
    status: String,
    message: String,
}

#[test]
fn health_checks_judge_every_state() {
    let patch: Patch = serde_saphyr::from_str(&text("argocd/health.yaml")).unwrap();
    for (kind, cases) in [("ModelDeployment", reports::deployments()), ("TrainingJob", reports::jobs())] {
        let check = &patch.data[&format!("resource.customizations.health.slipway.dev_{kind}")];
        for (object, expected) in cases {
            // As Argo CD does: a new interpreter of Lua 5.1, and the object in `obj`.
            let lua = Lua::new();
            lua.globals().set("obj", lua.to_value(&object).unwrap()).unwrap();
            let judged: Judged = lua.from_value(lua.load(check).eval().unwrap()).unwrap();
            let expected = match expected {
                Health::Progressing => "Progressing",
                Health::Healthy => "Healthy",
                Health::Degraded => "Degraded",
                Health::Suspended => "Suspended",
            };
            assert_eq!(judged.status, expected, "{object:#}");
            assert!(!judged.message.is_empty(), "{object:#}");
        }
    }
}

#[test]
fn argo_cd_accepts_the_applications() {
    let Some(cluster) = cluster() else { return };
    let (path, version, sum) = ARGO_CD;
    let folder = go_module(path, version, sum).unwrap().join("manifests/crds");
    for (file, name) in [("application", "applications"), ("applicationset", "applicationsets")] {
        let definition = std::fs::read_to_string(folder.join(format!("{file}-crd.yaml"))).unwrap();
        define(cluster, &format!("{name}.argoproj.io"), &definition);
    }
    let namespace = cluster.namespace();
    for file in ["argocd/platform.yaml", "argocd/models.yaml"] {
        let manifest = text(file).replace("namespace: argocd", &format!("namespace: {}", namespace.name()));
        namespace.apply(&manifest).unwrap();
    }
}
