//! How clients outside of the cluster reach the pods, and how Prometheus does.
//!
//! Sources: <https://gateway-api.sigs.k8s.io/reference/spec/>,
//! <https://prometheus-operator.dev/docs/api-reference/api/#monitoring.coreos.com/v1.ServiceMonitor>.

use k8s_openapi::api::networking::v1::{
    HTTPIngressPath, HTTPIngressRuleValue, Ingress, IngressBackend, IngressRule, IngressServiceBackend,
    IngressSpec, IngressTLS, ServiceBackendPort,
};
use serde_json::{Value, json};
use slipway_kubernetes_resources::model_deployment::{self, Gateway, Route, Share, Spec};
use slipway_kubernetes_resources::{Kind, NotRead, Object};

use crate::names::{Part, identity, metadata, version_name};
use crate::ports::PORTS;

/// A kind of another project.
macro_rules! foreign {
    (
        $(#[$documented:meta])*
        $kind:ident, $object:ident, $name:literal, $plural:literal, $group:literal, $version:literal
    ) => {
        $(#[$documented])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
        pub struct $kind;

        impl Kind for $kind {
            const GROUP: &'static str = $group;
            const VERSION: &'static str = $version;
            const API_VERSION: &'static str = concat!($group, "/", $version);
            const KIND: &'static str = $name;
            const PLURAL: &'static str = $plural;
            const FINALIZER: &'static str = "";
            const IS_OWN: bool = false;
            type Status = NotRead;
        }

        $(#[$documented])*
        pub type $object = Object<$kind>;
    };
}
foreign!(
    /// A route for REST, of the Gateway API.
    HttpRouteKind, HttpRoute, "HTTPRoute", "httproutes", "gateway.networking.k8s.io", "v1"
);
foreign!(
    /// A route for gRPC, of the Gateway API.
    GrpcRouteKind, GrpcRoute, "GRPCRoute", "grpcroutes", "gateway.networking.k8s.io", "v1"
);
foreign!(
    /// What the Prometheus Operator is to scrape.
    ServiceMonitorKind, ServiceMonitor, "ServiceMonitor", "servicemonitors", "monitoring.coreos.com", "v1"
);

/// The route for REST, where there are host names for it.
pub(crate) fn http_route(part: &Part, spec: &Spec, shares: &[Share]) -> Option<HttpRoute> {
    let route = spec.route.as_ref().filter(|route| !route.hostnames.is_empty())?;
    let rules = json!([{
        "matches": [{"path": {"type": "PathPrefix", "value": "/"}}],
        "backendRefs": backends(part, PORTS[0].1, shares),
    }]);
    let spec = routed(route, &route.hostnames, rules);
    Some(HttpRoute { metadata: metadata(part), spec, status: NotRead {} })
}

/// The route for gRPC, where there are host names for it.
pub(crate) fn grpc_route(part: &Part, spec: &Spec, shares: &[Share]) -> Option<GrpcRoute> {
    let route = spec.route.as_ref().filter(|route| !route.grpc_hostnames.is_empty())?;
    let spec =
        routed(route, &route.grpc_hostnames, json!([{"backendRefs": backends(part, PORTS[1].1, shares)}]));
    Some(GrpcRoute { metadata: metadata(part), spec, status: NotRead {} })
}

/// The Service, or those of the versions with the share of each.
fn backends(part: &Part, port: i32, shares: &[Share]) -> Value {
    if shares.is_empty() {
        return json!([{"name": part.name, "port": port}]);
    }
    let backend = |Share { version, percent }: &Share| {
        let name = version_name(&part.name, version);
        json!({"name": name, "port": port, "weight": percent})
    };
    shares.iter().map(backend).collect()
}

fn routed(route: &Route, hostnames: &[String], rules: Value) -> Value {
    let parent = |gateway: &Gateway| {
        let mut parent = json!({"name": gateway.name});
        if let Some(namespace) = &gateway.namespace {
            parent["namespace"] = json!(namespace);
        }
        if let Some(section) = &gateway.section_name {
            parent["sectionName"] = json!(section);
        }
        parent
    };
    let parents: Vec<Value> = route.gateways.iter().map(parent).collect();
    json!({"parentRefs": parents, "hostnames": hostnames, "rules": rules})
}

/// What Prometheus is to scrape.
pub(crate) fn service_monitor(part: &Part) -> ServiceMonitor {
    let spec = json!({
        "selector": {"matchLabels": identity(part)},
        "endpoints": [{"port": "metrics", "path": "/metrics"}],
    });
    ServiceMonitor { metadata: metadata(part), spec, status: NotRead {} }
}

/// The Ingress, where one is asked for.
pub(crate) fn ingress(part: &Part, spec: &Spec) -> Option<Ingress> {
    let model_deployment::Ingress { host, class_name, tls_secret, annotations } = spec.ingress.as_ref()?;
    let port = ServiceBackendPort { number: Some(PORTS[0].1), name: None };
    let service = IngressServiceBackend { name: part.name.clone(), port: Some(port) };
    let path = HTTPIngressPath {
        backend: IngressBackend { service: Some(service), resource: None },
        path: Some("/".to_owned()),
        path_type: "Prefix".to_owned(),
    };
    let rule =
        IngressRule { host: Some(host.clone()), http: Some(HTTPIngressRuleValue { paths: vec![path] }) };
    let tls = tls_secret
        .as_ref()
        .map(|secret| IngressTLS { hosts: Some(vec![host.clone()]), secret_name: Some(secret.clone()) });
    let mut metadata = metadata(part);
    metadata.annotations = Some(annotations.clone()).filter(|annotations| !annotations.is_empty());
    Some(Ingress {
        metadata,
        spec: Some(IngressSpec {
            ingress_class_name: class_name.clone(),
            rules: Some(vec![rule]),
            tls: tls.map(|tls| vec![tls]),
            default_backend: None,
        }),
        status: None,
    })
}
