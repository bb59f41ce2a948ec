//! The Python environment of the training examples: made once a user, keyed by what it holds.

use std::collections::hash_map::DefaultHasher;
use std::fs::File;
use std::hash::{Hash as _, Hasher as _};
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, bail};
use nix::fcntl::{Flock, FlockArg};

use crate::build::{root, run};
use crate::progress::step;

/// What the examples and the checks of the clients need. It includes the training's.
const REQUIREMENTS: &str = "examples/clients/requirements.txt";
const INCLUDED: &str = "examples/training/requirements.txt";
/// What the benchmarks run next to Slipway. It includes the training's too.
const BENCH_REQUIREMENTS: &str = "xtask/bench-requirements.txt";

/// Python of the environment; made where there is none yet. Two processes at once make it once.
pub(crate) fn ensure() -> anyhow::Result<PathBuf> {
    ensure_with(REQUIREMENTS)
}

/// [`ensure`] for the environment of the benchmarks.
pub(crate) fn ensure_bench() -> anyhow::Result<PathBuf> {
    ensure_with(BENCH_REQUIREMENTS)
}

fn ensure_with(requirements_file: &str) -> anyhow::Result<PathBuf> {
    let read = |file: &str| {
        std::fs::read_to_string(root().join(file)).with_context(|| format!("cannot read {file}"))
    };
    let requirements = [read(requirements_file)?, read(INCLUDED)?];
    let system_python = std::env::var("PYTHON").unwrap_or_else(|_| "python3".to_owned());
    let version = python_version(&system_python)?;
    let mut hasher = DefaultHasher::new();
    (&requirements, &version).hash(&mut hasher);
    let folder = cache_dir()?.join(format!("venv-{:016x}", hasher.finish()));
    let python = folder.join("bin/python");
    let complete = folder.join(".complete");
    if complete.exists() {
        return Ok(python);
    }
    let _lock = lock(&folder.with_extension("lock"))?;
    if complete.exists() {
        return Ok(python);
    }
    step(&format!("make the Python environment ({version}; some minutes the first time)"), || {
        // A folder without its mark is left over from a run that was interrupted.
        if folder.exists() {
            std::fs::remove_dir_all(&folder)
                .with_context(|| format!("cannot remove {}", folder.display()))?;
        }
        run(Command::new(&system_python).arg("-m").arg("venv").arg(&folder))
            .context("Python 3 with venv is needed; on Debian: apt-get install python3-venv")?;
        run(Command::new(&python)
            .args(["-m", "pip", "install", "--disable-pip-version-check", "--quiet", "--progress-bar", "off"])
            .arg("--requirement")
            .arg(root().join(requirements_file)))
        .context("the Python packages could not be installed; the first time this needs a package index")?;
        File::create(&complete).context("cannot mark the environment as complete")?;
        Ok(())
    })?;
    Ok(python)
}

fn python_version(python: &str) -> anyhow::Result<String> {
    let output = Command::new(python).arg("--version").output().with_context(|| {
        format!("`{python}` cannot be started: install Python 3 with pip and venv, or name one in PYTHON")
    })?;
    if !output.status.success() {
        bail!("`{python} --version` ended with {}", output.status);
    }
    Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

/// `$SLIPWAY_CACHE`, or the user's cache folder. Root's own home is closed to the account that jobs of its
/// platforms run as.
pub(crate) fn cache_dir() -> anyhow::Result<PathBuf> {
    let base = std::env::var_os("SLIPWAY_CACHE")
        .map(PathBuf::from)
        .or_else(|| nix::unistd::geteuid().is_root().then(|| PathBuf::from("/var/cache/slipway")))
        .or_else(|| std::env::var_os("XDG_CACHE_HOME").map(|cache| Path::new(&cache).join("slipway")))
        .or_else(|| std::env::var_os("HOME").map(|home| Path::new(&home).join(".cache/slipway")))
        .context("neither XDG_CACHE_HOME nor HOME is set: name a folder in SLIPWAY_CACHE")?;
    std::fs::create_dir_all(&base).with_context(|| format!("cannot make {}", base.display()))?;
    Ok(base)
}

fn lock(path: &Path) -> anyhow::Result<Flock<File>> {
    let file = File::create(path).with_context(|| format!("cannot make {}", path.display()))?;
    Flock::lock(file, FlockArg::LockExclusive)
        .map_err(|(_, error)| anyhow::anyhow!("cannot lock {}: {error}", path.display()))
}
