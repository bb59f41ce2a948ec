//! Storage that the registry cannot read: a Job hands it over.

use std::collections::BTreeSet;

use serde_json::json;
use slipway_kubernetes_testkit::{Cluster, Level, granted, used};

use crate::kserve::{compatible, of_onnx};
use crate::rollouts::answers;
use crate::storage::{message, stored};
use crate::world::{ACCOUNT, LIMIT, World, on_a_cluster};

const NAME: &str = "slipway-rollout-controller-delivery";
const ROLE: &str = include_str!("../../../../deploy/kubernetes/operator-delivery-role.yaml");
const CLAIM: &str = "models";

/// A claim of the namespace, of a folder of the node that has a model.
fn claim(world: &World) -> String {
    use std::os::unix::fs::PermissionsExt as _;

    let namespace = world.namespace.name();
    let folder = world.folder.path().join("volume");
    std::fs::create_dir_all(folder.join("fraud/1")).unwrap();
    let model = folder.join("fraud/1/model.onnx");
    std::fs::write(&model, crate::client::fixture_bytes("right-1.onnx")).unwrap();
    for path in [&folder, &folder.join("fraud"), &folder.join("fraud/1"), &model] {
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o755)).unwrap();
    }
    let name = format!("delivered-{namespace}");
    let volume = json!({"apiVersion": "v1", "kind": "PersistentVolume", "metadata": {"name": name},
        "spec": {"capacity": {"storage": "1Gi"}, "accessModes": ["ReadWriteMany"], "storageClassName": "",
            "persistentVolumeReclaimPolicy": "Retain", "claimRef": {"namespace": namespace, "name": CLAIM},
            "hostPath": {"path": folder.to_str().unwrap()}}});
    let cluster = Cluster::shared(Level::Node).unwrap();
    tokio::task::block_in_place(|| cluster.apply(&volume.to_string()).unwrap());
    world.apply(&json!({"apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": {"name": CLAIM},
        "spec": {"accessModes": ["ReadWriteMany"], "storageClassName": "",
            "resources": {"requests": {"storage": "1Gi"}}}}));
    name
}

/// Secrets and ServiceAccounts as KServe's documentation has them.
fn account(world: &World) {
    let endpoint = world.shared("SLIPWAY_S3_ENDPOINT").trim_start_matches("http://").to_owned();
    world.apply(
        &json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "s3creds", "annotations": {
            "serving.kserve.io/s3-endpoint": endpoint, "serving.kserve.io/s3-usehttps": "0",
            "serving.kserve.io/s3-region": "us-east-1"}},
        "stringData": {"AWS_ACCESS_KEY_ID": world.shared("SLIPWAY_S3_ACCESS_KEY"),
            "AWS_SECRET_ACCESS_KEY": world.shared("SLIPWAY_S3_SECRET_KEY")}}),
    );
    world.apply(&json!({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "reader"},
        "secrets": [{"name": "s3creds"}]}));
}

async fn says(world: &World, text: &str) {
    let said = async || message(world).contains(text).then_some(());
    world.eventually(&format!("the status says: {text}"), said).await;
}

#[test]
fn a_model_of_a_claim_is_delivered_by_a_job_and_deployed() {
    on_a_cluster(async |world| {
        let volume = claim(&world);
        let watched = world.refused(&stored("pvc://models/fraud", true));
        assert!(watched.contains("watch: not with pvc://"), "{watched}");
        world.apply(&stored("pvc://models/fraud", false));
        says(&world, "its Role lacks the permissions of deploy/kubernetes/operator-delivery-role.yaml").await;
        world.allow(NAME, ROLE);
        world.wait("condition=Ready");
        answers(&world, "1").await;
        let model = format!("{}.fraud", world.namespace.name());
        let version = format!("{}/api/v1/models/{model}/versions/1", world.client.registry);
        let version = world.client.get(&version).await;
        let uri = format!("pvc://{}/models/fraud", world.namespace.name());
        assert_eq!(version["tags"]["slipway.import_uri"], json!(uri), "{version}");
        assert_eq!(version["files"][0]["path"], "model.onnx", "{version}");
        let jobs = ["get", "jobs", "--selector", "slipway.dev/delivery-of=fraud", "--output", "name"];
        assert_eq!(world.kubectl(&jobs).lines().count(), 1);

        world.kubectl(&["delete", "md", "fraud", LIMIT]);
        let gone = async || world.kubectl(&jobs).is_empty().then_some(());
        world.eventually("the Job is removed with its ModelDeployment", gone).await;
        world.apply(&stored("pvc://models/absent", false));
        says(&world, "/source/absent: No such file or directory").await;
        let cluster = Cluster::shared(Level::Node).unwrap();
        tokio::task::block_in_place(|| cluster.kubectl(&["delete", "pv", &volume, "--wait=false"]).unwrap());
    });
}

#[test]
fn a_bucket_is_read_with_the_secret_of_the_service_account_of_an_inference_service() {
    on_a_cluster(async |mut world| {
        compatible(&mut world).await;
        world.allow(NAME, ROLE);
        account(&world);
        // The registry may not import from there.
        let uri = world.store("private/model.onnx", "right-1.onnx").await;
        let mut service = of_onnx(&uri, None);
        service["spec"]["predictor"]["serviceAccountName"] = json!("reader");
        world.apply(&service);
        world.kubectl(&["wait", "isvc/fraud", "--for=condition=Ready", LIMIT]);
        answers(&world, "1").await;
        let pods = world.found("jobs");
        let pod = &pods["items"][0]["spec"]["template"]["spec"];
        assert_eq!(pod["serviceAccountName"], "reader", "{pod:#}");

        // The Role is what the operator uses, no more.
        let requests = world.namespace.requests(ACCOUNT).unwrap();
        let allowed = requests.into_iter().filter(|request| request.code != 403).collect::<Vec<_>>();
        let used = used(&allowed);
        let granted: BTreeSet<String> = granted(&serde_saphyr::from_str(ROLE).unwrap());
        let unused: Vec<&String> = granted.difference(&used).collect();
        assert!(unused.is_empty(), "{unused:?}");
    });
}
