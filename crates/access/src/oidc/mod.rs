//! Identity tokens of an OIDC issuer: signature, issuer, audience and times are checked; who it is and which
//! groups it is in are read.
//!
//! Sources: OpenID Connect Discovery 1.0, RFC 7517 (keys), RFC 7519 (tokens), RFC 8725 (their pitfalls).
//! Signatures are RS256, ES256 or EdDSA; `none` and shared secrets are never accepted.

mod check;
mod claims;
mod extensions;
mod key_set;
mod keys;
mod published;
mod signatures;

use slipway_api::access::OidcHead;

use check::Check;
pub use claims::Identity;
use keys::Keys;
pub use published::PublishedOidc;

/// Whose tokens are accepted.
#[derive(Debug, Clone, Default, clap::Args)]
#[command(next_help_heading = "OpenID Connect")]
pub struct OidcConfig {
    /// Issuer of accepted identity tokens, as in their `iss`. Its keys are found through its discovery
    /// document. [default: only API tokens are accepted]
    #[arg(long, env = "SLIPWAY_OIDC_ISSUER", value_name = "URL")]
    pub oidc_issuer: Option<String>,
    /// Required value of a token's `aud`: the id under which the issuer knows Slipway.
    #[arg(long, env = "SLIPWAY_OIDC_AUDIENCE", default_value = "slipway", value_name = "AUDIENCE")]
    pub oidc_audience: String,
    /// Claim with the caller's name, e.g. `sub`, `email` or `preferred_username`.
    #[arg(long, env = "SLIPWAY_OIDC_PRINCIPAL_CLAIM", default_value = "sub", value_name = "CLAIM")]
    pub oidc_principal_claim: String,
    /// Claim with the caller's groups; dots address fields of objects, as in `realm_access.roles`.
    #[arg(long, env = "SLIPWAY_OIDC_GROUPS_CLAIM", default_value = "groups", value_name = "CLAIM")]
    pub oidc_groups_claim: String,
}

/// Why a token is not accepted.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// The token is at fault; the text says how and holds nothing of it.
    #[error("{0}")]
    Token(String),
    /// The issuer's keys cannot be had now.
    #[error("the keys of the OIDC issuer cannot be fetched: {0}")]
    Issuer(String),
}

/// A setting that cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the OIDC issuer `{issuer}` (--oidc-issuer, SLIPWAY_OIDC_ISSUER) {why}")]
pub struct Misconfigured {
    issuer: String,
    why: String,
}

/// Checks tokens of one issuer, whose keys it reads from the issuer.
#[derive(Debug)]
pub struct Oidc {
    check: Check,
    keys: Keys,
}

impl Oidc {
    /// A verifier, where an issuer is configured. Nothing is fetched yet.
    ///
    /// # Errors
    /// The issuer is no https URL (plain http is accepted from this machine alone).
    pub fn new(config: &OidcConfig) -> Result<Option<Self>, Misconfigured> {
        let Some(issuer) = config.oidc_issuer.clone() else { return Ok(None) };
        let keys = Keys::new(&issuer).map_err(|why| Misconfigured { issuer: issuer.clone(), why })?;
        Ok(Some(Self { check: Check::new(config.clone(), &issuer), keys }))
    }

    /// Who the holder of this token is.
    ///
    /// # Errors
    /// It is not to be trusted, or the issuer's keys cannot be had.
    pub async fn verify(&self, token: &str) -> Result<Identity, Refused> {
        let header = Check::header(token)?;
        let key = self.keys.find(header.kid.as_deref(), header.alg).await?;
        self.check.identity(token, &header, &key)
    }

    /// Settings and keys for services that check tokens themselves. The keys are read again when they are
    /// older than a minute; if the issuer is unreachable, those read before are used.
    pub async fn published(&self) -> OidcHead {
        let OidcConfig { oidc_issuer, oidc_audience, oidc_principal_claim, oidc_groups_claim } =
            self.check.config().clone();
        OidcHead {
            issuer: oidc_issuer.unwrap_or_default(),
            audience: oidc_audience,
            principal_claim: oidc_principal_claim,
            groups_claim: oidc_groups_claim,
            keys: self.keys.documents().await,
        }
    }
}
