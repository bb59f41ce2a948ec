//! Sigstore bundles as far as signatures of models use them, and the DSSE envelope in them.

use base64::Engine as _;
use base64::alphabet::STANDARD;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use serde::{Deserialize, Serialize};

use crate::{MAX_BUNDLE_BYTES, Malformed, malformed};

/// Media type of a bundle in JSON, version 0.3.
pub(crate) const MEDIA_TYPE: &str = "application/vnd.dev.sigstore.bundle.v0.3+json";
/// What the envelope has to hold.
pub(crate) const PAYLOAD_TYPE: &str = "application/vnd.in-toto+json";
/// Certificates of one chain.
const MAX_CERTIFICATES: usize = 16;

/// Protobuf's JSON allows bytes with and without padding.
const BASE64: GeneralPurpose = GeneralPurpose::new(
    &STANDARD,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Wire {
    pub(crate) media_type: String,
    pub(crate) verification_material: WireMaterial,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) dsse_envelope: Option<Envelope>,
}

#[derive(Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct WireMaterial {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) public_key: Option<Hint>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) x509_certificate_chain: Option<Chain>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) certificate: Option<WireCertificate>,
    pub(crate) tlog_entries: Vec<serde_json::Value>,
}

#[derive(Serialize, Deserialize)]
pub(crate) struct Hint {
    #[serde(default)]
    pub(crate) hint: Option<String>,
}

#[derive(Serialize, Deserialize)]
pub(crate) struct Chain {
    pub(crate) certificates: Vec<WireCertificate>,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct WireCertificate {
    pub(crate) raw_bytes: String,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Envelope {
    pub(crate) payload: String,
    pub(crate) payload_type: String,
    pub(crate) signatures: Vec<WireSignature>,
}

#[derive(Serialize, Deserialize)]
pub(crate) struct WireSignature {
    pub(crate) sig: String,
    #[serde(default)]
    pub(crate) keyid: String,
}

/// By what a bundle can be verified.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Signer {
    /// A key that the verifier has to know; its fingerprint where the bundle tells it.
    Key { hint: Option<String> },
    /// Certificates in DER, the signer's first.
    Certificates(Vec<Vec<u8>>),
    /// A certificate of minutes and an entry of a transparency log.
    Keyless,
}

/// A bundle, taken apart.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Bundle {
    pub(crate) signer: Signer,
    pub(crate) payload: Vec<u8>,
    pub(crate) signature: Vec<u8>,
}

impl Bundle {
    /// Takes a bundle apart. Nothing is verified by this.
    pub(crate) fn parse(text: &str) -> Result<Self, Malformed> {
        if text.len() as u64 > MAX_BUNDLE_BYTES {
            return Err(malformed(format!("the bundle is longer than {MAX_BUNDLE_BYTES} bytes")));
        }
        let wire: Wire = serde_json::from_str(text)
            .map_err(|error| malformed(format!("it is no Sigstore bundle in JSON: {error}")))?;
        if wire.media_type != MEDIA_TYPE {
            let found = shortened(&wire.media_type);
            return Err(malformed(format!("its media type is '{found}', expected {MEDIA_TYPE}")));
        }
        let Some(envelope) = wire.dsse_envelope else {
            return Err(malformed("it holds no DSSE envelope, so it signs no manifest"));
        };
        if envelope.payload_type != PAYLOAD_TYPE {
            let found = shortened(&envelope.payload_type);
            return Err(malformed(format!("its envelope holds '{found}', expected {PAYLOAD_TYPE}")));
        }
        let [signature] = envelope.signatures.as_slice() else {
            let count = envelope.signatures.len();
            return Err(malformed(format!("its envelope has {count} signatures, expected one")));
        };
        Ok(Self {
            signer: signer(wire.verification_material)?,
            payload: decode("dsseEnvelope.payload", &envelope.payload)?,
            signature: decode("dsseEnvelope.signatures[0].sig", &signature.sig)?,
        })
    }

    /// What was signed.
    pub(crate) fn signed_bytes(&self) -> Vec<u8> {
        pre_authentication_encoding(&self.payload)
    }
}

fn signer(material: WireMaterial) -> Result<Signer, Malformed> {
    // An entry of the log says when a certificate was used. Without the log's key it says nothing.
    if material.certificate.is_some() || !material.tlog_entries.is_empty() {
        return Ok(Signer::Keyless);
    }
    match (material.public_key, material.x509_certificate_chain) {
        (Some(key), None) => Ok(Signer::Key { hint: key.hint.filter(|hint| !hint.is_empty()) }),
        (None, Some(chain)) => {
            let count = chain.certificates.len();
            if count == 0 || count > MAX_CERTIFICATES {
                return Err(malformed(format!(
                    "it has a chain of {count} certificates, expected 1 to {MAX_CERTIFICATES}"
                )));
            }
            let decode = |one: &WireCertificate| decode("x509CertificateChain", &one.raw_bytes);
            Ok(Signer::Certificates(chain.certificates.iter().map(decode).collect::<Result<_, _>>()?))
        }
        _ => Err(malformed("it names neither one key nor one chain of certificates to be verified with")),
    }
}

/// DSSE's encoding of what is signed (version 1):
/// <https://github.com/secure-systems-lab/dsse/blob/v1.0.0/protocol.md#signature-definition>.
pub(crate) fn pre_authentication_encoding(payload: &[u8]) -> Vec<u8> {
    let head = format!("DSSEv1 {} {PAYLOAD_TYPE} {} ", PAYLOAD_TYPE.len(), payload.len());
    [head.as_bytes(), payload].concat()
}

pub(crate) fn encode(bytes: &[u8]) -> String {
    BASE64.encode(bytes)
}

fn decode(field: &str, text: &str) -> Result<Vec<u8>, Malformed> {
    BASE64.decode(text).map_err(|_| malformed(format!("{field} is no base64")))
}

/// Text of a stranger, so short that it fits into a message.
pub(crate) fn shortened(text: &str) -> String {
    const CHARS: usize = 200;
    text.chars().filter(|one| !one.is_control()).take(CHARS).collect()
}
