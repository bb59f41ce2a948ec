//! An HTTP sink: where events are posted to, with headers and authorities from files that may change.

use std::fmt;
use std::path::PathBuf;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use anyhow::Context as _;
use bytes::Bytes;
use http::header::{self, HeaderMap, HeaderName, HeaderValue};
use prometheus_client::metrics::counter::Counter;
use reqwest::{Certificate, Client, StatusCode, Url};
use slipway_service_kit::watch;
use tokio_util::sync::CancellationToken;

use super::config::CloudEventsConfig;
use super::event::PREFIX;

/// One try.
const SEND_TIMEOUT_MS: u64 = 5_000;
const SEND_ATTEMPTS: u32 = 3;
/// Before the second try; twice as long before the third.
const RETRY_DELAY_MS: u64 = 200;
/// Headers of the file.
const MAX_HEADERS: usize = 32;
/// Headers that an event has of its own, or its connection.
const RESERVED: [HeaderName; 6] = [
    header::CONTENT_TYPE,
    header::CONTENT_LENGTH,
    header::CONTENT_ENCODING,
    header::TRANSFER_ENCODING,
    header::CONNECTION,
    header::HOST,
];

/// Posts events. Cheap to clone.
#[derive(Clone)]
pub(crate) struct HttpSink(Arc<Inner>);

struct Inner {
    url: Url,
    files: Files,
    current: RwLock<Arc<Current>>,
    /// What the files held at the start.
    known: Vec<Vec<u8>>,
    errors: Counter,
}

/// Which files there are; what is read has this order.
#[derive(Debug, Clone)]
struct Files {
    headers: Option<PathBuf>,
    authorities: Option<PathBuf>,
}

/// What the files make.
struct Current {
    client: Client,
    headers: HeaderMap,
}

impl fmt::Debug for HttpSink {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The address may hold a password, the headers do.
        formatter.debug_struct("HttpSink").field("files", &self.0.files).finish_non_exhaustive()
    }
}

impl HttpSink {
    /// A sink at `url`; `errors` counts changes of its files that cannot be used.
    ///
    /// # Errors
    /// The address is none of HTTP, or a file cannot be used; the message names the flag.
    pub(super) fn new(url: &str, config: &CloudEventsConfig, errors: Counter) -> anyhow::Result<Self> {
        slipway_runtime::install_tls_provider();
        // What was given may hold a password, and is not repeated.
        let url = Url::parse(url).context("the sink's address (--cloudevents-url)")?;
        anyhow::ensure!(
            matches!(url.scheme(), "http" | "https"),
            "the sink's address (--cloudevents-url) begins with {}:, expected http:// or https://",
            url.scheme()
        );
        anyhow::ensure!(
            config.cloudevents_ca.is_none() || url.scheme() == "https",
            "certificate authorities (--cloudevents-ca) have no effect for an http:// sink; expected \
             https:// (--cloudevents-url)"
        );
        let files = Files {
            headers: config.cloudevents_header_file.clone(),
            authorities: config.cloudevents_ca.clone(),
        };
        let known = watch::read(&files.paths()).map_err(anyhow::Error::msg).with_context(|| {
            let flags = [
                files.headers.as_ref().map(|_| "--cloudevents-header-file"),
                files.authorities.as_ref().map(|_| "--cloudevents-ca"),
            ];
            format!("a file of the sink ({})", flags.into_iter().flatten().collect::<Vec<_>>().join(", "))
        })?;
        let current = RwLock::new(Arc::new(files.used(&known)?));
        Ok(Self(Arc::new(Inner { url, files, current, known, errors })))
    }

    /// Follows the files until the shutdown. Where they cannot be used, events go out as before.
    pub(crate) async fn watch(self, shutdown: CancellationToken) {
        let (paths, known) = (self.0.files.paths(), self.0.known.clone());
        let changed = move |contents: &watch::Contents| {
            let read = contents.as_ref().map_err(|error| anyhow::anyhow!(error.clone()));
            match read.and_then(|contents| self.0.files.used(contents)) {
                Ok(used) => {
                    tracing::info!("files of the CloudEvents sink changed");
                    *self.0.current.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(used);
                }
                Err(error) => {
                    self.0.errors.inc();
                    let error = format!("{error:#}");
                    tracing::error!(
                        error,
                        "files of the CloudEvents sink invalid; the previous ones stay in use"
                    );
                }
            }
        };
        watch::watch(paths, known, shutdown, changed).await;
    }

    /// Posts an event, a few times where that may help.
    pub(super) async fn post(&self, mut headers: HeaderMap, body: Bytes) -> Result<(), String> {
        let current = Arc::clone(&self.0.current.read().unwrap_or_else(PoisonError::into_inner));
        headers.extend(current.headers.clone());
        let mut delay = Duration::from_millis(RETRY_DELAY_MS);
        for attempt in 1.. {
            let request = current.client.post(self.0.url.clone()).headers(headers.clone()).body(body.clone());
            let (reason, may_help) = match request.send().await {
                Ok(answer) if answer.status().is_success() => return Ok(()),
                Ok(answer) => {
                    let status = answer.status();
                    let later = status.is_server_error() || status == StatusCode::TOO_MANY_REQUESTS;
                    (format!("it returned {status}"), later)
                }
                // Without the address, which may hold a password.
                Err(error) => (format!("{:#}", anyhow::Error::from(error.without_url())), true),
            };
            if !may_help || attempt == SEND_ATTEMPTS {
                return Err(reason);
            }
            tokio::time::sleep(delay).await;
            delay *= 2;
        }
        Ok(())
    }
}

impl Files {
    fn paths(&self) -> Vec<PathBuf> {
        self.headers.iter().chain(&self.authorities).cloned().collect()
    }

    /// Makes a client of what they hold.
    fn used(&self, contents: &[Vec<u8>]) -> anyhow::Result<Current> {
        let mut contents = contents.iter();
        let headers = match self.headers.as_ref().and_then(|_| contents.next()) {
            Some(text) => headers(text)
                .map_err(anyhow::Error::msg)
                .context("the headers of the sink (--cloudevents-header-file)")?,
            None => HeaderMap::new(),
        };
        let mut client = Client::builder()
            .timeout(Duration::from_millis(SEND_TIMEOUT_MS))
            .redirect(reqwest::redirect::Policy::none());
        if let Some(pem) = self.authorities.as_ref().and_then(|_| contents.next()) {
            let of_authorities = "the authorities of the sink (--cloudevents-ca)";
            let authorities = Certificate::from_pem_bundle(pem).context(of_authorities)?;
            anyhow::ensure!(
                !authorities.is_empty(),
                "{of_authorities}: it contains no certificate; expected PEM"
            );
            client = client.tls_certs_only(authorities);
        }
        Ok(Current { client: client.build().context("the client of the sink (--cloudevents-ca)")?, headers })
    }
}

/// Headers of a file, `Name: value` a line. No message repeats a value.
fn headers(text: &[u8]) -> Result<HeaderMap, String> {
    let text = std::str::from_utf8(text).map_err(|_| "it is not UTF-8".to_owned())?;
    let mut headers = HeaderMap::new();
    for (at, line) in (1..).zip(text.lines()).filter(|(_, line)| !line.trim().is_empty()) {
        let (name, value) =
            line.split_once(':').ok_or_else(|| format!("line {at} has no colon; expected `Name: value`"))?;
        let name = HeaderName::try_from(name.trim())
            .map_err(|_| format!("line {at}: what is before the colon is no header's name"))?;
        if RESERVED.contains(&name) || name.as_str().starts_with(PREFIX) {
            return Err(format!("line {at}: `{name}` is set by each event"));
        }
        let mut value = HeaderValue::try_from(value.trim())
            .map_err(|_| format!("line {at}: the value of `{name}` holds what no header can carry"))?;
        value.set_sensitive(true);
        if headers.try_append(name, value).is_err() || headers.len() > MAX_HEADERS {
            return Err(format!("more than {MAX_HEADERS} headers"));
        }
    }
    Ok(headers)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_of_headers_is_read_line_by_line_and_no_complaint_repeats_a_secret() {
        let read = headers(b"Authorization: Bearer t-1\r\n\nX-Tenant:  a: b\n").unwrap();
        assert!(read["authorization"] == "Bearer t-1" && read["x-tenant"] == "a: b", "{read:?}");
        assert!(!format!("{read:?}").contains("t-1"));
        assert_eq!(headers(b"").unwrap().len(), 0);
        for (text, expected) in [
            (&b"secret"[..], "line 1 has no colon; expected `Name: value`"),
            (b"\nse cret: secret", "line 2: what is before the colon is no header's name"),
            (b"X-Key: secret\x01", "line 1: the value of `x-key` holds what no header can carry"),
            (b"Content-Type: secret", "line 1: `content-type` is set by each event"),
            (b"ce-id: secret", "line 1: `ce-id` is set by each event"),
            (b"X-Key: \xFF", "it is not UTF-8"),
        ] {
            assert_eq!(headers(text).unwrap_err(), expected);
        }
        let many: String = (0..=MAX_HEADERS).map(|at| format!("x-{at}: secret\n")).collect();
        assert_eq!(headers(many.as_bytes()).unwrap_err(), "more than 32 headers");
    }
}
