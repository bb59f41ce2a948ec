//! Where the bucket is and how it is reached.

use std::sync::Arc;
use std::time::Duration;

use aws_sdk_s3::Client;
use aws_sdk_s3::config::retry::RetryConfig;
use aws_sdk_s3::config::timeout::TimeoutConfig;
use aws_sdk_s3::config::{Credentials, Region, RequestChecksumCalculation, ResponseChecksumValidation};
use aws_smithy_http_client::tls;
use secrecy::{ExposeSecret as _, SecretString};

use tokio::sync::Semaphore;

use crate::ArtifactStore;
use crate::authorities::trusted;
use crate::write::MAX_PARTS_AHEAD;

const CONNECT_TIMEOUT_MS: u64 = 3_000;
/// Time without a byte from the store after which a request is given up.
const READ_TIMEOUT_MS: u64 = 30_000;
const MAX_ATTEMPTS: u32 = 3;

/// An S3 bucket.
#[derive(Debug, Clone, clap::Args)]
#[command(next_help_heading = "Artifact store")]
pub struct S3Config {
    /// S3 endpoint, e.g. `http://127.0.0.1:8333`.
    #[arg(long, env = "SLIPWAY_S3_ENDPOINT", default_value = "http://127.0.0.1:8333", value_name = "URL",
          value_parser = endpoint)]
    pub s3_endpoint: String,
    /// Region for which requests are signed.
    #[arg(long, env = "SLIPWAY_S3_REGION", default_value = "us-east-1")]
    pub s3_region: String,
    /// Bucket of all artifacts; created at startup if it does not exist.
    #[arg(long, env = "SLIPWAY_S3_BUCKET", default_value = "slipway", value_parser = bucket)]
    pub s3_bucket: String,
    /// Access key id.
    #[arg(long, env = "SLIPWAY_S3_ACCESS_KEY", default_value = "", hide_env_values = true)]
    pub s3_access_key: String,
    /// Secret access key. Prefer the environment variable to the flag.
    #[arg(long, env = "SLIPWAY_S3_SECRET_KEY", default_value = "", hide_env_values = true)]
    pub s3_secret_key: SecretString,
}

fn endpoint(text: &str) -> Result<String, String> {
    let rest = text.strip_prefix("http://").or_else(|| text.strip_prefix("https://"));
    let host = rest.and_then(|rest| rest.split(['/', ':']).next()).unwrap_or_default();
    if host.is_empty() || text.contains(char::is_whitespace) {
        let expected = "expected http://HOST:PORT or https://HOST, e.g. http://127.0.0.1:8333";
        return Err(format!("{expected} (--s3-endpoint or SLIPWAY_S3_ENDPOINT)"));
    }
    Ok(text.to_owned())
}

fn bucket(text: &str) -> Result<String, String> {
    if text.is_empty() || text.contains(|letter: char| letter == '/' || letter.is_whitespace()) {
        return Err("expected a bucket's name, e.g. slipway (--s3-bucket or SLIPWAY_S3_BUCKET)".to_owned());
    }
    Ok(text.to_owned())
}

impl ArtifactStore {
    /// A client for the bucket. Nothing is sent yet.
    pub fn new(config: &S3Config) -> Self {
        Self {
            client: client(config, &config.s3_endpoint),
            signer: client(config, &config.s3_endpoint),
            bucket: config.s3_bucket.clone(),
            ahead: Arc::new(Semaphore::new(MAX_PARTS_AHEAD)),
        }
    }

    /// The same store, whose signed addresses name the endpoint that clients reach it by.
    #[must_use]
    pub fn with_public_endpoint(self, config: &S3Config, endpoint: &str) -> Self {
        Self { signer: client(config, endpoint), ..self }
    }
}

fn client(config: &S3Config, endpoint: &str) -> Client {
    let ring = tls::Provider::Rustls(tls::rustls_provider::CryptoMode::Ring);
    let http = aws_smithy_http_client::Builder::new().tls_provider(ring);
    let http = match trusted() {
        Some(context) => http.tls_context(context),
        None => http,
    };
    let credentials = Credentials::new(
        &config.s3_access_key,
        config.s3_secret_key.expose_secret(),
        None,
        None,
        "slipway-configuration",
    );
    let timeouts = TimeoutConfig::builder()
        .connect_timeout(Duration::from_millis(CONNECT_TIMEOUT_MS))
        .read_timeout(Duration::from_millis(READ_TIMEOUT_MS))
        .build();
    let settings = aws_sdk_s3::Config::builder()
        .behavior_version_latest()
        .http_client(http.build_https())
        .region(Region::new(config.s3_region.clone()))
        .endpoint_url(endpoint)
        .credentials_provider(credentials)
        .force_path_style(true)
        .timeout_config(timeouts)
        .retry_config(RetryConfig::standard().with_max_attempts(MAX_ATTEMPTS))
        // Our own SHA-256 is checked end to end; a second checksum a request would only cost time.
        .request_checksum_calculation(RequestChecksumCalculation::WhenRequired)
        .response_checksum_validation(ResponseChecksumValidation::WhenRequired)
        .build();
    Client::from_conf(settings)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_address_or_no_bucket_is_refused_by_the_names_of_its_setting() {
        for text in ["http://127.0.0.1:8333", "https://s3.example/", "http://[::1]:8333"] {
            assert_eq!(endpoint(text), Ok(text.to_owned()));
        }
        for text in ["", "foo", "ftp://host", "http://", "http:///bucket", "http://:8333", "http://a b"] {
            assert!(endpoint(text).unwrap_err().contains("--s3-endpoint or SLIPWAY_S3_ENDPOINT"), "{text}");
        }
        assert_eq!(bucket("models"), Ok("models".to_owned()));
        assert!(bucket("").unwrap_err().contains("--s3-bucket or SLIPWAY_S3_BUCKET"));
    }
}
