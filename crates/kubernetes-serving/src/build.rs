//! The objects.

use k8s_openapi::api::apps::v1::{Deployment, DeploymentSpec, DeploymentStrategy, RollingUpdateDeployment};
use k8s_openapi::api::autoscaling::v2::HorizontalPodAutoscaler;
use k8s_openapi::api::core::v1::{PodTemplateSpec, Service, ServiceAccount, ServicePort, ServiceSpec};
use k8s_openapi::api::networking::v1::{
    Ingress, NetworkPolicy, NetworkPolicyIngressRule, NetworkPolicyPeer, NetworkPolicyPort, NetworkPolicySpec,
};
use k8s_openapi::api::policy::v1::{PodDisruptionBudget, PodDisruptionBudgetSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{LabelSelector, ObjectMeta};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use slipway_domain::Invalid;
use slipway_kubernetes_resources::model_deployment::{ModelDeployment, Placement, Spec};

use crate::edge::{self, GrpcRoute, HttpRoute, ServiceMonitor};
use crate::facts::Facts;
use crate::names::{
    POOL, POOLED_LABEL, Part, envoy_label, identity, identity_of, labels, metadata, version_name,
};
use crate::ports::{BEHIND, PORTS};
use crate::scaling::Scale;
use crate::situation::Situation;
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
    pub deployment: Option<Deployment>,
    /// Their address.
    pub service: Service,
    /// How many of them may be evicted at the same time.
    pub budget: Option<PodDisruptionBudget>,
    /// Who reaches them.
    pub policy: Option<NetworkPolicy>,
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
    pub service_monitor: Option<ServiceMonitor>,
}

impl Objects {
    /// A Service alone.
    const fn service(service: Service) -> Self {
        Self {
            account: None,
            deployment: None,
            service,
            budget: None,
            policy: None,
            autoscaler: None,
            scale: None,
            ingress: None,
            http_route: None,
            grpc_route: None,
            service_monitor: None,
        }
    }
}

/// The objects of a ModelDeployment. Where each version has pods of its own, these are [`build_version`]'s.
///
/// # Errors
/// A value of one of Kubernetes' types is not one, or asks for privileges; names the field.
pub fn build(
    object: &ModelDeployment,
    spec: &Spec,
    facts: &Facts,
    situation: &Situation,
) -> Result<Objects, Invalid> {
    let part = Part::from(object);
    let mut objects = build_part(&part, spec, facts, situation)?;
    if spec.is_separate() {
        (objects.deployment, objects.budget, objects.policy) = (None, None, None);
        (objects.autoscaler, objects.scale, objects.service_monitor) = (None, None, None);
        let first = situation.shares.first().map(|share| share.version.as_str());
        objects.service = service(&part, first, false);
    }
    Ok(objects)
}

/// The objects of one version of a ModelDeployment, where each version has pods of its own.
///
/// # Errors
/// As of [`build`].
pub fn build_version(
    object: &ModelDeployment,
    spec: &Spec,
    facts: &Facts,
    version: &str,
    situation: &Situation,
) -> Result<Objects, Invalid> {
    let mut spec = spec.clone();
    spec.env.insert("SLIPWAY_SERVING_ONLY_VERSION".to_owned(), version.to_owned());
    let objects = build_part(&Part::version(object, version), &spec, facts, situation)?;
    // The routes are those of all versions.
    Ok(Objects { ingress: None, http_route: None, grpc_route: None, ..objects })
}

/// The Service by which the Envoys of the pods of a ModelDeployment, or of one of its versions, find them
/// all.
pub fn build_peers(object: &ModelDeployment, version: Option<&str>) -> Objects {
    let of = match version {
        Some(version) => Part::version(object, version),
        None => Part::from(object),
    };
    let port = |(name, port): (&str, i32)| ServicePort {
        name: Some(name.to_owned()),
        port,
        protocol: Some(TCP.to_owned()),
        ..ServicePort::default()
    };
    let service = Service {
        metadata: metadata(&of.peers()),
        spec: Some(ServiceSpec {
            // Its name has the addresses of the pods.
            cluster_ip: Some("None".to_owned()),
            ports: Some(BEHIND.into_iter().map(port).collect()),
            // While pods are replaced, some have no Envoy and other ports.
            selector: Some(identity(&of).into_iter().chain([envoy_label()]).collect()),
            ..ServiceSpec::default()
        }),
        status: None,
    };
    Objects::service(service)
}

pub(crate) fn build_part(
    part: &Part,
    spec: &Spec,
    facts: &Facts,
    situation: &Situation,
) -> Result<Objects, Invalid> {
    let placement = situation.placement;
    let account = ServiceAccount {
        metadata: metadata(part),
        automount_service_account_token: Some(false),
        ..ServiceAccount::default()
    };
    Ok(Objects {
        account: spec.service_account.is_none().then_some(account),
        deployment: Some(deployment(part, spec, facts, placement)?),
        service: service(part, None, placement.is_pooled),
        budget: Some(budget(part)),
        policy: Some(policy(part, spec)),
        autoscaler: scaling::autoscaler(part, spec, situation)?,
        scale: scaling::scale(spec, situation),
        ingress: edge::ingress(part, spec),
        http_route: edge::http_route(part, spec, &situation.shares),
        grpc_route: edge::grpc_route(part, spec, &situation.shares),
        service_monitor: Some(edge::service_monitor(part)),
    })
}

fn selected(part: &Part) -> LabelSelector {
    LabelSelector { match_labels: Some(identity(part)), match_expressions: None }
}

fn deployment(part: &Part, spec: &Spec, facts: &Facts, placement: Placement) -> Result<Deployment, Invalid> {
    let mut pod_labels = spec.pod_labels.clone();
    pod_labels.extend(labels(part));
    pod_labels.extend(spec.envoy.as_ref().map(|_| envoy_label()));
    let template = PodTemplateSpec {
        metadata: Some(ObjectMeta {
            labels: Some(pod_labels),
            annotations: Some(pod::annotations(spec)),
            ..ObjectMeta::default()
        }),
        spec: Some(pod::spec(part, spec, facts)?),
    };
    let template = template::changed(part, spec, template, facts)?;
    // No pod goes before the one that replaces it answers.
    let update = RollingUpdateDeployment {
        max_surge: Some(IntOrString::Int(1)),
        max_unavailable: Some(IntOrString::Int(0)),
    };
    Ok(Deployment {
        metadata: metadata(part),
        spec: Some(DeploymentSpec {
            replicas: scaling::fixed(spec, placement),
            revision_history_limit: Some(HISTORY),
            selector: selected(part),
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

/// The Service leads to the pods, to those of one version, or to the pool. Port 80 is REST, too, for clients
/// that name no port.
fn service(part: &Part, version: Option<&str>, is_pooled: bool) -> Service {
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
    let mut metadata = metadata(part);
    if is_pooled {
        metadata.labels.get_or_insert_default().insert(POOLED_LABEL.to_owned(), "true".to_owned());
    }
    Service {
        metadata,
        spec: Some(ServiceSpec {
            ports: Some(ports),
            selector: Some(match version {
                _ if is_pooled => identity_of(POOL),
                Some(version) => identity_of(&version_name(&part.name, version)),
                None => identity(part),
            }),
            type_: Some("ClusterIP".to_owned()),
            ..ServiceSpec::default()
        }),
        status: None,
    }
}

fn budget(part: &Part) -> PodDisruptionBudget {
    PodDisruptionBudget {
        metadata: metadata(part),
        spec: Some(PodDisruptionBudgetSpec {
            max_unavailable: Some(IntOrString::Int(1)),
            selector: Some(selected(part)),
            // A pod that does not answer may always be evicted.
            unhealthy_pod_eviction_policy: Some("AlwaysAllow".to_owned()),
            ..PodDisruptionBudgetSpec::default()
        }),
        status: None,
    }
}

fn policy(part: &Part, spec: &Spec) -> NetworkPolicy {
    let port = |(_, port): (&str, i32)| NetworkPolicyPort {
        port: Some(IntOrString::Int(port)),
        protocol: Some(TCP.to_owned()),
        end_port: None,
    };
    let ingress = NetworkPolicyIngressRule { from: None, ports: Some(PORTS.into_iter().map(port).collect()) };
    // Behind Envoy, serving answers to the Envoys of the same pods alone.
    let peers = spec.envoy.as_ref().map(|_| NetworkPolicyIngressRule {
        from: Some(vec![NetworkPolicyPeer {
            pod_selector: Some(selected(part)),
            ..NetworkPolicyPeer::default()
        }]),
        ports: Some(BEHIND.into_iter().map(port).collect()),
    });
    NetworkPolicy {
        metadata: metadata(part),
        spec: Some(NetworkPolicySpec {
            ingress: Some([ingress].into_iter().chain(peers).collect()),
            pod_selector: Some(selected(part)),
            policy_types: Some(vec!["Ingress".to_owned()]),
            ..NetworkPolicySpec::default()
        }),
    }
}
