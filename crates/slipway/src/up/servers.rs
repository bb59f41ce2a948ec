//! The servers: private ones, each kept running, or somebody's own by its URL.

use std::path::Path;
use std::sync::mpsc::{Sender, channel};

use anyhow::{Context as _, bail};
use slipway_toolbox::Toolbox;
use slipway_toolbox::servers::{self, NatsOptions, PostgresOptions, Running, S3Options};

use super::UpOptions;
use super::credentials::Credentials;
use super::ports::Ports;
use super::supervise::{Child, Note, Supervised, supervise};

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

/// Starts the private servers, all at once, and waits until they are ready.
pub(crate) fn start(
    toolbox: &Toolbox,
    data_dir: &Path,
    ports: &Ports,
    options: &UpOptions,
    notes: &Sender<Note>,
) -> anyhow::Result<Begun> {
    let mut progress = |message: &str| println!("{message}");
    let mut supervised = Vec::new();
    let log_dir = data_dir.join("logs");
    let mut begin =
        |name: &'static str, mut start: Start| -> anyhow::Result<std::sync::mpsc::Receiver<FirstWord>> {
            let (first, told) = channel::<FirstWord>();
            let child = supervise(name, notes.clone(), move || {
                let outcome = start();
                // Only the first word is waited for; later ones nobody hears.
                let _ = first.send(match &outcome {
                    Ok((running, keys)) => Ok((running.url.clone(), keys.clone())),
                    Err(error) => Err(error.to_string()),
                });
                Ok(outcome?.0)
            })?;
            supervised.push(child);
            Ok(told)
        };
    let postgres = match &options.postgres_url {
        Some(_) => None,
        None => {
            let (dir, log_dir, port) = (data_dir.join("postgres"), log_dir.clone(), ports.postgres);
            let own = PostgresOptions { binaries: toolbox.postgres(&mut progress)?, dir, log_dir, port };
            Some(begin(
                "postgres",
                Box::new(move || servers::start_postgres(&own).map(|running| (running, None))),
            )?)
        }
    };
    let nats = match &options.nats_url {
        Some(_) => None,
        None => {
            let (dir, log_dir, port) = (data_dir.join("nats"), log_dir.clone(), ports.nats);
            let own = NatsOptions { program: toolbox.nats_server(&mut progress)?, dir, log_dir, port };
            Some(begin("nats", Box::new(move || servers::start_nats(&own).map(|running| (running, None))))?)
        }
    };
    let s3 = match &options.s3_endpoint {
        Some(_) => None,
        None => {
            let (dir, log_dir, port) = (data_dir.join("s3"), log_dir, ports.s3);
            let own = S3Options { program: toolbox.weed(&mut progress)?, dir, log_dir, port };
            let start = move || {
                servers::start_s3(&own)
                    .map(|(running, keys)| (running, Some((keys.access_key, keys.secret_key))))
            };
            Some(begin("s3", Box::new(start))?)
        }
    };
    let hear = |told: Option<std::sync::mpsc::Receiver<FirstWord>>, own: &Option<String>| match (told, own) {
        (_, Some(url)) => Ok((url.clone(), None)),
        (Some(told), None) => match told.recv().context("the server's thread ended")? {
            Ok(word) => Ok(word),
            Err(why) => bail!("{why}"),
        },
        (None, None) => bail!("neither a private server nor a URL"),
    };
    let heard = || -> anyhow::Result<Credentials> {
        let (postgres_url, _) = hear(postgres, &options.postgres_url)?;
        let (nats_url, _) = hear(nats, &options.nats_url)?;
        let (s3_endpoint, keys) = hear(s3, &options.s3_endpoint)?;
        let (s3_access_key, s3_secret_key) = match keys {
            Some(keys) => keys,
            None => (environment("SLIPWAY_S3_ACCESS_KEY")?, environment("SLIPWAY_S3_SECRET_KEY")?),
        };
        let s3_bucket = options.s3_bucket.clone();
        Ok(Credentials { postgres_url, nats_url, s3_endpoint, s3_bucket, s3_access_key, s3_secret_key })
    };
    match heard() {
        Ok(credentials) => Ok(Begun { supervised, credentials }),
        Err(error) => {
            supervised.iter().for_each(Supervised::stop);
            supervised.drain(..).for_each(Supervised::join);
            Err(error)
        }
    }
}

fn environment(variable: &str) -> anyhow::Result<String> {
    std::env::var(variable).with_context(|| format!("{variable} is needed with an S3 endpoint of one's own"))
}
