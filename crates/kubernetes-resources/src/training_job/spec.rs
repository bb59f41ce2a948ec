//! The `spec` of a TrainingJob as the body of a job.

use std::sync::LazyLock;

use serde_json::{Value, json};
use slipway_api::rest::launcher::JobSpec;
use slipway_domain::Invalid;

use super::{TrainingJob, is_own};
use crate::shape::{Field, Shape};

/// Fields of a job that the object's metadata have.
const OF_METADATA: [&str; 2] = ["idempotencyKey", "name"];
/// Section of a job whose fields are beside the others, as the resource is on Kubernetes anyway.
const SECTION: &str = "kubernetes";
/// Fields of the section that a job has, too; they are those of its pods.
const OF_PODS: [(&str, &str); 2] = [("annotations", "podAnnotations"), ("labels", "podLabels")];

/// Its fields.
pub(super) static SHAPE: LazyLock<Shape> = LazyLock::new(|| {
    let mut fields = Vec::new();
    for field in Shape::of::<JobSpec>().into_fields() {
        if field.name == SECTION {
            fields.extend(field.shape.into_fields().into_iter().filter_map(of_section));
        } else if !OF_METADATA.contains(&field.name.as_str()) {
            fields.push(field);
        }
    }
    fields.sort_by(|one, other| one.name.cmp(&other.name));
    Shape::Object(fields)
});

fn of_section(mut field: Field) -> Option<Field> {
    if field.name == "namespace" {
        return None;
    }
    if let Some((_, name)) = OF_PODS.iter().find(|(name, _)| *name == field.name) {
        (*name).clone_into(&mut field.name);
    }
    field.required = field.name == "image";
    field.json_path.insert(0, SECTION.to_owned());
    Some(field)
}

impl TrainingJob {
    /// The job that it is.
    ///
    /// # Errors
    /// A field is wrong; names it as the resource does.
    pub fn job(&self) -> Result<JobSpec, Invalid> {
        let mut job = job(self.name(), self.metadata.namespace.as_deref(), &self.spec)?;
        job.idempotency_key = Some(self.idempotency_key());
        Ok(job)
    }
}

/// The job of a manifest, if it is a TrainingJob, and what the job leaves out.
///
/// # Errors
/// A field is wrong; names it.
pub fn from_manifest(manifest: &Value) -> Option<Result<(JobSpec, Vec<String>), Invalid>> {
    is_own(manifest).then(|| {
        let metadata = &manifest["metadata"];
        let name = metadata["name"]
            .as_str()
            .ok_or_else(|| Invalid::new("metadata.name", "expected the name of the job"))?;
        let spec = &manifest["spec"];
        let dropped = spec["suspend"].as_bool().unwrap_or_default().then(|| "spec.suspend".to_owned());
        Ok((job(name, metadata["namespace"].as_str(), spec)?, dropped.into_iter().collect()))
    })
}

fn job(name: &str, namespace: Option<&str>, spec: &Value) -> Result<JobSpec, Invalid> {
    let mut spec = spec.clone();
    let fields = spec.as_object_mut().ok_or_else(|| Invalid::new("spec", "expected an object"))?;
    fields.remove("suspend");
    let mut body = SHAPE.body(&spec, "spec")?;
    body["name"] = json!(name);
    if let Some(namespace) = namespace {
        body[SECTION]["namespace"] = json!(namespace);
    }
    serde_json::from_value(body).map_err(|error| Invalid::new("spec", error.to_string()))
}

/// Path of a field of a job as that of the resource.
pub fn resource_path(json_path: &str) -> String {
    match json_path.strip_prefix("kubernetes.namespace") {
        Some(_) => "metadata.namespace".to_owned(),
        None => format!("spec.{}", SHAPE.path(json_path)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn manifest(spec: Value) -> Value {
        json!({"apiVersion": crate::API_VERSION, "kind": "TrainingJob",
            "metadata": {"name": "train", "namespace": "ml"}, "spec": spec})
    }

    #[test]
    fn a_resource_means_what_the_same_job_means_over_rest() {
        let spec = json!({"image": "train:1", "command": ["python3", "train.py"], "env": {"LR_RATE": "1"},
            "resources": {"cpus": 2, "memory": "8Gi", "gpus": 1},
            "retries": {"limit": 2, "oomMemory": "16Gi"},
            "timeoutSeconds": 60, "checkpoint": {"keep": 2}, "gpuType": "a100", "podLabels": {"a_b": "c"},
            "labels": {"team": "vision"}, "replicas": {"worker": 2}, "shm": "1Gi",
            "volumes": [{"mountPath": "/data", "claim": "data", "readOnly": true}],
            "envRefs": {"KEY": {"secret": "s", "key": "k"}}, "suspend": true,
            "tolerations": [{"key": "gpu", "operator": "Exists"}]});
        let body = json!({"name": "train", "command": ["python3", "train.py"], "env": {"LR_RATE": "1"},
            "resources": {"cpus": 2, "memory_bytes": 8_589_934_592_u64, "gpus": 1},
            "retries": {"limit": 2, "oom_memory_bytes": 17_179_869_184_u64}, "timeout_s": 60,
            "checkpoint": {"keep": 2}, "labels": {"team": "vision"},
            "kubernetes": {"image": "train:1", "namespace": "ml", "gpu_type": "a100", "labels": {"a_b": "c"},
                "replicas": {"worker": 2}, "shm_bytes": 1_073_741_824_u64,
                "volumes": [{"mount_path": "/data", "claim": "data", "read_only": true}],
                "env_refs": {"KEY": {"secret": "s", "key": "k"}},
                "tolerations": [{"key": "gpu", "operator": "Exists"}]}});
        let (job, dropped) = from_manifest(&manifest(spec)).unwrap().unwrap();
        assert_eq!(job, serde_json::from_value(body).unwrap());
        assert_eq!(dropped, ["spec.suspend"]);
    }

    #[test]
    fn what_is_wrong_is_named_as_the_resource_names_it() {
        for (spec, expected) in [
            (json!({"image": "a", "command": ["b"], "gpu_type": "a100"}), "spec.gpu_type"),
            (
                json!({"image": "a", "command": ["b"], "resources": {"memory": "8GB"}}),
                "spec.resources.memory",
            ),
            (json!({"image": "a", "command": "b"}), "spec"),
            (json!([]), "spec"),
        ] {
            let refused = from_manifest(&manifest(spec)).unwrap().unwrap_err();
            assert_eq!(refused.field, expected, "{refused}");
        }
        assert_eq!(from_manifest(&json!({"kind": "Job", "apiVersion": "batch/v1"})), None);
        for (json_path, expected) in [
            ("kubernetes.volumes[0].mount_path", "spec.volumes[0].mountPath"),
            ("kubernetes.labels.a_b", "spec.podLabels.a_b"),
            ("kubernetes.namespace", "metadata.namespace"),
            ("retries.oom_memory_bytes", "spec.retries.oomMemory"),
            ("env.LR_RATE", "spec.env.LR_RATE"),
            ("command[0]", "spec.command[0]"),
        ] {
            assert_eq!(resource_path(json_path), expected);
        }
    }

    #[test]
    fn every_field_of_a_job_is_a_field_of_the_resource() {
        let count = |value: &Value| value["properties"].as_object().unwrap().len();
        let job = Shape::of::<JobSpec>().schema();
        let section = &job["properties"][SECTION];
        // Without name, idempotency_key and the section itself, and the section's namespace.
        assert_eq!(count(&SHAPE.schema()), count(&job) - 3 + count(section) - 1);
    }
}
