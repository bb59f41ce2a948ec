//! Names, keys and lengths, with the messages that MLflow's clients and tests know.

use std::collections::BTreeSet;

use crate::Invalid;

/// Largest body of a log-batch request, bytes: more than a batch within the other limits takes, whose longest
/// values alone are 1.4 million characters.
pub const MAX_BATCH_BODY_BYTES: usize = 16 * 1024 * 1024;
/// Longer values are cut off there, characters.
pub const MAX_PARAM_VALUE_CHARS: usize = 6_000;
/// Longer values are cut off there, characters.
pub const MAX_RUN_TAG_VALUE_CHARS: usize = 8_000;
/// Longest dataset schema, characters.
pub const MAX_DATASET_SCHEMA_CHARS: usize = (1 << 20) - 1;
/// Longest dataset profile, characters.
pub const MAX_DATASET_PROFILE_CHARS: usize = (1 << 24) - 1;

const MAX_BATCH_METRICS: usize = 1_000;
const MAX_BATCH_PARAMS: usize = 100;
const MAX_BATCH_TAGS: usize = 100;
const MAX_BATCH_ENTITIES: usize = 1_000;
const MAX_KEY_CHARS: usize = 250;
const MAX_EXPERIMENT_NAME_CHARS: usize = 500;
const MAX_EXPERIMENT_TAG_VALUE_CHARS: usize = 20_000;
const MAX_ARTIFACT_LOCATION_CHARS: usize = 2_048;
const MAX_MODEL_NAME_CHARS: usize = 256;
const MAX_REGISTRY_TAG_VALUE_CHARS: usize = 100_000;
const MAX_ALIAS_CHARS: usize = 255;
const MAX_RUN_ID_CHARS: usize = 256;
const MAX_DATASET_NAME_CHARS: usize = 500;
const MAX_DATASET_DIGEST_CHARS: usize = 36;
const MAX_DATASET_SOURCE_CHARS: usize = 65_535;
const MAX_INPUT_TAG_KEY_CHARS: usize = 255;
const MAX_INPUT_TAG_VALUE_CHARS: usize = 500;
const KEY_CHARACTERS: &str = "Names may only contain alphanumerics, underscores (_), dashes (-), periods \
    (.), spaces ( ), colon(:) and slashes (/).";

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

/// A path as Python's `posixpath.normpath` writes it, which is how MLflow judges names.
/// Source: <https://docs.python.org/3/library/os.path.html#os.path.normpath>.
fn normalised(path: &str) -> String {
    let root = match path.bytes().take_while(|byte| *byte == b'/').count() {
        0 => "",
        2 => "//",
        _ => "/",
    };
    let mut segments: Vec<&str> = Vec::new();
    for segment in path.split('/').filter(|segment| !matches!(*segment, "" | ".")) {
        let leaves_start = segments.last().map_or(root.is_empty(), |last| *last == "..");
        match segment {
            ".." if leaves_start => segments.push(".."),
            ".." => _ = segments.pop(),
            other => segments.push(other),
        }
    }
    let joined = format!("{root}{}", segments.join("/"));
    if joined.is_empty() { ".".to_owned() } else { joined }
}

/// Names may be treated as file names, so each has to be written the one way in which it resolves to itself.
fn validate_resolves_to_itself(field: &str, name: &str) -> Result<(), Invalid> {
    let resolved = normalised(name);
    if resolved == name && name != "." && !name.starts_with("..") && !name.starts_with('/') {
        return Ok(());
    }
    let why = format!(
        "Names may be treated as files in certain cases, and must not resolve to other names when treated as \
         such. This name would resolve to {}",
        quoted(&resolved)
    );
    Err(invalid_value(field, name, &why))
}

/// A text in quotes, as Python's `repr` chooses them and MLflow's messages show them.
fn quoted(text: &str) -> String {
    let quote = if text.contains('\'') && !text.contains('"') { '"' } else { '\'' };
    let mut shown = String::from(quote);
    for character in text.chars() {
        match character {
            '\n' => shown.push_str("\\n"),
            '\r' => shown.push_str("\\r"),
            '\t' => shown.push_str("\\t"),
            '\\' => shown.push_str("\\\\"),
            '\'' if quote == '\'' => shown.push_str("\\'"),
            other => shown.push(other),
        }
    }
    shown.push(quote);
    shown
}

fn validate_key(field: &str, length_name: &str, key: &str) -> Result<(), Invalid> {
    if !key.chars().all(|character| is_word(character) || "/.-: ".contains(character)) {
        return Err(invalid_value(field, key, KEY_CHARACTERS));
    }
    validate_resolves_to_itself(field, key)?;
    at_most(length_name, key, MAX_KEY_CHARS)
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
    validate_key("key", "key", key)?;
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
    if lawful {
        return Ok(());
    }
    let shown = serde_json::Value::from(run_id);
    Err(Invalid::new("run_id", format!("Invalid value {shown} for parameter 'run_id' supplied.")))
}

/// A metric's key, value and timestamp. `path` is where the metric stands in the request, e.g. `metrics[3].`;
/// empty for the request itself.
pub fn validate_metric(path: &str, key: &str, value: f64, timestamp_unix_ms: i64) -> Result<(), Invalid> {
    // MLflow names the key `name` here, and so do its messages.
    validate_key(&format!("{path}name"), "Metric name", key)?;
    if timestamp_unix_ms >= 0 {
        return Ok(());
    }
    let field = format!("{path}timestamp");
    let message = format!(
        "Invalid value {timestamp_unix_ms} for parameter '{field}' supplied: metric '{key}' \
         (value={value:?}). Timestamp must be a nonnegative long (64-bit integer) "
    );
    Err(Invalid::new(field, message))
}

/// A parameter's key. Its value may be empty and is cut off by [`truncate_param_value`].
pub fn validate_param_key(field: &str, key: &str) -> Result<(), Invalid> {
    validate_key(field, "Param key", key)
}

/// A run tag's key. Its value may be empty and is cut off by [`truncate_run_tag_value`].
pub fn validate_run_tag_key(field: &str, key: &str) -> Result<(), Invalid> {
    validate_key(field, field, key)
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
                "A batch logging request can contain at most {limit} {what}. Got {got} {what}. Please split \
                 up {what} across multiple requests and try again."
            );
            return Err(Invalid::new(what, message));
        }
    }
    let mut seen = BTreeSet::new();
    let twice: Vec<&str> = param_keys.into_iter().filter(|key| !seen.insert(*key)).collect();
    if twice.is_empty() {
        return Ok(());
    }
    let twice: Vec<String> = twice.into_iter().map(quoted).collect();
    let message = format!(
        "Duplicate parameter keys have been submitted: [{}]. Please ensure the request contains only one \
         param value per param key.",
        twice.join(", ")
    );
    Err(Invalid::new("params", message))
}

/// A registered model's name: it is a path segment of URLs and model URIs. `field` is where it stands in the
/// request.
pub fn validate_model_name(field: &str, name: &str) -> Result<(), Invalid> {
    if name.trim().is_empty() {
        return Err(missing(field));
    }
    if name.contains(['/', ':']) {
        let message = format!("Invalid model name '{name}'. Names cannot contain '/' or ':'.");
        return Err(Invalid::new(field, message));
    }
    validate_resolves_to_itself("name", name)?;
    at_most("name", name, MAX_MODEL_NAME_CHARS)
}

/// A logged model's name: not empty, and without characters that separate the parts of a model URI or of a
/// file name.
pub fn validate_logged_model_name(name: &str) -> Result<(), Invalid> {
    if !name.is_empty() && !name.contains(['/', ':', '.', '%', '"', '\'']) {
        return Ok(());
    }
    let message = format!(
        "Invalid model name ({}) provided. Model name must be a non-empty string and cannot contain the \
         following characters: ('/', ':', '.', '%', '\"', \"'\")",
        quoted(name)
    );
    Err(Invalid::new("name", message))
}

/// A tag of a registered model or of a model version.
pub fn validate_registry_tag(key: &str, value: &str) -> Result<(), Invalid> {
    validate_key("key", "key", key)?;
    at_most("value", value, MAX_REGISTRY_TAG_VALUE_CHARS)
}

/// A model version's number as it stands in a request. Any integer is a number; those below 1 name no
/// version.
pub fn validate_version(version: &str) -> Result<i32, Invalid> {
    let message = || format!("Parameter 'version' must be an integer, got '{version}'.");
    let number: i64 = version.trim().parse().map_err(|_| Invalid::new("version", message()))?;
    // Beyond the range of the column there are no versions.
    Ok(i32::try_from(number).unwrap_or(if number < 0 { i32::MIN } else { i32::MAX }))
}

/// The id of an experiment as it stands in a request.
pub fn validate_experiment_id(experiment_id: &str) -> Result<i64, Invalid> {
    experiment_id.trim().parse().map_err(|_| {
        let message =
            format!("Invalid experiment ID '{experiment_id}'. Experiment ID must be a valid integer.");
        Invalid::new("experiment_id", message)
    })
}

/// Where an experiment keeps its artifacts: a directory of its own, and so no `runs:/` URI, query or
/// fragment.
pub fn validate_artifact_location(location: &str) -> Result<(), Invalid> {
    let field = "artifact_location";
    // `;` begins the parameters of the last segment in URLs of these schemes (RFC 1808).
    let scheme = location.split_once(':').map_or("", |(scheme, _)| scheme);
    let takes_params = matches!(scheme, "" | "http" | "https" | "ftp" | "sftp");
    let has_params = takes_params && location.rsplit('/').next().is_some_and(|last| last.contains(';'));
    if has_params || location.contains(['#', '?']) {
        let message = "'artifact_location' URL can't include fragments or params.";
        return Err(Invalid::new(field, message));
    }
    if location.chars().count() > MAX_ARTIFACT_LOCATION_CHARS {
        let message = format!(
            "Invalid artifact path length. The length of the artifact path cannot be greater than \
             {MAX_ARTIFACT_LOCATION_CHARS} characters."
        );
        return Err(Invalid::new(field, message));
    }
    if location.starts_with("runs:") {
        let message = format!("Artifact location cannot be a runs:/ URI. Given: '{location}'");
        return Err(Invalid::new(field, message));
    }
    Ok(())
}

/// An alias: `[\w-]{1,255}`.
pub fn validate_alias_name(alias: &str) -> Result<(), Invalid> {
    if alias.is_empty() {
        return Err(Invalid::new("alias", "Registered model alias name cannot be empty."));
    }
    if !alias.chars().all(|character| is_word(character) || character == '-') {
        let message = format!(
            "Invalid alias name: '{alias}'. Names may only contain alphanumerics, underscores (_), and \
             dashes (-)."
        );
        return Err(Invalid::new("alias", message));
    }
    at_most("Registered model alias name", alias, MAX_ALIAS_CHARS)
}

/// An alias that may be set: neither `latest` nor `v` with a number, which mean versions.
pub fn validate_alias(alias: &str) -> Result<(), Invalid> {
    validate_alias_name(alias)?;
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
    source: &str,
    schema: Option<&str>,
    profile: Option<&str>,
) -> Result<(), Invalid> {
    for (field, value) in [("name", name), ("digest", digest)] {
        if value.is_empty() {
            return Err(missing(field));
        }
    }
    let limits = [
        ("name", name, MAX_DATASET_NAME_CHARS),
        ("digest", digest, MAX_DATASET_DIGEST_CHARS),
        ("source", source, MAX_DATASET_SOURCE_CHARS),
        ("schema", schema.unwrap_or_default(), MAX_DATASET_SCHEMA_CHARS),
        ("profile", profile.unwrap_or_default(), MAX_DATASET_PROFILE_CHARS),
    ];
    limits.into_iter().try_for_each(|(field, value, limit)| at_most(field, value, limit))
}

/// A tag of a dataset input.
pub fn validate_input_tag(key: &str, value: &str) -> Result<(), Invalid> {
    at_most("key", key, MAX_INPUT_TAG_KEY_CHARS)?;
    at_most("value", value, MAX_INPUT_TAG_VALUE_CHARS)
}

/// `max_results` of a search: from 1 to `limit`, `default` where absent.
pub fn validate_max_results(asked: Option<i64>, default: usize, limit: usize) -> Result<usize, Invalid> {
    let Some(asked) = asked else { return Ok(default.min(limit)) };
    let invalid = |why: String| {
        let message = format!("Invalid value {asked} for parameter 'max_results' supplied. {why}");
        Invalid::new("max_results", message)
    };
    match usize::try_from(asked) {
        Ok(asked) if (1..=limit).contains(&asked) => Ok(asked),
        Ok(asked) if asked > limit => Err(invalid(format!("It must be at most {limit}"))),
        _ => Err(invalid("It must be a positive integer".to_owned())),
    }
}
