//! What each user of NATS may do: one table, for `slipway up` and for every other way to run NATS.
//!
//! A service publishes its own subjects and nothing else. Streams and buckets are made by [`User::Platform`]
//! alone, because the configuration of a stream can republish messages under any subject. A consumer of a
//! stream may not do that: JetStream delivers and stores a message under the subject that its publisher used.
//!
//! Sources: <https://docs.nats.io/running-a-nats-service/configuration/securing_nats/authorization> and
//! <https://docs.nats.io/reference/reference-protocols/nats_api_reference>.

use std::fmt::Write as _;

use serde::Serialize;
use slipway_api::access::ACCESS_BUCKET;
use slipway_api::events::EVENTS_STREAM;
use slipway_api::predictions::{LABELS_STREAM, PREDICTIONS_STREAM};
use slipway_api::traffic::{REPLICAS_BUCKET, TRAFFIC_BUCKET};

use crate::replay::replay_subject;
use crate::wake::wake_subject;

/// Durable consumers of [`EVENTS_STREAM`]; each belongs to one service.
pub mod durable {
    /// The registry follows deployments.
    pub const REGISTRY_DEPLOYMENTS: &str = "registry-deployments";
    /// The registry sends webhooks.
    pub const REGISTRY_WEBHOOKS: &str = "registry-webhooks";
    /// The registry takes calls of other services into the audit trail.
    pub const REGISTRY_CALLS: &str = "registry-calls";
    /// The rollout controller follows aliases.
    pub const CONTROLLER_ALIAS: &str = "rollout-controller-alias";
    /// The rollout controller follows changes of models.
    pub const CONTROLLER_MODELS: &str = "rollout-controller-models";
    /// The drift monitor follows deployments.
    pub const MONITOR_DEPLOYMENTS: &str = "drift-monitor-deployments";
    /// The drift monitor follows changes of models.
    pub const MONITOR_MODELS: &str = "drift-monitor-models";
}

const DURABLES: [(&str, User); 7] = [
    (durable::REGISTRY_DEPLOYMENTS, User::Registry),
    (durable::REGISTRY_WEBHOOKS, User::Registry),
    (durable::REGISTRY_CALLS, User::Registry),
    (durable::CONTROLLER_ALIAS, User::RolloutController),
    (durable::CONTROLLER_MODELS, User::RolloutController),
    (durable::MONITOR_DEPLOYMENTS, User::DriftMonitor),
    (durable::MONITOR_MODELS, User::DriftMonitor),
];

/// A user of NATS.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum User {
    /// Makes streams and buckets; may do everything.
    Platform,
    /// The registry.
    Registry,
    /// The launcher.
    Launcher,
    /// Serving.
    Serving,
    /// The rollout controller.
    RolloutController,
    /// The drift monitor.
    DriftMonitor,
    /// People and programs that follow events: reads everything and publishes nothing.
    Reader,
}

impl User {
    /// All users.
    pub const ALL: [Self; 7] = [
        Self::Platform,
        Self::Registry,
        Self::Launcher,
        Self::Serving,
        Self::RolloutController,
        Self::DriftMonitor,
        Self::Reader,
    ];

    /// The user's name.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Platform => "platform",
            Self::Registry => "registry",
            Self::Launcher => "launcher",
            Self::Serving => "serving",
            Self::RolloutController => "rollout-controller",
            Self::DriftMonitor => "drift-monitor",
            Self::Reader => "reader",
        }
    }

    /// Where the answers to the user's requests arrive. No other user but the platform's may listen there.
    pub fn inbox_prefix(self) -> String {
        match self {
            // Tools such as `nats` use this one unless they are configured.
            Self::Platform | Self::Reader => "_INBOX".to_owned(),
            service => format!("_INBOX_{}", service.name()),
        }
    }
}

/// Subjects, with wildcards, that a user may use. Everything else is denied.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
pub struct Permissions {
    /// May be published to.
    pub publish: Vec<String>,
    /// May not be published to, although `publish` matches.
    pub publish_denied: Vec<String>,
    /// May be subscribed to.
    pub subscribe: Vec<String>,
}

/// What a user may do; `None` for everything.
pub fn permissions(user: User) -> Option<Permissions> {
    let mut table = Table { user, permissions: Permissions::default() };
    match user {
        User::Platform => return None,
        User::Registry => {
            table.publish("slipway.registry.>");
            table.durables();
            // Webhooks are sent again from the history of events.
            table.read(EVENTS_STREAM);
            table.read_bucket(TRAFFIC_BUCKET);
            table.write_bucket(ACCESS_BUCKET);
        }
        User::Launcher => table.publish("slipway.launcher.>"),
        User::Serving => {
            table.publish("slipway.serving.>");
            // Recorded requests for drills, from the rollout controller.
            table.permissions.subscribe.push(replay_subject("*"));
            table.write_bucket(REPLICAS_BUCKET);
            table.read_bucket(TRAFFIC_BUCKET);
        }
        User::RolloutController => {
            table.publish("slipway.rollout-controller.>");
            table.publish(&replay_subject("*"));
            table.durables();
            table.read(PREDICTIONS_STREAM);
            table.read(LABELS_STREAM);
            table.read_bucket(REPLICAS_BUCKET);
            table.read_bucket(TRAFFIC_BUCKET);
            table.write_bucket(TRAFFIC_BUCKET);
        }
        User::DriftMonitor => {
            table.publish("slipway.drift-monitor.>");
            table.durables();
            table.read(PREDICTIONS_STREAM);
            // When the record before the first unread one was stored.
            table.publish(&format!("$JS.API.STREAM.MSG.GET.{PREDICTIONS_STREAM}"));
        }
        User::Reader => {
            for stream in [EVENTS_STREAM, PREDICTIONS_STREAM, LABELS_STREAM] {
                table.read(stream);
            }
            table.read_bucket(TRAFFIC_BUCKET);
            table.read_bucket(REPLICAS_BUCKET);
            table.permissions.subscribe.push("slipway.>".to_owned());
        }
    }
    if matches!(user, User::Registry | User::Launcher | User::RolloutController | User::DriftMonitor) {
        // Replicas tell their leader of commits.
        table.publish(&wake_subject(user.name()));
        table.permissions.subscribe.push(wake_subject(user.name()));
    }
    if user != User::Reader {
        // Every service checks its callers itself.
        table.read_bucket(ACCESS_BUCKET);
    }
    // Whether streams and buckets are there is asked by every service when it starts.
    for stream in streams() {
        table.publish(&format!("$JS.API.STREAM.INFO.{stream}"));
    }
    table.permissions.subscribe.push(format!("{}.>", user.inbox_prefix()));
    table.permissions.publish.sort();
    table.permissions.publish.dedup();
    Some(table.permissions)
}

/// Names of all streams, with those of the buckets.
fn streams() -> [String; 6] {
    [
        EVENTS_STREAM.to_owned(),
        PREDICTIONS_STREAM.to_owned(),
        LABELS_STREAM.to_owned(),
        format!("KV_{TRAFFIC_BUCKET}"),
        format!("KV_{REPLICAS_BUCKET}"),
        format!("KV_{ACCESS_BUCKET}"),
    ]
}

struct Table {
    user: User,
    permissions: Permissions,
}

impl Table {
    fn publish(&mut self, subject: &str) {
        self.permissions.publish.push(subject.to_owned());
    }

    /// The user's own durable consumers.
    fn durables(&mut self) {
        let user = self.user;
        for (durable, _) in DURABLES.iter().filter(|(_, owner)| *owner == user) {
            self.consumer(EVENTS_STREAM, durable);
            // The second form is that of servers with domains.
            self.publish(&format!("$JS.ACK.{EVENTS_STREAM}.{durable}.>"));
            self.publish(&format!("$JS.ACK.*.*.{EVENTS_STREAM}.{durable}.>"));
        }
    }

    /// Reading a stream with consumers that have no place of their own and generated names; durable ones of
    /// others are denied.
    fn read(&mut self, stream: &str) {
        self.publish(&format!("$JS.API.CONSUMER.CREATE.{stream}"));
        self.consumer(stream, "*");
        self.publish(&format!("$JS.API.CONSUMER.DELETE.{stream}.*"));
        // Answers of flow control.
        self.publish(&format!("$JS.FC.{stream}.>"));
        self.publish(&format!("$JS.FC.*.*.{stream}.>"));
        if stream == EVENTS_STREAM {
            let user = self.user;
            for (durable, _) in DURABLES.iter().filter(|(_, owner)| *owner != user) {
                for operation in ["CREATE", "INFO", "DELETE", "MSG.NEXT"] {
                    let subject = format!("$JS.API.CONSUMER.{operation}.{stream}.{durable}");
                    self.permissions.publish_denied.push(format!("{subject}.>"));
                    self.permissions.publish_denied.push(subject);
                }
            }
        }
    }

    fn consumer(&mut self, stream: &str, name: &str) {
        self.publish(&format!("$JS.API.CONSUMER.CREATE.{stream}.{name}"));
        self.publish(&format!("$JS.API.CONSUMER.CREATE.{stream}.{name}.>"));
        self.publish(&format!("$JS.API.CONSUMER.INFO.{stream}.{name}"));
        self.publish(&format!("$JS.API.CONSUMER.MSG.NEXT.{stream}.{name}"));
    }

    fn read_bucket(&mut self, bucket: &str) {
        self.read(&format!("KV_{bucket}"));
        self.publish(&format!("$JS.API.DIRECT.GET.KV_{bucket}"));
        self.publish(&format!("$JS.API.DIRECT.GET.KV_{bucket}.>"));
    }

    fn write_bucket(&mut self, bucket: &str) {
        self.publish(&format!("$KV.{bucket}.>"));
    }
}

/// The table as configuration of a NATS server, without passwords: `$NATS_PASSWORD_<USER>` are its
/// environment variables.
pub fn server_configuration() -> String {
    let mut text = "# Users of NATS and what they may do.\n\
                    # Written from crates/event-bus/src/permissions.rs by SLIPWAY_WRITE_DOCS=1 cargo test -p \
                    slipway-event-bus.\n\
                    authorization {\n  users = [\n"
        .to_owned();
    for user in User::ALL {
        let variable = user.name().to_uppercase().replace('-', "_");
        // Writing to a string cannot fail.
        let _ = write!(
            text,
            "    {{\n      user: \"{}\"\n      password: $NATS_PASSWORD_{variable}\n",
            user.name()
        );
        if let Some(permissions) = permissions(user) {
            let _ = write!(
                text,
                "      permissions: {{\n        publish: {{\n          allow: {}\n          deny: \
                 {}\n        }}\n        \
                 subscribe: {{\n          allow: {}\n        }}\n      }}\n",
                list(&permissions.publish),
                list(&permissions.publish_denied),
                list(&permissions.subscribe),
            );
        }
        text += "    }\n";
    }
    text + "  ]\n}\n"
}

fn list(subjects: &[String]) -> String {
    if subjects.is_empty() {
        return "[]".to_owned();
    }
    let lines =
        subjects.iter().fold(String::new(), |lines, subject| lines + "            \"" + subject + "\"\n");
    format!("[\n{lines}          ]")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Whether a pattern of NATS subjects matches a subject.
    fn matches(pattern: &str, subject: &str) -> bool {
        let (mut pattern, mut subject) = (pattern.split('.'), subject.split('.'));
        loop {
            match (pattern.next(), subject.next()) {
                (Some(">"), Some(_)) | (None, None) => return true,
                (Some(wanted), Some(found)) if wanted == "*" || wanted == found => {}
                _ => return false,
            }
        }
    }

    fn publishers(subject: &str) -> Vec<User> {
        let may = |user: &User| {
            let Some(permissions) = permissions(*user) else { return false };
            let any = |patterns: &[String]| patterns.iter().any(|pattern| matches(pattern, subject));
            any(&permissions.publish) && !any(&permissions.publish_denied)
        };
        User::ALL.into_iter().filter(may).collect()
    }

    #[test]
    fn every_subject_has_one_publisher() {
        let owners = [
            ("slipway.registry.alias.set", User::Registry),
            ("slipway.launcher.job.failed", User::Launcher),
            ("slipway.serving.prediction.recorded.d.id", User::Serving),
            ("slipway.serving.label.recorded", User::Serving),
            ("slipway.serving.version.joining-stopped", User::Serving),
            ("$KV.slipway-replicas.r.d", User::Serving),
            ("slipway.rollout-controller.rollout.promoted", User::RolloutController),
            ("$KV.slipway-traffic.d", User::RolloutController),
            ("$KV.slipway-access.token.0123456789abcdef", User::Registry),
            ("slipway.drift-monitor.drift.detected", User::DriftMonitor),
            ("slipway.replay.0198c5a2", User::RolloutController),
            ("slipway.wake.registry", User::Registry),
            ("slipway.wake.rollout-controller", User::RolloutController),
            ("$JS.ACK.SLIPWAY_EVENTS.rollout-controller-alias.1.2.3.4.5", User::RolloutController),
            ("$JS.API.CONSUMER.MSG.NEXT.SLIPWAY_EVENTS.registry-webhooks", User::Registry),
            ("$JS.API.CONSUMER.CREATE.SLIPWAY_EVENTS.drift-monitor-models.slipway.>", User::DriftMonitor),
        ];
        for (subject, owner) in owners {
            assert_eq!(publishers(subject), [owner], "{subject}");
        }
    }

    #[test]
    fn no_service_configures_streams_deletes_messages_or_writes_elsewhere() {
        for stream in streams() {
            for operation in ["CREATE", "UPDATE", "DELETE", "PURGE", "MSG.DELETE", "SNAPSHOT", "RESTORE"] {
                assert_eq!(publishers(&format!("$JS.API.STREAM.{operation}.{stream}")), []);
            }
            assert_eq!(publishers(&format!("$JS.API.CONSUMER.DURABLE.CREATE.{stream}.x")), []);
        }
        for subject in
            ["slipway.other", "_INBOX.x", "_INBOX_registry.x", "$SYS.REQ.SERVER.PING", "$JS.API.INFO"]
        {
            assert_eq!(publishers(subject), [], "{subject}");
        }
    }

    #[test]
    fn no_service_listens_to_the_answers_of_another() {
        for user in User::ALL {
            let Some(permissions) = permissions(user) else { continue };
            let inboxes: Vec<_> =
                permissions.subscribe.iter().filter(|subject| !subject.starts_with("slipway.")).collect();
            assert_eq!(inboxes, [&format!("{}.>", user.inbox_prefix())], "{user:?}");
        }
    }

    #[test]
    fn the_committed_configuration_is_current() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../deploy/nats/permissions.conf");
        if std::env::var_os("SLIPWAY_WRITE_DOCS").is_some() {
            std::fs::write(path, server_configuration()).unwrap();
        }
        let committed = std::fs::read_to_string(path).unwrap_or_default();
        assert_eq!(committed, server_configuration(), "SLIPWAY_WRITE_DOCS=1 writes it again");
    }
}
