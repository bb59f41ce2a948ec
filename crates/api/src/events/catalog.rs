//! Every event that there is, with the schema of its body: what docs/events/asyncapi.json is made of, and
//! what tests hold publishers to.
//!
//! A caller that publishes a new event adds a line here.

use std::collections::BTreeMap;
use std::sync::LazyLock;

use serde_json::{Map, Value, json};
use utoipa::ToSchema;
use utoipa::openapi::{RefOr, Schema};

use super::{
    ALIAS_SET, AliasSet, CALLED_SERVICES, CallOutcome, CheckpointCommitted, DeploymentChange, DriftDetected,
    JOINING_STOPPED, JobChange, JoiningStopped, MODEL_RENAMED, ModelRenamed, MonitorChange, RolloutChange,
    ServiceCall, WindowClosed,
};
use crate::prediction_columns::Batch;
use crate::predictions::{LABELS_SUBJECT, LabelRecord, PREDICTIONS_SUBJECT};

/// One kind of event.
#[derive(Debug, Clone)]
pub struct Entry {
    /// NATS subject and CloudEvents `type`.
    pub subject: String,
    /// What it tells, in one sentence.
    pub summary: &'static str,
    /// JSON Schema (2020-12) of the body; references lead into [`Catalog::schemas`].
    pub data: Value,
}

/// All of them.
#[derive(Debug, Default)]
pub struct Catalog {
    /// By subject.
    pub entries: BTreeMap<String, Entry>,
    /// Schemas that bodies refer to as `#/components/schemas/<name>`.
    pub schemas: Map<String, Value>,
}

/// What a field of a registry event's `details` holds. Every one may be absent.
#[derive(Debug, Clone, Copy)]
enum Kind {
    Text,
    MaybeText,
    Number,
    MaybeNumber,
    Flag,
    Texts,
    Things,
    Thing,
}

impl Kind {
    fn schema(self) -> Value {
        match self {
            Self::Text => json!({"type": "string"}),
            Self::MaybeText => json!({"type": ["string", "null"]}),
            Self::Number => json!({"type": "integer"}),
            Self::MaybeNumber => json!({"type": ["integer", "null"]}),
            Self::Flag => json!({"type": "boolean"}),
            Self::Texts => json!({"type": "array", "items": {"type": "string"}}),
            Self::Things => json!({"type": ["array", "null"]}),
            Self::Thing => json!({"type": ["object", "null"]}),
        }
    }
}

use Kind::{Flag, MaybeNumber, MaybeText, Number, Text, Texts, Thing, Things};

type Details = &'static [(&'static str, Kind)];

/// Entity, what happened, what that means, and its details.
const REGISTRY: &[(&str, &str, &str, Details)] = &[
    ("experiment", "created", "An experiment was created.", &[("name", Text)]),
    (
        "experiment",
        "updated",
        "An experiment was renamed, or one of its tags changed.",
        &[("name", Text), ("tag", Text)],
    ),
    ("experiment", "deleted", "An experiment was deleted; it may be restored.", &[("name", Text)]),
    ("experiment", "restored", "A deleted experiment was restored.", &[("name", Text)]),
    ("experiment", "purged", "A deleted experiment was purged.", &[]),
    ("run", "created", "A run began.", &[("experiment_id", Text), ("run_name", Text)]),
    ("run", "updated", "The status or the name of a run changed.", &[("status", Text), ("run_name", Text)]),
    (
        "run",
        "logged",
        "Values were logged to a run; the details have the keys, not the values. Concurrent requests may \
         share one event.",
        &[
            ("metrics", Texts),
            ("params", Texts),
            ("tags", Texts),
            ("datasets", Texts),
            ("model_inputs", Texts),
            ("model_outputs", Texts),
        ],
    ),
    ("run", "tagged", "Tags of a run changed.", &[("tags", Texts), ("metrics", Texts), ("params", Texts)]),
    (
        "run",
        "deleted",
        "A run was deleted; it may be restored.",
        &[("retention_rule", Text), ("reason", Text)],
    ),
    ("run", "restored", "A deleted run was restored.", &[]),
    ("run", "purged", "A deleted run was purged.", &[("files", Number), ("size_bytes", Number)]),
    (
        "logged-model",
        "created",
        "A run created a logged model.",
        &[("name", Text), ("source_run_id", MaybeText)],
    ),
    (
        "logged-model",
        "finalized",
        "A logged model was finalized: its files are complete, or it failed.",
        &[("status", Text)],
    ),
    (
        "logged-model",
        "updated",
        "Tags or params of a logged model changed.",
        &[("tags", Texts), ("params", Texts)],
    ),
    ("logged-model", "deleted", "A logged model was deleted.", &[]),
    (
        "logged-model",
        "purged",
        "A deleted logged model was purged.",
        &[("files", Number), ("size_bytes", Number)],
    ),
    (
        "model",
        "created",
        "A registered model was created. Long texts are omitted.",
        &[("description", MaybeText), ("tags", Thing)],
    ),
    (
        "model",
        "updated",
        "A registered model was renamed or described, or its tags or policies changed.",
        &[("renamed_from", Text), ("tags", Texts), ("policy", Text), ("rules", Things)],
    ),
    (
        "model",
        "deleted",
        "A registered model was deleted with its versions; with `forced`, although these deployments serve \
         it.",
        &[("forced", Flag), ("deployments", Texts)],
    ),
    (
        "model-version",
        "created",
        "A version was registered: its files are pinned. Long texts are omitted.",
        &[
            ("model", Text),
            ("version", Text),
            ("source", MaybeText),
            ("description", MaybeText),
            ("tags", Thing),
            ("digest", Text),
            ("run_id", MaybeText),
            ("servable", Flag),
            ("unservable_reason", MaybeText),
            ("scan", MaybeText),
        ],
    ),
    (
        "model-version",
        "updated",
        "The stage, the description or tags of a version changed.",
        &[
            ("stage", Text),
            ("description", MaybeText),
            ("tags", Texts),
            ("tag_set", Thing),
            ("tag_deleted", Text),
            ("retention_rule", Text),
            ("reason", Text),
        ],
    ),
    (
        "model-version",
        "deleted",
        "A version was deleted; with `forced`, although these deployments serve it.",
        &[
            ("model", Text),
            ("version", Text),
            ("retention_rule", Text),
            ("reason", Text),
            ("forced", Flag),
            ("deployments", Texts),
        ],
    ),
    (
        "model-version",
        "unservable",
        "A version was registered that serving cannot load.",
        &[("model", Text), ("version", Text), ("reason", Text)],
    ),
    (
        "model-version",
        "signed",
        "A signature was attached to a version; the details have its verification with the currently trusted \
         keys.",
        &[
            ("model", Text),
            ("version", Text),
            ("digest", Text),
            ("state", Text),
            ("key", MaybeText),
            ("signer", MaybeText),
        ],
    ),
    (
        "model-version",
        "signature-removed",
        "The attached signature of a version was removed.",
        &[("model", Text), ("version", Text), ("state", Text)],
    ),
    ("signing-key", "set", "A trusted key was stored.", &[("kind", Text), ("fingerprints", Texts)]),
    ("signing-key", "deleted", "A trusted key was removed.", &[]),
    (
        "report",
        "added",
        "A validation report was attached to a version.",
        &[
            ("model", Text),
            ("version", Text),
            ("report", Text),
            ("name", Text),
            ("dataset", Thing),
            ("rows", MaybeNumber),
            ("metrics", Thing),
        ],
    ),
    (
        "approval",
        "added",
        "An approver approved a version.",
        &[("model", Text), ("version", Text), ("digest", Text), ("by", Text)],
    ),
    (
        "approval",
        "withdrawn",
        "An approval was withdrawn.",
        &[("model", Text), ("version", Text), ("by", Text)],
    ),
    ("alias", "deleted", "An alias was removed.", &[("model", Text), ("alias", Text)]),
    (
        "alias",
        "refused",
        "The policy of an alias rejected a version; the details have the failed rules.",
        &[("model", Text), ("alias", Text), ("version", Text), ("failed", Things)],
    ),
    ("artifact", "uploaded", "A file was stored.", &[("size_bytes", Number), ("sha256", Text)]),
    ("artifact", "deleted", "A file or a directory was deleted.", &[("files", Number)]),
    ("webhook", "created", "A webhook was created.", &[("events", Texts)]),
    (
        "webhook",
        "updated",
        "A webhook was changed.",
        &[("events", Texts), ("enabled", Flag), ("secret", Text), ("renamed_from", Text)],
    ),
    (
        "webhook",
        "disabled",
        "A webhook was disabled because its receiver answered 410 Gone.",
        &[("reason", Text)],
    ),
    ("webhook", "deleted", "A webhook was removed.", &[]),
    ("retention-rule", "created", "A retention rule was created.", &[("rule", Thing), ("enabled", Flag)]),
    ("retention-rule", "updated", "A retention rule was replaced.", &[("rule", Thing), ("enabled", Flag)]),
    ("retention-rule", "deleted", "A retention rule was removed.", &[]),
    (
        "token",
        "created",
        "An API token was created.",
        &[("name", Text), ("principal", Text), ("expires_at_unix_ms", MaybeNumber)],
    ),
    ("token", "revoked", "An API token was revoked.", &[("name", Text), ("principal", Text)]),
    (
        "grant",
        "set",
        "A role was granted.",
        &[("subject", Text), ("scope", Text), ("role", Text), ("role_before", MaybeText)],
    ),
    (
        "call",
        "answered",
        "Another service handled a call that may have changed something.",
        &[
            ("service", Text),
            ("method", Text),
            ("path", Text),
            ("status", Number),
            ("reason", Text),
            ("at_unix_ms", Number),
        ],
    ),
    (
        "call",
        "refused",
        "Access control refused a call of this or another service.",
        &[
            ("service", Text),
            ("method", Text),
            ("path", Text),
            ("status", Number),
            ("reason", Text),
            ("at_unix_ms", Number),
        ],
    ),
    ("grant", "removed", "A role was removed.", &[("subject", Text), ("scope", Text), ("role", MaybeText)]),
];

const LAUNCHER: [(&str, &str); 8] = [
    ("submitted", "A job was submitted."),
    ("started", "An attempt of a job started."),
    ("retrying", "An attempt failed; the job is retried."),
    ("suspended", "A job was suspended."),
    ("resumed", "A suspended job was resumed."),
    ("succeeded", "A job succeeded."),
    ("failed", "A job failed permanently."),
    ("cancelled", "A job was cancelled."),
];

const ROLLOUTS: [(&str, &str); 9] = [
    ("started", "A rollout started."),
    ("preparing", "The new version is being loaded."),
    ("advanced", "The new version gets its next share of the traffic."),
    ("paused", "A rollout was paused until an operator resumes or aborts it."),
    ("resumed", "A paused rollout was resumed."),
    ("promoted", "The new version gets all of the traffic."),
    ("rolled-back", "All of the traffic was returned to the previous version."),
    ("failed", "A rollout failed because it could not continue."),
    ("aborted", "A rollout was aborted by a user."),
];

static CATALOG: LazyLock<Catalog> = LazyLock::new(Catalog::build);

/// All events that there are.
pub fn catalog() -> &'static Catalog {
    &CATALOG
}

/// What is known of the events of a subject.
pub fn find(subject: &str) -> Option<&'static Entry> {
    CATALOG.entries.get(subject)
}

impl Catalog {
    fn build() -> Self {
        let mut all = Self::default();
        for (entity, what, summary, details) in REGISTRY {
            let subject = format!("slipway.registry.{entity}.{what}");
            all.add(subject, summary, registry_change(entity, what, details));
        }
        all.typed::<AliasSet>(ALIAS_SET, "An alias was set, to another version or again to the same one.");
        all.typed::<ModelRenamed>(MODEL_RENAMED, "A registered model was renamed.");
        for (what, summary) in LAUNCHER {
            all.typed::<JobChange>(&format!("slipway.launcher.job.{what}"), summary);
        }
        let committed = "A checkpoint is complete and will be restored by the next attempt.";
        all.typed::<CheckpointCommitted>("slipway.launcher.checkpoint.committed", committed);
        for (what, summary) in [
            ("created", "A deployment was created."),
            ("updated", "Strategy, sticky key or watched alias of a deployment changed."),
            ("alias-moved", "The alias that a deployment watches was set; the body has the outcome."),
            ("deleted", "A deployment was removed."),
            ("rules-set", "Rules that route requests by header were set or removed."),
            ("killed", "The kill switch of a deployment was turned on."),
            ("revived", "The kill switch of a deployment was turned off."),
            ("drill-started", "A fault drill of a deployment began; the reason says what is rehearsed."),
            ("drill-ended", "A fault drill of a deployment ended; the reason is its result."),
            ("model-renamed", "The registered model of a deployment was renamed; the deployment follows it."),
            (
                "alias-deleted",
                "The alias that a deployment watches was deleted; it no longer starts rollouts.",
            ),
            ("version-deleted", "A version that a deployment serves was deleted from the registry by force."),
        ] {
            all.typed::<DeploymentChange>(&format!("slipway.rollout-controller.deployment.{what}"), summary);
        }
        for (what, summary) in ROLLOUTS {
            all.typed::<RolloutChange>(&format!("slipway.rollout-controller.rollout.{what}"), summary);
        }
        for (what, summary) in [
            ("created", "A monitor was created."),
            ("updated", "A monitor was changed."),
            ("deleted", "A monitor was removed."),
            ("suspended", "A monitor has no baseline any more."),
            ("resumed", "A monitor has a baseline again, or for the first time."),
        ] {
            all.typed::<MonitorChange>(&format!("slipway.drift-monitor.monitor.{what}"), summary);
        }
        all.typed::<WindowClosed>(
            "slipway.drift-monitor.window.closed",
            "A window of predictions was scored.",
        );
        for (what, summary) in [("detected", "Drift began."), ("cleared", "Drift ended.")] {
            all.typed::<DriftDetected>(&format!("slipway.drift-monitor.drift.{what}"), summary);
        }
        all.typed::<JoiningStopped>(
            JOINING_STOPPED,
            "A replica no longer joins requests of a version: an audit found a joined answer that differs \
             from the answer to the request alone.",
        );
        all.calls();
        all.typed::<Batch>(PREDICTIONS_SUBJECT, "Answered predictions, in batches.");
        all.typed::<LabelRecord>(LABELS_SUBJECT, "The true values of a past prediction.");
        all
    }

    /// Calls of the services, which the registry's audit trail takes in.
    fn calls(&mut self) {
        const OUTCOMES: [(CallOutcome, &str); 3] = [
            (
                CallOutcome::Answered,
                "With access control on: a call that may have changed something was handled.",
            ),
            (CallOutcome::Refused, "With access control on: a call was refused."),
            (
                CallOutcome::Omitted,
                "With access control on: some calls were not recorded; `omitted` has their numbers.",
            ),
        ];
        for service in CALLED_SERVICES {
            for (outcome, summary) in OUTCOMES {
                self.typed::<ServiceCall>(&format!("slipway.{service}.call.{}", outcome.name()), summary);
            }
        }
    }

    fn add(&mut self, subject: String, summary: &'static str, data: Value) {
        self.entries.insert(subject.clone(), Entry { subject, summary, data });
    }

    fn typed<T: ToSchema>(&mut self, subject: &str, summary: &'static str) {
        let mut named: Vec<(String, RefOr<Schema>)> = vec![(T::name().into_owned(), T::schema())];
        T::schemas(&mut named);
        for (name, schema) in named {
            self.schemas.insert(name, serde_json::to_value(schema).unwrap_or_default());
        }
        let reference = json!({"$ref": format!("#/components/schemas/{}", T::name())});
        self.add(subject.to_owned(), summary, reference);
    }
}

fn registry_change(entity: &str, what: &str, details: Details) -> Value {
    let fields: Map<String, Value> =
        details.iter().map(|(name, kind)| ((*name).to_owned(), kind.schema())).collect();
    json!({
        "type": "object",
        "required": ["entity", "what", "id", "details"],
        "properties": {
            "entity": {"const": entity},
            "what": {"const": what},
            "id": {"type": "string", "description": "Id or name of the changed entity."},
            "details": {"type": "object", "properties": fields},
        },
    })
}
