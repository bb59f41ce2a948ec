//! The traffic table of a deployment.

use serde::{Deserialize, Serialize};
use slipway_domain::traffic as domain;
use utoipa::ToSchema;

use crate::rest::convert::{each, mirror, mirror_enum};

/// A version of the deployment's model, pinned to its bytes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Target {
    /// Version in the registry.
    pub version: String,
    /// `sha256:<hex>` of the version's manifest.
    pub digest: String,
}

/// A candidate and its share of the traffic.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Weighted {
    /// The candidate.
    pub target: Target,
    /// Its percentage of all requests.
    pub weight_percent: u8,
}

/// A version that receives copies of requests; its answers are not returned to clients.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Shadow {
    /// The shadow.
    pub target: Target,
    /// Percentage of the requests that are copied to it.
    pub sample_percent: u8,
}

/// The part of a request that identifies a client, which stays on one version during a rollout.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct StickyKey {
    /// HTTP header, or gRPC metadata key.
    #[schema(example = "x-user-id")]
    pub header: String,
}

/// Whether a rule routes to the stable version or to the candidate.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum Variant {
    /// The stable version.
    Stable,
    /// The candidate, while there is one.
    Candidate,
}

/// Routes requests to a version by their headers, whatever the weights.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Rule {
    /// Display name.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub name: String,
    /// Conditions, all of which must be met.
    pub when: Vec<Condition>,
    /// Version that answers.
    pub to: Variant,
}

/// A condition on a header. Without `one_of` and `prefix`, the header must be present and not empty.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Condition {
    /// HTTP header, gRPC metadata key, or request parameter.
    #[schema(example = "x-tenant")]
    pub header: String,
    /// Values, one of which it must have.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub one_of: Vec<String>,
    /// Prefix that it must have.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub prefix: Option<String>,
}

/// What an active kill switch stops.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
pub enum KillMode {
    /// Candidates and shadows: the stable version answers every request.
    #[default]
    StableOnly,
    /// All versions: every request is rejected.
    Refuse,
}

/// An active kill switch.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct KillSwitch {
    /// What it stops.
    pub mode: KillMode,
    /// Why it was activated.
    #[serde(default)]
    pub reason: String,
}

/// What the serving pool does for a deployment that scales to zero.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum Pool {
    /// It answers; the deployment has no replicas of its own.
    Answering,
    /// It answers until the deployment's own replicas are ready.
    Waking,
    /// It answers clients that are still connected to it.
    Leaving,
}

/// Which versions of a deployment receive which requests.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct TrafficTable {
    /// Deployment.
    pub deployment: String,
    /// ID of the deployment.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deployment_id: Option<String>,
    /// Registered model.
    pub model: String,
    /// Increases by one with each change.
    pub revision: u64,
    /// Receives the traffic that the candidates leave.
    pub stable: Option<Target>,
    /// Candidates and their weights.
    pub candidates: Vec<Weighted>,
    /// Versions that receive copies.
    pub shadows: Vec<Shadow>,
    /// Versions that stay loaded without traffic.
    pub warm: Vec<Target>,
    /// If absent, each request is drawn independently.
    pub sticky_key: Option<StickyKey>,
    /// Rules; the first one that matches decides.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub rules: Vec<Rule>,
    /// Present while the kill switch is active.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kill_switch: Option<KillSwitch>,
    /// Output that holds the prediction [default: the first output of integers, strings or booleans, else the
    /// first].
    pub prediction_output: Option<String>,
    /// Whether only serving replicas that name this deployment in `--deployments` answer for it.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub dedicated: bool,
    /// What the serving pool does for the deployment while it has scaled to zero; absent: nothing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pool: Option<Pool>,
    /// W3C trace context of the last change.
    pub traceparent: Option<String>,
    /// When the last change was decided, Unix time in milliseconds.
    pub decided_at_unix_ms: u64,
}

mirror!(Target = domain::Target { version, digest });
mirror!(Weighted = domain::Weighted { target, weight_percent });
mirror!(Shadow = domain::Shadow { target, sample_percent });
mirror!(StickyKey = domain::StickyKey { header });
mirror!(Condition = domain::Condition { header, one_of, prefix });
mirror!(KillSwitch = domain::KillSwitch { mode, reason });
mirror_enum!(Pool = domain::Pool { Answering, Waking, Leaving });
mirror_enum!(Variant = domain::Variant { Stable, Candidate });
mirror_enum!(KillMode = domain::KillMode { StableOnly, Refuse });

impl From<domain::Rule> for Rule {
    fn from(domain::Rule { name, when, to }: domain::Rule) -> Self {
        Self { name, when: each(when), to: to.into() }
    }
}

impl From<Rule> for domain::Rule {
    fn from(Rule { name, when, to }: Rule) -> Self {
        Self { name, when: each(when), to: to.into() }
    }
}

impl From<domain::TrafficTable> for TrafficTable {
    fn from(table: domain::TrafficTable) -> Self {
        Self {
            deployment: table.deployment,
            deployment_id: table.deployment_id,
            model: table.model,
            revision: table.revision,
            stable: table.stable.map(Target::from),
            candidates: each(table.candidates),
            shadows: each(table.shadows),
            warm: each(table.warm),
            sticky_key: table.sticky_key.map(StickyKey::from),
            rules: each(table.rules),
            kill_switch: table.kill_switch.map(KillSwitch::from),
            prediction_output: table.prediction_output,
            dedicated: table.dedicated,
            pool: table.pool.map(Pool::from),
            traceparent: table.traceparent,
            decided_at_unix_ms: table.decided_at_unix_ms,
        }
    }
}
