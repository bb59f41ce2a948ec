//! Artifacts through the registry next to the same bytes sent to and fetched from the S3 server itself; and
//! what a very large file costs the registry in memory.

use std::path::Path;
use std::time::Instant;

use anyhow::{Context as _, ensure};
use clap::Args;
use futures::{StreamExt as _, TryStreamExt as _};
use serde_json::{Value, json};

use crate::endpoints::Endpoints;

const CHUNK_BYTES: usize = 1024 * 1024;
/// What clients send as one part, and how many at once, when they speak to S3 themselves.
const PART_MIB: u64 = 8;
const PARTS_AT_ONCE: usize = 3;

/// How to measure artifacts.
#[derive(Debug, Args)]
pub(crate) struct Options {
    /// Size of the file that is uploaded and downloaded.
    #[arg(long, default_value_t = 1_024, value_name = "MIB")]
    mib: u64,
    /// Number of repetitions; the median is reported.
    #[arg(long, default_value_t = 3, value_name = "N")]
    rounds: usize,
    /// Size of the file during whose transfer the registry's memory is measured; requires as much disk space.
    #[arg(long, default_value_t = 5, value_name = "GIB")]
    large_gib: u64,
}

pub(super) fn measure(options: &Options) -> anyhow::Result<()> {
    let outcome = super::on_a_platform(true, async |data_dir| both(options, data_dir).await);
    // Gigabytes that are not needed any more.
    super::clear(&super::data_dir())?;
    outcome
}

pub(super) struct Registry {
    url: String,
    pid: u32,
    http: reqwest::Client,
    /// Where artifacts of the run lie, as the proxy names it.
    folder: String,
}

async fn both(options: &Options, data_dir: &Path) -> anyhow::Result<()> {
    let registry = Registry::with_run(data_dir).await?;
    let mut times: [Vec<f64>; 4] = Default::default();
    for round in 0..options.rounds.max(1) {
        let (proxied, direct) = (format!("proxied-{round}.bin"), format!("direct-{round}.bin"));
        times[0].push(registry.put(&proxied, options.mib).await?);
        times[1].push(registry.put_directly(&direct, options.mib).await?);
        times[2].push(registry.get(&registry.proxy(&proxied), options.mib).await?);
        let address = registry.call("presigned", &direct, None).await?;
        let address = address["url"].as_str().context("no address")?;
        times[3].push(registry.get(address, options.mib).await?);
        eprintln!("==> round {} of {}", round + 1, options.rounds.max(1));
    }
    let rate = |times: &mut Vec<f64>| {
        times.sort_by(f64::total_cmp);
        options.mib as f64 / times[times.len() / 2]
    };
    let [put, put_directly, get, get_directly] = times.each_mut().map(rate);
    println!("\n{} MiB, MiB/s   through the registry   S3 itself   share", options.mib);
    println!("upload          {put:>20.0} {put_directly:>11.0} {:>6.0} %", put / put_directly * 100.0);
    println!("download        {get:>20.0} {get_directly:>11.0} {:>6.0} %", get / get_directly * 100.0);
    if options.large_gib > 0 {
        registry.forget_peak()?;
        registry.put("large.bin", options.large_gib * 1_024).await?;
        registry.get(&registry.proxy("large.bin"), options.large_gib * 1_024).await?;
        println!(
            "{} GiB up and down: the registry held {:.1} MiB at most",
            options.large_gib,
            super::peak_mib(registry.pid)?
        );
    }
    Ok(())
}

impl Registry {
    pub(super) async fn with_run(data_dir: &Path) -> anyhow::Result<Self> {
        let endpoints = Endpoints::read(data_dir)?;
        let (url, pid) = (endpoints.url("registry")?.to_owned(), endpoints.pid("registry")?);
        let http = reqwest::Client::new();
        let request = http.post(format!("{url}/api/2.0/mlflow/runs/create"));
        let made: Value = request.json(&json!({"experiment_id": "0"})).send().await?.json().await?;
        let uri = made["run"]["info"]["artifact_uri"].as_str().context("no run")?;
        let folder = uri.trim_start_matches("mlflow-artifacts:/").to_owned();
        Ok(Self { url, pid, http, folder })
    }

    pub(super) fn proxy(&self, name: &str) -> String {
        format!("{}/api/2.0/mlflow-artifacts/artifacts/{}/{name}", self.url, self.folder)
    }

    /// One of the calls for signed addresses.
    pub(super) async fn call(&self, what: &str, name: &str, body: Option<Value>) -> anyhow::Result<Value> {
        let url = format!("{}/api/2.0/mlflow-artifacts/{what}/{}", self.url, self.folder);
        let request = match body {
            Some(body) => self.http.post(url).json(&body),
            None => self.http.get(format!("{url}/{name}")),
        };
        let response = request.send().await?;
        ensure!(response.status().is_success(), "{what}: {}", response.text().await?);
        Ok(response.json().await?)
    }

    /// Seconds of an upload through the registry.
    async fn put(&self, name: &str, mib: u64) -> anyhow::Result<f64> {
        let started = Instant::now();
        let request = self.http.put(self.proxy(name)).header("content-length", mib * CHUNK_BYTES as u64);
        let response = request.body(body(mib)).send().await?;
        ensure!(response.status().is_success(), "{name}: {}", response.text().await?);
        Ok(started.elapsed().as_secs_f64())
    }

    /// Seconds of an upload to S3 itself, in parts; that the registry reads it back afterwards is not
    /// counted.
    pub(super) async fn put_directly(&self, name: &str, mib: u64) -> anyhow::Result<f64> {
        let parts = mib.div_ceil(PART_MIB);
        let begun = self.call("mpu/create", name, Some(json!({"path": name, "num_parts": parts}))).await?;
        let started = Instant::now();
        let credentials = begun["credentials"].as_array().context("no addresses")?.clone();
        let sent = credentials.into_iter().map(|credential| async move {
            let url = credential["url"].as_str().context("no address")?;
            let length = PART_MIB * CHUNK_BYTES as u64;
            let request = self.http.put(url).header("content-length", length).body(body(PART_MIB));
            let answer = request.send().await?.error_for_status()?;
            let etag = answer.headers()["etag"].to_str()?.to_owned();
            anyhow::Ok(json!({"part_number": credential["part_number"], "etag": etag}))
        });
        let parts: Vec<Value> = futures::stream::iter(sent).buffered(PARTS_AT_ONCE).try_collect().await?;
        let seconds = started.elapsed().as_secs_f64();
        let complete = json!({"path": name, "upload_id": begun["upload_id"], "parts": parts});
        self.call("mpu/complete", name, Some(complete)).await?;
        Ok(seconds)
    }

    /// Seconds of a download.
    pub(super) async fn get(&self, address: &str, mib: u64) -> anyhow::Result<f64> {
        let started = Instant::now();
        let mut response = self.http.get(address).send().await?.error_for_status()?;
        let mut bytes = 0;
        while let Some(chunk) = response.chunk().await? {
            bytes += chunk.len() as u64;
        }
        ensure!(bytes == mib * CHUNK_BYTES as u64, "{bytes} bytes came");
        Ok(started.elapsed().as_secs_f64())
    }

    /// From now on the peak of its memory counts again (proc_pid_clear_refs(5)).
    fn forget_peak(&self) -> anyhow::Result<()> {
        std::fs::write(format!("/proc/{}/clear_refs", self.pid), "5")
            .context("cannot reset the peak of memory")
    }
}

fn body(mib: u64) -> reqwest::Body {
    let chunk: bytes::Bytes =
        (0..CHUNK_BYTES).map(|place| (place * 31 % 251) as u8).collect::<Vec<u8>>().into();
    reqwest::Body::wrap_stream(futures::stream::iter(
        (0..mib).map(move |_| Ok::<_, std::convert::Infallible>(chunk.clone())),
    ))
}
