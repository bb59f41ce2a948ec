//! The servers: private ones, each kept running, or somebody's own by its URL.

use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, Sender, channel};

use anyhow::{Context as _, bail};
use slipway_toolbox::Toolbox;
use slipway_toolbox::servers::{self, NatsOptions, PostgresOptions, Running, S3Options};

use super::UpOptions;
use super::credentials::Credentials;
use super::ports::Ports;
use super::supervise::{Child, Note, Supervised, supervise};
use crate::output::outln;

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

/// Starts a server; beside it, access key and secret key where it has any.
type Start = Box<dyn FnMut() -> Result<(Running, Option<(String, String)>), slipway_toolbox::Error> + Send>;

/// Servers that run, and how services reach them.
pub(crate) struct Begun {
    pub(crate) supervised: Vec<Supervised>,
    pub(crate) credentials: Credentials,
}

/// What a server tells when it is ready for the first time.
type FirstWord = Result<(String, Option<(String, String)>), String>;

type Word = Receiver<FirstWord>;

/// Starts the private servers, all at once, and waits until they are ready.
pub(crate) fn start(
    toolbox: &Toolbox,
    data_dir: &Path,
    ports: &Ports,
    options: &UpOptions,
    notes: &Sender<Note>,
) -> anyhow::Result<Begun> {
    let mut starting = Starting { toolbox, data_dir, ports, notes, supervised: Vec::new() };
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
    supervised: Vec<Supervised>,
}

impl Starting<'_> {
    /// Begins all of them before it waits for any.
    fn all(&mut self, options: &UpOptions) -> anyhow::Result<Credentials> {
        let postgres = options.postgres_url.is_none().then(|| self.postgres()).transpose()?;
        let nats = options.nats_url.is_none().then(|| self.nats()).transpose()?;
        let s3 = options.s3_endpoint.is_none().then(|| self.s3()).transpose()?;
        let (postgres_url, _) = hear(postgres, options.postgres_url.as_ref())?;
        let (nats_url, _) = hear(nats, options.nats_url.as_ref())?;
        let (s3_endpoint, keys) = hear(s3, options.s3_endpoint.as_ref())?;
        let (s3_access_key, s3_secret_key) = match keys {
            Some(keys) => keys,
            None => (environment("SLIPWAY_S3_ACCESS_KEY")?, environment("SLIPWAY_S3_SECRET_KEY")?),
        };
        let s3_bucket = options.s3_bucket.clone();
        Ok(Credentials { postgres_url, nats_url, s3_endpoint, s3_bucket, s3_access_key, s3_secret_key })
    }

    fn postgres(&mut self) -> anyhow::Result<Word> {
        let binaries = self.toolbox.postgres(&mut tell)?;
        let (dir, log_dir) = self.folders("postgres");
        let own = PostgresOptions { binaries, dir, log_dir, port: self.ports.postgres };
        self.begin("postgres", Box::new(move || servers::start_postgres(&own).map(|running| (running, None))))
    }

    fn nats(&mut self) -> anyhow::Result<Word> {
        let program = self.toolbox.nats_server(&mut tell)?;
        let (dir, log_dir) = self.folders("nats");
        let own = NatsOptions { program, dir, log_dir, port: self.ports.nats };
        self.begin("nats", Box::new(move || servers::start_nats(&own).map(|running| (running, None))))
    }

    fn s3(&mut self) -> anyhow::Result<Word> {
        let program = self.toolbox.weed(&mut tell)?;
        let (dir, log_dir) = self.folders("s3");
        let own = S3Options { program, dir, log_dir, port: self.ports.s3 };
        let start = move || {
            let (running, keys) = servers::start_s3(&own)?;
            Ok((running, Some((keys.access_key, keys.secret_key))))
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
            // Only the first word is waited for; later ones nobody hears.
            let _ = first.send(match &outcome {
                Ok((running, keys)) => Ok((running.url.clone(), keys.clone())),
                Err(error) => Err(error.to_string()),
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

/// Where a server is: as configured, or as the private one says when it is ready.
fn hear(told: Option<Word>, own: Option<&String>) -> anyhow::Result<(String, Option<(String, String)>)> {
    match (told, own) {
        (_, Some(url)) => Ok((url.clone(), None)),
        (Some(told), None) => match told.recv().context("the server's thread ended")? {
            Ok(word) => Ok(word),
            Err(why) => bail!("{why}"),
        },
        (None, None) => bail!("neither a private server nor a URL"),
    }
}

fn environment(variable: &str) -> anyhow::Result<String> {
    std::env::var(variable).with_context(|| format!("{variable} is needed with an S3 endpoint of one's own"))
}
