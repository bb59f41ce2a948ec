//! The objects.

use k8s_openapi::api::apps::v1::{Deployment, DeploymentSpec, DeploymentStrategy, RollingUpdateDeployment};
use k8s_openapi::api::autoscaling::v2::HorizontalPodAutoscaler;
use k8s_openapi::api::core::v1::{PodTemplateSpec, Service, ServiceAccount, ServicePort, ServiceSpec};
use k8s_openapi::api::networking::v1::{
    Ingress, NetworkPolicy, NetworkPolicyIngressRule, NetworkPolicyPort, NetworkPolicySpec,
};
use k8s_openapi::api::policy::v1::{PodDisruptionBudget, PodDisruptionBudgetSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{LabelSelector, ObjectMeta};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use slipway_domain::Invalid;
use slipway_kubernetes_resources::model_deployment::{ModelDeployment, Placement, Spec};

use crate::container::PORTS;
use crate::edge::{self, GrpcRoute, HttpRoute, ServiceMonitor};
use crate::facts::Facts;
use crate::names::{POOL, POOLED_LABEL, identity, identity_of, labels, metadata};
use crate::scaling::Scale;
use crate::{pod, scaling, template};

/// Earlier templates of the pods that stay, for `kubectl rollout undo`.
const HISTORY: i32 = 2;
const TCP: &str = "TCP";
const WEB_PORT: i32 = 80;

/// All objects of a ModelDeployment. Each has its name.
#[derive(Debug, Clone, PartialEq)]
pub struct Objects {
    /// The account of the pods, where the spec names none.
    pub account: Option<ServiceAccount>,
    /// The pods.
    pub deployment: Deployment,
    /// Their address.
    pub service: Service,
    /// How many of them may be evicted at the same time.
    pub budget: PodDisruptionBudget,
    /// Who reaches them.
    pub policy: NetworkPolicy,
    /// What changes their number, where it may change.
    pub autoscaler: Option<HorizontalPodAutoscaler>,
    /// Whether there are to be pods at all, where their number is the autoscaler's.
    pub scale: Option<Scale>,
    /// How clients outside of the cluster reach them.
    pub ingress: Option<Ingress>,
    /// The same by the Gateway API, for REST.
    pub http_route: Option<HttpRoute>,
    /// The same for gRPC.
    pub grpc_route: Option<GrpcRoute>,
    /// What Prometheus is to scrape, where the cluster has this kind of object.
    pub service_monitor: ServiceMonitor,
}

/// The objects of a ModelDeployment.
///
/// # Errors
/// A value of one of Kubernetes' types is not one, or asks for privileges; names the field.
pub fn build(
    object: &ModelDeployment,
    spec: &Spec,
    facts: &Facts,
    placement: Placement,
) -> Result<Objects, Invalid> {
    let account = ServiceAccount {
        metadata: metadata(object),
        automount_service_account_token: Some(false),
        ..ServiceAccount::default()
    };
    Ok(Objects {
        account: spec.service_account.is_none().then_some(account),
        deployment: deployment(object, spec, facts, placement)?,
        service: service(object, placement),
        budget: budget(object),
        policy: policy(object),
        autoscaler: scaling::autoscaler(object, spec)?,
        scale: scaling::scale(spec, placement),
        ingress: edge::ingress(object, spec),
        http_route: edge::http_route(object, spec),
        grpc_route: edge::grpc_route(object, spec),
        service_monitor: edge::service_monitor(object),
    })
}

fn selected(object: &ModelDeployment) -> LabelSelector {
    LabelSelector { match_labels: Some(identity(object)), match_expressions: None }
}

fn deployment(
    object: &ModelDeployment,
    spec: &Spec,
    facts: &Facts,
    placement: Placement,
) -> Result<Deployment, Invalid> {
    let mut pod_labels = spec.pod_labels.clone();
    pod_labels.extend(labels(object));
    let template = PodTemplateSpec {
        metadata: Some(ObjectMeta {
            labels: Some(pod_labels),
            annotations: Some(pod::annotations(spec)),
            ..ObjectMeta::default()
        }),
        spec: Some(pod::spec(object, spec, facts)?),
    };
    let template = template::changed(object, spec, template, facts)?;
    // No pod goes before the one that replaces it answers.
    let update = RollingUpdateDeployment {
        max_surge: Some(IntOrString::Int(1)),
        max_unavailable: Some(IntOrString::Int(0)),
    };
    Ok(Deployment {
        metadata: metadata(object),
        spec: Some(DeploymentSpec {
            replicas: scaling::fixed(spec, placement),
            revision_history_limit: Some(HISTORY),
            selector: selected(object),
            strategy: Some(DeploymentStrategy {
                rolling_update: Some(update),
                type_: Some("RollingUpdate".to_owned()),
            }),
            template,
            ..DeploymentSpec::default()
        }),
        status: None,
    })
}

/// The Service leads to the pods, or to the pool. Port 80 is REST, too, for clients that name no port.
fn service(object: &ModelDeployment, placement: Placement) -> Service {
    let port = |name: &str, port: i32, target: &str| ServicePort {
        name: Some(name.to_owned()),
        // Which protocol it speaks, for meshes and gateways.
        app_protocol: (name == "grpc").then(|| "kubernetes.io/h2c".to_owned()),
        port,
        protocol: Some(TCP.to_owned()),
        target_port: Some(IntOrString::String(target.to_owned())),
        ..ServicePort::default()
    };
    let own = PORTS.map(|(name, number)| port(name, number, name));
    let ports = own.into_iter().chain([port("web", WEB_PORT, PORTS[0].0)]).collect();
    let mut metadata = metadata(object);
    if placement.is_pooled {
        metadata.labels.get_or_insert_default().insert(POOLED_LABEL.to_owned(), "true".to_owned());
    }
    Service {
        metadata,
        spec: Some(ServiceSpec {
            ports: Some(ports),
            selector: Some(if placement.is_pooled { identity_of(POOL) } else { identity(object) }),
            type_: Some("ClusterIP".to_owned()),
            ..ServiceSpec::default()
        }),
        status: None,
    }
}

fn budget(object: &ModelDeployment) -> PodDisruptionBudget {
    PodDisruptionBudget {
        metadata: metadata(object),
        spec: Some(PodDisruptionBudgetSpec {
            max_unavailable: Some(IntOrString::Int(1)),
            selector: Some(selected(object)),
            // A pod that does not answer may always be evicted.
            unhealthy_pod_eviction_policy: Some("AlwaysAllow".to_owned()),
            ..PodDisruptionBudgetSpec::default()
        }),
        status: None,
    }
}

fn policy(object: &ModelDeployment) -> NetworkPolicy {
    let port = |(_, port): (&str, i32)| NetworkPolicyPort {
        port: Some(IntOrString::Int(port)),
        protocol: Some(TCP.to_owned()),
        end_port: None,
    };
    let ingress = NetworkPolicyIngressRule { from: None, ports: Some(PORTS.into_iter().map(port).collect()) };
    NetworkPolicy {
        metadata: metadata(object),
        spec: Some(NetworkPolicySpec {
            ingress: Some(vec![ingress]),
            pod_selector: Some(selected(object)),
            policy_types: Some(vec!["Ingress".to_owned()]),
            ..NetworkPolicySpec::default()
        }),
    }
}
