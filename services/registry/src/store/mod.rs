//! All SQL of the registry. Functions take a connection, so that a request is one transaction.

pub(crate) mod access;
pub(crate) mod artifacts;
pub(crate) mod blobs;
pub(crate) mod datasets;
pub(crate) mod deliveries;
pub(crate) mod deployed;
pub(crate) mod deployments;
pub(crate) mod direct_uploads;
pub(crate) mod experiments;
pub(crate) mod facts;
pub(crate) mod import_deliveries;
pub(crate) mod imports;
pub(crate) mod logged_models;
pub(crate) mod metrics;
pub(crate) mod model_versions;
pub(crate) mod policies;
pub(crate) mod purge;
pub(crate) mod registered_models;
pub(crate) mod reports;
pub(crate) mod retention;
pub(crate) mod run_page;
pub(crate) mod run_search;
pub(crate) mod runs;
pub(crate) mod search;
pub(crate) mod signatures;
pub(crate) mod tags;
pub(crate) mod webhooks;

/// Key and value of a tag or parameter.
pub(crate) type Pair = (String, String);
/// Such pairs as `json_agg(json_build_array(key, value))` brings them.
pub(crate) type Pairs = sqlx::types::Json<Vec<Pair>>;

/// Keys and values apart, for `UNNEST`; of a repeated key the last value stays.
pub(crate) fn columns(pairs: &[Pair]) -> (Vec<&str>, Vec<&str>) {
    let unique: std::collections::BTreeMap<&str, &str> =
        pairs.iter().map(|(key, value)| (key.as_str(), value.as_str())).collect();
    unique.into_iter().unzip()
}
