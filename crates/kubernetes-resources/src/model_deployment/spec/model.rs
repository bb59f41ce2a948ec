//! Which version of which model.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// The model, and which of its versions is wanted: exactly one of `version`, `alias`, `digest` and
/// `storage_uri`.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ModelRef {
    /// Registered model; required unless `storage_uri` is set. It cannot be changed. [default with
    /// `storage_uri`: `NAMESPACE.NAME` of this object]
    #[serde(default)]
    pub name: Option<String>,
    /// Version.
    #[serde(default)]
    pub version: Option<String>,
    /// Alias: each version that it is set to is rolled out.
    #[serde(default)]
    pub alias: Option<String>,
    /// Manifest digest of the version, `sha256:…`; the newest version that has it is served.
    #[serde(default)]
    pub digest: Option<String>,
    /// Where the model is outside of the registry: `s3://BUCKET/PREFIX`, `https://HOST/FILE`,
    /// `oci://REGISTRY/REPOSITORY:TAG` or `pvc://CLAIM/PATH`. It is registered once for each content. The
    /// registry must allow the address. A claim of the namespace is read by a Job.
    #[serde(default)]
    pub storage_uri: Option<String>,
    /// ServiceAccount of the namespace with whose S3 credentials a Job reads an `s3://` address of
    /// `storage_uri`: a Secret that it lists, with the annotations and keys of KServe. The registry does not
    /// have to allow the address. If it lists no such Secret, the registry reads the address.
    /// [default: the registry reads it]
    #[serde(default)]
    pub storage_service_account: Option<String>,
    /// Whether new content of `storage_uri` becomes a new version and a rollout [default: false].
    #[serde(default)]
    pub watch: bool,
}
