//! Chains of certificates: does one lead from the signer to a root that is trusted, and may the signer sign?

use rustls_pki_types::{CertificateDer, SignatureVerificationAlgorithm, TrustAnchor, UnixTime};
use webpki::{EndEntityCert, ExtendedKeyUsageValidator, KeyPurposeIdIter, anchor_from_trusted_cert, ring};
use x509_cert::Certificate as X509;
use x509_cert::der::oid::db::rfc5280::ID_KP_CODE_SIGNING;
use x509_cert::der::{Decode as _, Encode as _};
use x509_cert::ext::pkix::{ExtendedKeyUsage, KeyUsage};

use crate::{Malformed, PublicKey, malformed};

/// Algorithms that certificates may be signed with.
const ALGORITHMS: [&dyn SignatureVerificationAlgorithm; 8] = [
    ring::ECDSA_P256_SHA256,
    ring::ECDSA_P256_SHA384,
    ring::ECDSA_P384_SHA256,
    ring::ECDSA_P384_SHA384,
    ring::ED25519,
    ring::RSA_PKCS1_2048_8192_SHA256,
    ring::RSA_PKCS1_2048_8192_SHA384,
    ring::RSA_PKCS1_2048_8192_SHA512,
];
/// Roots under one name.
const MAX_ROOTS: usize = 64;

/// A trusted certificate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Certificate {
    der: Vec<u8>,
    subject: String,
}

impl Certificate {
    /// Whom it names, e.g. `CN=Model Team`.
    pub fn subject(&self) -> &str {
        &self.subject
    }

    /// The certificate in DER.
    pub fn der(&self) -> &[u8] {
        &self.der
    }
}

/// Reads certificates from PEM, one after another.
pub(crate) fn from_pem(pem: &str) -> Result<Vec<Certificate>, Malformed> {
    let chain = X509::load_pem_chain(pem.as_bytes())
        .map_err(|error| malformed(format!("it is no list of certificates in PEM: {error}")))?;
    if chain.is_empty() || chain.len() > MAX_ROOTS {
        return Err(malformed(format!("expected 1 to {MAX_ROOTS} certificates, got {}", chain.len())));
    }
    let one = |certificate: &X509| {
        let der =
            certificate.to_der().map_err(|error| malformed(format!("a certificate is wrong: {error}")))?;
        let subject = certificate.tbs_certificate().subject().to_string();
        anchor_from_trusted_cert(&CertificateDer::from(der.as_slice()))
            .map_err(|error| malformed(format!("the certificate '{subject}' cannot be a root: {error:?}")))?;
        Ok(Certificate { der, subject })
    };
    chain.iter().map(one).collect()
}

/// The certificate that a bundle was signed with.
pub(crate) struct Leaf {
    pub(crate) subject: String,
    pub(crate) key: PublicKey,
    der: Vec<u8>,
    not_before: UnixTime,
    may_sign: bool,
}

impl Leaf {
    pub(crate) fn parse(der: &[u8]) -> Result<Self, Malformed> {
        let wrong = |error| malformed(format!("the signer's certificate does not parse: {error}"));
        let parsed = X509::from_der(der).map_err(wrong)?;
        let content = parsed.tbs_certificate();
        let usage = content.get_extension::<KeyUsage>().map_err(wrong)?;
        let extended = content.get_extension::<ExtendedKeyUsage>().map_err(wrong)?;
        Ok(Self {
            subject: content.subject().to_string(),
            key: PublicKey::from_der(&content.subject_public_key_info().to_der().map_err(wrong)?)?,
            der: der.to_vec(),
            not_before: UnixTime::since_unix_epoch(content.validity().not_before.to_unix_duration()),
            may_sign: usage.is_some_and(|(_, usage)| usage.digital_signature())
                || extended.is_some_and(|(_, purposes)| purposes.0.contains(&ID_KP_CODE_SIGNING)),
        })
    }

    /// Whether a chain leads from this certificate to one of `roots`, and it may sign; the reason where not.
    ///
    /// The format knows no time of signing but the one at which the certificate begins, so it is verified as
    /// of then: a model does not lose its signature when a certificate ends.
    pub(crate) fn is_trusted(&self, others: &[Vec<u8>], roots: &[Certificate]) -> Result<(), String> {
        if !self.may_sign {
            return Err(format!(
                "the certificate '{}' may not sign: neither digitalSignature nor codeSigning is among its \
                 uses",
                self.subject
            ));
        }
        if roots.iter().any(|root| root.der == self.der) {
            return Ok(());
        }
        let roots: Vec<CertificateDer<'_>> =
            roots.iter().map(|root| CertificateDer::from(root.der.as_slice())).collect();
        let anchors: Vec<TrustAnchor<'_>> =
            roots.iter().filter_map(|root| anchor_from_trusted_cert(root).ok()).collect();
        let between: Vec<CertificateDer<'_>> =
            others.iter().map(|der| CertificateDer::from(der.as_slice())).collect();
        let leaf = CertificateDer::from(self.der.as_slice());
        let refused = |error: webpki::Error| format!("the certificate '{}' {}", self.subject, reason(&error));
        let leaf = EndEntityCert::try_from(&leaf).map_err(refused)?;
        let checked =
            leaf.verify_for_usage(&ALGORITHMS, &anchors, &between, self.not_before, AnyPurpose, None, None);
        checked.map(drop).map_err(refused)
    }
}

/// Purposes are looked at by [`Leaf::parse`], where the older extension counts, too.
struct AnyPurpose;

impl ExtendedKeyUsageValidator for AnyPurpose {
    fn validate(&self, _: KeyPurposeIdIter<'_, '_>) -> Result<(), webpki::Error> {
        Ok(())
    }
}

fn reason(error: &webpki::Error) -> String {
    match error {
        webpki::Error::UnknownIssuer => "leads to no trusted root".to_owned(),
        webpki::Error::CertExpired { .. } | webpki::Error::CertNotValidYet { .. } => {
            "begins at a time at which a certificate above it is not valid".to_owned()
        }
        webpki::Error::CaUsedAsEndEntity => "is that of an authority, which signs no models".to_owned(),
        other => format!("does not lead to a trusted root: {other:?}"),
    }
}
