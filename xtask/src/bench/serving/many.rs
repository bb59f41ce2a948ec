//! One model alone, and among many that are loaded: requests a second should be the same.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};

use super::super::BYTES_PER_MIB;
use super::load;
use super::server::{Server, Setup};
use super::turns::{by_turns, median};

/// The model that is copied.
const MODEL: &str = "perceptron";
/// Loads of each kind; the median counts.
const ROUNDS: usize = 3;
const READY_TIMEOUT: Duration = Duration::from_secs(600);
const POLL_INTERVAL: Duration = Duration::from_millis(100);

/// Starts a server with one model and one with `count`, and puts the same load on both by turns.
pub(super) fn measure(
    program: &Path,
    folder: &Path,
    count: usize,
    clients: u32,
    seconds: u32,
) -> anyhow::Result<()> {
    ensure!(count > 1, "--models expects 2 or more");
    let names: Vec<String> =
        (0..count).map(|at| if at == 0 { MODEL.to_owned() } else { format!("{MODEL}-{at}") }).collect();
    let one = start(program, folder, "one", &names[..1])?;
    let many = start(program, folder, "many", &names)?;
    let single: [&str; 1] = [MODEL];
    let all: Vec<&str> = names.iter().map(String::as_str).collect();
    let kinds: [(String, &Server, &[&str]); 3] = [
        ("one model".to_owned(), &one, &single),
        (format!("{count} models, load on one"), &many, &single),
        (format!("{count} models, load on all"), &many, &all),
    ];
    let names: Vec<&str> = kinds.iter().map(|(name, ..)| name.as_str()).collect();
    let figures = by_turns(&names, ROUNDS, |at| {
        let (_, server, models) = &kinds[at];
        load::spread(server, folder, MODEL, models, clients, seconds)
    })?;
    println!(
        "\n| {MODEL}, REST, {clients} clients | requests/s | of one model's | p99 ms | server CPU µs/request \
         | memory (PSS) MiB |\n|---|---|---|---|---|---|"
    );
    let alone = median(&figures[0], |figure| figure.per_second);
    for (figures, (name, server, _)) in figures.iter().zip(&kinds) {
        let per_second = median(figures, |figure| figure.per_second);
        println!(
            "| {name} | {per_second:.0} | {:.2}× | {:.2} | {:.1} | {:.0} |",
            per_second / alone,
            median(figures, |figure| figure.p99_ms),
            median(figures, |figure| figure.cpu_us),
            server.memory_bytes()? / BYTES_PER_MIB,
        );
    }
    Ok(())
}

/// A server with as many copies of the model as there are names, all of them loaded.
fn start(program: &Path, folder: &Path, kind: &str, names: &[String]) -> anyhow::Result<Server> {
    let work = folder.join(kind);
    let models = work.join("models");
    let bytes = std::fs::read(folder.join("models").join(format!("{MODEL}.onnx")))?;
    for name in names {
        let version = models.join(name).join("1");
        std::fs::create_dir_all(&version)?;
        std::fs::write(version.join("model.onnx"), named(&bytes, name)?)?;
    }
    copy_bodies(folder, &work, MODEL)?;
    let server = Server::start(program, &work, &Setup { models: Some(models), ..Setup::default() })?;
    let started = Instant::now();
    let url = format!("http://127.0.0.1:{}/v2/health/ready", server.rest);
    let runtime = tokio::runtime::Runtime::new()?;
    while !runtime.block_on(async { reqwest::get(&url).await.is_ok_and(|answer| answer.status() == 200) }) {
        ensure!(
            started.elapsed() < READY_TIMEOUT,
            "{kind} was not ready in time; see {}",
            work.join("server.log").display()
        );
        std::thread::sleep(POLL_INTERVAL);
    }
    eprintln!("==> {} loaded in {:.1} s", names.len(), started.elapsed().as_secs_f64());
    Ok(server)
}

/// The bodies of a model's requests, for a server with a folder of its own.
pub(super) fn copy_bodies(from: &Path, to: &Path, model: &str) -> anyhow::Result<()> {
    let bodies: PathBuf = to.join("bodies");
    std::fs::create_dir_all(&bodies)?;
    for ending in ["json", "grpc"] {
        let file = format!("{model}.{ending}");
        std::fs::copy(from.join("bodies").join(&file), bodies.join(&file))
            .context("the body of a request")?;
    }
    Ok(())
}

/// The same model with its own bytes: `doc_string` of `ModelProto` is field 6, of known length.
fn named(model: &[u8], name: &str) -> anyhow::Result<Vec<u8>> {
    let length = u8::try_from(name.len()).ok().filter(|length| *length < 0x80);
    let length = length.context("a name of a model is too long")?;
    Ok([model, &[6 << 3 | 2, length], name.as_bytes()].concat())
}
