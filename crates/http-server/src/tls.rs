//! TLS of a listener: HTTP/1.1 and HTTP/2 by ALPN, client certificates on demand, certificates that change
//! without a restart.

use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use anyhow::Context as _;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::gauge::Gauge;
use rustls::crypto::ring;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig};
use slipway_service_kit::metrics::Metrics;
use slipway_service_kit::watch;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;
use tokio_util::sync::CancellationToken;
use x509_cert::Certificate;
use x509_cert::der::Decode as _;

/// Who has not finished the handshake within this time is hung up on.
const HANDSHAKE_TIMEOUT_MS: u64 = 10_000;
/// Who failed in the handshake has this time to hang up, and may send so much until then.
const PARTING_TIMEOUT_MS: u64 = 2_000;
const PARTING_LIMIT_BYTES: u64 = 64 * 1024;
/// Handshakes at the same time; further connections wait in the kernel's queue.
const MAX_HANDSHAKES: usize = 512;

/// What the files are called in messages: as people write them on the command line or in the environment.
const CERTIFICATE: &str = "the certificate (--tls-cert, SLIPWAY_TLS_CERT)";
const KEY: &str = "the private key (--tls-key, SLIPWAY_TLS_KEY)";
const CLIENT_CA: &str = "the certificate authorities of clients (--tls-client-ca, SLIPWAY_TLS_CLIENT_CA)";

/// Certificate and key of a listener, and whose certificates it takes.
#[derive(Debug, Clone, Default, clap::Args)]
#[command(next_help_heading = "TLS")]
pub struct TlsConfig {
    /// PEM file with the certificate of the server and its intermediate certificates. If set, the ports
    /// accept TLS only. The file is read again when it changes. [default: plain text]
    #[arg(long, env = "SLIPWAY_TLS_CERT", value_name = "FILE", requires = "tls_key")]
    pub tls_cert: Option<PathBuf>,
    /// PEM file with the private key of the certificate.
    #[arg(long, env = "SLIPWAY_TLS_KEY", value_name = "FILE", requires = "tls_cert")]
    pub tls_key: Option<PathBuf>,
    /// PEM file with the certificate authorities of clients. If set, each client must present a certificate
    /// signed by one of them. [default: clients present no certificate]
    #[arg(long, env = "SLIPWAY_TLS_CLIENT_CA", value_name = "FILE", requires = "tls_cert")]
    pub tls_client_ca: Option<PathBuf>,
}

/// What connections are secured with; new ones with what the files held last. Cheap to clone.
#[derive(Clone)]
pub struct Tls(Arc<Inner>);

struct Inner {
    current: RwLock<Arc<ServerConfig>>,
    paths: Vec<PathBuf>,
    /// What the files held at the start.
    known: Vec<Vec<u8>>,
    handshakes: Arc<Semaphore>,
    meters: Meters,
}

#[derive(Debug, Clone, Default)]
struct Meters {
    file_errors: Counter,
    expires_s: Gauge,
}

/// What files make.
struct Configured {
    config: Arc<ServerConfig>,
    /// When the server's own certificate ends, in seconds since 1970.
    expires_s: i64,
}

impl fmt::Debug for Tls {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        // What the files hold is secret.
        formatter.debug_struct("Tls").field("paths", &self.0.paths).finish_non_exhaustive()
    }
}

impl TlsConfig {
    /// Reads certificate and key; `None` where the listener is to speak plain text.
    ///
    /// # Errors
    /// A file cannot be read, or key and certificate do not belong together.
    pub fn load(&self) -> anyhow::Result<Option<Tls>> {
        let (certificate, key) = match (&self.tls_cert, &self.tls_key) {
            (Some(certificate), Some(key)) => (certificate, key),
            (None, None) => return Ok(None),
            _ => anyhow::bail!(
                "a certificate needs its key, and a key its certificate (--tls-cert, --tls-key)"
            ),
        };
        let paths: Vec<PathBuf> =
            [certificate, key].into_iter().chain(&self.tls_client_ca).cloned().collect();
        let mut known = Vec::with_capacity(paths.len());
        for (path, what) in paths.iter().zip([CERTIFICATE, KEY, CLIENT_CA]) {
            let read = watch::read(std::slice::from_ref(path)).map_err(anyhow::Error::msg);
            known.extend(read.with_context(|| format!("{what} cannot be read"))?);
        }
        let Configured { config, expires_s } = configure(&known)?;
        let meters = Meters::default();
        meters.expires_s.set(expires_s);
        let (current, handshakes) = (RwLock::new(config), Arc::new(Semaphore::new(MAX_HANDSHAKES)));
        Ok(Some(Tls(Arc::new(Inner { current, paths, known, handshakes, meters }))))
    }
}

impl Tls {
    /// Shows when the certificate ends, and how often its files could not be used, as metrics of `service`.
    pub fn register(&self, metrics: &Metrics, service: &str) {
        let Meters { file_errors, expires_s } = self.0.meters.clone();
        let errors = "Invalid changes of the TLS files";
        metrics.register(&format!("{service}_tls_file_errors"), errors, file_errors);
        let expires = "Expiry time of the certificate presented to new connections, in seconds since 1970";
        metrics.register(&format!("{service}_tls_certificate_expires_timestamp_seconds"), expires, expires_s);
    }

    /// Follows the files until the shutdown. Connections that are open stay as they are; where the files do
    /// not fit together, new ones get what was good before.
    pub async fn watch(self, shutdown: CancellationToken) {
        let inner = self.0;
        let (paths, known) = (inner.paths.clone(), inner.known.clone());
        let changed = move |contents: &watch::Contents| {
            let configured = contents.as_ref().map_err(|error| anyhow::anyhow!(error.clone()));
            match configured.and_then(|files| configure(files)) {
                Ok(Configured { config, expires_s }) => {
                    tracing::info!(expires_s, "TLS certificate changed");
                    inner.meters.expires_s.set(expires_s);
                    *inner.current.write().unwrap_or_else(PoisonError::into_inner) = config;
                }
                Err(error) => {
                    inner.meters.file_errors.inc();
                    tracing::error!(
                        error = format!("{error:#}"),
                        "TLS files invalid; the previous certificate stays in use"
                    );
                }
            }
        };
        watch::watch(paths, known, shutdown, changed).await;
    }

    fn current(&self) -> Arc<ServerConfig> {
        Arc::clone(&self.0.current.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Waits until one more handshake may start; connections that are not accepted wait in the system's
    /// queue.
    pub(crate) async fn admit(&self) -> Option<OwnedSemaphorePermit> {
        // It is never closed.
        Arc::clone(&self.0.handshakes).acquire_owned().await.ok()
    }

    /// Shakes hands; `None` where that failed or took too long.
    pub(crate) async fn secure(&self, stream: TcpStream, peer: SocketAddr) -> Option<TlsStream<TcpStream>> {
        let handshake = TlsAcceptor::from(self.current()).accept(stream).into_fallible();
        match tokio::time::timeout(Duration::from_millis(HANDSHAKE_TIMEOUT_MS), handshake).await {
            Ok(Ok(stream)) => return Some(stream),
            Ok(Err((error, stream))) => {
                tracing::debug!(%error, %peer, "TLS handshake failed");
                part(stream).await;
            }
            Err(_late) => tracing::debug!(%peer, "TLS handshake timed out"),
        }
        None
    }
}

/// Certificate, key and, perhaps, authorities of clients, as a configuration.
fn configure(files: &[Vec<u8>]) -> anyhow::Result<Configured> {
    let [certificate, key, authorities @ ..] = files else {
        anyhow::bail!("certificate and key are missing")
    };
    let chain = certificates(certificate).context(CERTIFICATE)?;
    let expires_s = expiry(&chain[0]).context(CERTIFICATE)?;
    let key = PrivateKeyDer::from_pem_slice(key).context(KEY)?;
    let provider = Arc::new(ring::default_provider());
    let builder =
        ServerConfig::builder_with_provider(Arc::clone(&provider)).with_safe_default_protocol_versions()?;
    let builder = match authorities.first() {
        None => builder.with_no_client_auth(),
        Some(authorities) => {
            let mut roots = RootCertStore::empty();
            for authority in certificates(authorities).context(CLIENT_CA)? {
                roots.add(authority).context(CLIENT_CA)?;
            }
            builder.with_client_cert_verifier(
                WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider).build()?,
            )
        }
    };
    let mut config = builder
        .with_single_cert(chain, key)
        .context("certificate and key do not match (--tls-cert, --tls-key)")?;
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(Configured { config: Arc::new(config), expires_s })
}

/// When a certificate ends, in seconds since 1970.
fn expiry(certificate: &CertificateDer<'_>) -> anyhow::Result<i64> {
    let certificate = Certificate::from_der(certificate)?;
    let ends = certificate.tbs_certificate().validity().not_after.to_unix_duration();
    Ok(i64::try_from(ends.as_secs()).unwrap_or(i64::MAX))
}

fn certificates(pem: &[u8]) -> anyhow::Result<Vec<CertificateDer<'static>>> {
    let all: Vec<_> = CertificateDer::pem_slice_iter(pem).collect::<Result<_, _>>()?;
    anyhow::ensure!(!all.is_empty(), "it contains no certificate; expected PEM");
    Ok(all)
}

/// Hangs up so that the client gets the alert that says why: a connection that is closed while something
/// unread has come is reset, and what was sent to the client is lost. With TLS 1.3 a client without a
/// certificate has sent its request by now.
async fn part(mut stream: TcpStream) {
    let parting = async {
        stream.shutdown().await?;
        tokio::io::copy(&mut stream.take(PARTING_LIMIT_BYTES), &mut tokio::io::sink()).await
    };
    // Connections that the client does not close are closed.
    let _ = tokio::time::timeout(Duration::from_millis(PARTING_TIMEOUT_MS), parting).await;
}
