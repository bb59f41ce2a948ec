//! MLflow's webhooks: its events, their names on the wire, and which of Slipway's events become which of
//! them.
//!
//! Source: the protobuf descriptors and the behaviour of MLflow 3.17.

use chrono::{DateTime, SecondsFormat, Utc};
use serde_json::{Value, json};
use slipway_domain::Invalid;
use slipway_domain::registry::webhook::matches;
use slipway_runtime::clock;

use crate::webhooks::dialect::Dialect;

/// Length of a name.
const MAX_NAME_CHARS: usize = 63;
/// Length of a secret.
const MAX_SECRET_CHARS: usize = 1_000;

/// MLflow's `WebhookEntity` in the order of its numbers, from 1.
const ENTITIES: [&str; 10] = [
    "registered_model",
    "model_version",
    "model_version_tag",
    "model_version_alias",
    "prompt",
    "prompt_version",
    "prompt_tag",
    "prompt_version_tag",
    "prompt_alias",
    "budget_policy",
];
/// MLflow's `WebhookAction` in the order of its numbers, from 1.
const ACTIONS: [&str; 5] = ["created", "updated", "deleted", "set", "exceeded"];

/// MLflow's format, as webhooks use it.
pub(crate) const DIALECT: Dialect = Dialect {
    payload,
    sample,
    headers: ["x-mlflow-delivery-id", "x-mlflow-timestamp", "x-mlflow-signature"],
};

/// Name of MLflow's event for one of Slipway's, and the body that MLflow's server sends.
fn payload(subject: &str, time: DateTime<Utc>, data: &Value) -> Option<(String, String)> {
    translate(subject, data).map(|(event, data)| (event.name(), body(event, time, &data)))
}

/// Body of a test call for the event of that name.
fn sample(name: &str) -> Option<String> {
    Event::named(name).map(|event| event.test_body())
}

/// The body that MLflow's server sends.
fn body(event: Event, time: DateTime<Utc>, data: &Value) -> String {
    let time = time.to_rfc3339_opts(SecondsFormat::Micros, false);
    json!({"entity": event.entity, "action": event.action, "timestamp": time, "data": data}).to_string()
}

/// What MLflow tells of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Event {
    /// In lower case.
    pub(crate) entity: &'static str,
    /// In lower case.
    pub(crate) action: &'static str,
    /// The event of Slipway that it comes from; `None` for what does not happen here.
    pub(crate) subject: Option<&'static str>,
}

const fn here(entity: &'static str, action: &'static str, subject: &'static str) -> Event {
    Event { entity, action, subject: Some(subject) }
}

const fn elsewhere(entity: &'static str, action: &'static str) -> Event {
    Event { entity, action, subject: None }
}

const MODEL_CREATED: Event = here("registered_model", "created", "slipway.registry.model.created");
const VERSION_CREATED: Event = here("model_version", "created", "slipway.registry.model-version.created");
const TAG_SET: Event = here("model_version_tag", "set", "slipway.registry.model-version.updated");
const TAG_DELETED: Event = here("model_version_tag", "deleted", "slipway.registry.model-version.updated");
const ALIAS_CREATED: Event = here("model_version_alias", "created", "slipway.registry.alias.set");
const ALIAS_DELETED: Event = here("model_version_alias", "deleted", "slipway.registry.alias.deleted");

/// All that MLflow knows.
const EVENTS: [Event; 15] = [
    MODEL_CREATED,
    VERSION_CREATED,
    TAG_SET,
    TAG_DELETED,
    ALIAS_CREATED,
    ALIAS_DELETED,
    elsewhere("prompt", "created"),
    elsewhere("prompt_version", "created"),
    elsewhere("prompt_tag", "set"),
    elsewhere("prompt_tag", "deleted"),
    elsewhere("prompt_version_tag", "set"),
    elsewhere("prompt_version_tag", "deleted"),
    elsewhere("prompt_alias", "created"),
    elsewhere("prompt_alias", "deleted"),
    elsewhere("budget_policy", "exceeded"),
];

impl Event {
    /// `entity.action`.
    pub(crate) fn name(&self) -> String {
        format!("{}.{}", self.entity, self.action)
    }

    /// The event of that [`Self::name`].
    pub(crate) fn named(name: &str) -> Option<Self> {
        EVENTS.into_iter().find(|event| event.name() == name)
    }

    /// The event as a request names it: both words in capitals, or as the numbers of the enums.
    ///
    /// # Errors
    /// MLflow knows no such entity, no such action, or not both together.
    pub(crate) fn from_wire(entity: &str, action: &str) -> Result<Self, Invalid> {
        let entity = word("entity", entity, &ENTITIES)?;
        let action = word("action", action, &ACTIONS)?;
        EVENTS.into_iter().find(|event| event.entity == entity && event.action == action).ok_or_else(|| {
            let of_entity = EVENTS.iter().filter(|event| event.entity == entity);
            let valid: Vec<String> = of_entity.map(|event| format!("'{}'", event.action)).collect();
            let valid = valid.join(", ");
            let message =
                format!("Invalid action '{action}' for entity '{entity}'. Valid actions are: [{valid}]");
            Invalid::new("events", message)
        })
    }

    /// What patterns of subjects come to in MLflow's events.
    pub(crate) fn covered(patterns: &[String]) -> Vec<Self> {
        let wanted = |subject| patterns.iter().any(|pattern| matches(pattern, subject));
        EVENTS.into_iter().filter(|event| event.subject.is_some_and(wanted)).collect()
    }

    /// Body of a test call.
    pub(crate) fn test_body(&self) -> String {
        body(*self, DateTime::<Utc>::from(clock::now()), &self.sample())
    }

    /// Data of the kind that the event has, for a test: MLflow's own examples, which receivers compare with.
    fn sample(&self) -> Value {
        let tags = json!({"example_key": "example_value"});
        let prompt = self.entity.starts_with("prompt");
        let name = if prompt { "example_prompt" } else { "example_model" };
        match (self.entity, self.action) {
            ("registered_model", _) => {
                json!({"name": name, "tags": tags, "description": "An example registered model"})
            }
            ("prompt", _) => json!({"name": name, "tags": tags, "description": "An example prompt"}),
            ("model_version", _) => json!({
                "name": name, "version": "1", "source": "models:/123", "run_id": "abcd1234abcd5678",
                "tags": tags, "description": "An example model version",
            }),
            ("prompt_version", _) => json!({
                "name": name, "version": "1", "template": "Hello {{name}}!", "tags": tags,
                "description": "An example prompt version",
            }),
            ("prompt_tag", "set") => json!({"name": name, "key": "example_key", "value": "example_value"}),
            ("prompt_tag", _) => json!({"name": name, "key": "example_key"}),
            ("model_version_tag" | "prompt_version_tag", "set") => {
                json!({"name": name, "version": "1", "key": "example_key", "value": "example_value"})
            }
            ("model_version_tag" | "prompt_version_tag", _) => {
                json!({"name": name, "version": "1", "key": "example_key"})
            }
            ("model_version_alias" | "prompt_alias", "created") => {
                json!({"name": name, "alias": "example_alias", "version": "1"})
            }
            ("model_version_alias" | "prompt_alias", _) => json!({"name": name, "alias": "example_alias"}),
            _ => json!({
                "budget_policy_id": "bp-abc123", "budget_unit": "USD", "budget_amount": 100.0,
                    "current_spend": 105.5,
                "duration_unit": "MONTHS", "duration_value": 1, "target_scope": "ENDPOINT",
                    "workspace": "default",
                "target_value": "ep-abc123", "window_start": 1_704_067_200_000_i64,
            }),
        }
    }
}

/// A word of an enum, by its name in capitals or by its number.
fn word(field: &str, given: &str, words: &[&'static str]) -> Result<&'static str, Invalid> {
    let numbered = given.parse().ok().and_then(|number: usize| words.get(number.checked_sub(1)?));
    let named = || words.iter().find(|word| word.to_uppercase() == given);
    numbered.or_else(named).copied().ok_or_else(|| {
        let known: Vec<String> = words.iter().map(|word| word.to_uppercase()).collect();
        Invalid::new(
            "events",
            format!("Invalid {field} '{given}' of an event; expected one of {}", known.join(", ")),
        )
    })
}

/// What an event of Slipway is to MLflow, with the `data` that MLflow sends; `None` where MLflow has no such
/// event.
fn translate(subject: &str, body: &Value) -> Option<(Event, Value)> {
    let details = &body["details"];
    let tags = if details["tags"].is_object() { details["tags"].clone() } else { json!({}) };
    match subject {
        "slipway.registry.model.created" => {
            let data = json!({"name": body["id"], "tags": tags, "description": details["description"]});
            Some((MODEL_CREATED, data))
        }
        "slipway.registry.model-version.created" => {
            let data = json!({
                "name": details["model"], "version": details["version"], "source": details["source"],
                "run_id": details["run_id"], "tags": tags, "description": details["description"],
            });
            Some((VERSION_CREATED, data))
        }
        "slipway.registry.model-version.updated" => {
            let (name, version) = body["id"].as_str()?.rsplit_once('/')?;
            let (set, deleted) = (&details["tag_set"], &details["tag_deleted"]);
            if let (Some(key), Some(value)) = (set["key"].as_str(), set["value"].as_str()) {
                return Some((
                    TAG_SET,
                    json!({"name": name, "version": version, "key": key, "value": value}),
                ));
            }
            let key = deleted.as_str()?;
            Some((TAG_DELETED, json!({"name": name, "version": version, "key": key})))
        }
        "slipway.registry.alias.set" => {
            let data = json!({"name": body["model"], "alias": body["alias"], "version": body["version"]});
            Some((ALIAS_CREATED, data))
        }
        "slipway.registry.alias.deleted" => {
            Some((ALIAS_DELETED, json!({"name": details["model"], "alias": details["alias"]})))
        }
        _ => None,
    }
}

/// Checks a webhook's name as MLflow does.
///
/// # Errors
/// It is empty, too long, has other letters, or begins or ends with a sign.
pub(crate) fn validate_name(name: &str) -> Result<(), Invalid> {
    let plain = |letter: char| letter.is_ascii_alphanumeric();
    let inner = |letter: char| plain(letter) || matches!(letter, '.' | '_' | '-');
    let fits = (1..=MAX_NAME_CHARS).contains(&name.len()) && name.chars().all(inner);
    if fits && name.starts_with(plain) && name.ends_with(plain) {
        return Ok(());
    }
    let message = format!(
        "Webhook name '{name}' is invalid. It takes 1 to {MAX_NAME_CHARS} letters, digits, `.`, `_` or `-`, \
         and begins and ends with a letter or a digit."
    );
    Err(Invalid::new("name", message))
}

/// Checks a secret, of which the bytes themselves are the key. The message does not repeat it.
///
/// # Errors
/// It is too long.
pub(crate) fn validate_secret(secret: &str) -> Result<(), Invalid> {
    if secret.chars().count() <= MAX_SECRET_CHARS {
        return Ok(());
    }
    Err(Invalid::new(
        "secret",
        format!("Webhook secret is invalid. It takes at most {MAX_SECRET_CHARS} characters."),
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_of_each_kind_becomes_that_of_mlflow_with_its_data() {
        let told = |subject: &str, body: Value| {
            translate(subject, &body).map(|(event, data)| {
                assert_eq!(event.subject, Some(subject));
                (event.name(), data)
            })
        };
        let made = json!({"id": "churn", "details": {"tags": {"team": "risk"}, "description": "leaves?"}});
        assert_eq!(
            told("slipway.registry.model.created", made).unwrap(),
            (
                "registered_model.created".to_owned(),
                json!({"name": "churn", "tags": {"team": "risk"}, "description": "leaves?"})
            )
        );
        // An event from before its details were told.
        assert_eq!(
            told("slipway.registry.model.created", json!({"id": "churn", "details": {}})).unwrap().1,
            json!({"name": "churn", "tags": {}, "description": null})
        );
        let version = json!({"id": "churn/3",
            "details": {"model": "churn", "version": "3", "digest": "d", "run_id": null,
            "source": "models:/m-1", "tags": {}, "description": null}});
        assert_eq!(
            told("slipway.registry.model-version.created", version).unwrap(),
            (
                "model_version.created".to_owned(),
                json!({"name": "churn", "version": "3", "source": "models:/m-1", "run_id": null, "tags": {},
                    "description": null})
            )
        );
        let updated = |details: Value| {
            told("slipway.registry.model-version.updated", json!({"id": "churn/3", "details": details}))
        };
        assert_eq!(
            updated(json!({"tags": ["k"], "tag_set": {"key": "k", "value": ""}})).unwrap(),
            (
                "model_version_tag.set".to_owned(),
                json!({"name": "churn", "version": "3", "key": "k", "value": ""})
            )
        );
        assert_eq!(
            updated(json!({"tags": ["k"], "tag_deleted": "k"})).unwrap(),
            ("model_version_tag.deleted".to_owned(), json!({"name": "churn", "version": "3", "key": "k"}))
        );
        assert_eq!(updated(json!({"stage": "Production"})), None);
        let alias = json!({"model": "churn", "alias": "champion", "version": "3"});
        assert_eq!(
            told("slipway.registry.alias.set", alias).unwrap(),
            (
                "model_version_alias.created".to_owned(),
                json!({"name": "churn", "alias": "champion", "version": "3"})
            )
        );
        let gone = json!({"id": "churn@champion", "details": {"model": "churn", "alias": "champion"}});
        assert_eq!(
            told("slipway.registry.alias.deleted", gone).unwrap(),
            ("model_version_alias.deleted".to_owned(), json!({"name": "churn", "alias": "champion"}))
        );
        assert_eq!(told("slipway.registry.model.deleted", json!({"id": "churn", "details": {}})), None);
    }

    #[test]
    fn events_are_read_by_name_and_number_and_wrong_ones_refused() {
        assert_eq!(Event::from_wire("MODEL_VERSION_TAG", "SET").unwrap(), TAG_SET);
        assert_eq!(Event::from_wire("4", "3").unwrap(), ALIAS_DELETED);
        assert_eq!(Event::from_wire("BUDGET_POLICY", "EXCEEDED").unwrap().subject, None);
        let refused = Event::from_wire("MODEL_VERSION_ALIAS", "UPDATED").unwrap_err().message;
        assert!(refused.ends_with("Valid actions are: ['created', 'deleted']"), "{refused}");
        for (entity, action) in
            [("model_version", "CREATED"), ("0", "1"), ("11", "1"), ("ENTITY_UNSPECIFIED", "SET"), ("", "")]
        {
            assert!(Event::from_wire(entity, action).is_err(), "{entity} {action}");
        }
        for event in EVENTS {
            assert_eq!(Event::named(&event.name()), Some(event));
            assert!(event.sample().as_object().is_some_and(|data| !data.is_empty()));
        }
    }

    #[test]
    fn patterns_come_to_the_events_that_they_let_through() {
        let of = |patterns: &[&str]| {
            let patterns: Vec<String> = patterns.iter().map(|pattern| (*pattern).to_owned()).collect();
            Event::covered(&patterns).iter().map(Event::name).collect::<Vec<_>>()
        };
        assert_eq!(
            of(&["slipway.registry.alias.*"]),
            ["model_version_alias.created", "model_version_alias.deleted"]
        );
        assert_eq!(of(&["slipway.>"]).len(), 6);
        assert!(of(&["slipway.drift-monitor.>"]).is_empty());
    }

    #[test]
    fn names_are_those_that_mlflow_takes() {
        for right in ["a", "Deploy-bot.2", "0_9", &"x".repeat(63)] {
            validate_name(right).unwrap();
        }
        for wrong in ["", "-a", "a.", "a b", "a/b", "ä", &"x".repeat(64)] {
            assert!(validate_name(wrong).is_err(), "{wrong}");
        }
        assert!(validate_secret(&"x".repeat(1_001)).is_err());
    }
}
