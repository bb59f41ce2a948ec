//! Names, keys and lengths.

use std::collections::BTreeSet;

use super::violation::{Broken, Subject, Violation};

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
const KEY_FORM: &str = "letters, digits, _, -, ., :, / and spaces";
const MODEL_NAME_FORM: &str = "a name without '/' and ':'";
const LOGGED_MODEL_NAME_FORM: &str = "a name without '/', ':', '.', '%' and quotes";
const RUN_ID_FORM: &str = "up to 256 letters, digits, _ and -, the first a letter or digit";
const ALIAS_FORM: &str = "letters, digits, _ and -";

/// A field with its value.
#[derive(Clone, Copy)]
struct Given<'value> {
    field: &'value str,
    subject: Subject,
    value: &'value str,
}

impl<'value> Given<'value> {
    fn new(field: &'value str, subject: Subject, value: &'value str) -> Self {
        Self { field, subject, value }
    }

    fn breaks(self, broken: Broken) -> Violation {
        Violation::new(self.field, self.subject, self.value, broken)
    }

    fn at_most(self, max_chars: usize) -> Result<(), Violation> {
        if self.value.chars().count() <= max_chars {
            return Ok(());
        }
        Err(self.breaks(Broken::TooLong { max_chars }))
    }

    /// Names may be treated as file names, so each has to be written the one way in which it resolves to
    /// itself.
    fn resolves_to_itself(self) -> Result<(), Violation> {
        let (name, resolved) = (self.value, normalised(self.value));
        if resolved == name && name != "." && !name.starts_with("..") && !name.starts_with('/') {
            return Ok(());
        }
        Err(self.breaks(Broken::ResolvesTo { resolved }))
    }

    fn is_key(self) -> Result<(), Violation> {
        if !self.value.chars().all(|character| is_word(character) || "/.-: ".contains(character)) {
            return Err(self.breaks(Broken::Form { expected: KEY_FORM }));
        }
        self.resolves_to_itself()?;
        self.at_most(MAX_KEY_CHARS)
    }
}

fn is_word(character: char) -> bool {
    character.is_alphanumeric() || character == '_'
}

/// A path as Python's `posixpath.normpath` writes it, which is how names are judged.
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

/// An experiment's name: 1 to 500 characters.
pub fn validate_experiment_name(name: &str) -> Result<(), Violation> {
    let given = Given::new("name", Subject::ExperimentName, name);
    if name.is_empty() {
        return Err(given.breaks(Broken::Missing));
    }
    given.at_most(MAX_EXPERIMENT_NAME_CHARS)
}

/// A tag of an experiment.
pub fn validate_experiment_tag(key: &str, value: &str) -> Result<(), Violation> {
    validate_tag(key, value, MAX_EXPERIMENT_TAG_VALUE_CHARS)
}

fn validate_tag(key: &str, value: &str, max_value_chars: usize) -> Result<(), Violation> {
    Given::new("key", Subject::Tag, key).is_key()?;
    Given::new("value", Subject::Tag, value).at_most(max_value_chars)
}

/// A run id: `[a-zA-Z0-9][\w-]{0,255}`.
pub fn validate_run_id(run_id: &str) -> Result<(), Violation> {
    let given = Given::new("run_id", Subject::RunId, run_id);
    if run_id.is_empty() {
        return Err(given.breaks(Broken::Missing));
    }
    let lawful = run_id.starts_with(|first: char| first.is_ascii_alphanumeric())
        && run_id.chars().all(|character| is_word(character) || character == '-')
        && run_id.chars().count() <= MAX_RUN_ID_CHARS;
    if lawful { Ok(()) } else { Err(given.breaks(Broken::Form { expected: RUN_ID_FORM })) }
}

/// A metric's key, value and timestamp. `path` is where the metric stands in the request, e.g. `metrics[3].`;
/// empty for the request itself.
pub fn validate_metric(path: &str, key: &str, value: f64, timestamp_unix_ms: i64) -> Result<(), Violation> {
    Given::new(&format!("{path}key"), Subject::MetricKey, key).is_key()?;
    if timestamp_unix_ms >= 0 {
        return Ok(());
    }
    let (field, time) = (format!("{path}timestamp"), timestamp_unix_ms.to_string());
    let of = format!("metric '{key}' (value={value:?})");
    Err(Given::new(&field, Subject::MetricTime, &time).breaks(Broken::Below { min: 0, of }))
}

/// A parameter's key. Its value may be empty and is cut off by [`truncate_param_value`].
pub fn validate_param_key(field: &str, key: &str) -> Result<(), Violation> {
    Given::new(field, Subject::ParamKey, key).is_key()
}

/// A run tag's key. Its value may be empty and is cut off by [`truncate_run_tag_value`].
pub fn validate_run_tag_key(field: &str, key: &str) -> Result<(), Violation> {
    Given::new(field, Subject::RunTagKey, key).is_key()
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
) -> Result<(), Violation> {
    let limits = [
        ("metrics", "metrics", size.metrics, MAX_BATCH_METRICS),
        ("params", "params", size.params, MAX_BATCH_PARAMS),
        ("tags", "tags", size.tags, MAX_BATCH_TAGS),
        // The limit on all three together has no field of its own.
        ("metrics", "metrics, params, and tags", size.metrics + size.params + size.tags, MAX_BATCH_ENTITIES),
    ];
    for (field, what, got, max) in limits {
        if got > max {
            return Err(Given::new(field, Subject::Batch, "").breaks(Broken::TooMany { what, got, max }));
        }
    }
    let mut seen = BTreeSet::new();
    let keys: Vec<String> =
        param_keys.into_iter().filter(|key| !seen.insert(*key)).map(str::to_owned).collect();
    if keys.is_empty() {
        return Ok(());
    }
    Err(Given::new("params", Subject::Batch, "").breaks(Broken::Duplicates { keys }))
}

/// A registered model's name: it is a path segment of URLs and model URIs. `field` is where it stands in the
/// request.
pub fn validate_model_name(field: &str, name: &str) -> Result<(), Violation> {
    let given = Given::new(field, Subject::ModelName, name);
    if name.trim().is_empty() {
        return Err(given.breaks(Broken::Missing));
    }
    if name.contains(['/', ':']) {
        return Err(given.breaks(Broken::Form { expected: MODEL_NAME_FORM }));
    }
    given.resolves_to_itself()?;
    given.at_most(MAX_MODEL_NAME_CHARS)
}

/// A logged model's name: not empty, and without characters that separate the parts of a model URI or of a
/// file name.
pub fn validate_logged_model_name(name: &str) -> Result<(), Violation> {
    if !name.is_empty() && !name.contains(['/', ':', '.', '%', '"', '\'']) {
        return Ok(());
    }
    let given = Given::new("name", Subject::LoggedModelName, name);
    Err(given.breaks(Broken::Form { expected: LOGGED_MODEL_NAME_FORM }))
}

/// A tag of a registered model or of a model version.
pub fn validate_registry_tag(key: &str, value: &str) -> Result<(), Violation> {
    validate_tag(key, value, MAX_REGISTRY_TAG_VALUE_CHARS)
}

/// A model version's number as it stands in a request. Any integer is a number; those below 1 name no
/// version.
pub fn validate_version(version: &str) -> Result<i32, Violation> {
    let number = integer(Given::new("version", Subject::Version, version))?;
    // Beyond the range of the column there are no versions.
    Ok(i32::try_from(number).unwrap_or(if number < 0 { i32::MIN } else { i32::MAX }))
}

/// The id of an experiment as it stands in a request.
pub fn validate_experiment_id(experiment_id: &str) -> Result<i64, Violation> {
    integer(Given::new("experiment_id", Subject::ExperimentId, experiment_id))
}

fn integer(given: Given<'_>) -> Result<i64, Violation> {
    given.value.trim().parse().map_err(|_| given.breaks(Broken::NotAnInteger))
}

/// Where an experiment keeps its artifacts: a directory of its own, and so no `runs:/` URI, query or
/// fragment.
pub fn validate_artifact_location(location: &str) -> Result<(), Violation> {
    let given = Given::new("artifact_location", Subject::ArtifactLocation, location);
    // `;` begins the parameters of the last segment in URLs of these schemes (RFC 1808).
    let scheme = location.split_once(':').map_or("", |(scheme, _)| scheme);
    let takes_params = matches!(scheme, "" | "http" | "https" | "ftp" | "sftp");
    let has_params = takes_params && location.rsplit('/').next().is_some_and(|last| last.contains(';'));
    if has_params || location.contains(['#', '?']) {
        return Err(given.breaks(Broken::UrlExtras));
    }
    given.at_most(MAX_ARTIFACT_LOCATION_CHARS)?;
    if location.starts_with("runs:") { Err(given.breaks(Broken::RunUri)) } else { Ok(()) }
}

/// An alias: `[\w-]{1,255}`.
pub fn validate_alias_name(alias: &str) -> Result<(), Violation> {
    let given = Given::new("alias", Subject::Alias, alias);
    if alias.is_empty() {
        return Err(given.breaks(Broken::Missing));
    }
    if !alias.chars().all(|character| is_word(character) || character == '-') {
        return Err(given.breaks(Broken::Form { expected: ALIAS_FORM }));
    }
    given.at_most(MAX_ALIAS_CHARS)
}

/// An alias that may be set: neither `latest` nor `v` with a number, which mean versions.
pub fn validate_alias(alias: &str) -> Result<(), Violation> {
    validate_alias_name(alias)?;
    let digits = alias.strip_prefix(['v', 'V']).unwrap_or_default();
    let is_version = !digits.is_empty() && digits.chars().all(|character| character.is_ascii_digit());
    if alias.eq_ignore_ascii_case("latest") || is_version {
        return Err(Given::new("alias", Subject::Alias, alias).breaks(Broken::Reserved));
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
) -> Result<(), Violation> {
    let given = |field, value| Given::new(field, Subject::Dataset, value);
    for given in [given("name", name), given("digest", digest)] {
        if given.value.is_empty() {
            return Err(given.breaks(Broken::Missing));
        }
    }
    given("name", name).at_most(MAX_DATASET_NAME_CHARS)?;
    given("digest", digest).at_most(MAX_DATASET_DIGEST_CHARS)?;
    given("source", source).at_most(MAX_DATASET_SOURCE_CHARS)?;
    given("schema", schema.unwrap_or_default()).at_most(MAX_DATASET_SCHEMA_CHARS)?;
    given("profile", profile.unwrap_or_default()).at_most(MAX_DATASET_PROFILE_CHARS)
}

/// A tag of a dataset input.
pub fn validate_input_tag(key: &str, value: &str) -> Result<(), Violation> {
    Given::new("key", Subject::Tag, key).at_most(MAX_INPUT_TAG_KEY_CHARS)?;
    Given::new("value", Subject::Tag, value).at_most(MAX_INPUT_TAG_VALUE_CHARS)
}

/// `max_results` of a search: from 1 to `limit`, `default` where absent.
pub fn validate_max_results(asked: Option<i64>, default: usize, limit: usize) -> Result<usize, Violation> {
    let Some(asked) = asked else { return Ok(default.min(limit)) };
    let shown = asked.to_string();
    let given = Given::new("max_results", Subject::MaxResults, &shown);
    match usize::try_from(asked) {
        Ok(asked) if (1..=limit).contains(&asked) => Ok(asked),
        Ok(asked) if asked > limit => Err(given.breaks(Broken::Above { max: limit })),
        _ => Err(given.breaks(Broken::Below { min: 1, of: String::new() })),
    }
}
