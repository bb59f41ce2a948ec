//! How clients reach the pods, and who may.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// Who may call the pods.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, ToSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Access {
    /// Whether callers need a token of the registry with a role on the model [default: the setting of all
    /// serving pods, SLIPWAY_AUTH].
    pub registry_tokens: Option<bool>,
    /// Secret whose key `tokens.json` lists further tokens and the deployments that each may call, as
    /// `slipway serving-tokens` writes it.
    pub tokens_secret: Option<String>,
}

/// TLS of the pods' ports for REST and gRPC.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Tls {
    /// Secret of the type `kubernetes.io/tls`: `tls.crt`, `tls.key`, and `ca.crt` for client certificates. A
    /// renewed certificate is used without a restart.
    pub secret_name: String,
    /// Whether clients must present a certificate that `ca.crt` has signed [default: false].
    #[serde(default)]
    pub client_certificates: bool,
}

/// Envoy in each pod, in front of serving: it distributes the requests of each connection over all pods,
/// sends one that fails to another pod, and leaves out pods that go on failing. With `tls`, Envoy has the
/// certificate, and each leads requests to its own pod alone.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Envoy {
    /// Image with `/usr/local/bin/envoy` [default: the operator's setting].
    pub image: Option<String>,
    /// How often a request that failed is sent again [default: 2].
    pub retries: u32,
    /// Time for an answer, attempts included, in seconds [default: 60].
    pub timeout_s: u32,
}

impl Default for Envoy {
    fn default() -> Self {
        Self { image: None, retries: 2, timeout_s: 60 }
    }
}

/// Routes of the Gateway API. Both kinds lead to the Service of the same name.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Route {
    /// Gateways that the routes are attached to.
    pub gateways: Vec<Gateway>,
    /// Host names of the HTTPRoute, for REST [default: no HTTPRoute].
    #[serde(default)]
    pub hostnames: Vec<String>,
    /// Host names of the GRPCRoute; a gateway accepts no name that is one of `hostnames`, too [default: no
    /// GRPCRoute].
    #[serde(default)]
    pub grpc_hostnames: Vec<String>,
}

/// A gateway of the Gateway API.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Gateway {
    /// Its name.
    pub name: String,
    /// Its namespace [default: that of this object].
    #[serde(default)]
    pub namespace: Option<String>,
    /// Name of one of its listeners [default: all that accept the route].
    #[serde(default)]
    pub section_name: Option<String>,
}

/// An Ingress to the REST port.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Ingress {
    /// Host name.
    pub host: String,
    /// IngressClass [default: that of the cluster].
    #[serde(default)]
    pub class_name: Option<String>,
    /// Secret with the certificate of the host [default: plain HTTP].
    #[serde(default)]
    pub tls_secret: Option<String>,
    /// Annotations, which ingress controllers read.
    #[serde(default)]
    pub annotations: BTreeMap<String, String>,
}
