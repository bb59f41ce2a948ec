//! Signatures of models: OpenSSF Model Signing v1.0, verified and made with what is known of the files
//! already.
//!
//! A signature is a Sigstore bundle (v0.3, JSON) around a DSSE envelope around an in-toto statement that
//! lists every file with its SHA-256. A caller that knows the digests of a model's files verifies it without
//! reading the files again. The format is that of the package `model-signing` 1.1
//! (<https://github.com/sigstore/model-transparency>), of DSSE (<https://github.com/secure-systems-lab/dsse>)
//! and of Sigstore's bundles (<https://docs.sigstore.dev/about/bundle/>).
//!
//! Keys are ECDSA on P-256, P-384 or P-521; certificates chain to roots that the caller trusts. A keyless
//! signature (Fulcio and Rekor) needs services of Sigstore to be verified, so here it is told as not
//! verifiable, never as valid.

mod bundle;
mod certificates;
mod compare;
mod keys;
mod sign;
mod statement;
mod trust;
mod verdict;
mod verify;

pub use certificates::Certificate;
pub use compare::{Difference, DifferenceKind, File};
pub use keys::{PublicKey, SigningKey};
pub use sign::{IGNORED_BY_DEFAULT, sign};
pub use trust::{Material, Trusted};
pub use verdict::{State, Verdict};
pub use verify::{check_shape, verify};

/// A bundle is this long at most: room for a hundred thousand files.
pub const MAX_BUNDLE_BYTES: u64 = 32 * 1024 * 1024;
/// Keys or certificates given as PEM are this long at most.
pub const MAX_PEM_BYTES: usize = 256 * 1024;

/// What does not match, for the signer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Malformed(pub String);

pub(crate) fn malformed(why: impl Into<String>) -> Malformed {
    Malformed(why.into())
}
