//! The objects of ModelDeployments, compared with files. `SLIPWAY_WRITE_DOCS=1` writes them.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on can only fail")]

mod delivery;

use std::path::Path;

use serde_json::{Value, json};
use slipway_kubernetes_resources::model_deployment::{ModelDeployment, Placement, Share};
use slipway_kubernetes_serving::{
    Facts, Objects, Owner, POOL, Scale, Situation, build, build_peers, build_version, owner_of, pool,
};

fn object(spec: Value) -> ModelDeployment {
    let mut object = ModelDeployment { spec, ..ModelDeployment::default() };
    object.metadata.name = Some("fraud".to_owned());
    object.metadata.namespace = Some("ml".to_owned());
    object.metadata.uid = Some("7a1f".to_owned());
    object
}

fn facts() -> Facts {
    Facts { image: "registry.example.com/slipway-serving:1".to_owned(), ..Facts::default() }
}

fn built(spec: Value) -> Objects {
    placed(spec, Placement::default())
}

fn placed(spec: Value, placement: Placement) -> Objects {
    let object = object(spec);
    build(&object, &object.parsed().unwrap(), &facts(), &Situation { placement, ..Situation::default() })
        .unwrap()
}

/// The field that is refused, and why.
fn refused(spec: Value) -> (String, String) {
    let object = object(spec);
    let refused = build(&object, &object.parsed().unwrap(), &facts(), &Situation::default()).unwrap_err();
    (refused.field, refused.message)
}

#[track_caller]
fn check(name: &str, objects: &Objects) {
    let Objects { account, deployment, service, budget, policy, autoscaler, .. } = objects;
    let Objects { ingress, http_route, grpc_route, service_monitor, .. } = objects;
    let shown = json!([
        account,
        deployment,
        service,
        budget,
        policy,
        autoscaler,
        ingress,
        http_route,
        grpc_route,
        service_monitor
    ]);
    compare(name, &shown);
}

#[track_caller]
fn compare(name: &str, shown: &Value) {
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
        "priorityClass": "high",
        "tls": {"secretName": "fraud-tls", "clientCertificates": true},
        "access": {"registryTokens": true, "tokensSecret": "fraud-tokens"},
        "records": {"samplePercent": 12.5, "redact": ["card", "x[3]"]},
        "route": {"gateways": [{"name": "public", "namespace": "edge", "sectionName": "https"}],
            "hostnames": ["fraud.example.com"], "grpcHostnames": ["grpc.fraud.example.com"]},
        "ingress": {"host": "fraud.example.org", "className": "nginx", "tlsSecret": "fraud-org",
            "annotations": {"nginx.ingress.kubernetes.io/proxy-body-size": "8m"}},
        "podTemplate": {"metadata": {"annotations": {"more": "y"}}, "spec": {"dnsPolicy": "Default",
            "containers": [{"name": "serving", "env": [{"name": "SLIPWAY_LOG", "value": "info"}]},
                {"name": "sidecar", "image": "sidecar:1"}]}}});
    check("everything", &built(spec));
}

#[test]
fn a_cache_of_the_node_is_filled_before_serving_starts() {
    let object = object(json!({"model": {"name": "fraud", "version": "1"},
        "resources": {"gpuClaimTemplate": "one-gpu"}}));
    let facts = Facts { cache_claim: Some("models".to_owned()), ..facts() };
    let objects = build(&object, &object.parsed().unwrap(), &facts, &Situation::default()).unwrap();
    check("node-cache", &objects);
}

#[test]
fn the_pool_of_a_namespace_and_the_service_that_leads_to_it() {
    check("pool", &pool("ml", &facts()).unwrap());
    let asleep = Placement { is_pooled: true, has_pods: false };
    let objects = placed(json!({"model": {"name": "fraud", "version": "1"}}), asleep);
    let selector = objects.service.spec.unwrap().selector.unwrap();
    assert_eq!(selector["slipway.dev/model-deployment"], POOL);
    assert_eq!((objects.deployment.unwrap().spec.unwrap().replicas, objects.scale), (Some(0), None));
    let scaled = json!({"model": {"name": "fraud", "version": "1"}, "replicas": {"min": 2, "max": 3}});
    let objects = placed(scaled.clone(), asleep);
    assert_eq!(
        (objects.deployment.unwrap().spec.unwrap().replicas, objects.scale),
        (None, Some(Scale::Zero))
    );
    assert_eq!(built(scaled).scale, Some(Scale::AtLeast(2)));
}

#[test]
fn versions_with_pods_of_their_own_share_the_traffic_of_the_routes() {
    let object = object(json!({"model": {"name": "fraud", "alias": "champion"}, "placement": "separate",
        "replicas": {"min": 1, "max": 2}, "route": {"gateways": [{"name": "public"}],
            "hostnames": ["fraud.example.com"], "grpcHostnames": ["grpc.example.com"]}}));
    let spec = object.parsed().unwrap();
    let share = |version: &str, percent| Share { version: version.to_owned(), percent };
    let situation = Situation { shares: vec![share("1", 90), share("2", 10)], ..Situation::default() };
    check("separate", &build(&object, &spec, &facts(), &situation).unwrap());
    let of = |least_pods| {
        let situation = Situation { least_pods, ..Situation::default() };
        build_version(&object, &spec, &facts(), "2", &situation).unwrap()
    };
    check("separate-version", &of(0));
    let least = |built: &Objects| built.autoscaler.as_ref().unwrap().spec.as_ref().unwrap().min_replicas;
    for (asked, pods) in [(0, 1), (2, 2), (9, 2)] {
        let built = of(asked);
        assert_eq!((least(&built), built.scale), (Some(pods), Some(Scale::AtLeast(pods))));
        assert_eq!(built.deployment.unwrap().spec.unwrap().replicas, None, "it is the autoscaler's");
    }
}

#[test]
fn envoy_has_the_ports_of_the_pods_and_serving_is_behind_it() {
    let spec = json!({"model": {"name": "fraud", "version": "1"}, "envoy": {"retries": 3}});
    let object = object(spec);
    let facts = Facts { envoy_image: "envoy:1".to_owned(), ..facts() };
    let of = |object: &ModelDeployment| {
        build(object, &object.parsed().unwrap(), &facts, &Situation::default()).unwrap()
    };
    check("envoy", &of(&object));
    let peers = build_peers(&object, None).service;
    assert_eq!(peers.metadata.name.as_deref(), Some("fraud-pods"));
    assert_eq!(owner_of(&peers.metadata).unwrap(), Owner::from(&object).peers());
    let selector = peers.spec.unwrap().selector.unwrap();
    let pods = of(&object).deployment.unwrap().spec.unwrap().template.metadata.unwrap().labels.unwrap();
    assert!(selector.iter().all(|(name, value)| pods.get(name) == Some(value)), "{selector:?} {pods:?}");

    // With TLS, Envoy terminates it, and no client can bypass Envoy.
    let mut with_tls = object;
    with_tls.spec["tls"] = json!({"secretName": "fraud-tls", "clientCertificates": true});
    let pod = of(&with_tls).deployment.unwrap().spec.unwrap().template;
    let file = &pod.metadata.unwrap().annotations.unwrap()["slipway.dev/envoy-certificates"];
    let file: Value = serde_json::from_str(file).unwrap();
    assert_eq!(
        file["resources"][0]["tls_certificate"]["private_key"]["filename"],
        "/etc/slipway/tls/tls.key"
    );
    assert_eq!(
        file["resources"][1]["validation_context"]["trusted_ca"]["filename"],
        "/etc/slipway/tls/ca.crt"
    );
    let env = pod.spec.unwrap().containers.remove(0).env.unwrap();
    let value = |name: &str| env.iter().find(|found| found.name == name)?.value.clone();
    assert_eq!(value("SLIPWAY_LISTEN").as_deref(), Some("127.0.0.1:9000"));
    assert_eq!(value("SLIPWAY_TLS_CERT"), None);
}

#[test]
fn a_template_that_asks_for_privileges_is_refused_with_its_field() {
    let of = |template: Value| {
        refused(json!({"model": {"name": "fraud", "version": "1"}, "podTemplate": {"spec": template}})).0
    };
    for (template, field) in [
        (json!({"hostNetwork": true}), "spec.podTemplate.spec.hostNetwork"),
        (
            json!({"containers": [{"name": "serving", "securityContext": {"privileged": true}}]}),
            "spec.podTemplate.spec.containers[serving].securityContext.privileged",
        ),
        (
            json!({"containers": [{"name": "x", "image": "x", "securityContext": {"runAsUser": 0}}]}),
            "spec.podTemplate.spec.containers[x].securityContext.runAsUser",
        ),
        (
            json!({"volumes": [{"name": "node", "hostPath": {"path": "/"}}]}),
            "spec.podTemplate.spec.volumes[node]",
        ),
        (json!({"hostNetwrok": true}), "spec.podTemplate.spec.hostNetwrok"),
    ] {
        assert_eq!(of(template), field);
    }
    let object = object(json!({"model": {"name": "fraud", "version": "1"},
        "podTemplate": {"spec": {"hostNetwork": true}}}));
    let facts = Facts { allow_privileged: true, ..facts() };
    build(&object, &object.parsed().unwrap(), &facts, &Situation::default()).unwrap();
}

#[test]
fn what_kubernetes_does_not_have_is_refused_with_its_field() {
    let spec = json!({"model": {"name": "fraud", "version": "1"},
        "tolerations": [{"key": "gpu"}, {"kay": "gpu"}]});
    assert_eq!(refused(spec).0, "spec.tolerations[1].kay");
}

#[test]
fn an_object_says_to_which_model_deployment_it_belongs() {
    let objects = built(json!({"model": {"name": "fraud", "version": "1"}}));
    let deployment = objects.deployment.unwrap();
    let policy = objects.policy.unwrap();
    for metadata in [&deployment.metadata, &objects.service.metadata, &policy.metadata] {
        let owner = Owner { namespace: "ml".to_owned(), name: "fraud".to_owned() };
        assert_eq!(owner_of(metadata), Some(owner));
    }
    let pod = deployment.spec.unwrap().template.metadata.unwrap();
    assert_eq!(pod.labels.unwrap()["slipway.dev/model-deployment"], "fraud");
}
