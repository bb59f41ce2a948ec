//! Rules of the registry: what may be named and stored, what identifies a model version, and how searches are
//! written.

mod content;
mod cursor;
pub mod deployed;
mod names;
mod order;
mod page;
pub mod promotion;
pub mod report;
pub mod retention;
mod search;
mod signature;
mod terms;
mod violation;
pub mod webhook;

/// The grammar of MLflow's search filters.
pub mod filter {
    pub use super::order::{Order, parse_order_by};
    pub use super::search::{Clause, Operand, parse};
    pub use super::terms::{Comparison, Entity, Key, ParseError};
}

pub use content::{FileDigest, manifest_digest, new_artifact_path, normalise_artifact_path};
pub use names::{
    BatchSize, MAX_BATCH_BODY_BYTES, MAX_DATASET_PROFILE_CHARS, MAX_DATASET_SCHEMA_CHARS,
    MAX_PARAM_VALUE_CHARS, MAX_RUN_TAG_VALUE_CHARS, truncate_param_value, truncate_run_tag_value,
    validate_alias, validate_alias_name, validate_artifact_location, validate_batch, validate_dataset,
    validate_experiment_id, validate_experiment_name, validate_experiment_tag, validate_input_tag,
    validate_logged_model_name, validate_max_results, validate_metric, validate_model_name,
    validate_param_key, validate_registry_tag, validate_run_id, validate_run_tag_key, validate_version,
};
pub use page::{decode_page_token, encode_page_token};
pub use signature::{Signature, SignatureInput, TensorSpec, ValueKind, check_signature};
pub use violation::{Broken, Subject, Violation};

#[cfg(test)]
mod tests;
