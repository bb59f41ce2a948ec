//! Identity tokens of an OIDC issuer: signature, issuer, audience and times are checked; who it is and which groups it is in are
//! read.
//!
//! Sources: OpenID Connect Discovery 1.0, RFC 7517 (keys), RFC 7519 (tokens), RFC 8725 (their pitfalls). Signatures are RS256,
//! ES256 or EdDSA; `none` and shared secrets are never accepted.

mod claims;
mod extensions;
mod keys;
mod signatures;

use jsonwebtoken::{Algorithm, Validation, decode, decode_header};
use serde_json::{Map, Value};

pub use claims::Identity;
use keys::Keys;

/// Clocks may differ by so much.
const LEEWAY_S: u64 = 30;
/// A token that is longer is no token; browsers and proxies stop sooner.
const MAX_TOKEN_BYTES: usize = 16 * 1024;
const ALGORITHMS: [Algorithm; 3] = [Algorithm::RS256, Algorithm::ES256, Algorithm::EdDSA];

/// Whose tokens are accepted.
#[derive(Debug, Clone, Default, clap::Args)]
#[command(next_help_heading = "OpenID Connect")]
pub struct OidcConfig {
    /// Issuer whose tokens are accepted, as it stands in their `iss`; its keys are found through its discovery document. Without
    /// it only API tokens are.
    #[arg(long, env = "SLIPWAY_OIDC_ISSUER", value_name = "URL")]
    pub oidc_issuer: Option<String>,
    /// What `aud` of a token has to hold: the id under which the issuer knows this registry.
    #[arg(long, env = "SLIPWAY_OIDC_AUDIENCE", default_value = "slipway", value_name = "AUDIENCE")]
    pub oidc_audience: String,
    /// Claim that names the caller, e.g. `sub`, `email` or `preferred_username`.
    #[arg(long, env = "SLIPWAY_OIDC_PRINCIPAL_CLAIM", default_value = "sub", value_name = "CLAIM")]
    pub oidc_principal_claim: String,
    /// Claim that lists the caller's groups; dots lead into objects, as in `realm_access.roles`.
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

/// Checks tokens of one issuer.
#[derive(Debug)]
pub struct Oidc {
    config: OidcConfig,
    validation: Validation,
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
        signatures::install();
        let mut validation = Validation::new(Algorithm::RS256);
        validation.algorithms = ALGORITHMS.to_vec();
        validation.leeway = LEEWAY_S;
        validation.validate_nbf = true;
        validation.set_issuer(&[&issuer]);
        validation.set_audience(&[&config.oidc_audience]);
        validation.set_required_spec_claims(&["exp", "iss", "aud"]);
        Ok(Some(Self { config: config.clone(), validation, keys }))
    }

    /// Who the holder of this token is.
    ///
    /// # Errors
    /// It is not to be trusted, or the issuer's keys cannot be had.
    pub async fn verify(&self, token: &str) -> Result<Identity, Refused> {
        if token.len() > MAX_TOKEN_BYTES {
            return Err(Refused::Token(format!("the token has more than {MAX_TOKEN_BYTES} bytes")));
        }
        let header = decode_header(token).map_err(refused)?;
        extensions::refuse(token).map_err(Refused::Token)?;
        if !ALGORITHMS.contains(&header.alg) {
            return Err(Refused::Token(format!(
                "a signature by {:?} is not accepted; RS256, ES256 and EdDSA are",
                header.alg
            )));
        }
        let key = self.keys.find(header.kid.as_deref(), header.alg).await?;
        // The header says which algorithm, so the key has to be one of it: a public key is never taken for a shared secret.
        let mut validation = self.validation.clone();
        validation.algorithms = vec![header.alg];
        let claims = decode::<Map<String, Value>>(token, &key, &validation).map_err(refused)?.claims;
        Identity::read(&claims, &self.config)
    }
}

fn refused(error: jsonwebtoken::errors::Error) -> Refused {
    use jsonwebtoken::errors::ErrorKind;
    Refused::Token(match error.kind() {
        ErrorKind::ExpiredSignature => "the token has expired".to_owned(),
        ErrorKind::ImmatureSignature => "the token is not valid yet".to_owned(),
        ErrorKind::InvalidIssuer => "the token was issued by another issuer".to_owned(),
        ErrorKind::InvalidAudience => "the token is meant for another audience".to_owned(),
        ErrorKind::InvalidSignature => "the token's signature is wrong".to_owned(),
        ErrorKind::MissingRequiredClaim(claim) => format!("the token lacks the claim '{claim}'"),
        ErrorKind::InvalidClaimFormat(claim) => format!("the token's claim '{claim}' has the wrong type"),
        _ => "the token is not a valid identity token".to_owned(),
    })
}
