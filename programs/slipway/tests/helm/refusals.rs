//! Values that the chart refuses: each error names the value, and says what is expected.

use slipway_kubernetes_testkit::{Cluster, Helm, Level, TestNamespace, unlimited_role};

use crate::chart::{RELEASE, folder, rendered, values};

fn refused(helm: &Helm, file: &str, further: &[&str]) -> String {
    match rendered(helm, file, further) {
        Ok(objects) => panic!("{further:?} is accepted with {file}: {} objects", objects.len()),
        Err(error) => error,
    }
}

#[test]
fn unknown_keys_and_wrong_types_are_named() {
    let Some(helm) = Helm::own() else { return };
    for (setting, expected) in [
        ("unknown=1", "at '': additional properties 'unknown' not allowed"),
        ("global.unknown=1", "at '/global': additional properties 'unknown' not allowed"),
        ("registry.replica=3", "at '/registry': additional properties 'replica' not allowed"),
        ("registry.replicas=two", "at '/registry/replicas': got string, want integer"),
        ("registry.replicas=0", "at '/registry/replicas': minimum: got 0, want 1"),
        ("serving.image.tga=1", "at '/serving/image': additional properties 'tga' not allowed"),
        ("serving.image.digest=latest", "at '/serving/image/digest': 'latest' does not match pattern"),
        (
            "driftMonitor.ingress.enabled=true",
            "at '/driftMonitor': additional properties 'ingress' not allowed",
        ),
        (
            "launcher.resources.limits.memory=much",
            "at '/launcher/resources/limits/memory': 'much' does not match",
        ),
        ("global.access.enabled=yes", "at '/global/access/enabled': got string, want boolean"),
        ("global.scope=galaxy", "at '/global/scope': value must be one of 'cluster', 'namespace'"),
        ("global.teams[0].namespace=Fraud", "at '/global/teams/0/namespace': 'Fraud' does not match pattern"),
        ("global.teams[0].create=true", "at '/global/teams/0': missing property 'namespace'"),
        (
            "global.postgres.url=postgres://a",
            "at '/global/postgres': additional properties 'url' not allowed",
        ),
        ("registry.ingress.enabled=true", "at '/registry/ingress/hosts': minItems: got 0, want 1"),
        (
            "postgres.persistence.class=a",
            "at '/postgres/persistence': additional properties 'class' not allowed",
        ),
    ] {
        let error = refused(&helm, "evaluation", &["--set", setting]);
        assert!(error.contains(expected), "{setting}: {error}");
    }
}

#[test]
fn missing_addresses_and_secrets_are_named() {
    let Some(helm) = Helm::own() else { return };
    for (setting, expected) in [
        ("global.image.registry=", "global.image.registry is required: "),
        (
            "global.postgres.existingSecret=",
            "with the keys drift-monitor, launcher, registry, rollout-controller; ",
        ),
        ("global.nats.existingSecret=", "global.nats.existingSecret is required: "),
        (
            "global.s3.existingSecret=",
            "global.s3.existingSecret is required: a Secret in the namespace \"ml\" with the keys access",
        ),
        ("global.s3.endpoint=", "global.s3.endpoint is required: the URL of the S3 server"),
        ("global.certManager.issuerRef.name=", "global.certManager.issuerRef.name is required"),
        ("global.teams[0].namespace=ml", "global.teams: \"ml\" is the namespace of the release"),
        (
            "global.certManager.enabled=false",
            "rolloutController.customMetrics.enabled=true needs a certificate",
        ),
    ] {
        let error = refused(&helm, "production", &["--set", setting]);
        assert!(error.contains(expected), "{setting}: {error}");
    }
}

#[test]
fn rights_that_one_namespace_does_not_give_are_refused() {
    let Some(helm) = Helm::own() else { return };
    for (setting, expected) in [
        ("launcher.enabled=true", "launcher.inReleaseNamespace=true"),
        (
            "rolloutController.operator.allNamespaces=true",
            "rolloutController.operator.allNamespaces=true needs a ClusterRole",
        ),
        (
            "rolloutController.customMetrics.enabled=true",
            "rolloutController.customMetrics.enabled=true needs an APIService",
        ),
    ] {
        let error = refused(&helm, "namespace", &["--set", setting]);
        assert!(error.contains(expected), "{setting}: {error}");
    }
}

#[test]
fn an_old_kubernetes_is_refused() {
    let Some(helm) = Helm::own() else { return };
    let error = refused(&helm, "evaluation", &["--kube-version", "v1.28.15"]);
    assert!(
        error.contains(
            "chart requires kubeVersion: >=1.29.0-0 which is incompatible with Kubernetes v1.28.15"
        ),
        "{error}"
    );
    // Versions of clouds have a suffix.
    rendered(&helm, "evaluation", &["--kube-version", "v1.29.1-eks-508b6b3"]).unwrap();
}

/// Installs with the values for one namespace; nothing is asked to run.
fn install(
    helm: &Helm,
    cluster: &Cluster,
    namespace: &TestNamespace<'_>,
    further: &[&str],
) -> Result<String, String> {
    let (chart, file) = (folder(), values("namespace"));
    let arguments = ["install", RELEASE, &chart, "--values", &file, "--namespace", namespace.name()];
    helm.on(cluster, &[&arguments, further].concat()).map_err(|error| error.to_string())
}

#[test]
fn secrets_are_looked_up_and_one_namespace_needs_no_other_rights() {
    let (Some(helm), Some(cluster)) = (Helm::own(), Cluster::shared(Level::Control)) else { return };
    let namespace = cluster.namespace();
    let name = namespace.name();
    let error = install(&helm, cluster, &namespace, &[]).unwrap_err();
    let missing =
        format!("there is no Secret \"messaging\" in the namespace \"{name}\"; it needs the keys url");
    assert!(error.contains(&missing), "{error}");
    for (secret, keys) in [
        ("messaging", &["--from-literal=url=nats://nats:4222"][..]),
        ("database", &["--from-literal=uri=postgres://postgres/slipway"]),
        ("artifacts", &["--from-literal=access-key=a", "--from-literal=secret-key=b"]),
    ] {
        namespace.kubectl(&[&["create", "secret", "generic", secret], keys].concat()).unwrap();
    }
    let error = install(&helm, cluster, &namespace, &[]).unwrap_err();
    let missing = format!("the Secret \"database\" in the namespace \"{name}\" has no key \"url\"");
    assert!(error.contains(&missing), "{error}");

    // An account that may do everything in this namespace, and nothing elsewhere.
    let account = namespace.account("installer", &unlimited_role("installer")).unwrap();
    let home = tempfile::tempdir().unwrap();
    let kubeconfig = home.path().join("kubeconfig");
    std::fs::write(&kubeconfig, account.to_string()).unwrap();
    let kubeconfig = ["--kubeconfig", kubeconfig.to_str().unwrap()];
    let keys = ["registry", "launcher", "rolloutController", "driftMonitor"];
    let keys: Vec<String> = keys.iter().map(|key| format!("--set=global.postgres.keys.{key}=uri")).collect();
    let keys: Vec<&str> = keys.iter().map(String::as_str).collect();
    install(&helm, cluster, &namespace, &[&keys[..], &kubeconfig].concat()).unwrap();
    namespace.kubectl(&["get", "deployment", "slipway-registry"]).unwrap();
    // With the scope `cluster`, the same account is refused.
    let wider = ["upgrade", RELEASE, &folder(), "--values", &values("evaluation"), "--namespace", name];
    let error = helm.on(cluster, &[&wider[..], &kubeconfig].concat()).unwrap_err().to_string();
    assert!(error.contains("forbidden"), "{error}");
}
