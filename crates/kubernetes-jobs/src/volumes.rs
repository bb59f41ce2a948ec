//! Volumes of an attempt's pod.

use k8s_openapi::api::core::v1::{
    ConfigMapVolumeSource, EmptyDirVolumeSource, PersistentVolumeClaimVolumeSource, SecretVolumeSource,
    Volume, VolumeMount,
};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use slipway_domain::training::{KubernetesSpec, Volume as Asked};
use slipway_kubernetes_pods::bytes;

/// Volume with the agent's binary.
const AGENT: &str = "slipway-agent";
/// Where the agent's binary is in the command's container.
pub(crate) const AGENT_FOLDER: &str = "/slipway/bin";
const AGENT_LIMIT: &str = "64Mi";
/// Volume with the attempt's folders.
const WORK: &str = "slipway-work";
const WORK_FOLDER: &str = "/slipway/attempt";
/// The folder that the command runs in: below the volume, because the agent makes it, and its own folder
/// beside it.
pub(crate) const COMMAND_FOLDER: &str = "/slipway/attempt/work";
const SHARED_MEMORY: &str = "shared-memory";
const SHARED_MEMORY_FOLDER: &str = "/dev/shm";

/// The volume with the agent's binary, as the init container and the command's container see it.
pub(crate) fn agent_mount(read_only: bool) -> VolumeMount {
    VolumeMount { read_only: read_only.then_some(true), ..mount(AGENT, AGENT_FOLDER) }
}

/// Volumes of the pod.
pub(crate) fn volumes(kubernetes: &KubernetesSpec) -> Vec<Volume> {
    let limit = Some(Quantity(AGENT_LIMIT.to_owned()));
    let mut volumes = vec![
        empty(AGENT, EmptyDirVolumeSource { size_limit: limit, medium: None }),
        empty(WORK, EmptyDirVolumeSource::default()),
    ];
    if let Some(shm_bytes) = kubernetes.shm_bytes {
        volumes.push(empty(SHARED_MEMORY, in_memory(Some(shm_bytes))));
    }
    volumes.extend(kubernetes.volumes.iter().enumerate().map(|(index, asked)| volume(&name(index), asked)));
    volumes
}

/// Mounts of the command's container.
pub(crate) fn mounts(kubernetes: &KubernetesSpec) -> Vec<VolumeMount> {
    let mut mounts = vec![agent_mount(true), mount(WORK, WORK_FOLDER)];
    if kubernetes.shm_bytes.is_some() {
        mounts.push(mount(SHARED_MEMORY, SHARED_MEMORY_FOLDER));
    }
    mounts.extend(kubernetes.volumes.iter().enumerate().map(|(index, asked)| VolumeMount {
        read_only: asked.read_only.then_some(true),
        sub_path: Some(asked.sub_path.clone()).filter(|path| !path.is_empty()),
        ..mount(&name(index), &asked.mount_path)
    }));
    mounts
}

fn name(index: usize) -> String {
    format!("volume-{index}")
}

fn mount(name: &str, mount_path: &str) -> VolumeMount {
    VolumeMount { name: name.to_owned(), mount_path: mount_path.to_owned(), ..VolumeMount::default() }
}

fn empty(name: &str, source: EmptyDirVolumeSource) -> Volume {
    Volume { name: name.to_owned(), empty_dir: Some(source), ..Volume::default() }
}

fn in_memory(limit_bytes: Option<u64>) -> EmptyDirVolumeSource {
    EmptyDirVolumeSource { medium: Some("Memory".to_owned()), size_limit: limit_bytes.map(bytes) }
}

fn volume(name: &str, asked: &Asked) -> Volume {
    let read_only = asked.read_only.then_some(true);
    let empty_dir = asked.empty_dir.as_ref().map(|empty| match empty.memory {
        true => in_memory(empty.limit_bytes),
        false => EmptyDirVolumeSource { medium: None, size_limit: empty.limit_bytes.map(bytes) },
    });
    Volume {
        name: name.to_owned(),
        persistent_volume_claim: asked
            .claim
            .clone()
            .map(|claim_name| PersistentVolumeClaimVolumeSource { claim_name, read_only }),
        secret: asked
            .secret
            .clone()
            .map(|name| SecretVolumeSource { secret_name: Some(name), ..SecretVolumeSource::default() }),
        config_map: asked
            .config_map
            .clone()
            .map(|name| ConfigMapVolumeSource { name, ..ConfigMapVolumeSource::default() }),
        empty_dir,
        ..Volume::default()
    }
}
