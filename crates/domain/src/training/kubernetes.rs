//! What a job asks of Kubernetes.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::distributed::Group;
use super::variable::check_variable_name;
use crate::{Invalid, invalid::ensure};

/// Longest name of an object, and of a label's part before the slash.
const MAX_SUBDOMAIN_BYTES: usize = 253;
/// Longest name that is part of a host name, longest value of a label, and longest name of a label.
const MAX_LABEL_BYTES: usize = 63;
const MAX_ENTRIES: usize = 100;
const MAX_IMAGE_BYTES: usize = 1_024;
const MAX_TTL_S: u32 = 365 * 24 * 3_600;
/// Largest shared memory and storage, bytes.
const MAX_BYTES: u64 = 1 << 50;
/// Labels and annotations that are set by the launcher begin so.
pub const OWN_LABEL_PREFIX: &str = "slipway.dev/";
/// Idempotency keys of jobs that TrainingJobs submit: this, and the UID of the object. Clients cannot use
/// them.
pub const TRAINING_JOB_KEY: &str = "trainingjob/";
/// Label by which Kueue finds the queue of a job.
///
/// Source: <https://kueue.sigs.k8s.io/docs/tasks/run/jobs/>.
pub const QUEUE_LABEL: &str = "kueue.x-k8s.io/queue-name";

/// What a job asks of Kubernetes. Values of Kubernetes' own types are kept as they were written, for the API
/// server to judge.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct KubernetesSpec {
    /// Container image that has the command. It needs nothing of Slipway's.
    pub image: String,
    /// When the image is pulled; absent: Kubernetes decides by its tag.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub image_pull_policy: Option<ImagePullPolicy>,
    /// Secrets with credentials of the image's registry.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub image_pull_secrets: Vec<String>,
    /// Processes of a distributed job, by their role; empty: one. See [`super::Group`].
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub replicas: BTreeMap<String, u32>,
    /// Port at which the processes of a distributed job reach each other; absent:
    /// [`super::DEFAULT_GROUP_PORT`].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub port: Option<u16>,
    /// Namespace of the pods; absent: that of the launcher's settings.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub namespace: Option<String>,
    /// Folder of the image that the command runs in, an absolute path; absent: the attempt's work folder.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub working_dir: Option<String>,
    /// Secrets and ConfigMaps whose every entry becomes an environment variable.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub env_from: Vec<EnvSource>,
    /// Environment variables with one entry of a Secret or ConfigMap each, by name.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub env_refs: BTreeMap<String, EnvRef>,
    /// Volumes of the command.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub volumes: Vec<Volume>,
    /// Size of `/dev/shm`, bytes; absent: the container runtime's, which is 64 MiB.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub shm_bytes: Option<u64>,
    /// Storage on the node for the work folder and logs, bytes; absent: no say.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ephemeral_storage_bytes: Option<u64>,
    /// Name of a preset of the launcher for nodes with a kind of GPU, e.g. `a100`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub gpu_type: Option<String>,
    /// Resource that `resources.gpus` counts, e.g. `nvidia.com/mig-1g.5gb`; absent: the launcher's setting.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub gpu_resource: Option<String>,
    /// ResourceClaimTemplate of dynamic resource allocation (DRA), in place of `resources.gpus`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub gpu_claim_template: Option<String>,
    /// ServiceAccount of the pods; its token is mounted only where one is named.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub service_account: Option<String>,
    /// Labels of the Job and its pods.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
    /// Annotations of the Job and its pods.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub annotations: BTreeMap<String, String>,
    /// Labels that a node must have.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub node_selector: BTreeMap<String, String>,
    /// Taints that the pods tolerate: `Toleration`s of Kubernetes.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub tolerations: Vec<Value>,
    /// An `Affinity` of Kubernetes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub affinity: Option<Value>,
    /// `TopologySpreadConstraint`s of Kubernetes.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub topology_spread_constraints: Vec<Value>,
    /// PriorityClass of the pods.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub priority_class: Option<String>,
    /// Whether the pods may run on nodes that can be reclaimed at any time, by the launcher's preset.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub spot: bool,
    /// LocalQueue of Kueue that admits the job.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub queue: Option<String>,
    /// A `SecurityContext` of Kubernetes for the command's container, in place of the restricted one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub security_context: Option<Value>,
    /// A `PodSecurityContext` of Kubernetes, in place of the restricted one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pod_security_context: Option<Value>,
    /// Time after which Kubernetes deletes the Job of an attempt that has ended, seconds; absent: the
    /// launcher's setting.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ttl_s: Option<u32>,
}

/// When an image is pulled.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum ImagePullPolicy {
    /// Before each start.
    Always,
    /// Unless the node has it.
    IfNotPresent,
    /// Never: the node has it.
    Never,
}

impl ImagePullPolicy {
    /// Its name in Kubernetes.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Always => "Always",
            Self::IfNotPresent => "IfNotPresent",
            Self::Never => "Never",
        }
    }
}

/// An object whose every entry becomes an environment variable: one of `secret` and `config_map`.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct EnvSource {
    /// Name of a Secret.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub secret: Option<String>,
    /// Name of a ConfigMap.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub config_map: Option<String>,
    /// Put in front of each variable's name.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub prefix: String,
}

/// An entry of an object: one of `secret` and `config_map`.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct EnvRef {
    /// Name of a Secret.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub secret: Option<String>,
    /// Name of a ConfigMap.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub config_map: Option<String>,
    /// Which entry.
    pub key: String,
}

/// A volume of the command: one of `claim`, `secret`, `config_map` and `empty_dir`.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Volume {
    /// Where the command finds it; an absolute path.
    pub mount_path: String,
    /// A folder of the volume; empty: all of it.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub sub_path: String,
    /// Whether the command cannot write to it.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub read_only: bool,
    /// Name of a PersistentVolumeClaim.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub claim: Option<String>,
    /// Name of a Secret.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub secret: Option<String>,
    /// Name of a ConfigMap.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub config_map: Option<String>,
    /// An empty folder that goes with the pod.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub empty_dir: Option<EmptyDir>,
}

/// An empty folder.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct EmptyDir {
    /// Whether it is in memory, which counts as the command's.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub memory: bool,
    /// Its size, bytes; absent: no limit.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub limit_bytes: Option<u64>,
}

impl KubernetesSpec {
    /// Checks every field that is not one of Kubernetes' own types; the complaint names the field.
    ///
    /// # Errors
    /// A field breaks a rule.
    pub fn validate(&self) -> Result<(), Invalid> {
        let image = &self.image;
        ensure(!image.is_empty(), "image", || "must name a container image".to_owned())?;
        let is_plain = image.len() <= MAX_IMAGE_BYTES && !image.contains(char::is_whitespace);
        ensure(is_plain, "image", || format!("must be the name of a container image, is {image:?}"))?;
        Group::of(&self.replicas)?;
        ensure(self.port != Some(0), "port", || "must be 1 to 65535, is 0".to_owned())?;
        self.validate_names()?;
        self.validate_env()?;
        self.validate_volumes()?;
        self.validate_labels()?;
        for (field, bytes) in
            [("shm_bytes", self.shm_bytes), ("ephemeral_storage_bytes", self.ephemeral_storage_bytes)]
        {
            let bytes = bytes.unwrap_or(1);
            ensure((1..=MAX_BYTES).contains(&bytes), field, || {
                format!("must be 1 to {MAX_BYTES} bytes, is {bytes}")
            })?;
        }
        let ttl_s = self.ttl_s.unwrap_or_default();
        ensure(ttl_s <= MAX_TTL_S, "ttl_s", || format!("must be at most {MAX_TTL_S} seconds, is {ttl_s}"))
    }

    fn validate_names(&self) -> Result<(), Invalid> {
        let names = [
            ("namespace", &self.namespace),
            ("gpu_claim_template", &self.gpu_claim_template),
            ("service_account", &self.service_account),
            ("priority_class", &self.priority_class),
            ("queue", &self.queue),
        ];
        for (field, name) in names {
            name.as_deref().map_or(Ok(()), |name| check_object_name(field, name))?;
        }
        for (index, name) in self.image_pull_secrets.iter().enumerate() {
            check_object_name(&format!("image_pull_secrets[{index}]"), name)?;
        }
        let working_dir = self.working_dir.as_deref().unwrap_or("/");
        ensure(working_dir.starts_with('/') && !working_dir.contains('\0'), "working_dir", || {
            format!("must be an absolute path, is `{working_dir}`")
        })?;
        self.gpu_resource.as_deref().map_or(Ok(()), |name| check_label_name("gpu_resource", name))?;
        let namespace = self.namespace.as_deref().unwrap_or_default();
        ensure(namespace.len() <= MAX_LABEL_BYTES && !namespace.contains('.'), "namespace", || {
            format!("must be a DNS label of at most {MAX_LABEL_BYTES} characters, is `{namespace}`")
        })
    }

    fn validate_env(&self) -> Result<(), Invalid> {
        ensure(self.env_from.len() <= MAX_ENTRIES, "env_from", || format!("must be at most {MAX_ENTRIES}"))?;
        for (index, source) in self.env_from.iter().enumerate() {
            let field = format!("env_from[{index}]");
            check_source(&field, &[("secret", &source.secret), ("config_map", &source.config_map)])?;
        }
        ensure(self.env_refs.len() <= MAX_ENTRIES, "env_refs", || format!("must be at most {MAX_ENTRIES}"))?;
        for (name, entry) in &self.env_refs {
            let field = format!("env_refs.{name}");
            check_variable_name(&field, name)?;
            check_source(&field, &[("secret", &entry.secret), ("config_map", &entry.config_map)])?;
            ensure(!entry.key.is_empty(), &format!("{field}.key"), || "must name an entry".to_owned())?;
        }
        Ok(())
    }

    fn validate_volumes(&self) -> Result<(), Invalid> {
        ensure(self.volumes.len() <= MAX_ENTRIES, "volumes", || format!("must be at most {MAX_ENTRIES}"))?;
        let mut paths = BTreeSet::new();
        for (index, volume) in self.volumes.iter().enumerate() {
            let field = format!("volumes[{index}]");
            let Volume { mount_path, claim, secret, config_map, empty_dir, .. } = volume;
            let is_path = mount_path.starts_with('/')
                && mount_path.len() > 1
                && !mount_path.contains(':')
                && !mount_path.split('/').any(|part| part == "..");
            ensure(is_path, &format!("{field}.mount_path"), || {
                format!("must be an absolute path without `:` and `..`, is `{mount_path}`")
            })?;
            let path = mount_path.trim_end_matches('/');
            ensure(paths.insert(path), &format!("{field}.mount_path"), || {
                format!("`{mount_path}` is the path of another volume")
            })?;
            let sub_path = &volume.sub_path;
            let stays = !sub_path.starts_with('/') && !sub_path.split('/').any(|part| part == "..");
            ensure(stays, &format!("{field}.sub_path"), || {
                format!("must be a path within the volume, is `{sub_path}`")
            })?;
            let empty = empty_dir.as_ref().map(|_| "empty-dir".to_owned());
            let sources =
                [("claim", claim), ("secret", secret), ("config_map", config_map), ("empty_dir", &empty)];
            check_source(&field, &sources)?;
        }
        Ok(())
    }

    fn validate_labels(&self) -> Result<(), Invalid> {
        for (field, labels) in [
            ("labels", &self.labels),
            ("node_selector", &self.node_selector),
            ("annotations", &self.annotations),
        ] {
            ensure(labels.len() <= MAX_ENTRIES, field, || format!("must be at most {MAX_ENTRIES}"))?;
            for (name, value) in labels {
                let field_of = format!("{field}.{name}");
                check_label_name(&field_of, name)?;
                if field == "annotations" || field == "labels" {
                    ensure(!name.starts_with(OWN_LABEL_PREFIX), &field_of, || {
                        format!("names that begin with {OWN_LABEL_PREFIX} are set by the launcher")
                    })?;
                }
                if field != "annotations" {
                    ensure(is_label_value(value), &field_of, || {
                        format!(
                            "must be at most {MAX_LABEL_BYTES} letters, digits, '-', '_' and '.', with a \
                             letter or digit first and last, is `{value}`"
                        )
                    })?;
                }
            }
        }
        Ok(())
    }
}

/// Exactly one of the fields names an object.
fn check_source(field: &str, names: &[(&str, &Option<String>)]) -> Result<(), Invalid> {
    let given: Vec<(&str, &String)> =
        names.iter().filter_map(|(name, value)| Some((*name, value.as_ref()?))).collect();
    let [(name, value)] = given[..] else {
        let names: Vec<String> = names.iter().map(|(name, _)| format!("`{name}`")).collect();
        return Err(Invalid::new(field, format!("expected exactly one of {}", names.join(", "))));
    };
    check_object_name(&format!("{field}.{name}"), value)
}

/// Name of an object: a DNS subdomain.
///
/// Source: <https://kubernetes.io/docs/concepts/overview/working-with-objects/names/>.
fn check_object_name(field: &str, name: &str) -> Result<(), Invalid> {
    ensure(is_subdomain(name), field, || {
        format!(
            "must be the name of an object: at most {MAX_SUBDOMAIN_BYTES} lower-case letters, digits, '-' \
             and '.', is `{name}`"
        )
    })
}

fn is_subdomain(name: &str) -> bool {
    let is_part = |part: &str| {
        let inner = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
        !part.is_empty() && part.bytes().all(inner) && !part.starts_with('-') && !part.ends_with('-')
    };
    name.len() <= MAX_SUBDOMAIN_BYTES && name.split('.').all(is_part)
}

/// Name of a label, an annotation or an extended resource: a name, or a DNS subdomain, a slash and a name.
///
/// Source: <https://kubernetes.io/docs/concepts/overview/working-with-objects/labels/>.
fn check_label_name(field: &str, name: &str) -> Result<(), Invalid> {
    let (prefix, own) = name.split_once('/').map_or((None, name), |(prefix, own)| (Some(prefix), own));
    let is_name = !own.is_empty() && is_label_value(own) && prefix.is_none_or(is_subdomain);
    ensure(is_name, field, || format!("must be a name such as `team` or `example.com/team`, is `{name}`"))
}

fn is_label_value(value: &str) -> bool {
    let ends = |byte: Option<u8>| byte.is_none_or(|byte| byte.is_ascii_alphanumeric());
    let inner = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
    value.len() <= MAX_LABEL_BYTES
        && value.bytes().all(inner)
        && ends(value.bytes().next())
        && ends(value.bytes().last())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn refusal(change: Value) -> String {
        let mut body = json!({"image": "registry.example.com/train:1"});
        for (field, value) in change.as_object().unwrap() {
            body[field] = value.clone();
        }
        let spec: KubernetesSpec = serde_json::from_value(body).unwrap();
        spec.validate().map_or_else(|invalid| invalid.to_string(), |()| String::new())
    }

    #[test]
    fn what_is_not_said_is_not_stored() {
        let spec: KubernetesSpec = serde_json::from_value(json!({"image": "train"})).unwrap();
        assert_eq!(json!(spec), json!({"image": "train"}));
        assert!(serde_json::from_value::<KubernetesSpec>(json!({"images": "train"})).is_err());
    }

    #[test]
    fn a_field_that_kubernetes_would_refuse_is_named() {
        let long = "a".repeat(64);
        for (change, expected) in [
            (json!({"image": ""}), "image: must name a container image"),
            (json!({"image": "a b"}), "image: must be the name of a container image, is \"a b\""),
            (json!({"service_account": "Trainer"}), "service_account: must be the name of an object"),
            (json!({"queue": "-a"}), "queue: must be the name of an object"),
            (json!({"namespace": long}), "namespace: must be a DNS label"),
            (json!({"image_pull_secrets": ["a", "b_c"]}), "image_pull_secrets[1]: must be the name"),
            (json!({"gpu_resource": "nvidia.com/"}), "gpu_resource: must be a name"),
            (json!({"env_from": [{}]}), "env_from[0]: expected exactly one of `secret`, `config_map`"),
            (
                json!({"env_from": [{"secret": "a", "config_map": "b"}]}),
                "env_from[0]: expected exactly one of `secret`, `config_map`",
            ),
            (json!({"env_refs": {"SLIPWAY_X": {"secret": "a", "key": "k"}}}), "env_refs.SLIPWAY_X: names"),
            (json!({"env_refs": {"A": {"secret": "a"}}}), "env_refs.A.key: must name an entry"),
            (json!({"volumes": [{"mount_path": "data", "claim": "c"}]}), "volumes[0].mount_path: must be an"),
            (
                json!({"volumes": [{"mount_path": "/d/../e", "claim": "c"}]}),
                "volumes[0].mount_path: must be an",
            ),
            (json!({"volumes": [{"mount_path": "/d"}]}), "volumes[0]: expected exactly one of `claim`"),
            (
                json!({"volumes": [{"mount_path": "/d", "claim": "c"},
                    {"mount_path": "/d/", "empty_dir": {}}]}),
                "volumes[1].mount_path: `/d/` is the path of another volume",
            ),
            (
                json!({"volumes": [{"mount_path": "/d", "claim": "c", "sub_path": "../e"}]}),
                "volumes[0].sub_path: must be a path within the volume",
            ),
            (json!({"labels": {"slipway.dev/job": "x"}}), "labels.slipway.dev/job: names that begin"),
            (json!({"labels": {"team": "a b"}}), "labels.team: must be at most 63 letters"),
            (json!({"annotations": {"a/b/c": "x"}}), "annotations.a/b/c: must be a name"),
            (json!({"shm_bytes": 0}), "shm_bytes: must be 1 to"),
            (json!({"replicas": {"server": 2}}), "replicas.server: expected one of the roles"),
            (json!({"port": 0}), "port: must be 1 to"),
            (json!({"working_dir": "app"}), "working_dir: must be an absolute path, is `app`"),
            (json!({"ttl_s": 4_000_000_000_u32}), "ttl_s: must be at most"),
        ] {
            let refused = refusal(change.clone());
            assert!(refused.starts_with(expected), "{change}: {refused}");
        }
    }

    #[test]
    fn a_full_section_is_accepted() {
        let full = json!({
            "image_pull_policy": "IfNotPresent", "image_pull_secrets": ["regcred"], "namespace": "training",
            "env_from": [{"secret": "wandb"}, {"config_map": "settings", "prefix": "CFG_"}],
            "env_refs": {"HF_TOKEN": {"secret": "hugging-face", "key": "token"}},
            "volumes": [{"mount_path": "/data", "claim": "imagenet", "read_only": true},
                {"mount_path": "/scratch", "empty_dir": {"limit_bytes": 1_073_741_824}}],
            "shm_bytes": 8_589_934_592_u64, "gpu_type": "a100", "gpu_resource": "nvidia.com/mig-1g.5gb",
            "service_account": "trainer", "labels": {"team": "vision", "example.com/cost": "42"},
            "annotations": {"note": "any text, also long"}, "node_selector": {"zone": "a"},
            "tolerations": [{"key": "gpu", "operator": "Exists"}], "priority_class": "batch", "spot": true,
            "queue": "team-a", "ttl_s": 3600,
        });
        assert_eq!(refusal(full), "");
    }
}
