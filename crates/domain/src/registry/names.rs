//! Names, keys and lengths, with the messages that MLflow's clients and tests know.

use std::collections::BTreeSet;

use crate::Invalid;

/// Largest body of a log-batch request, bytes.
pub const MAX_BATCH_BODY_BYTES: usize = 1_000_000;
/// Longer values are cut off there, characters.
pub const MAX_PARAM_VALUE_CHARS: usize = 6_000;
/// Longer values are cut off there, characters.
pub const MAX_RUN_TAG_VALUE_CHARS: usize = 8_000;
/// Largest dataset schema, bytes.
pub const MAX_DATASET_SCHEMA_BYTES: usize = (1 << 20) - 1;
/// Largest dataset profile, bytes.
pub const MAX_DATASET_PROFILE_BYTES: usize = (1 << 24) - 1;

const MAX_BATCH_METRICS: usize = 1_000;
const MAX_BATCH_PARAMS: usize = 100;
const MAX_BATCH_TAGS: usize = 100;
const MAX_BATCH_ENTITIES: usize = 1_000;
const MAX_KEY_CHARS: usize = 250;
const MAX_EXPERIMENT_NAME_CHARS: usize = 500;
const MAX_EXPERIMENT_TAG_VALUE_CHARS: usize = 20_000;
const MAX_MODEL_NAME_CHARS: usize = 256;
const MAX_REGISTRY_TAG_VALUE_CHARS: usize = 100_000;
const MAX_ALIAS_CHARS: usize = 255;
const MAX_RUN_ID_CHARS: usize = 256;
const MAX_DATASET_NAME_CHARS: usize = 500;
const MAX_DATASET_DIGEST_CHARS: usize = 36;
const MAX_INPUT_TAG_KEY_CHARS: usize = 255;
const MAX_INPUT_TAG_VALUE_CHARS: usize = 500;
const KEY_CHARACTERS: &str = "Names may only contain alphanumerics, underscores (_), dashes (-), periods (.), \
                              spaces ( ), colon(:) and slashes (/).";

fn missing(field: &str) -> Invalid {
    Invalid::new(field, format!("Missing value for required parameter '{field}'."))
}

fn invalid_value(field: &str, value: &str, why: &str) -> Invalid {
    let shown = serde_json::Value::from(value);
    Invalid::new(field, format!("Invalid value {shown} for parameter '{field}' supplied: {why}"))
}

fn at_most(field: &str, value: &str, limit: usize) -> Result<(), Invalid> {
    if value.chars().count() <= limit {
        return Ok(());
    }
    Err(Invalid::new(field, format!("'{field}' exceeds the maximum length of {limit} characters")))
}

fn is_word(character: char) -> bool {
    character.is_alphanumeric() || character == '_'
}

/// Keys may be treated as file names, so each has to be written the one way in which it resolves to itself.
fn resolves_elsewhere(key: &str) -> bool {
    key.starts_with('/') || key.split('/').any(|segment| matches!(segment, "" | "." | ".."))
}

fn validate_key(field: &str, key: &str, limit: usize) -> Result<(), Invalid> {
    if key.is_empty() {
        return Err(missing(field));
    }
    if !key.chars().all(|character| is_word(character) || "/.-: ".contains(character)) {
        return Err(invalid_value(field, key, KEY_CHARACTERS));
    }
    if resolves_elsewhere(key) {
        let why = "Names may be treated as files in certain cases, and must not resolve to other names when treated \
                   as such.";
        return Err(invalid_value(field, key, why));
    }
    at_most(field, key, limit)
}

/// An experiment's name: 1 to 500 characters.
pub fn validate_experiment_name(name: &str) -> Result<(), Invalid> {
    if name.is_empty() {
        return Err(Invalid::new("name", "Invalid experiment name: ''"));
    }
    at_most("name", name, MAX_EXPERIMENT_NAME_CHARS)
}

/// A tag of an experiment.
pub fn validate_experiment_tag(key: &str, value: &str) -> Result<(), Invalid> {
    validate_key("key", key, MAX_KEY_CHARS)?;
    at_most("value", value, MAX_EXPERIMENT_TAG_VALUE_CHARS)
}

/// A run id: `[a-zA-Z0-9][\w-]{0,255}`.
pub fn validate_run_id(run_id: &str) -> Result<(), Invalid> {
    if run_id.is_empty() {
        return Err(missing("run_id"));
    }
    let lawful = run_id.starts_with(|first: char| first.is_ascii_alphanumeric())
        && run_id.chars().all(|character| is_word(character) || character == '-')
        && run_id.chars().count() <= MAX_RUN_ID_CHARS;
    if lawful { Ok(()) } else { Err(Invalid::new("run_id", format!("Invalid run ID: '{run_id}'"))) }
}

/// A metric's key and time; its value and step are numbers by their type. `field` is the path of the key in the request, e.g.
/// `metrics[3].key`.
pub fn validate_metric(field: &str, key: &str, timestamp_unix_ms: i64) -> Result<(), Invalid> {
    validate_key(field, key, MAX_KEY_CHARS)?;
    if timestamp_unix_ms >= 0 {
        return Ok(());
    }
    let message = format!(
        "Got invalid timestamp {timestamp_unix_ms} for metric '{key}'. Timestamp must be a nonnegative long (64-bit integer)"
    );
    Err(Invalid::new("timestamp", message))
}

/// A parameter's key. Its value may be empty and is cut off by [`truncate_param_value`].
pub fn validate_param_key(field: &str, key: &str) -> Result<(), Invalid> {
    validate_key(field, key, MAX_KEY_CHARS)
}

/// A run tag's key. Its value may be empty and is cut off by [`truncate_run_tag_value`].
pub fn validate_run_tag_key(field: &str, key: &str) -> Result<(), Invalid> {
    validate_key(field, key, MAX_KEY_CHARS)
}

/// A parameter's value as it is stored.
pub fn truncate_param_value(value: &str) -> &str {
    truncated(value, MAX_PARAM_VALUE_CHARS)
}

/// A run tag's value as it is stored.
pub fn truncate_run_tag_value(value: &str) -> &str {
    truncated(value, MAX_RUN_TAG_VALUE_CHARS)
}

fn truncated(value: &str, limit: usize) -> &str {
    value.char_indices().nth(limit).map_or(value, |(end, _)| &value[..end])
}

/// How much one log-batch request brings.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct BatchSize {
    /// Metrics.
    pub metrics: usize,
    /// Parameters.
    pub params: usize,
    /// Tags.
    pub tags: usize,
}

/// A log-batch request: its size, and that no parameter is there twice.
pub fn validate_batch<'keys>(
    size: BatchSize,
    param_keys: impl IntoIterator<Item = &'keys str>,
) -> Result<(), Invalid> {
    let limits = [
        ("metrics", size.metrics, MAX_BATCH_METRICS),
        ("params", size.params, MAX_BATCH_PARAMS),
        ("tags", size.tags, MAX_BATCH_TAGS),
        ("metrics, params, and tags", size.metrics + size.params + size.tags, MAX_BATCH_ENTITIES),
    ];
    for (what, got, limit) in limits {
        if got > limit {
            let message = format!(
                "A batch logging request can contain at most {limit} {what}. Got {got} {what}. Please split up {what} \
                 across multiple requests and try again."
            );
            return Err(Invalid::new(what, message));
        }
    }
    let mut seen = BTreeSet::new();
    let twice: Vec<&str> = param_keys.into_iter().filter(|key| !seen.insert(*key)).collect();
    if twice.is_empty() {
        return Ok(());
    }
    let message = format!(
        "Duplicate parameter keys have been submitted: {twice:?}. Please ensure the request contains only one param \
         value per param key."
    );
    Err(Invalid::new("params", message))
}

/// A registered model's name: it is a path segment of URLs and model URIs.
pub fn validate_model_name(name: &str) -> Result<(), Invalid> {
    if name.is_empty() {
        return Err(Invalid::new("name", "Registered model name cannot be empty."));
    }
    if name.contains(['/', ':']) {
        let message = format!("Invalid name: '{name}'. Registered model names cannot contain '/' or ':'.");
        return Err(Invalid::new("name", message));
    }
    at_most("name", name, MAX_MODEL_NAME_CHARS)
}

/// A tag of a registered model or of a model version.
pub fn validate_registry_tag(key: &str, value: &str) -> Result<(), Invalid> {
    validate_key("key", key, MAX_KEY_CHARS)?;
    at_most("value", value, MAX_REGISTRY_TAG_VALUE_CHARS)
}

/// A model version's number as it stands in a request.
pub fn validate_version(version: &str) -> Result<u32, Invalid> {
    let message = || format!("Model version must be an integer, got '{version}'");
    version.parse().map_err(|_| Invalid::new("version", message()))
}

/// An alias: `[\w-]+`, not `latest` and not `v` with a number, which mean versions already.
pub fn validate_alias(alias: &str) -> Result<(), Invalid> {
    if alias.is_empty() {
        return Err(Invalid::new("alias", "Registered model alias name cannot be empty."));
    }
    if !alias.chars().all(|character| is_word(character) || character == '-') {
        let message = format!(
            "Invalid alias name: '{alias}'. Names may only contain alphanumerics, underscores (_), and dashes (-)."
        );
        return Err(Invalid::new("alias", message));
    }
    at_most("alias", alias, MAX_ALIAS_CHARS)?;
    if alias.eq_ignore_ascii_case("latest") {
        return Err(Invalid::new("alias", "'latest' alias name (case insensitive) is reserved."));
    }
    let digits = alias.strip_prefix(['v', 'V']).unwrap_or_default();
    if !digits.is_empty() && digits.chars().all(|character| character.is_ascii_digit()) {
        return Err(Invalid::new("alias", format!("Version alias name '{alias}' is reserved.")));
    }
    Ok(())
}

/// A dataset that a run took as input.
pub fn validate_dataset(
    name: &str,
    digest: &str,
    schema: Option<&str>,
    profile: Option<&str>,
) -> Result<(), Invalid> {
    for (field, value, limit) in
        [("name", name, MAX_DATASET_NAME_CHARS), ("digest", digest, MAX_DATASET_DIGEST_CHARS)]
    {
        if value.is_empty() {
            return Err(missing(field));
        }
        at_most(field, value, limit)?;
    }
    let schema = ("schema", schema.unwrap_or_default(), MAX_DATASET_SCHEMA_BYTES);
    let profile = ("profile", profile.unwrap_or_default(), MAX_DATASET_PROFILE_BYTES);
    for (field, value, limit) in [schema, profile] {
        if value.len() > limit {
            return Err(Invalid::new(
                field,
                format!("'{field}' exceeds the maximum length of {limit} bytes"),
            ));
        }
    }
    Ok(())
}

/// A tag of a dataset input.
pub fn validate_input_tag(key: &str, value: &str) -> Result<(), Invalid> {
    at_most("key", key, MAX_INPUT_TAG_KEY_CHARS)?;
    at_most("value", value, MAX_INPUT_TAG_VALUE_CHARS)
}

/// `max_results` of a search: from 1 to `limit`, `default` where absent.
pub fn validate_max_results(asked: Option<i64>, default: usize, limit: usize) -> Result<usize, Invalid> {
    let Some(asked) = asked else { return Ok(default.min(limit)) };
    let lawful = usize::try_from(asked).ok().filter(|asked| (1..=limit).contains(asked));
    lawful.ok_or_else(|| {
        let why = format!("It must be a value between 1 and {limit}, but got value {asked}");
        Invalid::new(
            "max_results",
            format!("Invalid value {asked} for parameter 'max_results' supplied: {why}"),
        )
    })
}
