//! What makes a version trusted: signatures, reports, approvals, and policies that guard aliases.

use serde::{Deserialize, Serialize};
use slipway_domain::registry::promotion::{Outcome, Rule};
use slipway_domain::registry::report::{DatasetName, Gap, Latency, Segment};
use utoipa::{IntoParams, ToSchema};

use super::JsonObject;

/// Result of the verification of a signature.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct SignatureVerdict {
    /// State of the signature.
    pub state: SignatureState,
    /// Name of the trusted key or root certificates that verified it.
    pub key: Option<String>,
    /// Subject of the signer's certificate, or fingerprint of its key.
    pub signer: Option<String>,
    /// Explanation.
    pub detail: String,
    /// Files that differ from what was signed; the first hundred.
    pub differences: Vec<Difference>,
}

/// State of a signature.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum SignatureState {
    /// There is none.
    Unsigned,
    /// A trusted key signed exactly these files.
    Valid,
    /// The key is not trusted.
    UntrustedKey,
    /// The files, or what was signed, differ.
    Mismatch,
    /// It cannot be verified here.
    NotVerifiable,
    /// It is not a signature of a model.
    Malformed,
}

/// A file that differs from what was signed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Difference {
    /// Path within the version.
    pub path: String,
    /// How it differs, e.g. `changed`.
    pub kind: String,
}

/// How a version is signed: the best of its signatures, and each of them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct VersionSignature {
    /// Verdict on the best signature.
    #[serde(flatten)]
    pub verdict: SignatureVerdict,
    /// Each signature.
    pub signatures: Vec<FoundSignature>,
}

/// A signature and its verdict.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct FoundSignature {
    /// Verdict on it.
    #[serde(flatten)]
    pub verdict: SignatureVerdict,
    /// File of the version that contains it, or `attached`.
    pub found_in: String,
    /// Time when it was found or attached.
    pub created_at_unix_ms: i64,
}

/// A Sigstore bundle, as OpenSSF Model Signing writes it.
/// Source: <https://github.com/sigstore/protobuf-specs/blob/main/protos/sigstore_bundle.proto>.
pub type Bundle = JsonObject;

/// A trusted key, or trusted root certificates.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct SigningKey {
    /// Name, as verdicts and policies show it.
    pub name: String,
    /// `key` or `certificates`.
    pub kind: Option<String>,
    /// Fingerprints, SHA-256.
    pub fingerprints: Option<Vec<String>>,
    /// Description.
    pub description: Option<String>,
    /// Algorithm of the key, or subjects of the certificates.
    pub of: Option<String>,
    /// The key or the certificates, PEM.
    pub pem: String,
    /// Creation time.
    pub created_at_unix_ms: i64,
    /// Time of the last change.
    pub updated_at_unix_ms: i64,
}

/// A page of keys, by name.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct SigningKeyPage {
    /// The keys.
    pub signing_keys: Vec<SigningKey>,
    /// Token of the next page; unset on the last one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub next_page_token: Option<String>,
}

/// A key to be trusted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct NewSigningKey {
    /// A public key, or root certificates, PEM.
    pub pem: String,
    /// Description.
    #[serde(default)]
    pub description: Option<String>,
}

/// A report without its segments.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct ReportSummary {
    /// ID of the report.
    pub id: String,
    /// Name of the report; of several with one name the newest counts.
    pub name: String,
    /// The data set.
    pub dataset: DatasetName,
    /// Number of rows.
    pub rows: u64,
    /// Metrics over all rows.
    pub metrics: std::collections::BTreeMap<String, f64>,
    /// Latency of a prediction.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub latency: Option<Latency>,
    /// What created it, e.g. the URL of a pipeline run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source: Option<String>,
    /// Gaps between segments.
    pub gaps: Vec<Gap>,
    /// Creation time.
    pub created_at_unix_ms: i64,
}

/// A report with its segments.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct ReportDetails {
    /// The report.
    #[serde(flatten)]
    pub summary: ReportSummary,
    /// Metrics by value of an attribute.
    pub segments: Vec<Segment>,
}

/// A page of reports, newest first.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct ReportPage {
    /// The reports.
    pub reports: Vec<ReportSummary>,
    /// Token of the next page; unset on the last one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub next_page_token: Option<String>,
}

/// Which reports are listed.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub struct ReportsQuery {
    /// Only reports of this name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    // No `flatten`: with it, numbers of a query string arrive as text.
    /// Maximum number of items, 1 to 1000 [default: 50].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub limit: Option<u32>,
    /// `next_page_token` of the previous page.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub page_token: Option<String>,
}

/// An approval to be given.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct NewApproval {
    /// Approver. With access control on it is the caller, and may be unset.
    #[serde(default)]
    #[schema(example = "ada")]
    pub by: Option<String>,
    /// Reason.
    #[serde(default)]
    pub comment: Option<String>,
}

/// An approval of a version.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Approval {
    /// Approver.
    pub by: String,
    /// Reason.
    pub comment: Option<String>,
    /// Time of the approval.
    pub at_unix_ms: i64,
    /// Whether the approver was authenticated; with access control off, the client chose the name.
    pub authenticated: bool,
}

/// A page of approvals, by name.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ApprovalPage {
    /// The approvals.
    pub approvals: Vec<Approval>,
    /// Token of the next page; unset on the last one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub next_page_token: Option<String>,
}

/// The policy of an alias.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct AliasPolicy {
    /// The alias.
    pub alias: String,
    /// Rules that a version has to pass.
    pub rules: Vec<Rule>,
    /// Time of the last change.
    pub updated_at_unix_ms: i64,
}

/// The policies of a model.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct AliasPolicies {
    /// By alias.
    pub policies: Vec<AliasPolicy>,
}

/// The alias that a version is checked for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub struct PromotionQuery {
    /// The alias, with or without a policy.
    pub alias: String,
}

/// Whether an alias can be set to a version.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Promotion {
    /// The alias.
    pub alias: String,
    /// Whether it has a policy.
    pub guarded: bool,
    /// Whether it can be set to the version.
    pub allowed: bool,
    /// Outcome of each rule.
    pub rules: Vec<Outcome>,
}
