//! The folder in which a server keeps its data.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;

use crate::{Account, Error, private, process};

/// A folder of a server. A server that runs as another account reaches it through a handle that it inherits,
/// so that the folders above may stay closed to that account.
#[derive(Debug, Clone)]
pub(super) struct Home {
    path: PathBuf,
    account: Account,
    /// Open where the server runs as another account.
    handle: Option<Arc<File>>,
}

impl Home {
    /// The home below `dir`: `dir` itself, or `dir/home` where the server runs as another account than ours.
    pub(super) fn below(dir: &Path, account: Account) -> Result<Self, Error> {
        private::folder(dir)?;
        let dir = std::fs::canonicalize(dir).map_err(Error::file("cannot find", dir))?;
        if account.ids().is_some() { Self::at(dir.join("home"), account) } else { Self::at(dir, account) }
    }

    /// The home at `path`; made where it is not there, and given to the account where it is another's.
    pub(super) fn at(path: PathBuf, account: Account) -> Result<Self, Error> {
        private::folder(&path)?;
        private::give_tree(&path, account)?;
        let open = || File::open(&path).map_err(Error::file("cannot open", &path));
        let handle = account.ids().is_some().then(open).transpose()?.map(Arc::new);
        Ok(Self { path, account, handle })
    }

    /// Moves what an earlier release kept in `dir` into the home.
    pub(super) fn adopt(&self, dir: &Path, names: &[&str]) -> Result<(), Error> {
        for name in names {
            let (before, now) = (dir.join(name), self.path.join(name));
            if before.exists() && !now.exists() {
                private::give_tree(&before, self.account)?;
                std::fs::rename(&before, &now).map_err(Error::file("cannot move", &before))?;
            }
        }
        Ok(())
    }

    /// Where it is.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Where a server started with [`Self::command`] finds it.
    pub(super) fn inside(&self) -> PathBuf {
        self.handle.as_ref().map_or_else(|| self.path.clone(), |folder| private::path_of(folder))
    }

    /// Makes a folder in it, and answers where the server finds that.
    pub(super) fn folder(&self, name: &str) -> Result<PathBuf, Error> {
        let path = self.path.join(name);
        private::folder(&path)?;
        private::give_tree(&path, self.account)?;
        Ok(self.inside().join(name))
    }

    /// Writes a file that the server alone can read, and answers where the server finds it.
    pub(super) fn write(&self, name: &str, text: &str) -> Result<PathBuf, Error> {
        private::write(&self.path.join(name), text, self.account)?;
        Ok(self.inside().join(name))
    }

    /// A program that runs as the account, and makes files for its own eyes alone.
    pub(super) fn command(&self, program: &Path) -> Command {
        let mut command = Command::new(program);
        self.account.apply(&mut command);
        // So that people see which platform a process belongs to.
        command.current_dir("/").env("SLIPWAY_SERVER_DIR", &self.path);
        process::private_files(&mut command);
        if let Some(handle) = &self.handle {
            process::inherit(&mut command, Arc::clone(handle));
        }
        command
    }
}
