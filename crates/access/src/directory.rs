//! Tokens and roles as the registry published them, ready to be looked up. Nothing here reads a clock or the
//! network.

use std::collections::HashMap;
use std::sync::Arc;

use slipway_api::access::{
    ConfiguredToken, GrantEntry, HEAD_KEY, Head, SUBJECT_PREFIX, SubjectEntry, TOKEN_PREFIX, TokenEntry,
};
use slipway_domain::access::{Grants, Role, Scope, token_digest};

use crate::oidc::PublishedOidc;
use crate::principal::{JOB, validate_principal};
use crate::{ApiToken, same};

/// Digest of a set of entries; it does not depend on their order.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct EntriesDigest([u8; 32]);

impl EntriesDigest {
    /// Adds an entry that is not in it, or removes one that is.
    pub fn toggle(&mut self, key: &str, value: &[u8]) {
        let entry = token_digest(&[key.as_bytes(), b"\0", value].concat());
        self.0.iter_mut().zip(entry).for_each(|(mine, other)| *mine ^= other);
    }
}

impl std::fmt::Display for EntriesDigest {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str(&hex::encode(self.0))
    }
}

/// The key under which the roles of a principal or a group are published.
pub fn subject_key(subject: &str) -> String {
    format!("{SUBJECT_PREFIX}{}", hex::encode(token_digest(subject.as_bytes())))
}

/// The key under which an API token is published.
pub fn token_key(token_id: &str) -> String {
    format!("{TOKEN_PREFIX}{token_id}")
}

/// An entry that cannot be used. The names of entries are no secrets.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the access entry `{key}` cannot be used: {why}")]
pub struct Damaged {
    key: String,
    why: String,
}

/// What a token proved.
#[derive(Debug, Clone)]
pub(crate) struct Proven {
    pub(crate) principal: Arc<str>,
    pub(crate) credential: Arc<str>,
    pub(crate) grants: Arc<Grants>,
}

/// Why an API token is not accepted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Rejected {
    Unknown,
    Expired,
}

#[derive(Debug)]
struct Token {
    principal: Arc<str>,
    credential: Arc<str>,
    secret_sha256: [u8; 32],
    expires_ms: Option<i64>,
}

#[derive(Debug)]
struct Configured {
    sha256: [u8; 32],
    proven: Proven,
}

#[derive(Debug)]
struct Published {
    at_ms: u64,
    enabled: bool,
    digest: String,
    configured: Vec<Configured>,
    job_role: Role,
    oidc: Option<Arc<PublishedOidc>>,
}

/// The entries of the bucket.
#[derive(Debug, Default)]
pub struct Directory {
    head: Option<Published>,
    tokens: HashMap<String, Token>,
    /// Roles of principals and groups, by their names.
    subjects: HashMap<String, Arc<Grants>>,
    /// Their names, by the keys of their entries.
    names: HashMap<String, String>,
    /// All entries as they were published.
    entries: HashMap<String, Vec<u8>>,
    digest: EntriesDigest,
    none: Arc<Grants>,
}

impl Directory {
    /// Takes in an entry of the bucket, or the news that it was deleted.
    ///
    /// # Errors
    /// The entry does not parse: then it is as if it were absent, which takes rights away and gives none.
    pub fn apply(&mut self, key: &str, value: Option<&[u8]>) -> Result<(), Damaged> {
        let damaged = |why: String| Damaged { key: key.to_owned(), why };
        if key == HEAD_KEY {
            // A head that does not parse leaves the one before, which ages.
            if let Some(value) = value {
                let known = self.head.as_ref().and_then(|head| head.oidc.clone());
                self.head = Some(Published::read(value, known).map_err(damaged)?);
                self.entries.insert(key.to_owned(), value.to_vec());
            }
            return Ok(());
        }
        if let Some(before) = self.entries.remove(key) {
            self.digest.toggle(key, &before);
        }
        if let Some(id) = key.strip_prefix(TOKEN_PREFIX) {
            self.tokens.remove(id);
        } else if let Some(name) = self.names.remove(key) {
            self.subjects.remove(&name);
        }
        let Some(value) = value else { return Ok(()) };
        self.digest.toggle(key, value);
        self.entries.insert(key.to_owned(), value.to_vec());
        if let Some(id) = key.strip_prefix(TOKEN_PREFIX) {
            self.tokens.insert(id.to_owned(), Token::read(id, value).map_err(damaged)?);
        } else if key.starts_with(SUBJECT_PREFIX) {
            let entry: SubjectEntry =
                serde_json::from_slice(value).map_err(|error| damaged(error.to_string()))?;
            // The key is a digest: it has to be that of the subject that is named.
            if subject_key(&entry.subject) != key {
                return Err(damaged("the key is not that of the subject".to_owned()));
            }
            self.subjects.insert(entry.subject.clone(), Arc::new(grants(&entry.grants)));
            self.names.insert(key.to_owned(), entry.subject);
        }
        Ok(())
    }

    /// Whether the entries are those that the head describes.
    pub fn is_consistent(&self) -> bool {
        self.head.as_ref().is_none_or(|head| head.digest == self.digest.to_string())
    }

    /// Unix time in milliseconds as of which the registry published this; `None` before the first head.
    pub fn published_at_ms(&self) -> Option<u64> {
        self.head.as_ref().map(|head| head.at_ms)
    }

    /// Digest of all entries but the head.
    pub(crate) const fn entries_digest(&self) -> EntriesDigest {
        self.digest
    }

    /// The same as text.
    pub(crate) fn digest(&self) -> String {
        self.digest.to_string()
    }

    /// All entries as they were published.
    pub(crate) fn raw(&self) -> impl Iterator<Item = (&str, &[u8])> {
        self.entries.iter().map(|(key, value)| (key.as_str(), value.as_slice()))
    }

    /// Whether the registry checks its callers.
    pub(crate) fn is_enabled(&self) -> bool {
        self.head.as_ref().is_some_and(|head| head.enabled)
    }

    /// Role of training jobs on everything; the greatest where nothing is known.
    pub(crate) fn job_role(&self) -> Role {
        self.head.as_ref().map_or(Role::Admin, |head| head.job_role)
    }

    pub(crate) fn oidc(&self) -> Option<Arc<PublishedOidc>> {
        self.head.as_ref()?.oidc.clone()
    }

    /// The token of the configuration that has this digest.
    pub(crate) fn configured(&self, digest: &[u8; 32]) -> Option<Proven> {
        let configured = &self.head.as_ref()?.configured;
        configured.iter().find(|token| same(&token.sha256, digest)).map(|token| token.proven.clone())
    }

    /// What an API token proves.
    pub(crate) fn token(&self, token: &ApiToken, now_ms: u64) -> Result<Proven, Rejected> {
        let found = self.tokens.get(token.id());
        let stored = found.map_or([0; 32], |found| found.secret_sha256);
        let right = same(&stored, &token.digest());
        let found = found.filter(|_| right).ok_or(Rejected::Unknown)?;
        if found.expires_ms.is_some_and(|end| end <= i64::try_from(now_ms).unwrap_or(i64::MAX)) {
            return Err(Rejected::Expired);
        }
        Ok(Proven {
            principal: Arc::clone(&found.principal),
            credential: Arc::clone(&found.credential),
            grants: self.grants_of(&found.principal),
        })
    }

    /// The roles of one principal or group.
    pub(crate) fn grants_of(&self, subject: &str) -> Arc<Grants> {
        Arc::clone(self.subjects.get(subject).unwrap_or(&self.none))
    }
}

impl Published {
    /// `known` is what was published before: what was verified with the same keys and settings stays so.
    fn read(value: &[u8], known: Option<Arc<PublishedOidc>>) -> Result<Self, String> {
        let head: Head = serde_json::from_slice(value).map_err(|error| error.to_string())?;
        let configured: Result<Vec<Configured>, String> =
            head.configured.iter().map(Configured::read).collect();
        // A registry whose access control is off publishes nothing but that.
        let job_role = if head.enabled {
            head.job_role.parse().map_err(|invalid: slipway_domain::Invalid| invalid.message)?
        } else {
            Role::Admin
        };
        Ok(Self {
            at_ms: head.published_at_unix_ms,
            enabled: head.enabled,
            digest: head.digest,
            configured: configured?,
            job_role,
            oidc: head.oidc.map(|oidc| {
                let same = known.filter(|known| *known.head() == oidc);
                same.unwrap_or_else(|| Arc::new(PublishedOidc::new(oidc)))
            }),
        })
    }
}

impl Configured {
    fn read(token: &ConfiguredToken) -> Result<Self, String> {
        Ok(Self {
            sha256: sha256(&token.sha256)?,
            proven: Proven {
                principal: token.principal.as_str().into(),
                credential: token.credential.as_str().into(),
                grants: Arc::new(grants(&token.grants)),
            },
        })
    }
}

impl Token {
    fn read(id: &str, value: &[u8]) -> Result<Self, String> {
        let entry: TokenEntry = serde_json::from_slice(value).map_err(|error| error.to_string())?;
        if !entry.principal.starts_with(JOB) {
            validate_principal(&entry.principal).map_err(|why| why.to_string())?;
        }
        Ok(Self {
            principal: entry.principal.into(),
            credential: format!("token:{id}").into(),
            secret_sha256: sha256(&entry.secret_sha256)?,
            expires_ms: entry.expires_at_unix_ms,
        })
    }
}

/// A grant that does not parse grants nothing.
fn grants(entries: &[GrantEntry]) -> Grants {
    let parsed = entries
        .iter()
        .filter_map(|entry| Some((entry.scope.parse::<Scope>().ok()?, entry.role.parse::<Role>().ok()?)));
    parsed.collect()
}

fn sha256(text: &str) -> Result<[u8; 32], String> {
    let mut digest = [0; 32];
    hex::decode_to_slice(text, &mut digest).map_err(|_| "expected 64 hexadecimal digits".to_owned())?;
    Ok(digest)
}

#[cfg(test)]
mod tests;
