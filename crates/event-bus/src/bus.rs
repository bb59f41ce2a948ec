//! The connection, and the streams and buckets that every service expects.

use std::time::Duration;

use async_nats::ServerAddr;
use async_nats::jetstream::{self, kv, stream};
use slipway_api::{access, events, predictions, traffic};
use tokio_util::sync::CancellationToken;

use crate::Error;
use crate::connection::Connection;

const MIB: i64 = 1024 * 1024;
/// Events are kept this long: a consumer that was unreachable for less misses nothing.
const EVENTS_MAX_AGE_S: u64 = 14 * 24 * 3600;
const EVENTS_MAX_BYTES: i64 = 2048 * MIB;
const PREDICTIONS_MAX_AGE_S: u64 = 24 * 3600;
const PREDICTIONS_MAX_BYTES: i64 = 512 * MIB;
const LABELS_MAX_AGE_S: u64 = 30 * 24 * 3600;
const LABELS_MAX_BYTES: i64 = 256 * MIB;
/// A message with an id seen within this time is stored once.
const DUPLICATE_WINDOW_S: u64 = 600;
/// One request to NATS.
const REQUEST_TIMEOUT_MS: u64 = 5_000;
/// Longest pause between two attempts to reach NATS.
const RECONNECT_DELAY_MAX_MS: u64 = 1_000;

/// Where NATS is.
#[derive(Debug, Clone, clap::Args)]
#[command(next_help_heading = "NATS")]
pub struct NatsConfig {
    /// URL of a NATS server with JetStream, e.g. `nats://127.0.0.1:4222`; may contain credentials:
    /// `nats://USER:PASSWORD@HOST:PORT`. With `?inbox_prefix=PREFIX`, replies arrive below the subject PREFIX
    /// instead of `_INBOX`.
    #[arg(long, env = "SLIPWAY_NATS_URL", default_value = "nats://127.0.0.1:4222", hide_env_values = true)]
    pub nats_url: String,
}

impl NatsConfig {
    fn address(&self) -> Result<ServerAddr, Error> {
        let address: ServerAddr =
            self.nats_url.trim().parse().map_err(|error: std::io::Error| self.refused(&error.to_string()))?;
        if address.host().is_empty() {
            return Err(self.refused("it names no host"));
        }
        Ok(address)
    }

    /// The subject below which replies arrive.
    fn inbox_prefix(&self) -> String {
        let query = self.nats_url.split_once('?').map_or("", |(_, query)| query);
        let given = query.split('&').find_map(|pair| pair.strip_prefix("inbox_prefix="));
        given.map(str::trim).filter(|prefix| !prefix.is_empty()).unwrap_or("_INBOX").to_owned()
    }

    fn refused(&self, reason: &str) -> Error {
        let url = without_credentials(&self.nats_url);
        Error::Address {
            url,
            reason: format!("{reason}; expected nats://HOST:PORT, e.g. nats://127.0.0.1:4222"),
        }
    }
}

/// A connection that mends itself. Cheap to clone.
#[derive(Debug, Clone)]
pub struct EventBus {
    client: async_nats::Client,
    jetstream: jetstream::Context,
}

impl EventBus {
    /// Starts connecting. It returns at once, also where NATS is unreachable; the connection is then made in
    /// the background, for as long as it takes.
    ///
    /// # Errors
    /// An address that is no address.
    pub async fn connect(config: &NatsConfig, name: &str) -> Result<Self, Error> {
        let address = config.address()?;
        let connection = Connection::to(without_credentials(&config.nats_url));
        let mut options = async_nats::ConnectOptions::new();
        // The client itself leaves those of the address aside.
        if let Some((user, password)) = login(&address) {
            options = options.user_and_password(user, password);
        }
        let client = options
            .name(name)
            .custom_inbox_prefix(config.inbox_prefix())
            .retry_on_initial_connect()
            .max_reconnects(None)
            .request_timeout(Some(Duration::from_millis(REQUEST_TIMEOUT_MS)))
            .ping_interval(Duration::from_secs(10))
            .reconnect_delay_callback(|attempt| {
                Duration::from_millis((50 * attempt as u64).min(RECONNECT_DELAY_MAX_MS))
            })
            .event_callback(move |event| {
                connection.hear(&event);
                std::future::ready(())
            })
            .connect(address)
            .await
            .map_err(|error| config.refused(&error.to_string()))?;
        let mut jetstream = jetstream::new(client.clone());
        jetstream.set_timeout(Duration::from_millis(REQUEST_TIMEOUT_MS));
        Ok(Self { client, jetstream })
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

    /// Makes the streams and buckets, or brings their limits up to date. What is as it should be is only
    /// looked at: services that may not configure streams ([`crate::permissions`]) find them made by the
    /// platform.
    ///
    /// # Errors
    /// NATS is unreachable or refuses.
    pub async fn ensure_resources(&self) -> Result<(), Error> {
        for wanted in stream_configs() {
            let found = self.jetstream.get_stream(&wanted.name).await;
            if !found.is_ok_and(|found| is_current(&found.cached_info().config, &wanted)) {
                self.jetstream.create_or_update_stream(wanted).await.map_err(Error::nats)?;
            }
        }
        for name in [traffic::TRAFFIC_BUCKET, traffic::REPLICAS_BUCKET, access::ACCESS_BUCKET] {
            let wanted = bucket_config(name);
            let found = self.jetstream.get_stream(format!("KV_{name}")).await;
            let is_current = found.is_ok_and(|found| {
                let found = &found.cached_info().config;
                (found.max_age, found.max_bytes) == (wanted.max_age, wanted.max_bytes)
            });
            if !is_current {
                self.make_bucket(wanted).await?;
            }
        }
        Ok(())
    }

    async fn make_bucket(&self, config: kv::Config) -> Result<kv::Store, Error> {
        let plain = kv::Config { limit_markers: None, ..config.clone() };
        if config.limit_markers.is_some()
            && let Ok(store) = self.jetstream.create_or_update_key_value(config).await
        {
            return Ok(store);
        }
        // Servers before NATS 2.11 keep markers of deleted entries.
        self.jetstream.create_or_update_key_value(plain).await.map_err(Error::nats)
    }

    /// [`Self::ensure_resources`], again and again until it is done or `shutdown` is set. `true` when done.
    pub async fn wait_for_resources(&self, shutdown: &CancellationToken) -> bool {
        let mut complained = false;
        loop {
            tokio::select! {
                () = shutdown.cancelled() => return false,
                result = self.ensure_resources() => match result {
                    Ok(()) => return true,
                    Err(error) if !complained => {
                        tracing::warn!(%error, "waiting for NATS with JetStream");
                        complained = true;
                    }
                    Err(_) => {}
                },
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
        self.make_bucket(bucket_config(name)).await
    }
}

fn bucket_config(name: &str) -> kv::Config {
    let max_age = if name == traffic::REPLICAS_BUCKET {
        Duration::from_secs(traffic::REPLICA_STATUS_MAX_AGE_S)
    } else {
        Duration::ZERO
    };
    let limit_markers =
        (name == access::ACCESS_BUCKET).then(|| Duration::from_secs(access::MARKER_MAX_AGE_S));
    kv::Config {
        bucket: name.to_owned(),
        history: 1,
        max_age,
        max_bytes: 64 * MIB,
        limit_markers,
        ..kv::Config::default()
    }
}

/// User and password of an address, which may be percent-encoded there.
fn login(address: &ServerAddr) -> Option<(String, String)> {
    let decoded = |text: &str| percent_encoding::percent_decode_str(text).decode_utf8_lossy().into_owned();
    Some((decoded(address.username()?), decoded(address.password().unwrap_or_default())))
}

/// Whether a stream has the subjects and limits that it should have.
fn is_current(found: &stream::Config, wanted: &stream::Config) -> bool {
    let limits = |config: &stream::Config| {
        (config.max_age, config.max_bytes, config.discard, config.duplicate_window, config.allow_direct)
    };
    found.subjects == wanted.subjects && limits(found) == limits(wanted)
}

fn stream_configs() -> [stream::Config; 3] {
    let stream = |name: &str, subjects: Vec<String>, max_age_s: u64, max_bytes: i64| stream::Config {
        name: name.to_owned(),
        subjects,
        max_age: Duration::from_secs(max_age_s),
        max_bytes,
        discard: stream::DiscardPolicy::Old,
        duplicate_window: Duration::from_secs(DUPLICATE_WINDOW_S),
        allow_direct: true,
        ..stream::Config::default()
    };
    [
        stream(
            events::EVENTS_STREAM,
            events::EVENTS_SUBJECTS.map(str::to_owned).to_vec(),
            EVENTS_MAX_AGE_S,
            EVENTS_MAX_BYTES,
        ),
        stream(
            predictions::PREDICTIONS_STREAM,
            predictions::PREDICTIONS_SUBJECTS.map(str::to_owned).to_vec(),
            PREDICTIONS_MAX_AGE_S,
            PREDICTIONS_MAX_BYTES,
        ),
        stream(
            predictions::LABELS_STREAM,
            vec![predictions::LABELS_SUBJECT.to_owned()],
            LABELS_MAX_AGE_S,
            LABELS_MAX_BYTES,
        ),
    ]
}

/// The address without `user:password@`, fit for a log.
fn without_credentials(url: &str) -> String {
    match (url.find("://"), url.rfind('@')) {
        (Some(scheme), Some(at)) if at > scheme => format!("{}{}", &url[..scheme + 3], &url[at + 1..]),
        _ => url.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::{NatsConfig, login, without_credentials};

    #[test]
    fn an_address_without_a_host_is_refused_by_the_settings_name() {
        let address = |url: &str| NatsConfig { nats_url: url.to_owned() }.address();
        for url in ["nats://127.0.0.1:4222", "nats.example", "nats://me:secret@host:4222"] {
            assert!(address(url).is_ok(), "{url}");
        }
        for url in ["", "nats://", "ftp://host", "nats://me:secret@"] {
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
            let address = NatsConfig { nats_url: url.to_owned() }.address().unwrap();
            login(&address).map(|(user, password)| format!("{user} {password}"))
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
        assert_eq!(prefix("nats://127.0.0.1:4222"), "_INBOX");
        assert_eq!(prefix("nats://127.0.0.1:4222/?tls=x&inbox_prefix="), "_INBOX");
    }

    #[test]
    fn credentials_never_reach_the_log() {
        assert_eq!(without_credentials("nats://me:secret@host:4222"), "nats://host:4222");
        assert_eq!(without_credentials("nats://host:4222"), "nats://host:4222");
    }
}
