//! The container of serving.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{
    Container, ContainerPort, EnvFromSource, EnvVar, HTTPGetAction, Probe, ResourceRequirements,
    SecretEnvSource, SecurityContext, VolumeMount,
};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use slipway_kubernetes_pods::{bytes, from_field, millicores, plain, restricted_container};
use slipway_kubernetes_resources::model_deployment::{ModelDeployment, Resources, Spec};

use crate::facts::Facts;

pub(crate) const METRICS_PORT: i32 = 8_002;
/// Names and numbers of the ports.
pub(crate) const PORTS: [(&str, i32); 3] = [("http", 8_000), ("grpc", 8_001), ("metrics", METRICS_PORT)];
/// Names of the volumes, and where they are.
pub(crate) const VOLUMES: [(&str, &str); 2] = [("cache", CACHE), ("tmp", "/tmp")];
const CACHE: &str = "/cache";
/// What a pod needs that says nothing.
const DEFAULT_CPUS: f64 = 0.1;
const DEFAULT_MEMORY_BYTES: u64 = 256 << 20;
/// Time for which a pod continues to answer after SIGTERM: until no proxy of a Service sends it requests any
/// more.
const DRAIN_SECONDS: &str = "5";
/// A pod that is ready is found so within a second; one that hangs is ended after half a minute.
const READY_PERIOD_S: i32 = 1;
const ALIVE_PERIOD_S: i32 = 10;
const FAILURES: i32 = 3;
const PROBE_TIMEOUT_S: i32 = 5;

pub(crate) fn serving(object: &ModelDeployment, spec: &Spec, facts: &Facts) -> Container {
    let port = |(name, port): (&str, i32)| ContainerPort {
        name: Some(name.to_owned()),
        container_port: port,
        protocol: Some("TCP".to_owned()),
        ..ContainerPort::default()
    };
    let mount = |(name, path): (&str, &str)| VolumeMount {
        name: name.to_owned(),
        mount_path: path.to_owned(),
        ..VolumeMount::default()
    };
    let shared = SecretEnvSource { name: facts.secret.clone(), optional: None };
    Container {
        name: "serving".to_owned(),
        image: Some(spec.image.clone().unwrap_or_else(|| facts.image.clone())),
        env: Some(variables(object, spec, facts)),
        env_from: Some(vec![EnvFromSource { secret_ref: Some(shared), ..EnvFromSource::default() }]),
        liveness_probe: Some(probe("/v2/health/live", ALIVE_PERIOD_S)),
        ports: Some(PORTS.into_iter().map(port).collect()),
        readiness_probe: Some(probe("/v2/health/ready", READY_PERIOD_S)),
        resources: Some(resources(&spec.resources.clone().unwrap_or_default(), facts)),
        security_context: Some(SecurityContext {
            read_only_root_filesystem: Some(true),
            ..restricted_container()
        }),
        // Why it ended is in the status of the pod.
        termination_message_policy: Some("FallbackToLogsOnError".to_owned()),
        volume_mounts: Some(VOLUMES.into_iter().map(mount).collect()),
        ..Container::default()
    }
}

fn probe(path: &str, period_seconds: i32) -> Probe {
    Probe {
        failure_threshold: Some(FAILURES),
        http_get: Some(HTTPGetAction {
            path: Some(path.to_owned()),
            port: IntOrString::String("http".to_owned()),
            ..HTTPGetAction::default()
        }),
        period_seconds: Some(period_seconds),
        timeout_seconds: Some(PROBE_TIMEOUT_S),
        ..Probe::default()
    }
}

/// The user's variables, and those that serving needs. Of two with one name, the last one counts.
fn variables(object: &ModelDeployment, spec: &Spec, facts: &Facts) -> Vec<EnvVar> {
    let (name, namespace) = (object.name(), object.namespace());
    let hosts = [
        name.to_owned(),
        format!("{name}.{namespace}"),
        format!("{name}.{namespace}.svc"),
        format!("{name}.{namespace}.svc.{}", facts.cluster_domain),
    ];
    let listen = |port: i32| format!("0.0.0.0:{port}");
    let own_hosts = hosts.join(",");
    let allowed = match spec.env.get("SLIPWAY_ALLOWED_HOSTS") {
        Some(further) => format!("{own_hosts},{further}"),
        None => own_hosts,
    };
    let own = [
        plain("SLIPWAY_SERVING_DEPLOYMENTS", format!("{name}={}", object.deployment())),
        from_field("SLIPWAY_REPLICA_ID", "metadata.name"),
        plain("SLIPWAY_CACHE_DIR", CACHE),
        plain("SLIPWAY_LISTEN", listen(PORTS[0].1)),
        plain("SLIPWAY_LISTEN_GRPC", listen(PORTS[1].1)),
        plain("SLIPWAY_LISTEN_METRICS", listen(METRICS_PORT)),
        plain("SLIPWAY_ALLOWED_HOSTS", allowed),
    ];
    let is_own = |name: &String| own.iter().any(|own| own.name == *name);
    let drains = plain("SLIPWAY_DRAIN_SECONDS", DRAIN_SECONDS);
    let default = Some(drains).filter(|drains| !spec.env.contains_key(&drains.name));
    let further = spec.env.iter().filter(|(name, _)| !is_own(name)).map(|(name, value)| plain(name, value));
    default.into_iter().chain(further).chain(own.clone()).collect()
}

/// Memory and GPUs are limits, CPU cores are requested: a limit would slow serving down while cores of the
/// node are idle.
fn resources(asked: &Resources, facts: &Facts) -> ResourceRequirements {
    let mut limits = BTreeMap::new();
    if let Some(memory_bytes) = asked.memory_bytes {
        limits.insert("memory".to_owned(), bytes(memory_bytes));
    }
    if asked.gpus > 0 {
        let resource = asked.gpu_resource.as_ref().unwrap_or(&facts.gpu_resource);
        limits.insert(resource.clone(), Quantity(asked.gpus.to_string()));
    }
    let mut requests = limits.clone();
    requests.entry("memory".to_owned()).or_insert_with(|| bytes(DEFAULT_MEMORY_BYTES));
    requests.insert("cpu".to_owned(), millicores(asked.cpus.unwrap_or(DEFAULT_CPUS)));
    ResourceRequirements {
        claims: None,
        limits: Some(limits).filter(|limits| !limits.is_empty()),
        requests: Some(requests),
    }
}
