//! The servers of an installation: from the environment variables that the services read, or from the data
//! directory of a platform on this machine. Never from arguments, which other users of a machine can see.

use std::path::Path;

use anyhow::Context as _;
use slipway_artifact_store::S3Config;
use slipway_event_bus::NatsConfig;

use crate::up::credentials::Credentials;

pub(crate) const POSTGRES_URL: &str = "SLIPWAY_POSTGRES_URL";
pub(crate) const NATS_URL: &str = "SLIPWAY_NATS_URL";
/// Region for which requests are signed by default.
const REGION: &str = "us-east-1";
pub(crate) const S3_ENDPOINT: &str = "SLIPWAY_S3_ENDPOINT";

/// How the servers are reached.
pub(crate) struct Servers {
    /// URL of Postgres.
    pub(crate) postgres: String,
    pub(crate) nats: NatsConfig,
    pub(crate) s3: S3Config,
}

impl Servers {
    /// Those of a platform on this machine, as its owner reaches them.
    pub(crate) fn of(credentials: &Credentials) -> Self {
        Self {
            postgres: credentials.postgres_url.clone(),
            nats: NatsConfig { nats_url: credentials.nats_for_streams().clone() },
            s3: S3Config {
                s3_endpoint: credentials.s3_endpoint.clone(),
                s3_region: variable("SLIPWAY_S3_REGION").unwrap_or_else(|| REGION.to_owned()),
                s3_bucket: credentials.s3_bucket.clone(),
                s3_access_key: credentials.s3_access_key.clone(),
                s3_secret_key: credentials.s3_secret_key.clone().into(),
            },
        }
    }
}

/// The same, as far as it is known.
#[derive(Default)]
pub(crate) struct KnownServers {
    pub(crate) postgres: Option<String>,
    pub(crate) nats: Option<NatsConfig>,
    pub(crate) s3: Option<S3Config>,
}

impl KnownServers {
    /// Each from the environment, or else from the data directory.
    ///
    /// # Errors
    /// The file of the data directory is damaged, or a variable has no valid value.
    pub(crate) fn find(data_dir: &Path) -> anyhow::Result<Self> {
        let local = Credentials::read(data_dir)?;
        let local = |field: fn(&Credentials) -> &String| local.as_ref().map(field).cloned();
        let nats = variable(NATS_URL).or_else(|| local(Credentials::nats_for_streams));
        let s3 = |name: &str, field: fn(&Credentials) -> &String, default: &str| {
            variable(name).or_else(|| local(field)).unwrap_or_else(|| default.to_owned())
        };
        let endpoint = variable(S3_ENDPOINT).or_else(|| local(|local| &local.s3_endpoint));
        let s3 = endpoint.map(|s3_endpoint| S3Config {
            s3_endpoint,
            s3_region: variable("SLIPWAY_S3_REGION").unwrap_or_else(|| REGION.to_owned()),
            s3_bucket: s3("SLIPWAY_S3_BUCKET", |local| &local.s3_bucket, "slipway"),
            s3_access_key: s3("SLIPWAY_S3_ACCESS_KEY", |local| &local.s3_access_key, ""),
            s3_secret_key: s3("SLIPWAY_S3_SECRET_KEY", |local| &local.s3_secret_key, "").into(),
        });
        Ok(Self {
            postgres: variable(POSTGRES_URL).or_else(|| local(|local| &local.postgres_url)),
            nats: nats.map(|nats_url| NatsConfig { nats_url }),
            s3,
        })
    }

    /// All of them.
    ///
    /// # Errors
    /// One is unknown; the message names its variable.
    pub(crate) fn all(self, data_dir: &Path) -> anyhow::Result<Servers> {
        let missing = |variable: &str| {
            format!(
                "{variable} is not set, and {} has no platform: set the variables of the services \
                 ({POSTGRES_URL}, {NATS_URL}, {S3_ENDPOINT} and its keys), or use --data-dir",
                data_dir.display()
            )
        };
        Ok(Servers {
            postgres: self.postgres.with_context(|| missing(POSTGRES_URL))?,
            nats: self.nats.with_context(|| missing(NATS_URL))?,
            s3: self.s3.with_context(|| missing(S3_ENDPOINT))?,
        })
    }
}

/// A variable that is set and not empty.
pub(crate) fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok().map(|value| value.trim().to_owned()).filter(|value| !value.is_empty())
}
