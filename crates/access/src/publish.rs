//! The registry's side: makes the bucket hold what the registry's tables hold.
//!
//! It compares everything and writes what differs, so that a change which an earlier attempt did not publish
//! is published by the next one. Callers exclude each other: between reading the tables and the end of
//! [`Publisher::publish`] no other replica may publish.

use std::collections::BTreeMap;
use std::time::Duration;

use async_nats::jetstream::kv::{Operation, Store};
use futures::StreamExt as _;
use slipway_api::access::{
    ACCESS_BUCKET, ConfiguredToken, HEAD_KEY, HEARTBEAT_S, Head, MARKER_MAX_AGE_S, OidcHead, SubjectEntry,
    TokenEntry,
};
use slipway_event_bus::EventBus;

use crate::directory::{EntriesDigest, subject_key, token_key};

/// What is to be published.
#[derive(Debug, Clone, Default)]
pub struct Contents {
    /// Whether access control is on. If it is off, nothing else is published.
    pub enabled: bool,
    /// API tokens that have not expired, with their ids.
    pub tokens: Vec<(String, TokenEntry)>,
    /// Roles of principals and groups.
    pub subjects: Vec<SubjectEntry>,
    /// Tokens of the configuration.
    pub configured: Vec<ConfiguredToken>,
    /// Role of training jobs.
    pub job_role: String,
    /// OIDC settings and keys.
    pub oidc: Option<OidcHead>,
}

type Entries = BTreeMap<String, Vec<u8>>;

/// Publishes; it remembers what the bucket holds.
#[derive(Debug, Default)]
pub struct Publisher {
    known: Option<(Entries, String)>,
}

impl Contents {
    fn entries(&self) -> Result<Entries, serde_json::Error> {
        let mut entries = Entries::new();
        if !self.enabled {
            return Ok(entries);
        }
        for (id, token) in &self.tokens {
            entries.insert(token_key(id), serde_json::to_vec(token)?);
        }
        for subject in &self.subjects {
            entries.insert(subject_key(&subject.subject), serde_json::to_vec(subject)?);
        }
        Ok(entries)
    }

    fn head(self, digest: String, now_ms: u64) -> Head {
        let Self { enabled, configured, job_role, oidc, .. } = self;
        let configured = if enabled { configured } else { Vec::new() };
        let oidc = oidc.filter(|_| enabled);
        Head { published_at_unix_ms: now_ms, enabled, digest, configured, job_role, oidc }
    }
}

/// Entries to delete, and entries to write, in their order: what takes rights away comes first, and roles
/// come before tokens.
fn difference<'e>(
    known: &'e Entries,
    wanted: &'e Entries,
) -> (Vec<&'e String>, Vec<(&'e String, &'e Vec<u8>)>) {
    let deleted = known.keys().filter(|key| !wanted.contains_key(*key)).collect();
    let written = wanted.iter().filter(|(key, value)| known.get(*key) != Some(value)).collect();
    (deleted, written)
}

fn digest(entries: &Entries) -> String {
    let mut digest = EntriesDigest::default();
    entries.iter().for_each(|(key, value)| digest.toggle(key, value));
    digest.to_string()
}

impl Publisher {
    /// Makes the bucket hold these contents as of `now_ms`. The head is written if anything changed, and
    /// otherwise if it is old.
    ///
    /// # Errors
    /// NATS is unreachable or refuses; what was not written is written by the next call.
    pub async fn publish(&mut self, bus: &EventBus, contents: Contents, now_ms: u64) -> anyhow::Result<()> {
        let store = bus.bucket(ACCESS_BUCKET).await?;
        let found = store.get(HEAD_KEY).await?;
        let found: Option<Head> = found.and_then(|found| serde_json::from_slice(&found).ok());
        let found_digest = found.as_ref().map(|head| head.digest.as_str()).unwrap_or_default();
        // Another replica, or a restored NATS, may have changed what this one knew.
        let known = match self.known.take() {
            Some((entries, digest)) if digest == found_digest => entries,
            _ => read(&store).await?,
        };
        let wanted = contents.entries()?;
        let (deleted, written) = difference(&known, &wanted);
        let is_changed = !deleted.is_empty() || !written.is_empty();
        for key in deleted {
            delete(&store, key).await?;
        }
        for (key, value) in written {
            store.put(key, value.clone().into()).await?;
        }
        let head = contents.head(digest(&wanted), now_ms);
        let is_due = found.is_none_or(|found| {
            let young = now_ms.saturating_sub(found.published_at_unix_ms) < HEARTBEAT_S * 500;
            let same = Head { published_at_unix_ms: now_ms, ..found } == head;
            !(young && same)
        });
        if is_changed || is_due {
            store.put(HEAD_KEY, serde_json::to_vec(&head)?.into()).await?;
        }
        self.known = Some((wanted, head.digest));
        Ok(())
    }
}

/// Deletes an entry, with a marker that is deleted itself where the server can do that (NATS 2.11).
async fn delete(store: &Store, key: &str) -> anyhow::Result<()> {
    if store.purge_with_ttl(key, Duration::from_secs(MARKER_MAX_AGE_S)).await.is_err() {
        store.purge(key).await?;
    }
    Ok(())
}

/// All entries of the bucket but the head.
async fn read(store: &Store) -> anyhow::Result<Entries> {
    let mut entries = Entries::new();
    if store.status().await?.values() == 0 {
        return Ok(entries);
    }
    let mut found = store.watch_with_history(">").await?;
    while let Some(entry) = found.next().await.transpose()? {
        let is_last = entry.seen_current;
        if entry.operation == Operation::Put && entry.key != HEAD_KEY {
            entries.insert(entry.key, entry.value.to_vec());
        }
        if is_last {
            break;
        }
    }
    Ok(entries)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entries(list: &[(&str, &str)]) -> Entries {
        list.iter().map(|(key, value)| ((*key).to_owned(), value.as_bytes().to_vec())).collect()
    }

    #[test]
    fn only_what_differs_is_written_and_roles_come_before_tokens() {
        let known = entries(&[("subject.a", "1"), ("token.old", "x"), ("token.same", "s")]);
        let wanted = entries(&[("subject.a", "2"), ("token.same", "s"), ("token.new", "n")]);
        let (deleted, written) = difference(&known, &wanted);
        assert_eq!(deleted, ["token.old"]);
        let keys: Vec<&str> = written.iter().map(|(key, _)| key.as_str()).collect();
        assert_eq!(keys, ["subject.a", "token.new"]);
        assert_eq!(digest(&known), digest(&known.clone()));
        assert_ne!(digest(&known), digest(&wanted));
    }

    #[test]
    fn nothing_but_the_head_is_published_while_access_control_is_off() {
        let token =
            TokenEntry { principal: "ann".into(), secret_sha256: "0".repeat(64), expires_at_unix_ms: None };
        let contents = Contents { tokens: vec![("1".into(), token)], ..Contents::default() };
        assert!(contents.entries().unwrap().is_empty());
        let on = Contents { enabled: true, ..contents };
        assert_eq!(on.entries().unwrap().len(), 1);
    }
}
