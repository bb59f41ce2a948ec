//! The servers: private ones, each kept running, or existing ones by their URL.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, Sender, channel};

use anyhow::{Context as _, bail};
use slipway_event_bus::StreamSettings;
use slipway_toolbox::servers::{self, NatsOptions, PostgresOptions, PostgresRole, Running, S3Options};
use slipway_toolbox::{Account, Toolbox};

use super::credentials::Credentials;
use super::nats;
use super::options::UpOptions;
use super::ports::{self, Ports};
use super::supervise::{Child, Note, Supervised, supervise};
use crate::output::outln;
use crate::services::SERVICES;

impl Child for Running {
    fn pid(&self) -> u32 {
        Self::pid(self)
    }
    fn ended(&mut self) -> Option<String> {
        Self::ended(self)
    }
    fn stop(&mut self) {
        Self::stop(self);
    }
}

/// How a server is reached.
#[derive(Debug, Clone, Default)]
struct Access {
    /// The platform owner's URL.
    url: String,
    /// URLs of services, by their names.
    urls: BTreeMap<String, String>,
    /// The URL of the user that may do everything, if that is another one.
    admin_url: Option<String>,
    /// Access key and secret key of S3.
    keys: Option<(String, String)>,
}

/// Starts a server.
type Start = Box<dyn FnMut() -> anyhow::Result<(Running, Access)> + Send>;

/// Names of services with their roles in Postgres, each with a schema of its own.
fn roles() -> impl Iterator<Item = (&'static str, PostgresRole)> {
    SERVICES.iter().filter_map(|service| Some((service.name, service.postgres?)))
}

/// Servers that run, and how services reach them.
pub(crate) struct Begun {
    pub(crate) supervised: Vec<Supervised>,
    pub(crate) credentials: Credentials,
}

/// What a server tells when it is ready for the first time.
type FirstWord = Result<Access, String>;

type Word = Receiver<FirstWord>;

/// Starts the private servers, all at once, and waits until they are ready.
pub(crate) fn start(
    toolbox: &Toolbox,
    data_dir: &Path,
    ports: &Ports,
    options: &UpOptions,
    notes: &Sender<Note>,
) -> anyhow::Result<Begun> {
    let needs_account =
        options.postgres_url.is_none() || options.nats_url.is_none() || options.s3_endpoint.is_none();
    let account = if needs_account { Account::for_servers(&options.run_as)? } else { Account::ours() };
    let mut starting = Starting { toolbox, data_dir, ports, notes, account, supervised: Vec::new() };
    match starting.all(options) {
        Ok(credentials) => Ok(Begun { supervised: starting.supervised, credentials }),
        Err(error) => {
            starting.supervised.iter().for_each(Supervised::stop);
            starting.supervised.drain(..).for_each(Supervised::join);
            Err(error)
        }
    }
}

struct Starting<'up> {
    toolbox: &'up Toolbox,
    data_dir: &'up Path,
    ports: &'up Ports,
    notes: &'up Sender<Note>,
    account: Account,
    supervised: Vec<Supervised>,
}

impl Starting<'_> {
    /// Begins all of them before it waits for any.
    fn all(&mut self, options: &UpOptions) -> anyhow::Result<Credentials> {
        let postgres = options.postgres_url.is_none().then(|| self.postgres()).transpose()?;
        let nats = options.nats_url.is_none().then(|| self.nats(&options.streams)).transpose()?;
        let s3 = options.s3_endpoint.is_none().then(|| self.s3()).transpose()?;
        let postgres = hear(postgres, options.postgres_url.as_ref())?;
        let nats = hear(nats, options.nats_url.as_ref())?;
        let s3 = hear(s3, options.s3_endpoint.as_ref())?;
        let (s3_access_key, s3_secret_key) = match s3.keys {
            Some(keys) => keys,
            None => (environment("SLIPWAY_S3_ACCESS_KEY")?, environment("SLIPWAY_S3_SECRET_KEY")?),
        };
        Ok(Credentials {
            postgres_url: postgres.url,
            nats_admin_url: nats.admin_url.unwrap_or_else(|| nats.url.clone()),
            nats_url: nats.url,
            postgres_urls: postgres.urls,
            nats_urls: nats.urls,
            s3_endpoint: s3.url,
            s3_bucket: options.s3_bucket.clone(),
            s3_access_key,
            s3_secret_key,
        })
    }

    fn postgres(&mut self) -> anyhow::Result<Word> {
        let binaries = self.toolbox.postgres(&mut tell)?;
        let (dir, log_dir) = self.folders("postgres");
        let (port, account) = (self.ports.of(&ports::POSTGRES), self.account);
        let roles = roles().map(|(_, role)| role).collect();
        let own = PostgresOptions { binaries, dir, log_dir, port, account, roles };
        let start = move || {
            let (running, urls) = servers::start_postgres(&own)?;
            let of_service = |(service, role): (&str, PostgresRole)| {
                Some((service.to_owned(), urls.get(role.name)?.clone()))
            };
            let urls = self::roles().filter_map(of_service).collect();
            let url = running.url.clone();
            Ok((running, Access { url, urls, ..Access::default() }))
        };
        self.begin("postgres", Box::new(start))
    }

    fn nats(&mut self, streams: &StreamSettings) -> anyhow::Result<Word> {
        let program = self.toolbox.nats_server(&mut tell)?;
        let (dir, log_dir) = self.folders("nats");
        let (port, account) = (self.ports.of(&ports::NATS), self.account);
        let own = NatsOptions { program, dir, log_dir, port, account, users: nats::users() };
        let streams = streams.clone();
        let start = move || {
            let (running, urls) = servers::start_nats(&own)?;
            // Also after a restart: the server may have lost its data.
            nats::make_streams(&running.url, &streams)?;
            let (url, urls) = nats::access(urls);
            let admin_url = Some(running.url.clone());
            Ok((running, Access { url, urls, admin_url, keys: None }))
        };
        self.begin("nats", Box::new(start))
    }

    fn s3(&mut self) -> anyhow::Result<Word> {
        let program = self.toolbox.weed(&mut tell)?;
        let (dir, log_dir) = self.folders("s3");
        let own = S3Options { program, dir, log_dir, port: self.ports.of(&ports::S3), account: self.account };
        let start = move || {
            let (running, keys) = servers::start_s3(&own)?;
            let (url, keys) = (running.url.clone(), Some((keys.access_key, keys.secret_key)));
            Ok((running, Access { url, keys, ..Access::default() }))
        };
        self.begin("s3", Box::new(start))
    }

    /// Its data, and its log.
    fn folders(&self, name: &str) -> (PathBuf, PathBuf) {
        (self.data_dir.join(name), self.data_dir.join("logs"))
    }

    fn begin(&mut self, name: &'static str, mut start: Start) -> anyhow::Result<Word> {
        let (first, told) = channel::<FirstWord>();
        let child = supervise(name, self.notes.clone(), move || {
            let outcome = start();
            // Only the first message is waited for; later ones are dropped.
            let _ = first.send(match &outcome {
                Ok((_, access)) => Ok(access.clone()),
                Err(error) => Err(format!("{error:#}")),
            });
            Ok(outcome?.0)
        })?;
        self.supervised.push(child);
        Ok(told)
    }
}

fn tell(message: &str) {
    outln!("{message}");
}

/// How a server is reached: as configured, or as the private one says when it is ready.
fn hear(told: Option<Word>, own: Option<&String>) -> anyhow::Result<Access> {
    match (told, own) {
        (_, Some(url)) => Ok(Access { url: url.clone(), ..Access::default() }),
        (Some(told), None) => match told.recv().context("the server's thread ended")? {
            Ok(word) => Ok(word),
            Err(why) => bail!("{why}"),
        },
        (None, None) => bail!("neither a private server nor a URL"),
    }
}

fn environment(variable: &str) -> anyhow::Result<String> {
    std::env::var(variable).with_context(|| format!("{variable} is required with your own S3 endpoint"))
}
