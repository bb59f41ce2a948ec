//! The container of serving.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{
    Container, ContainerPort, EnvFromSource, EnvVar, HTTPGetAction, Probe, ResourceClaim,
    ResourceRequirements, SecretEnvSource, SecurityContext,
};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use slipway_kubernetes_pods::{bytes, from_field, millicores, plain, restricted_container};
use slipway_kubernetes_resources::model_deployment::{Access, Records, Resources, Spec, Tls};

use crate::facts::Facts;
use crate::names::Part;
use crate::ports::{BEHIND, METRICS_PORT, PORTS};
use crate::volumes::{CACHE, TLS, TOKENS, mounts};

/// Name of serving's container.
const SERVING: &str = "serving";
/// Name of the claim of GPUs within a pod.
pub(crate) const GPU_CLAIM: &str = "gpu";
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

/// The container that serves.
pub(crate) fn serving(part: &Part, spec: &Spec, facts: &Facts) -> Container {
    let port = |(name, port): (&str, i32)| ContainerPort {
        name: Some(name.to_owned()),
        container_port: port,
        protocol: Some("TCP".to_owned()),
        ..ContainerPort::default()
    };
    // The kubelet has no client certificate, and the port of the metrics asks for none. Behind Envoy, the
    // others may be closed to it.
    let (alive, ready, at) = match (&spec.tls, &spec.envoy) {
        (None, None) => ("/v2/health/live", "/v2/health/ready", "http"),
        _ => ("/healthz", "/readyz", "metrics"),
    };
    let ports = own_ports(spec);
    Container {
        name: SERVING.to_owned(),
        env: Some(variables(part, spec, facts)),
        liveness_probe: Some(probe(alive, at, ALIVE_PERIOD_S)),
        ports: Some(ports.into_iter().map(port).collect()),
        readiness_probe: Some(probe(ready, at, READY_PERIOD_S)),
        ..common(spec, facts)
    }
}

/// The ports of serving: behind Envoy, those of REST and gRPC are others.
fn own_ports(spec: &Spec) -> [(&'static str, i32); 3] {
    match spec.envoy {
        Some(_) => [BEHIND[0], BEHIND[1], PORTS[2]],
        None => PORTS,
    }
}

/// The container that brings the versions into the cache which the pods of a node share, before serving
/// starts.
pub(crate) fn prefetch(part: &Part, spec: &Spec, facts: &Facts) -> Container {
    let mut env = variables(part, spec, facts);
    env.push(plain("SLIPWAY_SERVING_PREFETCH", "true"));
    Container { name: "prefetch".to_owned(), env: Some(env), ..common(spec, facts) }
}

/// What both have in common.
fn common(spec: &Spec, facts: &Facts) -> Container {
    let shared = SecretEnvSource { name: facts.secret.clone(), optional: None };
    Container {
        image: Some(spec.image.clone().unwrap_or_else(|| facts.image.clone())),
        env_from: Some(vec![EnvFromSource { secret_ref: Some(shared), ..EnvFromSource::default() }]),
        resources: Some(resources(&spec.resources.clone().unwrap_or_default(), facts)),
        security_context: Some(SecurityContext {
            read_only_root_filesystem: Some(true),
            ..restricted_container()
        }),
        // Why it ended is in the status of the pod.
        termination_message_policy: Some("FallbackToLogsOnError".to_owned()),
        volume_mounts: Some(mounts(spec, facts)),
        ..Container::default()
    }
}

fn probe(path: &str, port: &str, period_seconds: i32) -> Probe {
    Probe {
        failure_threshold: Some(FAILURES),
        http_get: Some(HTTPGetAction {
            path: Some(path.to_owned()),
            port: IntOrString::String(port.to_owned()),
            ..HTTPGetAction::default()
        }),
        period_seconds: Some(period_seconds),
        timeout_seconds: Some(PROBE_TIMEOUT_S),
        ..Probe::default()
    }
}

/// The names by which clients reach the pods.
fn hosts(part: &Part, spec: &Spec, facts: &Facts) -> String {
    let (namespace, domain) = (&part.namespace, &facts.cluster_domain);
    let of = |name: &str| {
        [
            name.to_owned(),
            format!("{name}.{namespace}"),
            format!("{name}.{namespace}.svc"),
            format!("{name}.{namespace}.svc.{domain}"),
        ]
    };
    let mut hosts: Vec<String> = part.called().into_iter().flat_map(of).collect();
    hosts.extend(
        spec.route.iter().flat_map(|route| route.hostnames.iter().chain(&route.grpc_hostnames)).cloned(),
    );
    hosts.extend(spec.ingress.as_ref().map(|ingress| ingress.host.clone()));
    hosts.extend(spec.env.get("SLIPWAY_ALLOWED_HOSTS").cloned());
    hosts.join(",")
}

/// The user's variables, and those that serving needs. Of two with one name, the last one counts.
fn variables(part: &Part, spec: &Spec, facts: &Facts) -> Vec<EnvVar> {
    let ports = own_ports(spec);
    // Envoy terminates TLS, and clients must not bypass it.
    let is_behind = spec.envoy.is_some() && spec.tls.is_some();
    let at = |port: i32| format!("{}:{port}", if is_behind { "127.0.0.1" } else { "0.0.0.0" });
    let mut own = vec![
        plain("SLIPWAY_SERVING_DEPLOYMENTS", part.deployments()),
        from_field("SLIPWAY_REPLICA_ID", "metadata.name"),
        plain("SLIPWAY_CACHE_DIR", CACHE),
        plain("SLIPWAY_LISTEN", at(ports[0].1)),
        plain("SLIPWAY_LISTEN_GRPC", at(ports[1].1)),
        plain("SLIPWAY_LISTEN_METRICS", format!("0.0.0.0:{METRICS_PORT}")),
        plain("SLIPWAY_ALLOWED_HOSTS", hosts(part, spec, facts)),
    ];
    own.extend(spec.tls.as_ref().filter(|_| !is_behind).map(tls_variables).unwrap_or_default());
    own.extend(spec.access.as_ref().map(access_variables).unwrap_or_default());
    own.extend(spec.records.as_ref().map(record_variables).unwrap_or_default());
    let is_own = |name: &String| own.iter().any(|own| own.name == *name);
    let drains = plain("SLIPWAY_DRAIN_SECONDS", DRAIN_SECONDS);
    let default = Some(drains).filter(|drains| !spec.env.contains_key(&drains.name));
    let further = spec.env.iter().filter(|(name, _)| !is_own(name)).map(|(name, value)| plain(name, value));
    default.into_iter().chain(further).chain(own.clone()).collect()
}

fn tls_variables(tls: &Tls) -> Vec<EnvVar> {
    let file = |name: &str| format!("{TLS}/{name}");
    let mut variables =
        vec![plain("SLIPWAY_TLS_CERT", file("tls.crt")), plain("SLIPWAY_TLS_KEY", file("tls.key"))];
    if tls.client_certificates {
        variables.push(plain("SLIPWAY_TLS_CLIENT_CA", file("ca.crt")));
    }
    variables
}

fn access_variables(access: &Access) -> Vec<EnvVar> {
    let auth = |on| plain("SLIPWAY_AUTH", if on { "on" } else { "off" });
    let tokens = || plain("SLIPWAY_SERVING_TOKENS_FILE", format!("{TOKENS}/tokens.json"));
    let tokens = access.tokens_secret.as_ref().map(|_| tokens());
    access.registry_tokens.map(auth).into_iter().chain(tokens).collect()
}

fn record_variables(records: &Records) -> Vec<EnvVar> {
    let share = records.sample_percent;
    let sample = share.map(|share| plain("SLIPWAY_SERVING_RECORD_SAMPLE_PERCENT", share.to_string()));
    let redact = (!records.redact.is_empty()).then(|| records.redact.join(","));
    let redact = redact.map(|redact| plain("SLIPWAY_SERVING_RECORD_REDACT", redact));
    sample.into_iter().chain(redact).collect()
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
    let claim = || ResourceClaim { name: GPU_CLAIM.to_owned(), request: None };
    ResourceRequirements {
        claims: asked.gpu_claim_template.as_ref().map(|_| vec![claim()]),
        limits: Some(limits).filter(|limits| !limits.is_empty()),
        requests: Some(requests),
    }
}
