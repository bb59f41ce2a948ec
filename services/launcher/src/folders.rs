//! Where jobs run and where their logs lie, and who may look there.
//!
//! Logs are the launcher's alone. Work folders are the launcher's, too, unless jobs run as an account of
//! their own: then that account has to reach its job's folder, and all folders above it have to let it
//! through.

use std::io;
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail, ensure};
use nix::unistd::{Gid, Uid, User, geteuid};
use sha2::{Digest as _, Sha256};

/// Its owner's alone.
const CLOSED: u32 = 0o700;
/// Others can pass it, and cannot list it.
const PASSABLE: u32 = 0o711;
/// Permissions of group and others.
const OTHERS: u32 = 0o077;
/// Work folders of a launcher whose data folder jobs cannot reach, by the digest of that folder's path.
const SYSTEM_WIDE: &str = "/var/lib/slipway/jobs";
const SYSTEM_WIDE_ROOT: &str = "/var/lib/slipway";
const DIGEST_CHARS: usize = 12;
/// Accounts that programs of all kinds share.
const SHARED: [u32; 2] = [65_534, 65_535];

/// The account that jobs run as, where it is not the launcher's own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct JobAccount {
    pub(crate) uid: Uid,
    pub(crate) gid: Gid,
}

impl JobAccount {
    /// The configured account; `None` where jobs run as the launcher does.
    ///
    /// # Errors
    /// There is no such account, it is shared, or only root could change to it.
    pub(crate) fn find(name: Option<&str>) -> anyhow::Result<Option<Self>> {
        let Some(name) = name.filter(|name| !name.is_empty()) else {
            if geteuid().is_root() {
                tracing::warn!("jobs run as root; set an account with --job-user or SLIPWAY_JOB_USER");
            }
            return Ok(None);
        };
        let setting = || format!("the account of jobs `{name}` (--job-user or SLIPWAY_JOB_USER)");
        let user = User::from_name(name).with_context(setting)?;
        let user = user.with_context(|| {
            format!("{} does not exist; create it, e.g. with `useradd --system {name}`", setting())
        })?;
        if user.uid == geteuid() {
            if user.uid.is_root() {
                tracing::warn!(
                    "jobs run as root, as configured: a job can read and change everything on this machine"
                );
            }
            return Ok(None);
        }
        ensure!(!SHARED.contains(&user.uid.as_raw()), "{} is shared by other programs", setting());
        ensure!(
            geteuid().is_root(),
            "{} is another one than the launcher's, which only root can change to",
            setting()
        );
        Ok(Some(Self { uid: user.uid, gid: user.gid }))
    }

    fn passes(self, folder: &std::fs::Metadata) -> bool {
        let mode = folder.mode();
        let bit = match () {
            () if folder.uid() == self.uid.as_raw() => 0o100,
            () if folder.gid() == self.gid.as_raw() => 0o010,
            () => 0o001,
        };
        mode & bit != 0
    }
}

/// The launcher's folders.
#[derive(Debug, Clone)]
pub(crate) struct Folders {
    pub(crate) logs: PathBuf,
    /// Holds a folder for each job, with one for each of its attempts.
    pub(crate) work: PathBuf,
}

impl Folders {
    /// Makes the folders, and closes what an earlier release left open.
    ///
    /// # Errors
    /// The disk refuses, or the folder for work folders is one that jobs cannot reach or that others can
    /// change.
    pub(crate) fn make(
        data_dir: &Path,
        chosen: Option<&Path>,
        account: Option<JobAccount>,
    ) -> anyhow::Result<Self> {
        let data_dir = std::path::absolute(data_dir).context("the data folder (SLIPWAY_DATA_DIR)")?;
        let within = || format!("cannot use the data folder {} (SLIPWAY_DATA_DIR)", data_dir.display());
        make(&data_dir, CLOSED).with_context(within)?;
        let logs = data_dir.join("logs");
        make(&logs, CLOSED).with_context(within)?;
        close_below(&logs).with_context(within)?;
        let work = work_folder(&data_dir, chosen, account)?;
        let setting =
            || format!("cannot use the folder {} for jobs (--jobs-dir or SLIPWAY_JOBS_DIR)", work.display());
        match account {
            None => make(&work, CLOSED).with_context(setting)?,
            Some(account) => {
                if work.starts_with(&data_dir) {
                    open(&data_dir, PASSABLE).with_context(within)?;
                }
                make(&work, PASSABLE).with_context(setting)?;
                require_passage(&work, account).with_context(setting)?;
            }
        }
        close_below(&work).with_context(setting)?;
        Ok(Self { logs, work })
    }
}

/// The configured folder; else `work` in the data folder, unless an account of their own keeps jobs from
/// reaching it.
fn work_folder(
    data_dir: &Path,
    chosen: Option<&Path>,
    account: Option<JobAccount>,
) -> anyhow::Result<PathBuf> {
    if let Some(chosen) = chosen {
        return std::path::absolute(chosen).context("--jobs-dir or SLIPWAY_JOBS_DIR");
    }
    let own = data_dir.join("work");
    match account {
        Some(account) if require_passage(data_dir.parent().unwrap_or(data_dir), account).is_err() => {
            let digest = hex::encode(Sha256::digest(data_dir.as_os_str().as_encoded_bytes()));
            let folder = Path::new(SYSTEM_WIDE).join(&digest[..DIGEST_CHARS]);
            tracing::info!(folder = %folder.display(),
                "work folders moved: the account of jobs cannot access the data folder");
            Ok(folder)
        }
        _ => Ok(own),
    }
}

/// # Errors
/// A folder on the way stops the account, or another account could replace it.
fn require_passage(folder: &Path, account: JobAccount) -> anyhow::Result<()> {
    let folder = std::fs::canonicalize(folder)?;
    for above in folder.ancestors() {
        let found = std::fs::metadata(above)?;
        if !account.passes(&found) {
            bail!("uid {} may not pass {}", account.uid, above.display());
        }
        let sticky = found.mode() & 0o1000 != 0;
        let foreign = found.uid() != 0 && found.uid() != geteuid().as_raw();
        if foreign || (found.mode() & 0o022 != 0 && !sticky) {
            bail!("other accounts can change {}", above.display());
        }
    }
    Ok(())
}

/// Makes a folder with its parents, or sets the permissions of the one that is there. Parents that are made
/// get the same permissions, whatever the umask says, and so do the system-wide ones.
fn make(folder: &Path, mode: u32) -> io::Result<()> {
    let missing: Vec<&Path> = folder.ancestors().take_while(|above| !above.exists()).collect();
    for made in missing.into_iter().rev() {
        std::fs::DirBuilder::new().mode(mode).create(made)?;
        set(made, mode)?;
    }
    if mode == PASSABLE {
        for above in folder.ancestors().skip(1).filter(|above| above.starts_with(SYSTEM_WIDE_ROOT)) {
            open(above, PASSABLE)?;
        }
    }
    open(folder, mode)
}

fn open(folder: &Path, mode: u32) -> io::Result<()> {
    let found = std::fs::metadata(folder)?;
    if found.mode() & 0o777 == mode { Ok(()) } else { set(folder, mode) }
}

fn set(path: &Path, mode: u32) -> io::Result<()> {
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode))
}

/// Closes the folders of jobs, and files directly in them, that an earlier release left open to others.
fn close_below(folder: &Path) -> io::Result<()> {
    let own = geteuid().as_raw();
    for entry in std::fs::read_dir(folder)? {
        let job = entry?.path();
        let found = std::fs::symlink_metadata(&job)?;
        if !found.is_dir() || found.uid() != own || found.mode() & OTHERS == 0 {
            continue;
        }
        for file in std::fs::read_dir(&job)? {
            let file = file?.path();
            let found = std::fs::symlink_metadata(&file)?;
            if !found.is_symlink() && found.uid() == own {
                set(&file, found.mode() & 0o7700)?;
            }
        }
        // Last: a closed folder tells that all in it is closed.
        set(&job, found.mode() & 0o7700)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mode(path: &Path) -> u32 {
        std::fs::metadata(path).unwrap().mode() & 0o777
    }

    #[test]
    fn folders_are_closed_also_those_of_an_earlier_release() {
        let folder = tempfile::tempdir().unwrap();
        let data_dir = folder.path().join("launcher");
        for (job, file) in [("logs/a", "1.log"), ("work/a/1", "model.bin")] {
            std::fs::create_dir_all(data_dir.join(job)).unwrap();
            std::fs::write(data_dir.join(job).join(file), "x").unwrap();
            set(&data_dir.join(job), 0o755).unwrap();
            set(&data_dir.join(job).join(file), 0o644).unwrap();
        }
        set(&data_dir.join("work/a"), 0o755).unwrap();
        let folders = Folders::make(&data_dir, None, None).unwrap();
        for path in ["", "logs", "logs/a", "work", "work/a", "work/a/1"] {
            assert_eq!(mode(&data_dir.join(path)), 0o700, "{path}");
        }
        assert_eq!(mode(&folders.logs.join("a/1.log")), 0o600);
        assert_eq!(folders.work, data_dir.join("work"));
    }

    #[test]
    fn jobs_of_another_account_get_a_folder_that_they_reach() {
        if !geteuid().is_root() {
            eprintln!("skipped: only root can run jobs as another account");
            return;
        }
        let account = JobAccount { uid: Uid::from_raw(54_321), gid: Gid::from_raw(54_321) };
        let folder = tempfile::tempdir().unwrap();
        let data_dir = folder.path().join("launcher");
        set(folder.path(), 0o755).unwrap();
        let folders = Folders::make(&data_dir, None, Some(account)).unwrap();
        assert_eq!(folders.work, data_dir.join("work"));
        assert_eq!((mode(&data_dir), mode(&folders.work), mode(&folders.logs)), (0o711, 0o711, 0o700));
        set(folder.path(), 0o700).unwrap();
        let elsewhere = work_folder(&data_dir, None, Some(account)).unwrap();
        assert!(elsewhere.starts_with(SYSTEM_WIDE), "{}", elsewhere.display());
        let chosen = folder.path().join("chosen");
        let refused = format!("{:#}", Folders::make(&data_dir, Some(&chosen), Some(account)).unwrap_err());
        assert!(refused.contains("SLIPWAY_JOBS_DIR") && refused.contains("may not pass"), "{refused}");
        set(folder.path(), 0o777).unwrap();
        let refused = format!("{:#}", Folders::make(&data_dir, Some(&chosen), Some(account)).unwrap_err());
        assert!(refused.contains("other accounts can change"), "{refused}");
    }

    #[test]
    fn jobs_do_not_run_as_a_shared_account_and_as_root_only_where_that_is_configured() {
        for (name, word) in [("nobody", ""), ("there-is-no-such-account", "does not exist")] {
            match JobAccount::find(Some(name)) {
                Err(error) => assert!(format!("{error:#}").contains(word), "{error:#}"),
                Ok(found) => panic!("{name}: {found:?}"),
            }
        }
        assert_eq!(JobAccount::find(None).unwrap(), None);
        assert_eq!(JobAccount::find(Some("root")).is_ok(), geteuid().is_root());
    }
}
