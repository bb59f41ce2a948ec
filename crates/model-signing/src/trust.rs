//! A trust anchor: a public key, or roots of certificates, under a name.

use std::fmt::Write as _;

use sha2::{Digest, Sha256};

use crate::certificates::{self, Certificate};
use crate::{MAX_PEM_BYTES, Malformed, PublicKey, malformed};

/// A key or roots.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Material {
    /// One key.
    Key(PublicKey),
    /// Certificates that a signer's chain may end at, or that sign themselves.
    Certificates(Vec<Certificate>),
}

impl Material {
    /// From PEM: one public key, or certificates.
    ///
    /// # Errors
    /// It is neither, or a private key.
    pub fn from_pem(pem: &str) -> Result<Self, Malformed> {
        if pem.len() > MAX_PEM_BYTES {
            return Err(malformed(format!("expected {MAX_PEM_BYTES} bytes at most")));
        }
        if pem.contains("PRIVATE KEY") {
            return Err(malformed("this is a private key, which must stay secret; give its public key"));
        }
        if pem.contains("-----BEGIN CERTIFICATE-----") {
            return Ok(Self::Certificates(certificates::from_pem(pem)?));
        }
        if pem.contains("-----BEGIN PUBLIC KEY-----") {
            return Ok(Self::Key(PublicKey::from_pem(pem)?));
        }
        Err(malformed("expected PEM with a PUBLIC KEY or with one CERTIFICATE or more"))
    }

    /// `public-key` or `certificates`.
    pub const fn kind(&self) -> &'static str {
        match self {
            Self::Key(_) => "public-key",
            Self::Certificates(_) => "certificates",
        }
    }

    /// What it is told apart by: of a key the SHA-256 that bundles name it by, of certificates that of their
    /// DER.
    ///
    /// # Errors
    /// See [`PublicKey::fingerprint`].
    pub fn fingerprints(&self) -> Result<Vec<String>, Malformed> {
        match self {
            Self::Key(key) => Ok(vec![key.fingerprint()?]),
            Self::Certificates(all) => {
                Ok(all.iter().map(|one| hex::encode(Sha256::digest(one.der()))).collect())
            }
        }
    }

    /// For people: the curve of a key, the subjects of certificates.
    pub fn description(&self) -> String {
        match self {
            Self::Key(key) => key.algorithm().to_owned(),
            Self::Certificates(all) => {
                let mut text = String::new();
                for (index, one) in all.iter().enumerate() {
                    let _ = write!(text, "{}{}", if index == 0 { "" } else { "; " }, one.subject());
                }
                text
            }
        }
    }
}

/// A key or roots under the name that verdicts tell.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Trusted {
    /// Its name.
    pub name: String,
    /// What is trusted.
    pub material: Material,
}
