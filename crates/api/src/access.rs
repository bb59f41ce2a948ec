//! Tokens, roles and OIDC settings as the registry publishes them through NATS KV, for the services that
//! check their callers without asking the registry.
//!
//! Entries have digests of secrets only. Keys: [`HEAD_KEY`], `token.<token id>`, `subject.<SHA-256 of the
//! subject>`.

use serde::{Deserialize, Serialize};
use serde_json::Value;

/// KV bucket of access entries. Only the registry writes it.
pub const ACCESS_BUCKET: &str = "slipway-access";
/// Key of the [`Head`].
pub const HEAD_KEY: &str = "head";
/// Prefix of the keys of [`TokenEntry`]s.
pub const TOKEN_PREFIX: &str = "token.";
/// Prefix of the keys of [`SubjectEntry`]s.
pub const SUBJECT_PREFIX: &str = "subject.";
/// The registry writes the head this often, in seconds, and after each change.
pub const HEARTBEAT_S: u64 = 5;
/// The bucket tells this long that an entry was deleted, in seconds. A reader that was unreachable for longer
/// reads the whole bucket.
pub const MARKER_MAX_AGE_S: u64 = 3_600;

/// What the bucket holds, and as of when. It is written after the entries that it describes.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Head {
    /// Unix time in milliseconds at which the registry compared the bucket with its tables.
    pub published_at_unix_ms: u64,
    /// Whether access control is on at the registry. If it is off, there are no entries.
    pub enabled: bool,
    /// Digest of all other entries, 64 hexadecimal digits: a reader that has other entries reads the bucket
    /// again.
    pub digest: String,
    /// Tokens of the registry's configuration.
    pub configured: Vec<ConfiguredToken>,
    /// Role of training jobs on everything.
    pub job_role: String,
    /// Whose identity tokens are accepted; absent if only API tokens are.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub oidc: Option<OidcHead>,
}

/// A token of the configuration.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ConfiguredToken {
    /// SHA-256 of the whole token, 64 hexadecimal digits.
    pub sha256: String,
    /// Its principal.
    pub principal: String,
    /// Its name in the audit trail, e.g. `admin-token`.
    pub credential: String,
    /// Its roles.
    pub grants: Vec<GrantEntry>,
}

/// How identity tokens are checked.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct OidcHead {
    /// `iss` of accepted tokens.
    pub issuer: String,
    /// `aud` of accepted tokens.
    pub audience: String,
    /// Claim that names the caller.
    pub principal_claim: String,
    /// Claim that lists the caller's groups.
    pub groups_claim: String,
    /// The issuer's public keys, as JSON Web Keys (RFC 7517).
    pub keys: Vec<Value>,
}

/// An API token.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TokenEntry {
    /// Its principal, whose grants apply to it.
    pub principal: String,
    /// SHA-256 of its secret part, 64 hexadecimal digits.
    pub secret_sha256: String,
    /// Unix time in milliseconds at which it expires; absent if it is valid until it is revoked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires_at_unix_ms: Option<i64>,
}

/// All roles of a principal or a group.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SubjectEntry {
    /// A principal, or `group:<name>`.
    pub subject: String,
    /// Its roles.
    pub grants: Vec<GrantEntry>,
}

/// A role on something.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct GrantEntry {
    /// `*`, `experiment:<id>` or `model:<name>`.
    pub scope: String,
    /// `viewer`, `editor`, `deployer` or `admin`.
    pub role: String,
}
