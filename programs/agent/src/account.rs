//! The account that an attempt runs as, where the launcher is root.
//!
//! The agent itself becomes that account, and not only its command: it reads and writes in folders that the
//! command may change at any moment, and a symbolic link there must not lead root anywhere. Its credentials
//! stay its own all the same: the kernel closes the memory and the environment of a process that changed its
//! account (`PR_SET_DUMPABLE` of prctl(2)) to all but root, other processes of the same account included.
//! What the agent starts gets an environment of its own.

use std::ffi::OsString;
use std::os::unix::fs::{DirBuilderExt as _, PermissionsExt as _};
use std::path::Path;
use std::str::FromStr;

use anyhow::{Context as _, bail, ensure};
use nix::sys::prctl;
use nix::unistd::{Gid, Uid, User, geteuid, setgroups, setresgid, setresuid};

/// User and group by number, written `UID:GID`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Account {
    uid: Uid,
    gid: Gid,
}

impl FromStr for Account {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let numbers =
            text.split_once(':').and_then(|(uid, gid)| Some((uid.parse().ok()?, gid.parse().ok()?)));
        let (uid, gid) = numbers.ok_or_else(|| format!("expected UID:GID, got `{text}`"))?;
        Ok(Self { uid: Uid::from_raw(uid), gid: Gid::from_raw(gid) })
    }
}

impl Account {
    /// Has this process be the account from here on, without a way back. `work_dir` is
    /// `<all jobs>/<job>/<attempt>`: the job's folder is made, and given to the account.
    ///
    /// # Errors
    /// This process may not change its account, or the folder cannot be made. Nothing must be started then.
    pub(crate) fn become_it(self, work_dir: &Path) -> anyhow::Result<()> {
        if geteuid() == self.uid {
            return Ok(());
        }
        ensure!(geteuid().is_root(), "only root can run jobs as uid {}; this is uid {}", self.uid, geteuid());
        let job = work_dir.parent().context("the work folder has no parent")?;
        self.give(job).with_context(|| format!("the job's folder {}", job.display()))?;
        crate::programs::show(self.uid, self.gid).context("programs below closed folders")?;
        setgroups(&[]).context("cannot leave root's groups")?;
        setresgid(self.gid, self.gid, self.gid).with_context(|| format!("cannot become gid {}", self.gid))?;
        setresuid(self.uid, self.uid, self.uid).with_context(|| format!("cannot become uid {}", self.uid))?;
        prctl::set_dumpable(false).context("cannot close the agent's memory to its command")?;
        prctl::set_no_new_privs().context("cannot give up set-user-ID programs")?;
        if setresuid(Uid::from_raw(0), Uid::from_raw(0), Uid::from_raw(0)).is_ok() {
            bail!("the agent could become root again");
        }
        Ok(())
    }

    /// The folder lies in one that is root's, so no other account can put a link in its place.
    fn give(self, job: &Path) -> anyhow::Result<()> {
        match std::fs::DirBuilder::new().mode(0o700).create(job) {
            Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {}
            made => made.context("cannot be made")?,
        }
        ensure!(std::fs::symlink_metadata(job)?.is_dir(), "is not a folder");
        std::fs::set_permissions(job, std::fs::Permissions::from_mode(0o700)).context("cannot be closed")?;
        std::os::unix::fs::lchown(job, Some(self.uid.as_raw()), Some(self.gid.as_raw()))
            .context("cannot be given to the account of jobs")
    }

    /// What the environment of a command says about its account. Its home is the work folder: that of the
    /// account, where it has any, is shared by all jobs.
    pub(crate) fn environment(self, home: &Path) -> Vec<(&'static str, OsString)> {
        let user = User::from_uid(self.uid).ok().flatten();
        let name = user.map_or_else(|| self.uid.to_string(), |user| user.name);
        vec![("HOME", home.into()), ("USER", name.clone().into()), ("LOGNAME", name.into())]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn accounts_are_two_numbers() {
        let account: Account = "990:991".parse().unwrap();
        assert_eq!((account.uid.as_raw(), account.gid.as_raw()), (990, 991));
        for text in ["", "990", "990:", "nobody:nogroup", "990:991:992", "-1:5"] {
            assert!(text.parse::<Account>().is_err(), "{text}");
        }
    }
}
