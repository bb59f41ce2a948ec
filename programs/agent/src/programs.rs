//! Programs that lie below a folder which the account of jobs may not enter, such as a Python in root's own
//! home.
//!
//! Where the launcher is root, its `PATH` often leads there: pyenv, conda and virtual environments are kept
//! in a home. Before the agent becomes the account, it takes a mount namespace of its own
//! (mount_namespaces(7)) in which the closed folder is an empty one, with nothing below it but the folders of
//! that `PATH` and the Python installations that their `python` belongs to. All else in the home stays out of
//! reach, and what is shown keeps its permissions. The operator chooses the `PATH`, the submitter of a job
//! does not.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::fs::{File, OpenOptions};
use std::os::fd::AsRawFd as _;
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};
use nix::sys::stat::{Mode, umask};
use nix::unistd::{Gid, Uid};

/// Symbolic links that are followed from a program to the file that it is.
const MAX_LINKS: usize = 16;
const INTERPRETERS: [&str; 2] = ["python3", "python"];

/// Lets the account run the programs of the launcher's `PATH`. Without the right to mount, as in many
/// containers, nothing changes: the command then fails with the path that it cannot execute.
pub(crate) fn show(uid: Uid, gid: Gid) -> anyhow::Result<()> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let shown = wanted(&path, &|folder| closed_ancestor(folder, uid, gid));
    if shown.is_empty() || unshare(CloneFlags::CLONE_NEWNS).is_err() {
        return Ok(());
    }
    let none: Option<&str> = None;
    // What is mounted here must not appear outside.
    mount(none, "/", none, MsFlags::MS_REC | MsFlags::MS_PRIVATE, none)
        .context("cannot make mounts private")?;
    // Opened while they can still be reached by their paths.
    let opened: Vec<(PathBuf, PathBuf, File)> = shown
        .into_iter()
        .filter_map(|(closed, folder)| {
            let opened = OpenOptions::new()
                .read(true)
                .custom_flags(nix::libc::O_PATH | nix::libc::O_DIRECTORY)
                .open(&folder);
            Some((closed, folder, opened.ok()?))
        })
        .collect();
    let closed: BTreeSet<&PathBuf> = opened.iter().map(|(closed, _, _)| closed).collect();
    for folder in closed {
        mount(
            Some("tmpfs"),
            folder,
            Some("tmpfs"),
            MsFlags::MS_NOSUID | MsFlags::MS_NODEV,
            Some("mode=0711,size=64k"),
        )
        .with_context(|| format!("cannot cover {}", folder.display()))?;
    }
    // The folders on the way are to be passed by the account.
    let before = umask(Mode::from_bits_truncate(0o022));
    let outcome = opened.iter().try_for_each(|(_, folder, opened)| show_one(folder, opened));
    umask(before);
    outcome
}

fn show_one(folder: &Path, opened: &File) -> anyhow::Result<()> {
    // A folder inside one that is shown already is there.
    if folder.exists() {
        return Ok(());
    }
    std::fs::create_dir_all(folder).with_context(|| format!("cannot make {}", folder.display()))?;
    let (none, source): (Option<&str>, _) = (None, format!("/proc/self/fd/{}", opened.as_raw_fd()));
    mount(Some(source.as_str()), folder, none, MsFlags::MS_BIND | MsFlags::MS_REC, none)
        .with_context(|| format!("cannot show {}", folder.display()))
}

/// Folders to be shown, outer ones first, each with the closed folder that it lies in.
fn wanted(path: &OsStr, closed: &dyn Fn(&Path) -> Option<PathBuf>) -> Vec<(PathBuf, PathBuf)> {
    let mut folders = BTreeSet::new();
    for folder in std::env::split_paths(path).filter(|folder| folder.is_absolute()) {
        for interpreter in INTERPRETERS {
            folders
                .extend(chain(&folder.join(interpreter)).iter().filter_map(|program| installation(program)));
        }
        folders.insert(folder);
    }
    let below = |folder: PathBuf| {
        let closed = closed(&folder).filter(|closed| *closed != folder && folder.is_dir())?;
        Some((closed, folder))
    };
    folders.into_iter().filter_map(below).collect()
}

/// A program and what it links to, step by step.
fn chain(program: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut next = program.exists().then(|| program.to_path_buf());
    while let Some(path) = next.take() {
        let target = std::fs::read_link(&path).ok();
        next =
            target.and_then(|target| Some(path.parent()?.join(target))).filter(|_| found.len() < MAX_LINKS);
        found.push(path);
    }
    found
}

/// The Python installation, virtual environment or pyenv that a program in its `bin` or `shims` belongs to.
fn installation(program: &Path) -> Option<PathBuf> {
    let folder = program.parent()?.canonicalize().ok()?.parent()?.to_path_buf();
    let has = |name: &str| folder.join(name).exists();
    let has_library = || {
        let entries = std::fs::read_dir(folder.join("lib")).into_iter().flatten().flatten();
        entries.into_iter().any(|entry| entry.file_name().to_string_lossy().starts_with("python3"))
    };
    let is_pyenv = has("shims") && has("versions");
    (has("pyvenv.cfg") || has("conda-meta") || is_pyenv || has_library()).then_some(folder)
}

/// The outermost folder on the way to `folder`, itself included, that the account may not enter.
fn closed_ancestor(folder: &Path, uid: Uid, gid: Gid) -> Option<PathBuf> {
    let mut ancestors: Vec<&Path> = folder.ancestors().collect();
    ancestors.reverse();
    let closed = ancestors.into_iter().find(|ancestor| {
        std::fs::metadata(ancestor).is_ok_and(|metadata| {
            let enters = match (metadata.uid() == uid.as_raw(), metadata.gid() == gid.as_raw()) {
                (true, _) => 0o100,
                (false, true) => 0o010,
                (false, false) => 0o001,
            };
            metadata.mode() & enters == 0
        })
    });
    closed.map(Path::to_path_buf)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn the_path_and_its_pythons_are_shown_and_nothing_else_of_a_home() {
        let root = tempfile::tempdir().unwrap();
        let home = root.path().canonicalize().unwrap().join("home");
        for folder in [
            ".pyenv/shims",
            ".pyenv/versions/3.12/bin",
            ".pyenv/versions/3.12/lib/python3.12",
            "tools/bin",
            ".ssh",
            "project",
        ] {
            std::fs::create_dir_all(home.join(folder)).unwrap();
        }
        for program in [".pyenv/shims/python3", ".pyenv/versions/3.12/bin/python3.12", "project/python3"] {
            std::fs::write(home.join(program), "").unwrap();
        }
        let venv = home.with_file_name("venv");
        std::fs::create_dir_all(venv.join("bin")).unwrap();
        std::fs::write(venv.join("pyvenv.cfg"), "").unwrap();
        symlink("python3", venv.join("bin/python")).unwrap();
        symlink(home.join(".pyenv/versions/3.12/bin/python3.12"), venv.join("bin/python3")).unwrap();

        let closed = |folder: &Path| folder.starts_with(&home).then(|| home.clone());
        let shown = |folders: &[PathBuf]| -> Vec<PathBuf> {
            let path = std::env::join_paths(folders).unwrap();
            wanted(&path, &closed).into_iter().map(|(_, folder)| folder).collect()
        };
        let pyenv = home.join(".pyenv");
        assert_eq!(
            shown(&[pyenv.join("shims"), home.join("tools/bin")]),
            [pyenv.clone(), pyenv.join("shims"), home.join("tools/bin")]
        );
        // A virtual environment outside whose Python lies inside.
        assert_eq!(shown(&[venv.join("bin")]), [pyenv.join("versions/3.12")]);
        assert!(shown(&["/usr/bin".into(), home.clone(), "bin".into()]).is_empty(), "never the home itself");
    }

    #[test]
    fn the_outermost_closed_folder_is_found() {
        use std::os::unix::fs::PermissionsExt as _;
        let root = tempfile::tempdir().unwrap();
        let inner = root.path().join("outer/inner");
        std::fs::create_dir_all(&inner).unwrap();
        let open = |path: &Path, mode| {
            std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
        };
        let (other, group) = (Uid::from_raw(54_321), Gid::from_raw(54_321));
        open(root.path(), 0o711);
        open(&inner, 0o700);
        assert_eq!(closed_ancestor(&inner, other, group), Some(inner.clone()));
        open(&root.path().join("outer"), 0o750);
        assert_eq!(closed_ancestor(&inner, other, group), Some(root.path().join("outer")));
        open(&root.path().join("outer"), 0o755);
        open(&inner, 0o755);
        assert_eq!(closed_ancestor(&inner, other, group), None);
    }
}
