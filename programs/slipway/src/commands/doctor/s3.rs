//! Facts about S3.

use std::time::{Duration, Instant};

use slipway_artifact_store::{ArtifactStore, Error, S3Config};
use slipway_doctor::servers::{self, S3};
use slipway_doctor::{Finding, certificate};

use super::certificates;
use crate::installation::S3_ENDPOINT;

const LIMIT: Duration = Duration::from_secs(10);
/// Objects of earlier checks that were interrupted are found by it.
const PREFIX: &str = "slipway-doctor/";
const CONTENT: &[u8] = b"written by slipway doctor";
/// HTTP's dates have no fractions of a second.
const DATE_SLACK_MS: u64 = 1_000;

pub(super) async fn check(config: &S3Config) -> Vec<Finding> {
    let front = match front(&config.s3_endpoint).await {
        Ok(front) => front,
        Err(error) => return vec![servers::unreachable("s3", S3_ENDPOINT, &root(&error))],
    };
    let store = ArtifactStore::new(config);
    let failed = tokio::time::timeout(LIMIT, try_all(&store)).await;
    let failed = failed.unwrap_or_else(|_| Err(("work".to_owned(), "no answer within 10 s".to_owned())));
    let facts = S3 { bucket: config.s3_bucket.clone(), failed: failed.err(), clock: front.clock };
    let mut findings = servers::s3(&facts);
    if let Some(end) = front.certificate_end_s {
        findings.push(certificate("s3", end, certificates::now_s()));
    }
    findings
}

/// What a request without a signature tells.
struct Front {
    clock: Option<(i64, u64)>,
    certificate_end_s: Option<i64>,
}

async fn front(endpoint: &str) -> reqwest::Result<Front> {
    // An expired certificate is to be reported, not a failure; nothing is sent but the request for `/`.
    let http =
        reqwest::Client::builder().timeout(LIMIT).danger_accept_invalid_certs(true).tls_info(true).build()?;
    let asked = Instant::now();
    let response = http.get(endpoint).send().await?;
    let took = u64::try_from(asked.elapsed().as_millis()).unwrap_or(u64::MAX);
    let date = response.headers().get("date").and_then(|date| date.to_str().ok());
    let clock = date.and_then(certificates::difference_ms).map(|ms| (ms, took + DATE_SLACK_MS));
    let peer = response.extensions().get::<reqwest::tls::TlsInfo>();
    let certificate_end_s =
        peer.and_then(reqwest::tls::TlsInfo::peer_certificate).and_then(certificates::end_of_der);
    Ok(Front { clock, certificate_end_s })
}

fn root(error: &reqwest::Error) -> String {
    let mut cause: &dyn std::error::Error = error;
    while let Some(inner) = cause.source() {
        cause = inner;
    }
    cause.to_string()
}

async fn try_all(store: &ArtifactStore) -> Result<(), (String, String)> {
    let failed = |step: &'static str| move |error: Error| (step.to_owned(), error.to_string());
    let key = format!("{PREFIX}{}", slipway_runtime::id::random());
    store.list_page(PREFIX, None, 1).await.map_err(failed("list objects"))?;
    store.put_bytes(&key, CONTENT.into()).await.map_err(failed("write an object"))?;
    let read = store.get_bytes(&key, 1024).await.map_err(failed("read an object"))?;
    store.delete(&key).await.map_err(failed("delete an object"))?;
    if read == CONTENT { Ok(()) } else { Err(("read an object".to_owned(), "it has other bytes".to_owned())) }
}
