//! Objects of attempts, as they are sent to the API server.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on can only fail")]

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde_json::{Value, json};
use slipway_domain::training::{JobSpec, KubernetesSpec};
use slipway_kubernetes_jobs::{Attempt, Facts, build, secret, service};

const JOB_ID: &str = "0198c5a2-7b1e-7c44-9f0a-0123456789ab";
/// Writes the snapshots instead of comparing with them.
const WRITE: &str = "SLIPWAY_WRITE_DOCS";
const SECRET_VARIABLES: [&str; 2] = ["SLIPWAY_ATTEMPT_TOKEN", "SLIPWAY_JOB_TOKEN"];

fn facts() -> Facts {
    let presets = json!({
        "gpu": {"tolerations": [{"key": "nvidia.com/gpu", "operator": "Exists"}]},
        "gpu_types": {"a100": {"node_selector": {"gpu-type": "a100"}}, "h100": {}},
        "spot": {
            "tolerations": [{"key": "cloud.google.com/gke-spot", "operator": "Equal", "value": "true"}],
            "affinity": {"nodeAffinity": {"preferredDuringSchedulingIgnoredDuringExecution": [
                {"weight": 1, "preference": {"matchExpressions": [{"key": "spot", "operator": "Exists"}]}},
            ]}},
        },
    });
    Facts {
        installation: "0198c5a2-0000-7000-8000-000000000001".to_owned(),
        namespace: "training".to_owned(),
        agent_image: "registry.example.com/slipway/agent:1.0".to_owned(),
        presets: serde_json::from_value(presets).unwrap(),
        ..Facts::default()
    }
}

/// A job of which the fields in `job` and `kubernetes` are set.
fn spec(job: Value, kubernetes: Value) -> (JobSpec, KubernetesSpec) {
    let mut body = json!({"name": "Train ResNet", "command": ["python3", "train.py"]});
    let mut section = json!({"image": "registry.example.com/train:1"});
    for (onto, from) in [(&mut body, job), (&mut section, kubernetes)] {
        for (field, value) in from.as_object().unwrap() {
            onto[field] = value.clone();
        }
    }
    let (spec, kubernetes): (JobSpec, KubernetesSpec) =
        (serde_json::from_value(body).unwrap(), serde_json::from_value(section).unwrap());
    spec.validate().unwrap();
    kubernetes.validate().unwrap();
    (spec, kubernetes)
}

fn variables() -> BTreeMap<String, String> {
    let variables = [
        ("SLIPWAY_ATTEMPT", "2"),
        ("SLIPWAY_JOB_ID", JOB_ID),
        ("SLIPWAY_LAUNCHER_URL", "http://launcher:5010"),
    ];
    variables.map(|(name, value)| (name.to_owned(), value.to_owned())).into()
}

/// Does something with attempt 2 of such a job.
fn with_attempt<R>(job: Value, kubernetes: Value, use_it: impl FnOnce(&Attempt<'_>) -> R) -> R {
    let (spec, kubernetes) = spec(job, kubernetes);
    use_it(&Attempt {
        job_id: JOB_ID,
        attempt: 2,
        spec: &spec,
        kubernetes: &kubernetes,
        variables: &variables(),
        secret_variables: &SECRET_VARIABLES,
        excluded_nodes: &[],
    })
}

fn built(job: Value, kubernetes: Value) -> Result<Value, String> {
    let built = with_attempt(job, kubernetes, |attempt| build(attempt, &facts()));
    built.map(|job| json!(job)).map_err(|invalid| invalid.to_string())
}

fn assert_snapshot(name: &str, found: &Value) {
    let path =
        PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/it/snapshots").join(format!("{name}.json"));
    let found = format!("{found:#}\n");
    if std::env::var_os(WRITE).is_some() {
        std::fs::write(&path, found).unwrap();
        return;
    }
    let expected = std::fs::read_to_string(&path).unwrap_or_default();
    assert_eq!(found, expected, "{} differs; run the test with {WRITE}=1 if that is meant", path.display());
}

#[test]
fn a_plain_job() {
    assert_snapshot("plain", &built(json!({}), json!({})).unwrap());
}

#[test]
fn a_job_with_gpus_on_spot_nodes_in_a_queue() {
    let resources = json!({"cpus": 3.5, "memory_bytes": 17_179_869_184_u64, "gpus": 2});
    let job = json!({"resources": resources, "grace_period_s": 90});
    let kubernetes = json!({"gpu_type": "a100", "spot": true, "queue": "team-a", "ttl_s": 600,
        "shm_bytes": 8_589_934_592_u64, "priority_class": "batch"});
    assert_snapshot("gpu-spot-queue", &built(job, kubernetes).unwrap());
}

#[test]
fn a_job_with_everything_that_people_set_on_pods() {
    let kubernetes = json!({
        "image_pull_policy": "IfNotPresent", "image_pull_secrets": ["regcred"], "namespace": "vision",
        "env_from": [{"secret": "wandb"}, {"config_map": "settings", "prefix": "CFG_"}],
        "env_refs": {"HF_TOKEN": {"secret": "hugging-face", "key": "token"},
            "REGION": {"config_map": "site", "key": "region"}},
        "volumes": [{"mount_path": "/data", "claim": "imagenet", "read_only": true, "sub_path": "train"},
            {"mount_path": "/scratch", "empty_dir": {"limit_bytes": 1_073_741_824}},
            {"mount_path": "/ram", "empty_dir": {"memory": true}},
            {"mount_path": "/etc/train", "config_map": "train"},
            {"mount_path": "/etc/keys", "secret": "keys"}],
        "ephemeral_storage_bytes": 10_737_418_240_u64, "service_account": "trainer",
        "labels": {"team": "vision"}, "annotations": {"note": "a note"}, "node_selector": {"zone": "a"},
        "tolerations": [
            {"key": "team", "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": 60}],
        "affinity": {"podAntiAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": [
            {"topologyKey": "kubernetes.io/hostname", "labelSelector": {"matchLabels": {"team": "a"}}}]}},
        "topology_spread_constraints": [
            {"maxSkew": 1, "topologyKey": "zone", "whenUnsatisfiable": "DoNotSchedule"}],
        "security_context": {"runAsUser": 0}, "pod_security_context": {"runAsNonRoot": false},
    });
    assert_snapshot("everything", &built(json!({}), kubernetes).unwrap());
}

#[test]
fn a_distributed_job_with_parameter_servers() {
    let kubernetes = json!({"replicas": {"chief": 1, "worker": 2, "ps": 1}, "port": 2222});
    let (job, service) = with_attempt(json!({}), kubernetes, |attempt| {
        (build(attempt, &facts()).unwrap(), service(attempt, &facts()).unwrap())
    });
    assert_snapshot("distributed", &json!({"job": job, "service": service}));
}

#[test]
fn gpus_are_slices_or_claims_where_the_job_says_so() {
    let resources = |kubernetes: Value| {
        let job = built(json!({"resources": {"gpus": 1}}), kubernetes).unwrap();
        let pod = &job["spec"]["template"]["spec"];
        (pod["containers"][0]["resources"].clone(), pod["resourceClaims"].clone())
    };
    let (slice, claims) = resources(json!({"gpu_resource": "nvidia.com/mig-1g.5gb"}));
    assert_eq!((&slice["limits"], claims), (&json!({"nvidia.com/mig-1g.5gb": "1"}), Value::Null));
    let (claimed, claims) = resources(json!({"gpu_claim_template": "one-gpu"}));
    assert_eq!((&claimed["limits"], &claimed["claims"]), (&Value::Null, &json!([{"name": "gpus"}])));
    assert_eq!(claims, json!([{"name": "gpus", "resourceClaimTemplateName": "one-gpu"}]));
}

#[test]
fn a_node_with_a_broken_gpu_is_excluded_whatever_the_job_asks_for() {
    let required = |kubernetes: Value| {
        let nodes = ["n7".to_owned(), "n8".to_owned()];
        let job = with_attempt(json!({}), kubernetes, |attempt| {
            build(&Attempt { excluded_nodes: &nodes, ..*attempt }, &facts()).unwrap()
        });
        let affinity = json!(job)["spec"]["template"]["spec"]["affinity"]["nodeAffinity"].clone();
        affinity["requiredDuringSchedulingIgnoredDuringExecution"]["nodeSelectorTerms"].clone()
    };
    let not = |node: &str| json!({"key": "metadata.name", "operator": "NotIn", "values": [node]});
    let excluded = json!([not("n7"), not("n8")]);
    assert_eq!(required(json!({})), json!([{"matchFields": excluded}]));
    let zone = |zone: &str| json!([{"key": "zone", "operator": "In", "values": [zone]}]);
    let terms = json!([{"matchExpressions": zone("a")}, {"matchExpressions": zone("b")}]);
    let own = json!({"affinity": {"nodeAffinity": {
        "requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": terms}}}});
    let expected = json!([{"matchExpressions": zone("a"), "matchFields": excluded},
        {"matchExpressions": zone("b"), "matchFields": excluded}]);
    assert_eq!(required(own), expected, "the job's own alternatives stay");
}

#[test]
fn what_kubernetes_does_not_have_is_refused_by_its_path() {
    for (kubernetes, expected) in [
        (json!({"gpu_type": "b200"}), "gpu_type: `b200` is unknown; expected one of `a100`, `h100`"),
        (
            json!({"tolerations": [{"key": "a"}, {"keys": "b"}]}),
            "tolerations[1].keys: Kubernetes has no such field in `Toleration`",
        ),
        (
            json!({"affinity": {"nodeAffinity": {"required": {}}}}),
            "affinity.nodeAffinity.required: Kubernetes has no such field in `Affinity`",
        ),
        (json!({"security_context": {"runAsUser": "root"}}), "security_context: invalid type: string"),
        (json!({"tolerations": ["gpu"]}), "tolerations[0]: invalid type: string"),
    ] {
        let refused = built(json!({}), kubernetes.clone()).unwrap_err();
        assert!(refused.starts_with(expected), "{kubernetes}: {refused}");
    }
}

#[test]
fn tokens_are_in_the_secret_and_in_nothing_else() {
    let values = SECRET_VARIABLES.map(|name| (name.to_owned(), format!("value of {name}")));
    let (secret, job) = with_attempt(json!({}), json!({}), |attempt| {
        (json!(secret(attempt, values.into(), &facts())), json!(build(attempt, &facts()).unwrap()))
    });
    assert_eq!(secret["metadata"], job["metadata"], "both are found by the same labels");
    assert_eq!(secret["stringData"]["SLIPWAY_JOB_TOKEN"], "value of SLIPWAY_JOB_TOKEN");
    assert!(!job.to_string().contains("value of"));
    let env = job["spec"]["template"]["spec"]["containers"][0]["env"].as_array().unwrap().clone();
    let token = env.iter().find(|variable| variable["name"] == "SLIPWAY_ATTEMPT_TOKEN").unwrap();
    assert_eq!(
        token["valueFrom"]["secretKeyRef"],
        json!({"name": secret["metadata"]["name"],
        "key": "SLIPWAY_ATTEMPT_TOKEN"})
    );
}
