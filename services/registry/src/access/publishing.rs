//! Publishes tokens and roles for the services that check their callers themselves, as digests through NATS
//! KV.
//!
//! After each change, and every few seconds, the replica that leads compares the bucket with the tables: what
//! one attempt did not publish, the next one does.

use std::time::Duration;

use slipway_access::principal::validate_principal;
use slipway_access::publish::{Contents, Publisher};
use slipway_api::access::{ConfiguredToken, GrantEntry, HEARTBEAT_S, SubjectEntry, TokenEntry};
use slipway_domain::access::Grants;
use slipway_event_bus::EventBus;
use slipway_runtime::clock::now_unix_ms;
use slipway_service_kit::db::while_open;
use tokio_util::sync::CancellationToken;

use super::authenticator::Authenticator;
use super::caller::JOB_PREFIX;
use crate::clock::now_ms;
use crate::error::Error;
use crate::state::Registry;
use crate::store::access::{self as table};

const RETRY_DELAY_MS: u64 = 500;

/// Publishes until the shutdown.
pub(crate) async fn run(registry: Registry, bus: EventBus, shutdown: CancellationToken) {
    let mut publisher = Publisher::default();
    let mut elsewhere = registry.changes.elsewhere();
    let mut failing = false;
    loop {
        let published = tokio::select! {
            () = shutdown.cancelled() => return,
            published = publish(&registry, &bus, &mut publisher) => published,
        };
        let pause = match published {
            Ok(()) => {
                failing = false;
                Duration::from_secs(HEARTBEAT_S)
            }
            Err(error) => {
                if !std::mem::replace(&mut failing, true) {
                    tracing::warn!(
                        error = format!("{error:#}"),
                        "tokens and roles were not published; retrying"
                    );
                }
                Duration::from_millis(RETRY_DELAY_MS)
            }
        };
        tokio::select! {
            () = shutdown.cancelled() => return,
            () = registry.access.announcer.announced(), if !failing => {}
            _ = elsewhere.changed(), if !failing && registry.access.authenticator.is_some() => {}
            () = tokio::time::sleep(pause) => {}
        }
    }
}

async fn publish(registry: &Registry, bus: &EventBus, publisher: &mut Publisher) -> anyhow::Result<()> {
    // The keys are read before the transaction begins: the issuer may take seconds to answer.
    let contents = match &registry.access.authenticator {
        Some(authenticator) => settings(authenticator, registry.access.job_role.name()).await,
        None => Contents::default(),
    };
    // It is open until the bucket is written: the next leader's term begins after its end, so that the tables
    // are not older than what another replica published.
    let mut transaction = slipway_lease::begin(&registry.pool).await?;
    let contents = if contents.enabled {
        let now = now_ms();
        let tokens = table::tokens_valid(&mut transaction, now).await?;
        let grants = table::grants_all(&mut transaction).await?;
        Contents { tokens: entries(tokens), subjects: subjects(grants), ..contents }
    } else {
        contents
    };
    while_open(&mut transaction, Box::pin(publisher.publish(bus, contents, now_unix_ms()))).await??;
    transaction.commit().await.map_err(Error::from)?;
    Ok(())
}

async fn settings(authenticator: &Authenticator, job_role: &str) -> Contents {
    let configured = authenticator.configured.iter().map(|token| ConfiguredToken {
        sha256: hex::encode(token.digest),
        principal: token.principal.to_owned(),
        credential: token.credential.to_owned(),
        grants: grant_entries(&token.elsewhere),
    });
    let configured = configured.collect();
    let oidc = match &authenticator.oidc {
        Some(oidc) => Some(oidc.published().await),
        None => None,
    };
    Contents { enabled: true, configured, job_role: job_role.to_owned(), oidc, ..Contents::default() }
}

fn grant_entries(grants: &Grants) -> Vec<GrantEntry> {
    let listed = grants.list().into_iter();
    listed
        .map(|(scope, role)| GrantEntry { scope: scope.to_string(), role: role.name().to_owned() })
        .collect()
}

fn entries(tokens: Vec<table::ValidToken>) -> Vec<(String, TokenEntry)> {
    // Tokens of names that were valid once are refused here, and so they are elsewhere.
    let is_usable =
        |principal: &str| principal.starts_with(JOB_PREFIX) || validate_principal(principal).is_ok();
    tokens
        .into_iter()
        .filter(|token| is_usable(&token.principal))
        .map(|token| {
            let entry = TokenEntry {
                principal: token.principal,
                secret_sha256: hex::encode(token.secret_sha256),
                expires_at_unix_ms: token.expires_ms,
            };
            (token.token_id, entry)
        })
        .collect()
}

/// The roles of each subject; `rows` are in the order of the subjects.
fn subjects(rows: Vec<(String, String, String)>) -> Vec<SubjectEntry> {
    let mut subjects: Vec<SubjectEntry> = Vec::new();
    for (subject, scope, role) in rows {
        let grant = GrantEntry { scope, role };
        match subjects.last_mut().filter(|last| last.subject == subject) {
            Some(last) => last.grants.push(grant),
            None => subjects.push(SubjectEntry { subject, grants: vec![grant] }),
        }
    }
    subjects
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn grants_are_gathered_by_subject() {
        let row = |subject: &str, scope: &str| (subject.to_owned(), scope.to_owned(), "viewer".to_owned());
        let gathered = subjects(vec![row("ann", "*"), row("ann", "model:m"), row("group:a", "*")]);
        let sizes: Vec<(&str, usize)> =
            gathered.iter().map(|entry| (entry.subject.as_str(), entry.grants.len())).collect();
        assert_eq!(sizes, [("ann", 2), ("group:a", 1)]);
    }
}
