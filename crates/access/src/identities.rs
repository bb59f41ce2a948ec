//! Identity tokens that were verified, so that a signature is verified once and not with every request.
//!
//! What is remembered of a token is its SHA-256. It counts until the token expires, and only for the issuer's
//! keys and settings that it was verified with: a key that the issuer withdrew ends what it signed.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use slipway_domain::access::Grants;

use crate::directory::{Directory, EntriesDigest, Proven};
use crate::oidc::{Identity, PublishedOidc};
use crate::principal::GROUP;

/// Tokens that are remembered. Only tokens that were verified are.
const MAX_IDENTITIES: usize = 10_000;

/// The identity behind a token.
#[derive(Debug, Clone)]
struct Known {
    oidc: Arc<PublishedOidc>,
    identity: Arc<Identity>,
    proven: Proven,
    /// The entries by which it has its roles.
    entries: EntriesDigest,
}

impl Known {
    fn holds(&self, oidc: &Arc<PublishedOidc>, now_ms: u64) -> bool {
        Arc::ptr_eq(&self.oidc, oidc) && now_ms < self.identity.accepted_until_ms()
    }
}

/// What was found of a token.
#[derive(Debug)]
pub(crate) enum Found {
    /// Its holder, with the roles of now.
    Proven(Proven),
    /// Its holder, whose roles may have changed.
    Identity(Arc<Identity>),
    /// Nothing: it is to be verified.
    Unknown,
}

/// Tokens that were verified.
#[derive(Debug, Default)]
pub(crate) struct Identities(Mutex<HashMap<[u8; 32], Known>>);

impl Identities {
    pub(crate) fn find(
        &self,
        digest: &[u8; 32],
        oidc: &Arc<PublishedOidc>,
        entries: EntriesDigest,
        now_ms: u64,
    ) -> Found {
        match self.known().get(digest).filter(|known| known.holds(oidc, now_ms)) {
            None => Found::Unknown,
            Some(known) if known.entries == entries => Found::Proven(known.proven.clone()),
            Some(known) => Found::Identity(Arc::clone(&known.identity)),
        }
    }

    /// Remembers whose token it is; returns the holder with the roles that the directory grants.
    pub(crate) fn remember(
        &self,
        digest: [u8; 32],
        oidc: &Arc<PublishedOidc>,
        identity: Arc<Identity>,
        directory: &Directory,
        now_ms: u64,
    ) -> Proven {
        let proven = holder(&identity, directory);
        let entries = directory.entries_digest();
        let known = Known { oidc: Arc::clone(oidc), identity, proven: proven.clone(), entries };
        let mut all = self.known();
        if all.len() >= MAX_IDENTITIES && !all.contains_key(&digest) {
            all.retain(|_, known| known.holds(oidc, now_ms));
            if all.len() >= MAX_IDENTITIES {
                all.clear();
            }
        }
        all.insert(digest, known);
        proven
    }

    fn known(&self) -> MutexGuard<'_, HashMap<[u8; 32], Known>> {
        // Each change is one entry; a panic leaves the others right.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The holder of an identity token: its own roles and those of its groups.
fn holder(identity: &Identity, directory: &Directory) -> Proven {
    let groups = identity.groups.iter().map(|group| directory.grants_of(&format!("{GROUP}{group}")));
    let own = directory.grants_of(&identity.principal);
    let all: Grants = groups.chain([own]).flat_map(|grants| grants.list()).collect();
    Proven { principal: identity.principal.as_str().into(), credential: "oidc".into(), grants: Arc::new(all) }
}
