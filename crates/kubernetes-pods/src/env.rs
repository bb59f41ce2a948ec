//! Environment variables.

use k8s_openapi::api::core::v1::{EnvVar, EnvVarSource, ObjectFieldSelector};

/// A variable with this value.
pub fn plain(name: &str, value: impl Into<String>) -> EnvVar {
    EnvVar { name: name.to_owned(), value: Some(value.into()), value_from: None }
}

/// A variable with a value from elsewhere.
pub fn from_source(name: &str, source: EnvVarSource) -> EnvVar {
    EnvVar { name: name.to_owned(), value: None, value_from: Some(source) }
}

/// A variable with the value of a field of the pod itself, e.g. `metadata.name`.
pub fn from_field(name: &str, path: &str) -> EnvVar {
    let selector = ObjectFieldSelector { field_path: path.to_owned(), ..ObjectFieldSelector::default() };
    from_source(name, EnvVarSource { field_ref: Some(selector), ..EnvVarSource::default() })
}
