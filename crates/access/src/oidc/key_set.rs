//! Public keys of an issuer, and the choice of the one that verifies a token.

use std::collections::HashMap;

use jsonwebtoken::jwk::{AlgorithmParameters, EllipticCurve, Jwk, KeyAlgorithm, KeyOperations, PublicKeyUse};
use jsonwebtoken::{Algorithm, AlgorithmFamily, DecodingKey};
use serde_json::Value;

/// Keys of one issuer beyond this number are ignored.
const MAX_KEYS: usize = 100;

/// Public keys, by their id.
#[derive(Debug, Default)]
pub(super) struct KeySet {
    by_id: HashMap<String, Key>,
    /// The keys that can be used, as the issuer published them.
    documents: Vec<Value>,
}

/// A key, and the algorithm that it is for where its document says so.
#[derive(Debug, Clone)]
struct Key {
    decoding: DecodingKey,
    algorithm: Option<KeyAlgorithm>,
}

impl KeySet {
    /// Reads JSON Web Keys. One of a kind that is not accepted here does not spoil the others.
    pub(super) fn read(documents: impl IntoIterator<Item = Value>) -> Self {
        let mut set = Self::default();
        for document in documents.into_iter().take(MAX_KEYS) {
            let key = serde_json::from_value(document.clone()).ok().and_then(usable);
            if let Some((id, key)) = key {
                set.by_id.insert(id, key);
                set.documents.push(document);
            }
        }
        set
    }

    /// How many keys there are.
    pub(super) fn len(&self) -> usize {
        self.by_id.len()
    }

    /// The keys as JSON Web Keys.
    pub(super) fn documents(&self) -> &[Value] {
        &self.documents
    }

    /// The key of that id; if the token names none, the only key of the algorithm's family.
    pub(super) fn pick(&self, kid: Option<&str>, algorithm: Algorithm) -> Option<DecodingKey> {
        let (family, named) = match algorithm {
            Algorithm::RS256 => (AlgorithmFamily::Rsa, KeyAlgorithm::RS256),
            Algorithm::ES256 => (AlgorithmFamily::Ec, KeyAlgorithm::ES256),
            _ => (AlgorithmFamily::Ed, KeyAlgorithm::EdDSA),
        };
        // RFC 9864 gives Ed25519 a name of its own, which is the same signature.
        let is_ed25519 = |one| one == KeyAlgorithm::UNKNOWN_ALGORITHM && family == AlgorithmFamily::Ed;
        // A key that says which algorithm it is for verifies no other (RFC 7517, section 4.4).
        let fits = |key: &Key| {
            key.decoding.family() == family && key.algorithm.is_none_or(|one| one == named || is_ed25519(one))
        };
        if let Some(kid) = kid {
            return self.by_id.get(kid).filter(|key| fits(key)).map(|key| key.decoding.clone());
        }
        let mut of_family = self.by_id.values().filter(|key| fits(key));
        let only = of_family.next()?;
        of_family.next().is_none().then(|| only.decoding.clone())
    }
}

/// Public keys for signatures of the kinds that are accepted; one without an id has the empty one.
fn usable(key: Jwk) -> Option<(String, Key)> {
    let accepted = match &key.algorithm {
        AlgorithmParameters::RSA(_) => true,
        AlgorithmParameters::EllipticCurve(parameters) => parameters.curve == EllipticCurve::P256,
        AlgorithmParameters::OctetKeyPair(parameters) => parameters.curve == EllipticCurve::Ed25519,
        _ => false,
    };
    let signs = key.common.public_key_use.as_ref().is_none_or(|used| *used == PublicKeyUse::Signature);
    let verifies = key.common.key_operations.as_ref().is_none_or(|may| may.contains(&KeyOperations::Verify));
    let decoding = DecodingKey::from_jwk(&key).ok()?;
    let algorithm = key.common.key_algorithm;
    (accepted && signs && verifies)
        .then(|| (key.common.key_id.unwrap_or_default(), Key { decoding, algorithm }))
}
