//! The ModelDeployment that an InferenceService means.

use serde_json::{Map, Value, json};
use slipway_domain::Invalid;
use slipway_training_manifests::quantity;

use super::InferenceService;

/// Formats that are served, as `modelFormat.name` or as the field of the older form.
const SERVED: [&str; 2] = ["onnx", "triton"];
/// Fields of the older form, one for each format.
const OLD_FORMS: [&str; 11] = [
    "sklearn",
    "xgboost",
    "lightgbm",
    "tensorflow",
    "pytorch",
    "triton",
    "onnx",
    "pmml",
    "paddle",
    "mlflow",
    "huggingface",
];
/// Fields of a predictor that mean the same for a ModelDeployment.
const SAME: [(&str, &str); 7] = [
    ("serviceAccountName", "serviceAccount"),
    ("nodeSelector", "nodeSelector"),
    ("tolerations", "tolerations"),
    ("affinity", "affinity"),
    ("topologySpreadConstraints", "topologySpreadConstraints"),
    ("labels", "podLabels"),
    ("annotations", "podAnnotations"),
];
/// Fields of a predictor that are understood otherwise.
const UNDERSTOOD: [&str; 9] = [
    "model",
    "minReplicas",
    "maxReplicas",
    "scaleTarget",
    "scaleMetric",
    "canaryTrafficPercent",
    "priorityClassName",
    "imagePullSecrets",
    "deploymentStrategy",
];
/// Time without a request after which a service with `minReplicas: 0` has no pods, in seconds: that of
/// KServe's own default, Knative's stable window and its grace period.
const SCALE_TO_ZERO_AFTER_S: u32 = 90;
/// Requests that a step requires before it ends by itself: more than there will be.
const NEVER: u64 = 1 << 52;

/// What an InferenceService means.
#[derive(Debug, Clone, PartialEq)]
pub struct Translated {
    /// The `spec` of the ModelDeployment.
    pub spec: Value,
    /// Fields that have no effect.
    pub ignored: Vec<String>,
}

/// The share of the traffic that the newest version is to keep, in percent; `None`: it gets all of it.
pub fn canary_percent(service: &InferenceService) -> Option<u64> {
    service.spec["predictor"]["canaryTrafficPercent"].as_u64().filter(|percent| *percent < 100)
}

/// What an InferenceService means as a ModelDeployment.
///
/// # Errors
/// A part of it cannot be run; names the field, and says why.
pub fn translate(service: &InferenceService) -> Result<Translated, Invalid> {
    for part in ["transformer", "explainer"] {
        if !service.spec[part].is_null() {
            let why = "Slipway runs no containers of others in front of or next to a model; an ONNX ensemble \
                       can hold pre-processing (docs/serving/running-models.md)";
            return Err(Invalid::new(format!("spec.{part}"), why));
        }
    }
    let predictor = service.spec["predictor"].as_object();
    let predictor = predictor.ok_or_else(|| Invalid::new("spec.predictor", "required"))?;
    let Model { field, body, format } = model(predictor)?;
    if !SERVED.contains(&format.as_str()) {
        let why = format!(
            "the format {format} is not served: expected {}; convert the model to ONNX (docs/onnx.md)",
            SERVED.join(" or ")
        );
        return Err(Invalid::new(format!("spec.predictor.{field}"), why));
    }
    let mut ignored = Vec::new();
    let uri = storage_uri(&field, body)?;
    let mut spec = json!({"model": {"storageUri": uri}});
    // Its Secret may have the credentials of the bucket.
    if let Some(account) = predictor.get("serviceAccountName").filter(|_| uri.starts_with("s3://")) {
        spec["model"]["storageServiceAccount"] = account.clone();
    }
    for (theirs, ours) in SAME {
        if let Some(value) = predictor.get(theirs) {
            spec[ours] = value.clone();
        }
    }
    scale(predictor, &mut spec)?;
    resources(body, &mut spec, &mut ignored);
    environment(service, body, &mut spec, &mut ignored);
    if let Some(class) = predictor.get("priorityClassName") {
        spec["priorityClass"] = class.clone();
    }
    if let Some(secrets) = predictor.get("imagePullSecrets").and_then(Value::as_array) {
        spec["imagePullSecrets"] = secrets.iter().map(|secret| secret["name"].clone()).collect();
    }
    spec["strategy"] = strategy(canary_percent(service));
    let is_known = |name: &&String| {
        **name == field
            || UNDERSTOOD.contains(&name.as_str())
            || SAME.iter().any(|(theirs, _)| theirs == name)
    };
    ignored
        .extend(predictor.keys().filter(|name| !is_known(name)).map(|name| format!("spec.predictor.{name}")));
    let of_model = ["modelFormat", "storageUri", "storage", "resources", "env", "name", "protocolVersion"];
    let others = body.keys().filter(|name| !of_model.contains(&name.as_str()));
    ignored.extend(others.map(|name| format!("spec.predictor.{field}.{name}")));
    Ok(Translated { spec, ignored })
}

/// The model of a predictor.
struct Model<'spec> {
    /// Field of the predictor that has it.
    field: String,
    body: &'spec Map<String, Value>,
    format: String,
}

fn model(predictor: &Map<String, Value>) -> Result<Model<'_>, Invalid> {
    if let Some(body) = predictor.get("model").and_then(Value::as_object) {
        let format = body.get("modelFormat").and_then(|format| format["name"].as_str());
        let required = || Invalid::new("spec.predictor.model.modelFormat.name", "required");
        let format = format.ok_or_else(required)?.to_lowercase();
        return Ok(Model { field: "model".to_owned(), body, format });
    }
    let old = OLD_FORMS.iter().find_map(|name| Some((*name, predictor.get(*name)?.as_object()?)));
    if let Some((name, body)) = old {
        return Ok(Model { field: name.to_owned(), body, format: name.to_owned() });
    }
    let custom = predictor.contains_key("containers");
    let why = if custom {
        "containers of others are not run; expected model or onnx"
    } else {
        "expected model or onnx"
    };
    Err(Invalid::new("spec.predictor", why))
}

fn storage_uri(field: &str, body: &Map<String, Value>) -> Result<String, Invalid> {
    let at = format!("spec.predictor.{field}.storageUri");
    let Some(uri) = body.get("storageUri").and_then(Value::as_str) else {
        let why =
            if body.contains_key("storage") { "required: storage is not supported" } else { "required" };
        return Err(Invalid::new(at, why));
    };
    if ["s3://", "https://", "http://", "oci://", "pvc://"].iter().any(|scheme| uri.starts_with(scheme)) {
        return Ok(uri.to_owned());
    }
    Err(Invalid::new(at, format!("expected s3://…, https://…, oci://… or pvc://…, got {uri}")))
}

fn scale(predictor: &Map<String, Value>, spec: &mut Value) -> Result<(), Invalid> {
    let number = |name: &str| predictor.get(name).and_then(Value::as_u64);
    let min = number("minReplicas").unwrap_or(1);
    let max = number("maxReplicas").filter(|max| *max > 0).unwrap_or(min).max(min).max(1);
    spec["replicas"] = json!({"min": min.max(1), "max": max});
    let metric = match predictor.get("scaleMetric").and_then(Value::as_str) {
        None | Some("cpu") => "cpu",
        Some("memory") => "memory",
        Some("concurrency") => "concurrency",
        Some("rps") => "requestsPerSecond",
        Some(other) => {
            let why = format!("expected cpu, memory, concurrency or rps, got {other}");
            return Err(Invalid::new("spec.predictor.scaleMetric", why));
        }
    };
    let mut scaling = json!({"metric": metric});
    match number("scaleTarget") {
        Some(target) => scaling["target"] = json!(target),
        None if ["cpu", "memory"].contains(&metric) => {}
        None => return Err(Invalid::new("spec.predictor.scaleTarget", "required for this scaleMetric")),
    }
    if min == 0 {
        scaling["scaleToZeroAfterSeconds"] = json!(SCALE_TO_ZERO_AFTER_S);
    }
    spec["scaling"] = scaling;
    Ok(())
}

fn resources(body: &Map<String, Value>, spec: &mut Value, ignored: &mut Vec<String>) {
    let Some(asked) = body.get("resources") else { return };
    let (requests, limits) = (&asked["requests"], &asked["limits"]);
    let of = |name: &str| if requests[name].is_null() { &limits[name] } else { &requests[name] };
    let mut resources = json!({});
    if let Some(cpus) = quantity::number(of("cpu")) {
        resources["cpus"] = json!(cpus);
    }
    let memory = if limits["memory"].is_null() { &requests["memory"] } else { &limits["memory"] };
    if !memory.is_null() {
        resources["memory"] = memory.clone();
    }
    for (name, count) in limits.as_object().into_iter().flatten() {
        let is_gpu = name.contains('/');
        if let Some(count) = quantity::whole(count).filter(|_| is_gpu) {
            resources["gpus"] = json!(count);
            resources["gpuResource"] = json!(name);
        } else if !["cpu", "memory"].contains(&name.as_str()) {
            ignored.push(format!("resources.limits[{name}]"));
        }
    }
    spec["resources"] = resources;
}

/// Settings of serving. Variables of other servers mean nothing to it.
fn environment(
    service: &InferenceService,
    body: &Map<String, Value>,
    spec: &mut Value,
    ignored: &mut Vec<String>,
) {
    let (name, namespace) = (service.name(), service.namespace());
    // KServe's own names of a predictor.
    let hosts = [
        format!("{name}-predictor"),
        format!("{name}-predictor.{namespace}"),
        format!("{name}-predictor.{namespace}.svc"),
        format!("{name}-predictor.{namespace}.svc.cluster.local"),
    ];
    let mut env = json!({"SLIPWAY_ALLOWED_HOSTS": hosts.join(",")});
    for variable in body.get("env").and_then(Value::as_array).into_iter().flatten() {
        let (name, value) = (variable["name"].as_str().unwrap_or_default(), &variable["value"]);
        let is_setting = name.starts_with("SLIPWAY_") || name.starts_with("OTEL_") || name == "RUST_LOG";
        if is_setting && value.is_string() {
            env[name] = value.clone();
        } else {
            ignored.push(format!("env {name}"));
        }
    }
    spec["env"] = env;
}

/// The newest version gets all traffic at once, or keeps its share until the field changes. Limits of an
/// analysis hold meanwhile: a canary that fails is rolled back.
fn strategy(canary_percent: Option<u64>) -> Value {
    let Some(percent) = canary_percent else { return json!({"steps": []}) };
    json!({
        "steps": [{"weightPercent": percent, "holdSeconds": 0}],
        "analysis": {"minRequests": NEVER, "maxInconclusiveSeconds": 0},
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model_deployment::ModelDeployment;

    fn service(predictor: Value) -> InferenceService {
        let mut service =
            InferenceService { spec: json!({"predictor": predictor}), ..InferenceService::default() };
        service.metadata.name = Some("fraud".to_owned());
        service.metadata.namespace = Some("ml".to_owned());
        service
    }

    #[test]
    fn a_service_is_a_model_deployment() {
        let service = service(json!({
            "model": {"modelFormat": {"name": "onnx"}, "storageUri": "s3://models/fraud", "runtime": "triton",
                "resources": {"requests": {"cpu": "500m", "memory": "1Gi"},
                    "limits": {"memory": "2Gi", "nvidia.com/gpu": "1"}},
                "env": [{"name": "SLIPWAY_LOG", "value": "debug"},
                    {"name": "OMP_NUM_THREADS", "value": "1"}]},
            "minReplicas": 0, "maxReplicas": 3, "scaleMetric": "concurrency", "scaleTarget": 4,
            "serviceAccountName": "reader", "containerConcurrency": 5,
        }));
        let Translated { spec, ignored } = translate(&service).unwrap();
        let model = json!({"storageUri": "s3://models/fraud", "storageServiceAccount": "reader"});
        assert_eq!(spec["model"], model);
        assert_eq!(spec["replicas"], json!({"min": 1, "max": 3}));
        let scaling = json!({"metric": "concurrency", "target": 4, "scaleToZeroAfterSeconds": 90});
        assert_eq!(spec["scaling"], scaling);
        let resources = json!({"cpus": 0.5, "memory": "2Gi", "gpus": 1, "gpuResource": "nvidia.com/gpu"});
        assert_eq!(spec["resources"], resources);
        assert_eq!(
            (&spec["serviceAccount"], &spec["env"]["SLIPWAY_LOG"]),
            (&json!("reader"), &json!("debug"))
        );
        assert_eq!(
            ignored,
            ["env OMP_NUM_THREADS", "spec.predictor.containerConcurrency", "spec.predictor.model.runtime"]
        );
        let deployment = ModelDeployment { spec, ..ModelDeployment::default() };
        deployment.parsed().unwrap();
    }

    #[test]
    fn a_canary_keeps_its_share_until_the_field_changes() {
        let of = |percent: Value| {
            service(json!({"onnx": {"storageUri": "s3://m/f"}, "canaryTrafficPercent": percent}))
        };
        let canary = translate(&of(json!(10))).unwrap().spec;
        assert_eq!(canary["strategy"]["steps"], json!([{"weightPercent": 10, "holdSeconds": 0}]));
        let deployment = ModelDeployment { spec: canary, ..ModelDeployment::default() };
        assert!(deployment.parsed().unwrap().strategy.unwrap().analysis.min_requests > 1 << 50);
        for all in [json!(100), Value::Null] {
            assert_eq!(translate(&of(all)).unwrap().spec["strategy"], json!({"steps": []}));
        }
    }

    #[test]
    fn what_cannot_be_run_is_refused_with_its_field() {
        let mut transformed = service(json!({"onnx": {"storageUri": "s3://m/f"}}));
        transformed.spec["transformer"] = json!({"containers": []});
        assert_eq!(translate(&transformed).unwrap_err().field, "spec.transformer");
        for (predictor, field) in [
            (json!({"sklearn": {"storageUri": "s3://m/f"}}), "spec.predictor.sklearn"),
            (
                json!({"model": {"modelFormat": {"name": "sklearn"}, "storageUri": "s3://m/f"}}),
                "spec.predictor.model",
            ),
            (json!({"model": {"storageUri": "s3://m/f"}}), "spec.predictor.model.modelFormat.name"),
            (json!({"onnx": {"storageUri": "gs://m/f"}}), "spec.predictor.onnx.storageUri"),
            (json!({"onnx": {}}), "spec.predictor.onnx.storageUri"),
            (json!({"containers": [{}]}), "spec.predictor"),
            (
                json!({"onnx": {"storageUri": "s3://m/f"}, "scaleMetric": "concurrency"}),
                "spec.predictor.scaleTarget",
            ),
        ] {
            assert_eq!(translate(&service(predictor)).unwrap_err().field, field);
        }
    }
}
