//! A verifier whose settings and keys come from the registry, and which asks no issuer.

use slipway_api::access::OidcHead;

use super::check::Check;
use super::key_set::KeySet;
use super::{Identity, OidcConfig, Refused};

/// Checks tokens against the keys that the registry published.
#[derive(Debug)]
pub struct PublishedOidc {
    head: OidcHead,
    check: Check,
    keys: KeySet,
}

impl PublishedOidc {
    /// From what the registry published.
    pub fn new(head: OidcHead) -> Self {
        let OidcHead { issuer, audience, principal_claim, groups_claim, keys } = head.clone();
        let config = OidcConfig {
            oidc_issuer: Some(issuer.clone()),
            oidc_audience: audience,
            oidc_principal_claim: principal_claim,
            oidc_groups_claim: groups_claim,
        };
        Self { head, check: Check::new(config, &issuer), keys: KeySet::read(keys) }
    }

    /// What the registry published.
    pub(crate) const fn head(&self) -> &OidcHead {
        &self.head
    }

    /// Who the holder of this token is.
    ///
    /// # Errors
    /// It is not to be trusted, or its key is none of those published.
    pub fn verify(&self, token: &str) -> Result<Identity, Refused> {
        let header = Check::header(token)?;
        let key = self.keys.pick(header.kid.as_deref(), header.alg).ok_or_else(|| {
            Refused::Token(
                "the token's key is none of the issuer's, as the registry last read them".to_owned(),
            )
        })?;
        self.check.identity(token, &header, &key)
    }
}
