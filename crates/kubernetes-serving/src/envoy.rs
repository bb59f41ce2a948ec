//! Envoy as a sidecar: the ports of the pods are Envoy's, which leads each request to one of the pods, sends
//! it to another one where that fails, and leaves out pods that go on failing.
//!
//! The sidecar is an init container that is restarted (Kubernetes 1.29), so that it is there before serving
//! is and stays until serving has drained. Its configuration is an argument: a change of it replaces the pods
//! as any other change does, and needs no further object.
//!
//! Source: <https://www.envoyproxy.io/docs/envoy/latest/api-v3/api>.

use k8s_openapi::api::core::v1::{
    Container, ContainerPort, Probe, ResourceRequirements, SecurityContext, TCPSocketAction, VolumeMount,
};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use serde_json::{Value, json};
use slipway_kubernetes_pods::{bytes, millicores, restricted_container};
use slipway_kubernetes_resources::model_deployment::{Envoy, Spec, Tls};

use crate::facts::Facts;
use crate::names::Part;
use crate::ports::{BEHIND, PORTS};
use crate::volumes::{CERTIFICATES_FILE, ENVOY, TLS};

const CPUS: f64 = 0.05;
const MEMORY_BYTES: u64 = 64 << 20;
/// Requests that a pod's Envoy holds at the same time. Serving has a bound of its own, far below.
const MAX_REQUESTS: u32 = 16_384;
/// How often Envoy asks which pods there are.
const PODS_INTERVAL: &str = "1s";
const READY_PERIOD_S: i32 = 1;
const STARTUP_FAILURES: i32 = 60;
/// For certificates, Envoy wants to be somebody.
const NODE_CLUSTER: &str = "slipway-serving";

/// The container.
pub(crate) fn container(part: &Part, spec: &Spec, envoy: &Envoy, facts: &Facts) -> Container {
    let port = |(name, port): (&str, i32)| ContainerPort {
        name: Some(name.to_owned()),
        container_port: port,
        protocol: Some("TCP".to_owned()),
        ..ContainerPort::default()
    };
    let config = config(part, spec.tls.as_ref(), envoy, facts).to_string();
    let memory = ("memory".to_owned(), bytes(MEMORY_BYTES));
    Container {
        name: "envoy".to_owned(),
        image: Some(envoy.image.clone().unwrap_or_else(|| facts.envoy_image.clone())),
        command: Some(vec!["/usr/local/bin/envoy".to_owned()]),
        args: Some(arguments(config)),
        ports: Some(PORTS[..2].iter().copied().map(port).collect()),
        resources: Some(ResourceRequirements {
            limits: Some([memory.clone()].into()),
            requests: Some([memory, ("cpu".to_owned(), millicores(CPUS))].into()),
            claims: None,
        }),
        restart_policy: Some("Always".to_owned()),
        security_context: Some(SecurityContext {
            read_only_root_filesystem: Some(true),
            ..restricted_container()
        }),
        // Serving starts when Envoy accepts connections.
        startup_probe: Some(Probe {
            failure_threshold: Some(STARTUP_FAILURES),
            period_seconds: Some(READY_PERIOD_S),
            tcp_socket: Some(TCPSocketAction {
                host: None,
                port: IntOrString::String(PORTS[0].0.to_owned()),
            }),
            ..Probe::default()
        }),
        termination_message_policy: Some("FallbackToLogsOnError".to_owned()),
        volume_mounts: spec.tls.as_ref().map(|_| vec![mount("tls", TLS), mount("envoy", ENVOY)]),
        ..Container::default()
    }
}

fn mount(name: &str, path: &str) -> VolumeMount {
    VolumeMount {
        name: name.to_owned(),
        mount_path: path.to_owned(),
        read_only: Some(true),
        ..VolumeMount::default()
    }
}

fn arguments(config: String) -> Vec<String> {
    let flags = ["--log-level", "warning", "--concurrency", "2", "--disable-hot-restart", "--config-yaml"];
    flags.into_iter().map(str::to_owned).chain([config]).collect()
}

/// What the annotation says.
pub(crate) fn certificates(tls: &Tls) -> String {
    let file = |name: &str| json!({"filename": format!("{TLS}/{name}")});
    let renewed = json!({"path": TLS});
    let secret = |name: &str, kind: &str, of: Value| {
        let about = "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.Secret";
        json!({"@type": about, "name": name, kind: of})
    };
    let own = json!({"certificate_chain": file("tls.crt"), "private_key": file("tls.key"),
        "watched_directory": renewed});
    let mut resources = vec![secret("own", "tls_certificate", own)];
    if tls.client_certificates {
        let clients = json!({"trusted_ca": file("ca.crt"), "watched_directory": renewed});
        resources.push(secret("clients", "validation_context", clients));
    }
    json!({"resources": resources}).to_string()
}

fn config(part: &Part, tls: Option<&Tls>, envoy: &Envoy, facts: &Facts) -> Value {
    let listeners: Vec<Value> =
        PORTS[..2].iter().map(|(name, port)| listener(name, *port, tls, envoy)).collect();
    let clusters: Vec<Value> = PORTS[..2]
        .iter()
        .zip(BEHIND)
        .map(|((name, _), (_, port))| cluster(name, port, tls.is_some(), part, facts))
        .collect();
    json!({
        "node": {"id": part.name, "cluster": NODE_CLUSTER},
        "static_resources": {"listeners": listeners, "clusters": clusters},
    })
}

fn listener(name: &str, port: i32, tls: Option<&Tls>, envoy: &Envoy) -> Value {
    let about = "type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.\
                 HttpConnectionManager";
    let router = "type.googleapis.com/envoy.extensions.filters.http.router.v3.Router";
    // A prediction changes nothing, so it may be sent again to another pod.
    let retries = json!({
        "retry_on": "connect-failure,refused-stream,reset,retriable-status-codes",
        "retriable_status_codes": [503],
        "num_retries": envoy.retries,
        "retry_host_predicate": [{"name": "envoy.retry_host_predicates.previous_hosts", "typed_config": {
            "@type": "type.googleapis.com/envoy.extensions.retry.host.previous_hosts.v3.\
                      PreviousHostsPredicate"}}],
        "host_selection_retry_max_attempts": 5,
    });
    let route = json!({"match": {"prefix": "/"}, "route": {"cluster": name, "retry_policy": retries,
        "timeout": format!("{}s", envoy.timeout_s)}});
    let manager = json!({
        "@type": about,
        "stat_prefix": name,
        "codec_type": "AUTO",
        "use_remote_address": true,
        // Models have inputs and outputs of all sizes, and names of all kinds.
        "normalize_path": false,
        "http_filters": [{"name": "envoy.filters.http.router", "typed_config": {"@type": router}}],
        "route_config": {"virtual_hosts": [{"name": name, "domains": ["*"], "routes": [route]}]},
    });
    let mut chain = json!({
        "filters": [{"name": "envoy.filters.network.http_connection_manager", "typed_config": manager}],
    });
    if let Some(tls) = tls {
        chain["transport_socket"] = downstream(tls);
    }
    json!({
        "name": name,
        "address": {"socket_address": {"address": "0.0.0.0", "port_value": port}},
        "filter_chains": [chain],
    })
}

fn downstream(tls: &Tls) -> Value {
    let from_file = json!({"resource_api_version": "V3",
        "path_config_source": {"path": format!("{ENVOY}/{CERTIFICATES_FILE}")}});
    let mut common = json!({
        "alpn_protocols": ["h2", "http/1.1"],
        "tls_params": {"tls_minimum_protocol_version": "TLSv1_2"},
        "tls_certificate_sds_secret_configs": [{"name": "own", "sds_config": from_file}],
    });
    if tls.client_certificates {
        common["validation_context_sds_secret_config"] = json!({"name": "clients", "sds_config": from_file});
    }
    json!({
        "name": "envoy.transport_sockets.tls",
        "typed_config": {
            "@type": "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.DownstreamTlsContext",
            "require_client_certificate": tls.client_certificates,
            "common_tls_context": common,
        },
    })
}

/// Where requests go: to serving in the same pod and, except with TLS, which the way between pods does not
/// have, in all pods. The same pod is named by itself, since DNS may know of pods later than the Service.
fn cluster(name: &str, port: i32, is_alone: bool, part: &Part, facts: &Facts) -> Value {
    let (namespace, domain) = (&part.namespace, &facts.cluster_domain);
    let pods = || format!("{}.{namespace}.svc.{domain}", part.peers().name);
    let others = (!is_alone).then(pods);
    let endpoint = |address: String| {
        let address = json!({"socket_address": {"address": address, "port_value": port}});
        json!({"endpoint": {"address": address}})
    };
    let endpoints: Vec<Value> = ["127.0.0.1".to_owned()].into_iter().chain(others).map(endpoint).collect();
    let mut cluster = json!({
        "name": name,
        "type": "STRICT_DNS",
        "dns_refresh_rate": PODS_INTERVAL,
        "dns_lookup_family": "ALL",
        "connect_timeout": "1s",
        "lb_policy": "LEAST_REQUEST",
        "circuit_breakers": {"thresholds": [{"max_connections": MAX_REQUESTS,
            "max_pending_requests": MAX_REQUESTS, "max_requests": MAX_REQUESTS,
            "retry_budget": {"budget_percent": {"value": 20.0}, "min_retry_concurrency": 16}}]},
        "load_assignment": {"cluster_name": name, "endpoints": [{"lb_endpoints": endpoints}]},
    });
    if !is_alone {
        // 500 may be the fault of a request; 502 to 504 and broken connections are that of a pod.
        cluster["outlier_detection"] = json!({"consecutive_gateway_failure": 3,
            "enforcing_consecutive_gateway_failure": 100, "enforcing_consecutive_5xx": 0,
            "interval": "1s", "base_ejection_time": "5s", "max_ejection_percent": 50});
    }
    if name == PORTS[1].0 {
        cluster["typed_extension_protocol_options"] = json!({
            "envoy.extensions.upstreams.http.v3.HttpProtocolOptions": {
                "@type": "type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions",
                "explicit_http_config": {"http2_protocol_options": {}},
            },
        });
    }
    cluster
}
