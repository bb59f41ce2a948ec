//! The objects of ModelDeployments, compared with files. `SLIPWAY_WRITE_DOCS=1` writes them.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on can only fail")]

use std::path::Path;

use serde_json::{Value, json};
use slipway_kubernetes_resources::model_deployment::ModelDeployment;
use slipway_kubernetes_serving::{Facts, Objects, Owner, build, owner_of};

fn object(spec: Value) -> ModelDeployment {
    let mut object = ModelDeployment { spec, ..ModelDeployment::default() };
    object.metadata.name = Some("fraud".to_owned());
    object.metadata.namespace = Some("ml".to_owned());
    object.metadata.uid = Some("7a1f".to_owned());
    object
}

fn built(spec: Value) -> Objects {
    let object = object(spec);
    let facts = Facts { image: "registry.example.com/slipway-serving:1".to_owned(), ..Facts::default() };
    build(&object, &object.parsed().unwrap(), &facts).unwrap()
}

#[track_caller]
fn check(name: &str, objects: &Objects) {
    let Objects { account, deployment, service, budget, policy, autoscaler } = objects;
    let shown = json!([account, deployment, service, budget, policy, autoscaler]);
    let text = format!("{shown:#}\n");
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("tests/it/snapshots/{name}.json"));
    if std::env::var_os("SLIPWAY_WRITE_DOCS").is_some() {
        std::fs::write(&path, text).unwrap();
    } else {
        let found = std::fs::read_to_string(&path).unwrap_or_default();
        assert!(found == text, "{} differs:\n{text}", path.display());
    }
}

#[test]
fn the_least_that_an_object_can_say() {
    check("plain", &built(json!({"model": {"name": "fraud", "version": "1"}})));
}

#[test]
fn everything_that_an_object_can_say() {
    let spec = json!({"model": {"name": "fraud", "alias": "champion"}, "replicas": {"min": 2, "max": 6},
        "scaling": {"metric": "concurrency", "target": 8,
            "behavior": {"scaleDown": {"stabilizationWindowSeconds": 60}}}, "image": "serving:2",
        "resources": {"cpus": 1.5, "memory": "2Gi", "gpus": 1, "gpuResource": "nvidia.com/mig-1g.5gb"},
        "env": {"SLIPWAY_LOG": "debug", "SLIPWAY_DRAIN_SECONDS": "9", "SLIPWAY_LISTEN": "ignored",
            "SLIPWAY_ALLOWED_HOSTS": "fraud.example.com"},
        "serviceAccount": "reader", "imagePullSecrets": ["pull"], "podLabels": {"team": "risk"},
        "podAnnotations": {"note": "x"}, "nodeSelector": {"gpu": "yes"},
        "tolerations": [{"key": "gpu", "operator": "Exists"}], "affinity": {"nodeAffinity": {}},
        "topologySpreadConstraints": [{"maxSkew": 2, "topologyKey": "zone",
            "whenUnsatisfiable": "DoNotSchedule"}],
        "priorityClass": "high"});
    check("everything", &built(spec));
}

#[test]
fn what_kubernetes_does_not_have_is_refused_with_its_field() {
    let object = object(json!({"model": {"name": "fraud", "version": "1"},
        "tolerations": [{"key": "gpu"}, {"kay": "gpu"}]}));
    let refused = build(&object, &object.parsed().unwrap(), &Facts::default()).unwrap_err();
    assert_eq!(refused.field, "spec.tolerations[1].kay", "{refused}");
}

#[test]
fn an_object_says_to_which_model_deployment_it_belongs() {
    let objects = built(json!({"model": {"name": "fraud", "version": "1"}}));
    for metadata in [&objects.deployment.metadata, &objects.service.metadata, &objects.policy.metadata] {
        let owner = Owner { namespace: "ml".to_owned(), name: "fraud".to_owned() };
        assert_eq!(owner_of(metadata), Some(owner));
    }
    let pod = objects.deployment.spec.unwrap().template.metadata.unwrap();
    assert_eq!(pod.labels.unwrap()["slipway.dev/model-deployment"], "fraud");
}
