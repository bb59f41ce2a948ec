//! The connection, and the streams and buckets that every service expects.

use std::collections::BTreeSet;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_nats::ServerAddr;
use async_nats::jetstream::context::GetStreamErrorKind;
use async_nats::jetstream::{self, kv, stream};
use slipway_runtime::task;
use tokio_util::sync::CancellationToken;

use crate::connection::Connection;
use crate::liveness::{self, Answers, jittered};
use crate::settings::StreamSettings;
use crate::{Error, resources};

/// One request to NATS.
const REQUEST_TIMEOUT_MS: u64 = 5_000;
/// How often it is checked whether the connection is another one.
pub(crate) const CONNECTION_CHECK_MS: u64 = 250;
/// Longest pause between two attempts to reach NATS.
const RECONNECT_DELAY_MAX_MS: u64 = 1_000;

/// Where NATS is.
#[derive(Debug, Clone, clap::Args)]
#[command(next_help_heading = "NATS")]
pub struct NatsConfig {
    /// URL of a NATS server with JetStream, e.g. `nats://127.0.0.1:4222`, or of several servers of a cluster,
    /// separated by commas; may contain credentials: `nats://USER:PASSWORD@HOST:PORT`. With
    /// `?inbox_prefix=PREFIX`, replies arrive below the subject PREFIX instead of `_INBOX`.
    #[arg(long, env = "SLIPWAY_NATS_URL", default_value = "nats://127.0.0.1:4222", hide_env_values = true)]
    pub nats_url: String,
}

impl NatsConfig {
    /// At least one; all have the same user.
    fn addresses(&self) -> Result<Vec<ServerAddr>, Error> {
        let addresses: Vec<ServerAddr> =
            self.nats_url.split(',').map(|url| self.address(url.trim())).collect::<Result<_, _>>()?;
        if addresses.iter().any(|address| login(address) != login(&addresses[0])) {
            return Err(self.refused("its servers have different users or passwords"));
        }
        Ok(addresses)
    }

    fn address(&self, url: &str) -> Result<ServerAddr, Error> {
        let address: ServerAddr =
            url.parse().map_err(|error: std::io::Error| self.refused(&error.to_string()))?;
        if address.host().is_empty() {
            return Err(self.refused("it names no host"));
        }
        Ok(address)
    }

    /// The subject below which replies arrive.
    fn inbox_prefix(&self) -> String {
        let queries = self.nats_url.split(',').filter_map(|url| url.split_once('?'));
        let mut pairs = queries.flat_map(|(_, query)| query.split('&'));
        let given = pairs.find_map(|pair| pair.strip_prefix("inbox_prefix="));
        given.map(str::trim).filter(|prefix| !prefix.is_empty()).unwrap_or("_INBOX").to_owned()
    }

    fn refused(&self, reason: &str) -> Error {
        let url = without_credentials(&self.nats_url);
        Error::Address {
            url,
            reason: format!(
                "{reason}; expected nats://HOST:PORT, e.g. nats://127.0.0.1:4222, or several, separated by \
                 commas"
            ),
        }
    }
}

/// A connection that mends itself. Cheap to clone.
#[derive(Debug, Clone)]
pub struct EventBus {
    client: async_nats::Client,
    jetstream: jetstream::Context,
    settings: StreamSettings,
    /// What was logged of streams that keep other limits than those configured.
    kept: Arc<Mutex<BTreeSet<String>>>,
    answers: Arc<Answers>,
}

impl EventBus {
    /// Starts connecting. It returns at once, also where NATS is unreachable; the connection is then made in
    /// the background, for as long as it takes.
    ///
    /// # Errors
    /// An address that is no address.
    pub async fn connect(config: &NatsConfig, name: &str) -> Result<Self, Error> {
        let addresses = config.addresses()?;
        let connection = Connection::to(without_credentials(&config.nats_url));
        let mut options = async_nats::ConnectOptions::new();
        // The client itself leaves those of the address aside.
        if let Some((user, password)) = login(&addresses[0]) {
            options = options.user_and_password(user, password);
        }
        let client = options
            .name(name)
            .custom_inbox_prefix(config.inbox_prefix())
            .retry_on_initial_connect()
            .max_reconnects(None)
            .request_timeout(Some(Duration::from_millis(REQUEST_TIMEOUT_MS)))
            .ping_interval(Duration::from_secs(10))
            .reconnect_delay_callback(|attempt| jittered((50 * attempt as u64).min(RECONNECT_DELAY_MAX_MS)))
            .event_callback(move |event| {
                connection.hear(&event);
                std::future::ready(())
            })
            .connect(addresses)
            .await
            .map_err(|error| config.refused(&error.to_string()))?;
        let mut jetstream = jetstream::new(client.clone());
        jetstream.set_timeout(Duration::from_millis(REQUEST_TIMEOUT_MS));
        let answers = Arc::default();
        let watching = liveness::watch(client.clone(), jetstream.clone(), Arc::downgrade(&answers));
        task::detached("nats-liveness", watching);
        let (settings, kept) = (StreamSettings::default(), Arc::default());
        Ok(Self { client, jetstream, settings, kept, answers })
    }

    /// The same connection, which creates streams and buckets with these settings.
    #[must_use]
    pub fn with_streams(self, settings: StreamSettings) -> Self {
        Self { settings, ..self }
    }

    /// The plain NATS client.
    pub const fn client(&self) -> &async_nats::Client {
        &self.client
    }

    /// The JetStream context.
    pub const fn jetstream(&self) -> &jetstream::Context {
        &self.jetstream
    }

    /// Whether the connection stands now.
    pub fn is_connected(&self) -> bool {
        self.client.connection_state() == async_nats::connection::State::Connected
    }

    /// Resolves once the connection is another one than at the call. A consumer without a place of its own
    /// may be out of reach then, while its client tries to create it again under its name: read with a new
    /// one.
    pub fn reconnected(&self) -> impl Future<Output = ()> + Send + use<> {
        let client = self.client.clone();
        let before = connections(&client);
        async move {
            while connections(&client) == before {
                tokio::time::sleep(Duration::from_millis(CONNECTION_CHECK_MS)).await;
            }
        }
    }

    /// Why requests to JetStream fail although the connection stands; `None` while they are answered.
    pub fn trouble(&self) -> Option<String> {
        self.answers.trouble()
    }

    /// JetStream has acknowledged a message just now. A connection of which this is said every second asks no
    /// questions to find out whether JetStream answers.
    pub fn acknowledged(&self) {
        self.answers.acknowledged();
    }

    /// Creates the streams and buckets that do not exist. One that exists keeps what an operator changed, and
    /// gets only what the platform cannot work without. One that lacks nothing is only looked at: services
    /// that may not configure streams ([`crate::permissions`]) find them created by the platform.
    ///
    /// # Errors
    /// NATS is unreachable or refuses, or a stream exists that cannot be used.
    pub async fn ensure_resources(&self) -> Result<(), Error> {
        for wanted in resources::streams(&self.settings) {
            match self.found(&wanted.name).await? {
                Some(found) => self.mend(&found, &wanted).await?,
                None => drop(self.jetstream.create_stream(wanted).await.map_err(Error::nats)?),
            }
        }
        for name in resources::BUCKETS {
            let bucket = resources::bucket(name, &self.settings);
            let wanted = resources::stream_of(&bucket);
            match self.found(&wanted.name).await? {
                Some(found) => {
                    self.mend(&found, &wanted).await?;
                    self.add_markers(found, &bucket).await;
                }
                None => drop(self.make_bucket(bucket).await?),
            }
        }
        Ok(())
    }

    async fn found(&self, stream: &str) -> Result<Option<stream::Config>, Error> {
        match self.jetstream.get_stream(stream).await {
            Ok(found) => Ok(Some(found.cached_info().config.clone())),
            Err(error) => match error.kind() {
                GetStreamErrorKind::JetStream(answer)
                    if answer.error_code() == jetstream::ErrorCode::STREAM_NOT_FOUND =>
                {
                    Ok(None)
                }
                _ => Err(Error::nats(error)),
            },
        }
    }

    async fn mend(&self, found: &stream::Config, wanted: &stream::Config) -> Result<(), Error> {
        let name = &wanted.name;
        if let Some(mended) = resources::mended(found, wanted)? {
            self.jetstream.update_stream(mended).await.map_err(Error::nats)?;
            tracing::info!(stream = name, "added to a stream of NATS what it lacked");
        }
        let differences = resources::differences(found, wanted).join(", ");
        if !differences.is_empty() && self.is_news(format!("{name}: {differences}")) {
            tracing::info!(stream = name, differences, "a stream of NATS keeps its own settings");
        }
        Ok(())
    }

    fn is_news(&self, text: String) -> bool {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner).insert(text)
    }

    /// Markers of deleted entries expire where the server can do that (NATS 2.11) and the user may change it;
    /// otherwise they stay, which does no harm.
    async fn add_markers(&self, found: stream::Config, bucket: &kv::Config) {
        if bucket.limit_markers.is_none() || found.allow_message_ttl {
            return;
        }
        let name = found.name.clone();
        let marked = stream::Config {
            allow_message_ttl: true,
            subject_delete_marker_ttl: bucket.limit_markers,
            ..found
        };
        if let Err(error) = self.jetstream.update_stream(marked).await {
            tracing::debug!(%error, stream = name, "markers of deleted entries stay");
        }
    }

    async fn make_bucket(&self, config: kv::Config) -> Result<kv::Store, Error> {
        let plain = kv::Config { limit_markers: None, ..config.clone() };
        if config.limit_markers.is_some()
            && let Ok(store) = self.jetstream.create_key_value(config).await
        {
            return Ok(store);
        }
        // Servers before NATS 2.11 keep markers of deleted entries.
        self.jetstream.create_key_value(plain).await.map_err(Error::nats)
    }

    /// [`Self::ensure_resources`], again and again until it is done or `shutdown` is set. `true` when done.
    pub async fn wait_for_resources(&self, shutdown: &CancellationToken) -> bool {
        self.prepare(shutdown, |_| ()).await
    }

    /// [`Self::wait_for_resources`], with each error passed to `failed`.
    pub async fn prepare(&self, shutdown: &CancellationToken, failed: impl Fn(&Error) + Send) -> bool {
        let mut complained = String::new();
        loop {
            let error = tokio::select! {
                () = shutdown.cancelled() => return false,
                result = self.ensure_resources() => match result {
                    Ok(()) => return true,
                    Err(error) => error,
                },
            };
            failed(&error);
            let reason = error.to_string();
            if complained != reason {
                tracing::warn!(%error, "waiting for NATS with JetStream");
                complained = reason;
            }
            tokio::select! {
                () = shutdown.cancelled() => return false,
                () = tokio::time::sleep(Duration::from_millis(200)) => {}
            }
        }
    }

    /// A bucket by its name; made where it does not exist.
    ///
    /// # Errors
    /// NATS is unreachable or refuses.
    pub async fn bucket(&self, name: &str) -> Result<kv::Store, Error> {
        if let Ok(store) = self.jetstream.get_key_value(name).await {
            return Ok(store);
        }
        self.make_bucket(resources::bucket(name, &self.settings)).await
    }
}

/// User and password of an address, which may be percent-encoded there.
fn login(address: &ServerAddr) -> Option<(String, String)> {
    let decoded = |text: &str| percent_encoding::percent_decode_str(text).decode_utf8_lossy().into_owned();
    Some((decoded(address.username()?), decoded(address.password().unwrap_or_default())))
}

/// The addresses without `user:password@`, fit for a log.
fn without_credentials(urls: &str) -> String {
    let without = |url: &str| match (url.find("://"), url.rfind('@')) {
        (Some(scheme), Some(at)) if at > scheme => format!("{}{}", &url[..scheme + 3], &url[at + 1..]),
        (None, Some(at)) => url[at + 1..].to_owned(),
        _ => url.to_owned(),
    };
    urls.split(',').map(without).collect::<Vec<_>>().join(",")
}

/// How often this client has connected, the first time included.
pub(crate) fn connections(client: &async_nats::Client) -> u64 {
    client.statistics().connects.load(Ordering::Relaxed)
}

#[cfg(test)]
mod tests {
    use super::{NatsConfig, login, without_credentials};

    #[test]
    fn an_address_without_a_host_is_refused_by_the_settings_name() {
        let address = |url: &str| NatsConfig { nats_url: url.to_owned() }.addresses();
        for url in ["nats://127.0.0.1:4222", "nats.example", "nats://me:secret@host:4222"] {
            assert_eq!(address(url).unwrap().len(), 1, "{url}");
        }
        assert_eq!(address("nats://u:p@a:4222, nats://u:p@b:4222,nats://u:p@c").unwrap().len(), 3);
        let several = ["nats://a,", "nats://a,nats://me:secret@b", "nats://u:secret@a,nats://u:other@b"];
        for url in ["", "nats://", "ftp://host", "nats://me:secret@"].into_iter().chain(several) {
            let refused = address(url).unwrap_err().to_string();
            assert!(refused.contains("(--nats-url, SLIPWAY_NATS_URL)"), "{refused}");
            assert!(
                refused.contains("expected nats://HOST:PORT") && !refused.contains("secret"),
                "{refused}"
            );
        }
    }

    #[test]
    fn credentials_of_the_address_are_shown_to_the_server() {
        let login = |url: &str| {
            let addresses = NatsConfig { nats_url: url.to_owned() }.addresses().unwrap();
            login(&addresses[0]).map(|(user, password)| format!("{user} {password}"))
        };
        assert_eq!(login("nats://127.0.0.1:4222"), None);
        assert_eq!(login("nats://me:se%40cret@h:4222?inbox_prefix=x").as_deref(), Some("me se@cret"));
        assert_eq!(login("nats://me@h:4222").as_deref(), Some("me "));
    }

    #[test]
    fn the_prefix_of_replies_stands_in_the_address() {
        let prefix = |url: &str| NatsConfig { nats_url: url.to_owned() }.inbox_prefix();
        assert_eq!(
            prefix("nats://serving:secret@127.0.0.1:4222?inbox_prefix=_INBOX_serving"),
            "_INBOX_serving"
        );
        assert_eq!(prefix("nats://a,nats://b?inbox_prefix=_INBOX_x,nats://c"), "_INBOX_x");
        assert_eq!(prefix("nats://127.0.0.1:4222"), "_INBOX");
        assert_eq!(prefix("nats://127.0.0.1:4222/?tls=x&inbox_prefix="), "_INBOX");
    }

    #[test]
    fn credentials_never_reach_the_log() {
        assert_eq!(without_credentials("nats://me:secret@host:4222"), "nats://host:4222");
        assert_eq!(without_credentials("nats://host:4222"), "nats://host:4222");
        let several = without_credentials("nats://me:secret@a:1,nats://me:secret@b:2,me:secret@c");
        assert_eq!(several, "nats://a:1,nats://b:2,c");
    }
}
