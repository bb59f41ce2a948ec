//! One platform a data directory: a lock that ends with its process, however that ends.

use std::fs::{File, OpenOptions};
use std::io::{Read as _, Write as _};
use std::path::Path;

use anyhow::{Context as _, bail};
use nix::fcntl::{Flock, FlockArg};

/// Held while the platform runs.
#[derive(Debug)]
pub(crate) struct Lock {
    _file: Flock<File>,
}

/// Takes the lock and writes our process id into it.
pub(crate) fn take(data_dir: &Path) -> anyhow::Result<Lock> {
    let path = data_dir.join("lock");
    let file = OpenOptions::new().read(true).write(true).create(true).truncate(false).open(&path);
    let file = file.with_context(|| format!("cannot open {}", path.display()))?;
    match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
        Ok(mut held) => {
            held.set_len(0)?;
            held.write_all(std::process::id().to_string().as_bytes())?;
            held.flush()?;
            Ok(Lock { _file: held })
        }
        Err((mut file, _)) => {
            let mut pid = String::new();
            let _ = file.read_to_string(&mut pid);
            bail!(
                "a platform runs on {} already (process {pid}): `slipway --data-dir {} status` shows it, \
                 `down` stops it",
                data_dir.display(),
                data_dir.display()
            )
        }
    }
}

/// Process id of the platform that holds the lock; `None` where none does.
pub(crate) fn holder(data_dir: &Path) -> anyhow::Result<Option<i32>> {
    let path = data_dir.join("lock");
    let Ok(file) = OpenOptions::new().read(true).write(true).open(&path) else { return Ok(None) };
    match Flock::lock(file, FlockArg::LockSharedNonblock) {
        Ok(_released_at_once) => Ok(None),
        Err((mut file, _)) => {
            let mut text = String::new();
            file.read_to_string(&mut text)?;
            let pid =
                text.trim().parse().with_context(|| format!("{} holds no process id", path.display()))?;
            Ok(Some(pid))
        }
    }
}
