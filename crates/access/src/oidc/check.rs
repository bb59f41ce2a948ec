//! The checks of an identity token that need no network.

use jsonwebtoken::{Algorithm, DecodingKey, Header, Validation, decode, decode_header};
use serde_json::{Map, Value};

use super::claims::LEEWAY_S;
use super::{Identity, OidcConfig, Refused, extensions, signatures};

/// A token that is longer is none; browsers and proxies stop sooner.
const MAX_TOKEN_BYTES: usize = 16 * 1024;
const ALGORITHMS: [Algorithm; 3] = [Algorithm::RS256, Algorithm::ES256, Algorithm::EdDSA];

/// Checks tokens of one issuer against keys that are given.
#[derive(Debug)]
pub(super) struct Check {
    config: OidcConfig,
    validation: Validation,
}

impl Check {
    pub(super) fn new(config: OidcConfig, issuer: &str) -> Self {
        signatures::install();
        let mut validation = Validation::new(Algorithm::RS256);
        validation.algorithms = ALGORITHMS.to_vec();
        validation.leeway = LEEWAY_S;
        validation.validate_nbf = true;
        validation.set_issuer(&[issuer]);
        validation.set_audience(&[&config.oidc_audience]);
        validation.set_required_spec_claims(&["exp", "iss", "aud"]);
        Self { config, validation }
    }

    /// The settings that tokens are checked with.
    pub(super) const fn config(&self) -> &OidcConfig {
        &self.config
    }

    /// The token's header, which names its key.
    ///
    /// # Errors
    /// It is no token that may be accepted.
    pub(super) fn header(token: &str) -> Result<Header, Refused> {
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
        Ok(header)
    }

    /// Who the holder is, by a token with a signature of this key.
    ///
    /// # Errors
    /// The signature, the issuer, the audience or a time is wrong.
    pub(super) fn identity(
        &self,
        token: &str,
        header: &Header,
        key: &DecodingKey,
    ) -> Result<Identity, Refused> {
        // The header says which algorithm, so the key has to be one of it: a public key is never taken for a
        // shared secret.
        let mut validation = self.validation.clone();
        validation.algorithms = vec![header.alg];
        let claims = decode::<Map<String, Value>>(token, key, &validation).map_err(refused)?.claims;
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
