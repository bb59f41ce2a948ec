//! ECDSA keys on the curves that Sigstore's bundles know.

use std::fmt;

use p256::ecdsa::signature::{Signer as _, Verifier as _};
use p256::pkcs8::{DecodePrivateKey as _, DecodePublicKey as _, EncodePublicKey as _, LineEnding};
use sha2::{Digest, Sha256};

use crate::{Malformed, malformed};

const EXPECTED: &str = "expected an ECDSA key on P-256, P-384 or P-521";
const SEC1_BEGIN: &str = "-----BEGIN EC PRIVATE KEY-----";
const SEC1_END: &str = "-----END EC PRIVATE KEY-----";

/// A key that signatures are verified with. Hashes are SHA-256, SHA-384 and SHA-512, one for each curve.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PublicKey(Public);

#[derive(Debug, Clone, PartialEq, Eq)]
enum Public {
    P256(p256::PublicKey),
    P384(p384::PublicKey),
    P521(p521::PublicKey),
}

impl PublicKey {
    /// From PEM (`-----BEGIN PUBLIC KEY-----`).
    ///
    /// # Errors
    /// It is no such key.
    pub fn from_pem(pem: &str) -> Result<Self, Malformed> {
        let pem = pem.trim();
        None.or_else(|| p256::PublicKey::from_public_key_pem(pem).ok().map(Public::P256))
            .or_else(|| p384::PublicKey::from_public_key_pem(pem).ok().map(Public::P384))
            .or_else(|| p521::PublicKey::from_public_key_pem(pem).ok().map(Public::P521))
            .map(Self)
            .ok_or_else(|| malformed(format!("it is no public key that can be used: {EXPECTED}")))
    }

    /// From the DER of a `SubjectPublicKeyInfo`, as certificates hold it.
    pub(crate) fn from_der(der: &[u8]) -> Result<Self, Malformed> {
        None.or_else(|| p256::PublicKey::from_public_key_der(der).ok().map(Public::P256))
            .or_else(|| p384::PublicKey::from_public_key_der(der).ok().map(Public::P384))
            .or_else(|| p521::PublicKey::from_public_key_der(der).ok().map(Public::P521))
            .map(Self)
            .ok_or_else(|| malformed(format!("the certificate's key cannot be used: {EXPECTED}")))
    }

    /// The key as PEM, written as OpenSSL does.
    ///
    /// # Errors
    /// It cannot be written, which does not happen to a key that was read.
    pub fn to_pem(&self) -> Result<String, Malformed> {
        let pem = match &self.0 {
            Public::P256(key) => key.to_public_key_pem(LineEnding::LF),
            Public::P384(key) => key.to_public_key_pem(LineEnding::LF),
            Public::P521(key) => key.to_public_key_pem(LineEnding::LF),
        };
        pem.map_err(|error| malformed(format!("the key cannot be written as PEM: {error}")))
    }

    /// What bundles name it by: the SHA-256 of its PEM, in hex.
    ///
    /// # Errors
    /// See [`Self::to_pem`].
    pub fn fingerprint(&self) -> Result<String, Malformed> {
        Ok(hex::encode(Sha256::digest(self.to_pem()?)))
    }

    /// E.g. `ecdsa-p256`.
    pub const fn algorithm(&self) -> &'static str {
        match self.0 {
            Public::P256(_) => "ecdsa-p256",
            Public::P384(_) => "ecdsa-p384",
            Public::P521(_) => "ecdsa-p521",
        }
    }

    /// Whether `signature` (DER) was made over `message` with this key's private half.
    pub(crate) fn verifies(&self, message: &[u8], signature: &[u8]) -> bool {
        match &self.0 {
            Public::P256(key) => p256::ecdsa::DerSignature::from_bytes(signature)
                .is_ok_and(|made| p256::ecdsa::VerifyingKey::from(key).verify(message, &made).is_ok()),
            Public::P384(key) => p384::ecdsa::DerSignature::from_bytes(signature)
                .is_ok_and(|made| p384::ecdsa::VerifyingKey::from(key).verify(message, &made).is_ok()),
            Public::P521(key) => p521::ecdsa::DerSignature::from_bytes(signature)
                .is_ok_and(|made| p521::ecdsa::VerifyingKey::from(key).verify(message, &made).is_ok()),
        }
    }
}

/// A key that signs. It is wiped from memory when it is dropped, and never shown.
pub struct SigningKey(Private);

enum Private {
    P256(p256::SecretKey),
    P384(p384::SecretKey),
    P521(p521::SecretKey),
}

impl fmt::Debug for SigningKey {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("SigningKey(…)")
    }
}

impl SigningKey {
    /// From PEM, as PKCS#8 (`openssl genpkey`) or SEC1 (`openssl ecparam -genkey`).
    ///
    /// # Errors
    /// It is no such key, or it is encrypted.
    pub fn from_pem(pem: &str) -> Result<Self, Malformed> {
        if pem.contains("ENCRYPTED") {
            return Err(malformed(
                "the key is encrypted; decrypt it first, e.g. `openssl pkey -in key.pem -out plain.pem`",
            ));
        }
        let no_key = || malformed(format!("it is no private key that can be used: {EXPECTED}"));
        // OpenSSL may write the curve's parameters in front of the key.
        if let Some(begin) = pem.find(SEC1_BEGIN) {
            let end = pem[begin..].find(SEC1_END).ok_or_else(no_key)? + begin + SEC1_END.len();
            let pem = &pem[begin..end];
            return None
                .or_else(|| p256::SecretKey::from_sec1_pem(pem).ok().map(Private::P256))
                .or_else(|| p384::SecretKey::from_sec1_pem(pem).ok().map(Private::P384))
                .or_else(|| p521::SecretKey::from_sec1_pem(pem).ok().map(Private::P521))
                .map(Self)
                .ok_or_else(no_key);
        }
        let pem = pem.trim();
        None.or_else(|| p256::SecretKey::from_pkcs8_pem(pem).ok().map(Private::P256))
            .or_else(|| p384::SecretKey::from_pkcs8_pem(pem).ok().map(Private::P384))
            .or_else(|| p521::SecretKey::from_pkcs8_pem(pem).ok().map(Private::P521))
            .map(Self)
            .ok_or_else(no_key)
    }

    /// Its public half.
    pub fn public_key(&self) -> PublicKey {
        PublicKey(match &self.0 {
            Private::P256(key) => Public::P256(key.public_key()),
            Private::P384(key) => Public::P384(key.public_key()),
            Private::P521(key) => Public::P521(key.public_key()),
        })
    }

    /// A signature in DER, with a nonce made from key and message (RFC 6979).
    pub(crate) fn sign(&self, message: &[u8]) -> Vec<u8> {
        match &self.0 {
            Private::P256(key) => {
                let made: p256::ecdsa::DerSignature = p256::ecdsa::SigningKey::from(key).sign(message);
                made.as_bytes().to_vec()
            }
            Private::P384(key) => {
                let made: p384::ecdsa::DerSignature = p384::ecdsa::SigningKey::from(key).sign(message);
                made.as_bytes().to_vec()
            }
            Private::P521(key) => {
                let made: p521::ecdsa::DerSignature = p521::ecdsa::SigningKey::from(key).sign(message);
                made.as_bytes().to_vec()
            }
        }
    }
}
