//! Events: names of streams and subjects, and the body of each event.
//!
//! An event is a CloudEvent 1.0 in binary mode: attributes in NATS headers, the body as JSON. Its `type` is
//! its subject, `slipway.<service>.<entity>.<what-happened>`.

pub mod asyncapi;
pub mod catalog;

use serde::{Deserialize, Serialize, de::DeserializeOwned};

/// JetStream stream that holds every event but predictions and labels.
pub const EVENTS_STREAM: &str = "SLIPWAY_EVENTS";
/// Subjects of [`EVENTS_STREAM`].
pub const EVENTS_SUBJECTS: [&str; 6] = [
    "slipway.registry.>",
    "slipway.launcher.>",
    "slipway.rollout-controller.>",
    "slipway.drift-monitor.>",
    "slipway.serving.version.>",
    "slipway.serving.call.>",
];

/// A fact worth telling: the body knows the subject it is published on.
pub trait EventBody: Serialize + DeserializeOwned + Send + Sync + 'static {
    /// The event's subject, which is also its CloudEvents `type`.
    fn subject(&self) -> String;
    /// What the event is about: the CloudEvents `subject`, e.g. `cancer/3`.
    fn entity(&self) -> String;
}

/// A change of something in the registry.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RegistryChange {
    /// `experiment`, `run`, `model-version` and so on; [`catalog`] lists them.
    pub entity: String,
    /// `created`, `updated`, `deleted` and so on.
    pub what: String,
    /// Id or name of the changed thing, e.g. a run id, `cancer`, `cancer/3`, `cancer@champion`.
    pub id: String,
    /// Facts about the change, by entity; [`catalog`] describes them.
    #[serde(default)]
    pub details: serde_json::Value,
}

impl EventBody for RegistryChange {
    fn subject(&self) -> String {
        format!("slipway.registry.{}.{}", self.entity, self.what)
    }
    fn entity(&self) -> String {
        self.id.clone()
    }
}

/// Services that publish [`ServiceCall`]s, which the registry takes into its audit trail as
/// `slipway.registry.call.*`.
pub const CALLED_SERVICES: [&str; 4] = ["launcher", "serving", "rollout-controller", "drift-monitor"];

/// Outcome of a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum CallOutcome {
    /// The service handled it; the status says with which result.
    Answered,
    /// Access control refused it.
    Refused,
    /// Not a call: the number of calls that were not recorded, because the queue was full or there were too
    /// many refused ones.
    Omitted,
}

/// Numbers of calls that were not recorded.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct OmittedCalls {
    /// Calls that were answered and may have changed something.
    pub answered: u64,
    /// Refused calls.
    pub refused: u64,
    /// Unix time in milliseconds of the first of them.
    pub since_unix_ms: u64,
}

impl CallOutcome {
    /// The name, which is also the last part of the subject.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Answered => "answered",
            Self::Refused => "refused",
            Self::Omitted => "omitted",
        }
    }
}

/// A call of a service that access control refused, or that may have changed something; only with access
/// control on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct ServiceCall {
    /// The service, e.g. `launcher`.
    pub service: String,
    /// Outcome of the call.
    pub outcome: CallOutcome,
    /// The caller; `anonymous` without a valid credential.
    pub principal: String,
    /// What proved the name, e.g. `token:0123456789abcdef`; empty without a proof.
    pub credential: String,
    /// The caller's IP address; empty if unknown.
    pub origin: String,
    /// HTTP method.
    pub method: String,
    /// Path, or `/package.Service/Method` of gRPC.
    pub path: String,
    /// HTTP status of the response; 200 where the service records a call before it is handled.
    pub status: u16,
    /// Why it was refused; empty otherwise.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub reason: String,
    /// Unix time in milliseconds.
    pub at_unix_ms: u64,
    /// With the outcome `omitted`: how many calls are missing from the trail.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub omitted: Option<OmittedCalls>,
}

impl EventBody for ServiceCall {
    fn subject(&self) -> String {
        format!("slipway.{}.call.{}", self.service, self.outcome.name())
    }
    fn entity(&self) -> String {
        self.name()
    }
}

impl ServiceCall {
    /// What it is called in the audit trail: service, method and path; the service alone for calls that were
    /// omitted.
    pub fn name(&self) -> String {
        match self.outcome {
            CallOutcome::Omitted => self.service.clone(),
            CallOutcome::Answered | CallOutcome::Refused => {
                format!("{} {} {}", self.service, self.method, self.path)
            }
        }
    }

    /// Says how many calls of a service are missing from the trail.
    pub fn omitted(service: &str, omitted: OmittedCalls, at_unix_ms: u64) -> Self {
        let OmittedCalls { answered, refused, .. } = omitted;
        Self {
            service: service.to_owned(),
            outcome: CallOutcome::Omitted,
            principal: "system".to_owned(),
            credential: String::new(),
            origin: String::new(),
            method: String::new(),
            path: String::new(),
            status: 0,
            reason: format!("{answered} answered and {refused} refused calls are not in the audit trail"),
            at_unix_ms,
            omitted: Some(omitted),
        }
    }
}

/// Subject on which [`AliasSet`] arrives.
pub const ALIAS_SET: &str = "slipway.registry.alias.set";
/// Subject on which [`ModelRenamed`] arrives.
pub const MODEL_RENAMED: &str = "slipway.registry.model.renamed";
/// Subject on which [`DriftDetected`] arrives.
pub const DRIFT_DETECTED: &str = "slipway.drift-monitor.drift.detected";

/// An alias was set. Also published where it points at the same version as before; see
/// [`AliasSet::unchanged`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct AliasSet {
    /// Registered model.
    pub model: String,
    /// The alias, e.g. `champion`.
    pub alias: String,
    /// The version that it points at now.
    pub version: String,
    /// Whether it pointed at this version before: it was set again without being moved.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub unchanged: bool,
    /// Identity of the registered model, which a rename does not change; empty in events of older releases.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub model_id: String,
}

impl EventBody for AliasSet {
    fn subject(&self) -> String {
        ALIAS_SET.to_owned()
    }
    fn entity(&self) -> String {
        format!("{}@{}", self.model, self.alias)
    }
}

/// A registered model has another name. Its versions, aliases and files are the same.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct ModelRenamed {
    /// Identity of the registered model, which does not change.
    pub model_id: String,
    /// Name before.
    pub from: String,
    /// Name now.
    pub to: String,
    /// Grows by one with each rename of the model, so that consumers can drop an older rename that arrives
    /// late.
    pub name_revision: u32,
}

impl EventBody for ModelRenamed {
    fn subject(&self) -> String {
        MODEL_RENAMED.to_owned()
    }
    fn entity(&self) -> String {
        self.to.clone()
    }
}

/// A training job changed its status, or a checkpoint of it was committed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct JobChange {
    /// Job id.
    pub job_id: String,
    /// The job's name, as submitted.
    pub name: String,
    /// `submitted`, `started`, `retrying`, `suspended`, `resumed`, `succeeded`, `failed` or `cancelled`.
    pub what: String,
    /// Attempt number, from 1; 0 before the first.
    pub attempt: u32,
    /// Why, for people; empty where there is nothing to explain.
    #[serde(default)]
    pub reason: String,
}

impl EventBody for JobChange {
    fn subject(&self) -> String {
        format!("slipway.launcher.job.{}", self.what)
    }
    fn entity(&self) -> String {
        self.job_id.clone()
    }
}

/// A checkpoint is complete and will be restored by the next attempt.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct CheckpointCommitted {
    /// Job id.
    pub job_id: String,
    /// Attempt that wrote it.
    pub attempt: u32,
    /// Training step that it holds.
    pub step: u64,
    /// Object key of its manifest.
    pub manifest_key: String,
}

impl EventBody for CheckpointCommitted {
    fn subject(&self) -> String {
        "slipway.launcher.checkpoint.committed".to_owned()
    }
    fn entity(&self) -> String {
        format!("{}/{}", self.job_id, self.step)
    }
}

/// A deployment was created, changed or deleted.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, utoipa::ToSchema)]
pub struct DeploymentChange {
    /// Deployment name.
    pub deployment: String,
    /// Registered model bound to it.
    pub model: String,
    /// `created`, `updated`, `killed`, `deleted` and so on; [`catalog`] lists them.
    pub what: String,
    /// Id of the deployment; unlike its name, never reused.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub deployment_id: String,
    /// For `killed` and `revived`: mode of the kill switch, `stable-only` or `refuse`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mode: Option<String>,
    /// Why, where a reason was given; what a drill rehearses, or its result.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// Who made the change; see [`Actor`]. Absent where the controller acted automatically.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub actor: Option<Actor>,
    /// For `updated`: names of the fields that changed.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub changed: Vec<String>,
    /// For `alias-moved`: outcome of the move of the watched alias.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub alias_move: Option<AliasMove>,
}

/// Who made a change through the rollout controller's API.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Actor {
    /// Value of the request's `X-Slipway-Actor` header, which is not authenticated; `anonymous` if unset.
    pub name: String,
    /// IP address of the client; empty if unknown.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub origin: String,
}

/// Outcome of the last move of an alias that a deployment watches.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct AliasMove {
    /// The alias.
    pub alias: String,
    /// The version that it was pointed at.
    pub version: String,
    /// Outcome.
    pub outcome: AliasOutcome,
    /// Why, in one sentence; with the way to try again where nothing was rolled out.
    pub reason: String,
    /// The rollout that was started, is in progress, or was aborted by the move.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rollout_id: Option<String>,
    /// When the controller handled the move, Unix time in milliseconds.
    pub at_unix_ms: u64,
}

/// See [`AliasMove`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "kebab-case")]
pub enum AliasOutcome {
    /// A rollout of the version was started.
    RolloutStarted,
    /// The alias returned to the version that served before: the rollout in progress was aborted.
    RolloutAborted,
    /// The version is stable already.
    AlreadyStable,
    /// A rollout of the version is in progress already.
    InProgress,
    /// The kill switch is on: the rollout starts when it is turned off.
    Pending,
    /// The newest rollout of the version ended without promotion and the alias was set again without being
    /// moved: not retried automatically.
    NotRetried,
    /// The version cannot be served.
    NotServable,
}

impl AliasOutcome {
    /// The name that JSON carries.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::RolloutStarted => "rollout-started",
            Self::RolloutAborted => "rollout-aborted",
            Self::AlreadyStable => "already-stable",
            Self::InProgress => "in-progress",
            Self::Pending => "pending",
            Self::NotRetried => "not-retried",
            Self::NotServable => "not-servable",
        }
    }
}

impl EventBody for DeploymentChange {
    fn subject(&self) -> String {
        format!("slipway.rollout-controller.deployment.{}", self.what)
    }
    fn entity(&self) -> String {
        self.deployment.clone()
    }
}

/// A rollout changed its state.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct RolloutChange {
    /// Rollout id.
    pub rollout_id: String,
    /// Deployment name.
    pub deployment: String,
    /// Registered model.
    pub model: String,
    /// `started`, `preparing`, `advanced`, `paused`, `resumed`, `promoted`, `rolled-back`, `failed` or
    /// `aborted`.
    pub what: String,
    /// Version that served before; absent at the first deployment.
    pub from_version: Option<String>,
    /// Version being rolled out.
    pub to_version: String,
    /// Share of traffic that the new version has now, in percent.
    pub weight_percent: u8,
    /// Why it was decided.
    pub reason: String,
    /// Who asked for it; absent where the controller decided automatically.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub actor: Option<Actor>,
}

impl EventBody for RolloutChange {
    fn subject(&self) -> String {
        format!("slipway.rollout-controller.rollout.{}", self.what)
    }
    fn entity(&self) -> String {
        self.rollout_id.clone()
    }
}

/// Subject on which [`JoiningStopped`] arrives.
pub const JOINING_STOPPED: &str = "slipway.serving.version.joining-stopped";

/// A replica of serving no longer joins requests of a version: an answer of a joined run differed from that
/// of the request alone.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct JoiningStopped {
    /// Replica of serving.
    pub replica_id: String,
    /// Deployment name.
    pub deployment: String,
    /// Registered model.
    pub model: String,
    /// Version number.
    pub version: String,
    /// Output that differs; empty where its number of rows does.
    pub output: String,
    /// Element of the request's part of the output, in row-major order from 0.
    pub element: u64,
    /// What the joined run answered there.
    pub joined: String,
    /// What the request is answered alone.
    pub alone: String,
    /// Rows of the joined run.
    pub run_rows: u64,
    /// Rows of the request.
    pub request_rows: u64,
}

impl EventBody for JoiningStopped {
    fn subject(&self) -> String {
        JOINING_STOPPED.to_owned()
    }
    fn entity(&self) -> String {
        format!("{}/{}", self.model, self.version)
    }
}

/// A monitor was created, changed or deleted, or its baseline became available or unavailable.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct MonitorChange {
    /// Monitor name.
    pub monitor: String,
    /// Deployment that it watches.
    pub deployment: String,
    /// `created`, `updated`, `deleted`, `suspended` or `resumed`.
    pub what: String,
    /// For `suspended` and `resumed`: why.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub reason: String,
}

impl EventBody for MonitorChange {
    fn subject(&self) -> String {
        format!("slipway.drift-monitor.monitor.{}", self.what)
    }
    fn entity(&self) -> String {
        self.monitor.clone()
    }
}

/// A window of predictions was scored.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct WindowClosed {
    /// Monitor name.
    pub monitor: String,
    /// Deployment that it watches.
    pub deployment: String,
    /// Window number within the monitor, from 1.
    pub window: u64,
    /// Rows in the window.
    pub rows: u64,
    /// Whether the window alone counts as drifted.
    pub drifted: bool,
    /// Share of features that drifted, 0 to 1.
    pub share_drifted: f64,
    /// Why it counts as drifted.
    #[serde(default)]
    pub reasons: Vec<String>,
    /// Answered rows whose records were gone from the stream before they were read.
    #[serde(default)]
    pub rows_lost: u64,
    /// Answered rows whose records a serving process dropped.
    #[serde(default)]
    pub rows_dropped: u64,
    /// Answered rows of requests too large to record whole.
    #[serde(default)]
    pub rows_not_recorded: u64,
}

impl EventBody for WindowClosed {
    fn subject(&self) -> String {
        "slipway.drift-monitor.window.closed".to_owned()
    }
    fn entity(&self) -> String {
        format!("{}/{}", self.monitor, self.window)
    }
}

/// Drift began or widened ([`DRIFT_DETECTED`]), or ended.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct DriftDetected {
    /// Monitor name.
    pub monitor: String,
    /// Deployment that it watches.
    pub deployment: String,
    /// Registered model.
    pub model: String,
    /// Version whose training data was compared with.
    pub baseline_version: String,
    /// `detected` or `cleared`.
    pub what: String,
    /// Windows that led to the verdict, oldest first.
    pub windows: Vec<u64>,
    /// Whether drift had been detected before, and `parts` drift in addition.
    #[serde(default)]
    pub further: bool,
    /// What drifts: `feature age`, `prediction label` or `repeated rows`; of a verdict about more than 100,
    /// the first.
    #[serde(default)]
    pub parts: Vec<String>,
    /// Scores of the last of these windows: the evidence.
    #[schema(value_type = Object)]
    pub evidence: serde_json::Value,
}

impl EventBody for DriftDetected {
    fn subject(&self) -> String {
        format!("slipway.drift-monitor.drift.{}", self.what)
    }
    fn entity(&self) -> String {
        self.monitor.clone()
    }
}
