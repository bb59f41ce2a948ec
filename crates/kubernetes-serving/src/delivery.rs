//! The Job that hands the bytes of an import to the registry, which cannot read them itself: those of a
//! volume, and of a bucket with the credentials of a ServiceAccount.

use std::collections::BTreeMap;

use k8s_openapi::api::batch::v1::{Job, JobSpec};
use k8s_openapi::api::core::v1::{
    Container, EmptyDirVolumeSource, EnvFromSource, EnvVar, EnvVarSource, LocalObjectReference,
    PersistentVolumeClaimVolumeSource, PodSpec, PodTemplateSpec, ResourceRequirements, Secret,
    SecretEnvSource, SecretKeySelector, SecretVolumeSource, SecurityContext, Volume, VolumeMount,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use slipway_domain::Invalid;
use slipway_kubernetes_pods::{
    bytes, each, from_source, millicores, non_empty, parsed, plain, restricted_container, restricted_pod,
};
use slipway_kubernetes_resources::model_deployment::{ModelDeployment, Spec};

use crate::facts::Facts;
use crate::names::{MANAGED_BY, MANAGED_BY_LABEL, NAME_LABEL, Part, metadata};

/// Value of the label `app.kubernetes.io/name`.
const DELIVERY: &str = "slipway-delivery";
/// Label with the name of the ModelDeployment. That of its pods would make these pods answer, too.
const DELIVERY_OF_LABEL: &str = "slipway.dev/delivery-of";
/// Name of the container.
const CONTAINER: &str = "deliver";
/// Key of the Secret, and name of the file.
const TOKEN: &str = "token";
const TOKEN_FOLDER: &str = "/etc/slipway/delivery";
const SOURCE: &str = "/source";
const MESSAGE: &str = "/dev/termination-log";
/// Pods of a Job that fail, one after another.
const BACKOFF_LIMIT: i32 = 3;
/// A Job is removed this long after its end; one that failed is then repeated.
const REMOVED_AFTER_S: i32 = 600;
/// Shorter than the token is valid.
const DEADLINE_S: i64 = 12 * 3_600;
const CPUS: f64 = 0.1;
const MEMORY_BYTES: u64 = 256 << 20;
/// Characters of the names of a ModelDeployment and of an import in the name of a Job, which is a label, too.
const NAME_CHARS: usize = 40;
const IMPORT_CHARS: usize = 12;
/// Begins the annotations by which KServe finds the bucket of a Secret.
const KSERVE_S3: &str = "serving.kserve.io/s3-";

/// Where the bytes of an import are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DeliverySource {
    /// A path of a PersistentVolumeClaim in the namespace of the object.
    Claim {
        /// Name of the claim.
        claim: String,
        /// Path in it.
        path: String,
    },
    /// `s3://BUCKET/PREFIX`, read with the credentials of a ServiceAccount.
    Bucket {
        /// The address.
        uri: String,
        /// Name of the ServiceAccount.
        account: String,
        /// Its Secret.
        secret: S3Secret,
    },
}

/// A Secret with credentials of S3, as KServe describes it: the keys `AWS_ACCESS_KEY_ID` and
/// `AWS_SECRET_ACCESS_KEY`, and annotations.
///
/// Source: <https://kserve.github.io/website/docs/model-serving/storage/providers/s3>.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct S3Secret {
    /// Its name.
    pub name: String,
    /// URL of the endpoint; `None`: that of AWS.
    pub endpoint: Option<String>,
    /// Region.
    pub region: Option<String>,
}

impl DeliverySource {
    /// The claim that a `pvc://CLAIM/PATH` names.
    ///
    /// # Errors
    /// It names none, or a path that leads out of it.
    pub fn of_claim(uri: &str) -> Result<Option<Self>, Invalid> {
        let Some(rest) = uri.strip_prefix("pvc://") else { return Ok(None) };
        let (claim, path) = rest.split_once('/').unwrap_or((rest, ""));
        let path = path.trim_matches('/');
        let is_part = |part: &str| !part.is_empty() && part != "." && part != "..";
        if claim.is_empty() || !path.split('/').all(is_part) {
            let why = format!("expected pvc://CLAIM/PATH, got {uri}");
            return Err(Invalid::new("spec.model.storageUri", why));
        }
        Ok(Some(Self::Claim { claim: claim.to_owned(), path: path.to_owned() }))
    }

    /// The address as the registry knows it.
    pub fn uri(&self, namespace: &str) -> String {
        match self {
            Self::Claim { claim, path } => format!("pvc://{namespace}/{claim}/{path}"),
            Self::Bucket { uri, .. } => uri.clone(),
        }
    }
}

impl S3Secret {
    /// What the annotations of a Secret say; `None` where none is about S3.
    ///
    /// # Errors
    /// One asks for something that is not supported.
    pub fn of(name: &str, annotations: &BTreeMap<String, String>) -> Result<Option<Self>, Invalid> {
        if !annotations.keys().any(|key| key.starts_with(KSERVE_S3)) {
            return Ok(None);
        }
        let said =
            |key: &str| annotations.get(&format!("{KSERVE_S3}{key}")).filter(|value| !value.is_empty());
        let is_off = |key: &str| said(key).is_some_and(|value| value == "0" || value == "false");
        if is_off("verifyssl") {
            let why =
                format!("the Secret {name} has {KSERVE_S3}verifyssl: 0; certificates are always verified");
            return Err(Invalid::new("spec.model.storageServiceAccount", why));
        }
        let scheme = if is_off("usehttps") { "http" } else { "https" };
        let endpoint = said("endpoint").map(|host| match host.contains("://") {
            true => host.clone(),
            false => format!("{scheme}://{host}"),
        });
        Ok(Some(Self { name: name.to_owned(), endpoint, region: said("region").cloned() }))
    }
}

/// What is delivered, and with which token.
#[derive(Debug, Clone, Copy)]
pub struct Delivery<'delivery> {
    /// ID of the import.
    pub import: &'delivery str,
    /// Where its bytes are.
    pub source: &'delivery DeliverySource,
}

impl Delivery<'_> {
    /// Name of the Job and of its Secret.
    pub fn name(&self, object: &ModelDeployment) -> String {
        let name: String = object.name().chars().take(NAME_CHARS).collect();
        // The beginning of the id is the time, which many have in common.
        let import: String =
            self.import.chars().filter(|letter| *letter != '-').rev().take(IMPORT_CHARS).collect();
        format!("{}-{import}", name.trim_end_matches(['-', '.']))
    }

    /// The Secret with the token.
    pub fn secret(&self, object: &ModelDeployment, token: &str) -> Secret {
        Secret {
            metadata: self.metadata(object),
            string_data: Some([(TOKEN.to_owned(), token.to_owned())].into()),
            type_: Some("Opaque".to_owned()),
            ..Secret::default()
        }
    }

    /// The Job.
    ///
    /// # Errors
    /// A value of one of Kubernetes' types is not one; names the field.
    pub fn job(&self, object: &ModelDeployment, spec: &Spec, facts: &Facts) -> Result<Job, Invalid> {
        let template = PodTemplateSpec {
            metadata: Some(ObjectMeta { labels: Some(labels(object)), ..ObjectMeta::default() }),
            spec: Some(self.pod(object, spec, facts)?),
        };
        Ok(Job {
            metadata: self.metadata(object),
            spec: Some(JobSpec {
                active_deadline_seconds: Some(DEADLINE_S),
                backoff_limit: Some(BACKOFF_LIMIT),
                template,
                ttl_seconds_after_finished: Some(REMOVED_AFTER_S),
                ..JobSpec::default()
            }),
            status: None,
        })
    }

    fn metadata(&self, object: &ModelDeployment) -> ObjectMeta {
        ObjectMeta {
            name: Some(self.name(object)),
            labels: Some(labels(object)),
            ..metadata(&Part::from(object))
        }
    }

    fn pod(&self, object: &ModelDeployment, spec: &Spec, facts: &Facts) -> Result<PodSpec, Invalid> {
        let secrets = spec.image_pull_secrets.iter().map(|name| LocalObjectReference { name: name.clone() });
        let account = match self.source {
            DeliverySource::Claim { .. } => None,
            DeliverySource::Bucket { account, .. } => Some(account.clone()),
        };
        let mounted = self.mounted(object);
        let mount = |(volume, path): &(Volume, &str)| VolumeMount {
            name: volume.name.clone(),
            mount_path: (*path).to_owned(),
            read_only: volume.empty_dir.is_none().then_some(true),
            ..VolumeMount::default()
        };
        let mounts = mounted.iter().map(mount).collect();
        Ok(PodSpec {
            affinity: parsed("spec.affinity", spec.affinity.as_ref())?,
            automount_service_account_token: Some(false),
            containers: vec![self.container(spec, facts, mounts)],
            enable_service_links: Some(false),
            image_pull_secrets: non_empty(secrets.collect()),
            node_selector: Some(spec.node_selector.clone()).filter(|selector| !selector.is_empty()),
            restart_policy: Some("Never".to_owned()),
            security_context: Some(restricted_pod()),
            service_account_name: account,
            tolerations: non_empty(each("spec.tolerations", &spec.tolerations)?),
            volumes: Some(mounted.into_iter().map(|(volume, _)| volume).collect()),
            ..PodSpec::default()
        })
    }

    fn container(&self, spec: &Spec, facts: &Facts, mounts: Vec<VolumeMount>) -> Container {
        let shared = SecretEnvSource { name: facts.secret.clone(), optional: None };
        let requests = [("memory".to_owned(), bytes(MEMORY_BYTES)), ("cpu".to_owned(), millicores(CPUS))];
        Container {
            name: CONTAINER.to_owned(),
            image: Some(spec.image.clone().unwrap_or_else(|| facts.image.clone())),
            env: Some(self.variables()),
            env_from: Some(vec![EnvFromSource { secret_ref: Some(shared), ..EnvFromSource::default() }]),
            resources: Some(ResourceRequirements {
                requests: Some(requests.into()),
                ..ResourceRequirements::default()
            }),
            security_context: Some(SecurityContext {
                read_only_root_filesystem: Some(true),
                ..restricted_container()
            }),
            termination_message_path: Some(MESSAGE.to_owned()),
            termination_message_policy: Some("FallbackToLogsOnError".to_owned()),
            volume_mounts: Some(mounts),
            ..Container::default()
        }
    }

    fn variables(&self) -> Vec<EnvVar> {
        let source = match self.source {
            DeliverySource::Claim { path, .. } => format!("{SOURCE}/{path}"),
            DeliverySource::Bucket { uri, .. } => uri.clone(),
        };
        let mut variables = vec![
            plain("SLIPWAY_SERVING_DELIVER_IMPORT", self.import),
            plain("SLIPWAY_SERVING_DELIVER_SOURCE", source),
            plain("SLIPWAY_SERVING_DELIVER_TOKEN_FILE", format!("{TOKEN_FOLDER}/{TOKEN}")),
            plain("SLIPWAY_SERVING_DELIVER_MESSAGE_FILE", MESSAGE),
        ];
        if let DeliverySource::Bucket { secret, .. } = self.source {
            let key = |key: &str| {
                let selector =
                    SecretKeySelector { name: secret.name.clone(), key: key.to_owned(), optional: None };
                let source = EnvVarSource { secret_key_ref: Some(selector), ..EnvVarSource::default() };
                from_source(key, source)
            };
            variables.extend(["AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"].map(key));
            variables.extend(secret.endpoint.as_ref().map(|url| plain("AWS_ENDPOINT_URL", url)));
            variables.extend(secret.region.as_ref().map(|region| plain("AWS_REGION", region)));
        }
        variables
    }

    /// The volumes, and where they are.
    fn mounted(&self, object: &ModelDeployment) -> Vec<(Volume, &'static str)> {
        let tmp = Volume {
            name: "tmp".to_owned(),
            empty_dir: Some(EmptyDirVolumeSource::default()),
            ..Volume::default()
        };
        let token = Volume {
            name: TOKEN.to_owned(),
            secret: Some(SecretVolumeSource {
                secret_name: Some(self.name(object)),
                ..SecretVolumeSource::default()
            }),
            ..Volume::default()
        };
        let mut mounted = vec![(tmp, "/tmp"), (token, TOKEN_FOLDER)];
        if let DeliverySource::Claim { claim, .. } = self.source {
            let source =
                PersistentVolumeClaimVolumeSource { claim_name: claim.clone(), read_only: Some(true) };
            let volume = Volume {
                name: "source".to_owned(),
                persistent_volume_claim: Some(source),
                ..Volume::default()
            };
            mounted.push((volume, SOURCE));
        }
        mounted
    }
}

fn labels(object: &ModelDeployment) -> BTreeMap<String, String> {
    [(MANAGED_BY_LABEL, MANAGED_BY), (NAME_LABEL, DELIVERY), (DELIVERY_OF_LABEL, object.name())]
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_claim_has_a_path_that_stays_in_it() {
        let of = |uri: &str| DeliverySource::of_claim(uri).map_err(|invalid| invalid.to_string());
        let claim = DeliverySource::Claim { claim: "models".to_owned(), path: "a/fraud".to_owned() };
        assert_eq!(of("pvc://models/a/fraud/"), Ok(Some(claim.clone())));
        assert_eq!(claim.uri("ml"), "pvc://ml/models/a/fraud");
        assert_eq!(of("s3://models/a"), Ok(None));
        for uri in ["pvc://models", "pvc://models/", "pvc:///a", "pvc://models/../a", "pvc://models/a//b"] {
            assert!(of(uri).unwrap_err().contains("expected pvc://CLAIM/PATH"), "{uri}");
        }
    }

    #[test]
    fn a_secret_is_read_by_the_annotations_of_kserve() {
        let of = |pairs: &[(&str, &str)]| {
            let annotations =
                pairs.iter().map(|(key, value)| (format!("{KSERVE_S3}{key}"), (*value).to_owned()));
            S3Secret::of("s3creds", &annotations.collect())
        };
        let secret = |endpoint: Option<&str>, region: Option<&str>| S3Secret {
            name: "s3creds".to_owned(),
            endpoint: endpoint.map(str::to_owned),
            region: region.map(str::to_owned),
        };
        let minio = [("endpoint", "minio.minio:9000"), ("usehttps", "0"), ("region", "eu-west-1")];
        assert_eq!(of(&minio), Ok(Some(secret(Some("http://minio.minio:9000"), Some("eu-west-1")))));
        let https = [("endpoint", "s3.example.com"), ("verifyssl", "1")];
        assert_eq!(of(&https), Ok(Some(secret(Some("https://s3.example.com"), None))));
        assert_eq!(of(&[("region", "eu-west-1")]), Ok(Some(secret(None, Some("eu-west-1")))));
        assert_eq!(of(&[]), Ok(None));
        let refused = of(&[("endpoint", "a"), ("verifyssl", "0")]).unwrap_err();
        assert!(refused.message.contains("certificates are always verified"), "{refused}");
    }
}
