//! Volumes of a pod, and where its container has them.

use k8s_openapi::api::core::v1::{
    DownwardAPIVolumeFile, DownwardAPIVolumeSource, EmptyDirVolumeSource, ObjectFieldSelector,
    PersistentVolumeClaimVolumeSource, SecretVolumeSource, Volume, VolumeMount,
};
use slipway_kubernetes_resources::model_deployment::Spec;

use crate::facts::Facts;

/// Where the model cache is.
pub(crate) const CACHE: &str = "/cache";
/// Where the certificate and its key are.
pub(crate) const TLS: &str = "/etc/slipway/tls";
/// Where the file is that names Envoy's certificates.
pub(crate) const ENVOY: &str = "/etc/slipway/envoy";
/// Annotation of the pods with Envoy's certificates. Envoy reads it as a file, since it notices renewed
/// certificates only where a file names them.
pub(crate) const CERTIFICATES_ANNOTATION: &str = "slipway.dev/envoy-certificates";
/// Name of the file.
pub(crate) const CERTIFICATES_FILE: &str = "certificates.json";
/// Where the file of tokens is.
pub(crate) const TOKENS: &str = "/etc/slipway/tokens";

/// A volume, and where it is.
struct Mounted {
    volume: Volume,
    path: &'static str,
    is_read_only: bool,
}

impl Mounted {
    fn empty(name: &str, path: &'static str) -> Self {
        let volume = Volume {
            name: name.to_owned(),
            empty_dir: Some(EmptyDirVolumeSource::default()),
            ..Volume::default()
        };
        Self { volume, path, is_read_only: false }
    }

    fn claim(name: &str, path: &'static str, claim: &str) -> Self {
        let source = PersistentVolumeClaimVolumeSource { claim_name: claim.to_owned(), read_only: None };
        let volume =
            Volume { name: name.to_owned(), persistent_volume_claim: Some(source), ..Volume::default() };
        Self { volume, path, is_read_only: false }
    }

    fn secret(name: &str, path: &'static str, secret: &str) -> Self {
        let source =
            SecretVolumeSource { secret_name: Some(secret.to_owned()), ..SecretVolumeSource::default() };
        let volume = Volume { name: name.to_owned(), secret: Some(source), ..Volume::default() };
        Self { volume, path, is_read_only: true }
    }
}

fn all(spec: &Spec, facts: &Facts) -> Vec<Mounted> {
    let cache = match &facts.cache_claim {
        Some(claim) => Mounted::claim("cache", CACHE, claim),
        None => Mounted::empty("cache", CACHE),
    };
    let mut all = vec![cache, Mounted::empty("tmp", "/tmp")];
    all.extend(spec.tls.as_ref().map(|tls| Mounted::secret("tls", TLS, &tls.secret_name)));
    let tokens = spec.access.as_ref().and_then(|access| access.tokens_secret.as_ref());
    all.extend(tokens.map(|secret| Mounted::secret("tokens", TOKENS, secret)));
    all
}

/// The volumes of the pods.
pub(crate) fn volumes(spec: &Spec, facts: &Facts) -> Vec<Volume> {
    let certificates = (spec.envoy.is_some() && spec.tls.is_some()).then(certificates);
    all(spec, facts).into_iter().map(|mounted| mounted.volume).chain(certificates).collect()
}

/// The annotation of the pod as a file.
fn certificates() -> Volume {
    let field = ObjectFieldSelector {
        api_version: Some("v1".to_owned()),
        field_path: format!("metadata.annotations['{CERTIFICATES_ANNOTATION}']"),
    };
    let file = DownwardAPIVolumeFile {
        path: CERTIFICATES_FILE.to_owned(),
        field_ref: Some(field),
        ..DownwardAPIVolumeFile::default()
    };
    Volume {
        name: "envoy".to_owned(),
        downward_api: Some(DownwardAPIVolumeSource {
            items: Some(vec![file]),
            ..DownwardAPIVolumeSource::default()
        }),
        ..Volume::default()
    }
}

/// Where serving has them.
pub(crate) fn mounts(spec: &Spec, facts: &Facts) -> Vec<VolumeMount> {
    let mount = |Mounted { volume, path, is_read_only }: Mounted| VolumeMount {
        name: volume.name,
        mount_path: path.to_owned(),
        read_only: is_read_only.then_some(true),
        ..VolumeMount::default()
    };
    all(spec, facts).into_iter().map(mount).collect()
}
