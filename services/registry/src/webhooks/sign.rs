//! Secrets and signatures after the Standard Webhooks specification, and after the format besides
//! CloudEvents, which signs the same text with the bytes of the secret as they are.
//!
//! Sources: <https://github.com/standard-webhooks/standard-webhooks/blob/main/spec/standard-webhooks.md>:
//! HMAC-SHA256 over `id.timestamp.body` with the decoded secret, written `v1,<base64>`; several signatures
//! stand apart by spaces.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hmac::{Hmac, KeyInit as _, Mac as _};
use secrecy::{ExposeSecret as _, SecretString};
use sha2::Sha256;
use slipway_domain::Invalid;
use slipway_domain::registry::webhook::Format;

use super::dialect::Dialect;
use crate::store::webhooks::Secrets;

const PREFIX: &str = "whsec_";
const NEW_SECRET_BYTES: usize = 32;
const MIN_SECRET_BYTES: usize = 24;
const MAX_SECRET_BYTES: usize = 64;

/// A new random secret.
pub(crate) fn new_secret() -> SecretString {
    let bytes: [u8; NEW_SECRET_BYTES] = rand::random();
    format!("{PREFIX}{}", STANDARD.encode(bytes)).into()
}

/// Checks a secret that the client chose.
///
/// # Errors
/// It is not `whsec_` with 24 to 64 bytes as base64. The message does not repeat it.
pub(crate) fn check_secret(secret: &SecretString) -> Result<(), Invalid> {
    match key(secret.expose_secret()) {
        Some(key) if (MIN_SECRET_BYTES..=MAX_SECRET_BYTES).contains(&key.len()) => Ok(()),
        _ => Err(Invalid::new(
            "secret",
            format!(
                "expected `{PREFIX}` and {MIN_SECRET_BYTES} to {MAX_SECRET_BYTES} bytes as base64, or nothing"
            ),
        )),
    }
}

fn key(secret: &str) -> Option<Vec<u8>> {
    STANDARD.decode(secret.strip_prefix(PREFIX)?).ok()
}

/// The headers of a call: what it holds, which one it is, when it was made, and what proves that.
pub(crate) fn headers(
    (format, dialect): (Format, &Dialect),
    secrets: &Secrets,
    id: &str,
    now_ms: i64,
    body: &str,
) -> Vec<(&'static str, String)> {
    let timestamp_s = now_ms / 1_000;
    let (content_type, names) = match format {
        Format::CloudEvents => {
            ("application/cloudevents+json", ["webhook-id", "webhook-timestamp", "webhook-signature"])
        }
        Format::Mlflow => ("application/json", dialect.headers),
    };
    let signature = match format {
        Format::CloudEvents => {
            let old = secrets.old_secret.as_deref().filter(|_| now_ms < secrets.old_secret_until_ms);
            Some(signatures(secrets.secret.as_deref().into_iter().chain(old), id, timestamp_s, body))
        }
        // Receivers compare the whole header, so there is one signature at a time.
        Format::Mlflow => {
            secrets.secret.as_deref().and_then(|secret| signature(secret.as_bytes(), id, timestamp_s, body))
        }
    };
    let [id_name, timestamp_name, signature_name] = names;
    let mut headers = vec![
        ("content-type", content_type.to_owned()),
        (id_name, id.to_owned()),
        (timestamp_name, timestamp_s.to_string()),
    ];
    headers.extend(signature.map(|signature| (signature_name, signature)));
    headers
}

fn signature(key: &[u8], id: &str, timestamp_s: i64, body: &str) -> Option<String> {
    let mut mac = Hmac::<Sha256>::new_from_slice(key).ok()?;
    mac.update(format!("{id}.{timestamp_s}.").as_bytes());
    mac.update(body.as_bytes());
    Some(format!("v1,{}", STANDARD.encode(mac.finalize().into_bytes())))
}

/// The value of `webhook-signature`: one signature for each secret.
fn signatures<'secret>(
    secrets: impl IntoIterator<Item = &'secret str>,
    id: &str,
    timestamp_s: i64,
    body: &str,
) -> String {
    let signed: Vec<String> =
        secrets.into_iter().filter_map(|secret| signature(&key(secret)?, id, timestamp_s, body)).collect();
    signed.join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::mlflow::webhook_events::DIALECT;

    /// The example of the specification's reference libraries.
    #[test]
    fn a_signature_is_that_of_the_reference_libraries() {
        let secret = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
        let body = r#"{"test": 2432232314}"#;
        let signed = signatures([secret], "msg_p5jXN8AQM9LWM0D4loKWxJek", 1_614_265_330, body);
        assert_eq!(signed, "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=");
        let both = signatures([secret, secret], "msg_p5jXN8AQM9LWM0D4loKWxJek", 1_614_265_330, body);
        assert_eq!(both, format!("{signed} {signed}"));
    }

    #[test]
    fn a_signature_for_mlflow_is_that_of_its_server() {
        let secrets = |secret: Option<&str>| Secrets {
            secret: secret.map(str::to_owned),
            old_secret: Some("before".to_owned()),
            old_secret_until_ms: i64::MAX,
        };
        let signed = |secret| {
            headers((Format::Mlflow, &DIALECT), &secrets(secret), "msg_1", 1_700_000_000_999, r#"{"a": 1}"#)
        };
        let own = |name, value: &str| (name, value.to_owned());
        let unsigned = vec![
            own("content-type", "application/json"),
            own("x-mlflow-delivery-id", "msg_1"),
            own("x-mlflow-timestamp", "1700000000"),
        ];
        assert_eq!(signed(None), unsigned);
        let signature = "v1,xExMFtUq7mvsPLX2UKoZmvNGMuh6Y4jjisMT1LID9Iw=";
        assert_eq!(
            signed(Some("my secret")),
            [unsigned, vec![own("x-mlflow-signature", signature)]].concat()
        );
    }

    #[test]
    fn secrets_are_long_and_new_ones_differ() {
        check_secret(&new_secret()).unwrap();
        assert_ne!(new_secret().expose_secret(), new_secret().expose_secret());
        for wrong in [
            "",
            "whsec_",
            "whsec_AAAA",
            "MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw",
            "whsec_not base64 at all, is it?",
        ] {
            let refused = check_secret(&wrong.to_owned().into()).unwrap_err();
            assert_eq!(refused.field, "secret");
        }
    }
}
