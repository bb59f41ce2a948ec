//! The certificate authorities by which a store with `https` is believed.

use aws_smithy_http_client::tls::{TlsContext, TrustStore};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

/// Those of this machine. A container's image may have none: then those that Mozilla's browsers trust.
pub(crate) fn trusted() -> Option<TlsContext> {
    let browsers = |pem| TrustStore::empty().with_pem_certificate(pem);
    let store = substitutes().map_or_else(TrustStore::default, browsers);
    TlsContext::builder().with_trust_store(store).build().ok()
}

/// The authorities that Mozilla's browsers trust, as PEM, for a machine that has none of its own; `None`
/// where it has some.
pub fn substitutes() -> Option<String> {
    rustls_native_certs::load_native_certs().certs.is_empty().then(of_browsers)
}

fn of_browsers() -> String {
    webpki_root_certs::TLS_SERVER_ROOT_CERTS.iter().map(|der| pem(der)).collect()
}

/// A certificate as text, in lines of 64 characters (RFC 7468).
fn pem(der: &[u8]) -> String {
    let encoded = STANDARD.encode(der);
    let mut text = "-----BEGIN CERTIFICATE-----\n".to_owned();
    for line in encoded.as_bytes().chunks(64) {
        text.extend(line.iter().map(|byte| char::from(*byte)));
        text.push('\n');
    }
    text + "-----END CERTIFICATE-----\n"
}

#[cfg(test)]
mod tests {
    use aws_smithy_http_client::tls::{Provider, rustls_provider::CryptoMode};

    use super::*;

    #[test]
    fn a_machine_without_certificates_trusts_those_of_browsers() {
        let context = TlsContext::builder()
            .with_trust_store(TrustStore::empty().with_pem_certificate(of_browsers()))
            .build()
            .unwrap();
        // It reads them, and panics if one is not a certificate.
        let builder = aws_smithy_http_client::Connector::builder();
        drop(builder.tls_provider(Provider::Rustls(CryptoMode::Ring)).tls_context(context).build());
    }
}
