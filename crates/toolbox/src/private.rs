//! Folders and files that only their owner can use.

use std::fs::{File, OpenOptions, Permissions};
use std::io::Write as _;
use std::os::fd::AsRawFd as _;
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::path::Path;

use nix::fcntl::{AtFlags, OFlag, openat};
use nix::sys::stat::{FileStat, Mode, SFlag, fchmod, fstat, fstatat, umask};
use nix::unistd::{Gid, Uid, fchown, fchownat};

use crate::{Account, Error};

/// Permissions of group and others.
const OTHERS: u32 = 0o077;

/// From now on, every file and folder that this process or a child of it makes is its owner's alone.
pub fn only_for_owner() {
    umask(Mode::from_bits_truncate(OTHERS));
}

/// Makes a folder, with its parents, that only its owner can use; one that exists is closed to others.
///
/// # Errors
/// It cannot be made or closed.
pub fn folder(path: &Path) -> Result<(), Error> {
    let mut builder = std::fs::DirBuilder::new();
    builder.recursive(true).mode(0o700).create(path).map_err(Error::file("cannot make", path))?;
    close(path)
}

/// Closes a folder or file of ours to others; its content keeps its permissions.
///
/// # Errors
/// It is not ours.
pub fn close(path: &Path) -> Result<(), Error> {
    let mode = std::fs::metadata(path).map_err(Error::file("cannot find", path))?.mode();
    if mode & OTHERS == 0 {
        return Ok(());
    }
    std::fs::set_permissions(path, Permissions::from_mode(mode & 0o7700))
        .map_err(Error::file("cannot close", path))
}

/// Closes a folder of an earlier release, and all that is in it, to others. A folder that is closed was so
/// from the beginning, or was closed by an earlier call that came to its end; what is in it is not looked at.
///
/// # Errors
/// The disk refuses.
pub fn close_tree(path: &Path) -> Result<(), Error> {
    let Ok(found) = std::fs::symlink_metadata(path) else { return Ok(()) };
    if found.mode() & OTHERS == 0 || found.is_symlink() {
        return Ok(());
    }
    if found.is_dir() {
        change_tree(path, None)?;
    }
    close(path)
}

/// Gives a folder and all that is in it to an account, and closes it to others. Nothing happens where the
/// folder is the account's.
///
/// # Errors
/// The disk refuses, or a file in the folder has a second name elsewhere, whose owner would change with it.
pub(crate) fn give_tree(path: &Path, account: Account) -> Result<(), Error> {
    let Some((uid, gid)) = account.ids() else { return close(path) };
    let found = std::fs::metadata(path).map_err(Error::file("cannot find", path))?;
    if found.uid() == uid.as_raw() {
        return close(path);
    }
    // Closed to its former owner first: a process of that account must not change what is being given away.
    std::os::unix::fs::chown(path, Some(0), Some(0)).map_err(Error::file("cannot take", path))?;
    std::fs::set_permissions(path, Permissions::from_mode(0o700))
        .map_err(Error::file("cannot close", path))?;
    change_tree(path, Some((uid, gid)))?;
    // The folder comes last: its owner tells whether all of it was given.
    std::os::unix::fs::chown(path, Some(uid.as_raw()), Some(gid.as_raw()))
        .map_err(Error::file("cannot give away", path))
}

/// Replaces a file by one that only the account can read.
///
/// # Errors
/// The disk refuses.
pub(crate) fn write(path: &Path, text: &str, account: Account) -> Result<(), Error> {
    let failed = || Error::file("cannot write", path);
    // Removed, not overwritten: a symbolic link that the account put there is not followed.
    let _ = std::fs::remove_file(path);
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path).map_err(failed())?;
    if let Some((uid, gid)) = account.ids() {
        fchown(&file, Some(uid), Some(gid)).map_err(std::io::Error::from).map_err(failed())?;
    }
    file.write_all(text.as_bytes()).map_err(failed())
}

/// Changes what is in a folder. Folders are entered through handles, so that no symbolic link is followed,
/// also none that is put there meanwhile.
fn change_tree(path: &Path, owner: Option<(Uid, Gid)>) -> Result<(), Error> {
    let folder = OpenOptions::new()
        .read(true)
        .custom_flags((OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW).bits())
        .open(path)
        .map_err(Error::file("cannot open", path))?;
    change_entries(&folder, path, owner)
}

fn change_entries(folder: &File, path: &Path, owner: Option<(Uid, Gid)>) -> Result<(), Error> {
    let failed = |errno: nix::Error| Error::file("cannot change the owner or mode in", path)(errno.into());
    for entry in std::fs::read_dir(path_of(folder)).map_err(Error::file("cannot list", path))? {
        let name = entry.map_err(Error::file("cannot list", path))?.file_name();
        let (name, here) = (Path::new(&name), path.join(&name));
        let found = fstatat(folder, name, AtFlags::AT_SYMLINK_NOFOLLOW).map_err(failed)?;
        match kind(&found) {
            SFlag::S_IFDIR => {
                let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
                let inner = File::from(openat(folder, name, flags, Mode::empty()).map_err(failed)?);
                change_entries(&inner, &here, owner)?;
                change(&inner, owner).map_err(failed)?;
            }
            SFlag::S_IFREG => {
                if owner.is_some() && found.st_nlink > 1 {
                    return Err(Error::file(
                        "will not give away, since it has another name elsewhere,",
                        &here,
                    )(std::io::ErrorKind::PermissionDenied.into()));
                }
                let flags = OFlag::O_RDONLY | OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK | OFlag::O_CLOEXEC;
                let file = File::from(openat(folder, name, flags, Mode::empty()).map_err(failed)?);
                change(&file, owner).map_err(failed)?;
            }
            // Symbolic links, and sockets and pipes of a server that has ended.
            _ => {
                if let Some((uid, gid)) = owner {
                    fchownat(folder, name, Some(uid), Some(gid), AtFlags::AT_SYMLINK_NOFOLLOW)
                        .map_err(failed)?;
                }
            }
        }
    }
    Ok(())
}

fn kind(found: &FileStat) -> SFlag {
    SFlag::from_bits_truncate(found.st_mode) & SFlag::S_IFMT
}

fn change(file: &File, owner: Option<(Uid, Gid)>) -> nix::Result<()> {
    let found = fstat(file)?;
    if let Some((uid, gid)) = owner {
        fchown(file, Some(uid), Some(gid))?;
    }
    if found.st_mode & OTHERS != 0 {
        fchmod(file, Mode::from_bits_truncate(found.st_mode & 0o7700))?;
    }
    Ok(())
}

/// A folder as a path that works whatever its parents allow: the kernel goes to the open folder directly.
pub(crate) fn path_of(folder: &File) -> std::path::PathBuf {
    format!("/proc/self/fd/{}", folder.as_raw_fd()).into()
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    fn mode(path: &Path) -> u32 {
        std::fs::symlink_metadata(path).unwrap().mode() & 0o777
    }

    fn open_tree(folder: &Path) -> std::path::PathBuf {
        let tree = folder.join("tree");
        std::fs::create_dir_all(tree.join("inner")).unwrap();
        for (path, mode) in [("file", 0o644), ("inner/program", 0o755)] {
            std::fs::write(tree.join(path), "x").unwrap();
            std::fs::set_permissions(tree.join(path), Permissions::from_mode(mode)).unwrap();
        }
        for path in [tree.join("inner"), tree.clone()] {
            std::fs::set_permissions(path, Permissions::from_mode(0o755)).unwrap();
        }
        tree
    }

    #[test]
    fn a_tree_is_closed_and_links_out_of_it_are_not_followed() {
        let folder = tempfile::tempdir().unwrap();
        let tree = open_tree(folder.path());
        let outside = folder.path().join("outside");
        std::fs::write(&outside, "x").unwrap();
        std::fs::set_permissions(&outside, Permissions::from_mode(0o644)).unwrap();
        symlink(&outside, tree.join("link")).unwrap();
        close_tree(&tree).unwrap();
        let modes = ["", "file", "inner", "inner/program"].map(|path| mode(&tree.join(path)));
        assert_eq!(modes, [0o700, 0o600, 0o700, 0o700]);
        assert_eq!(mode(&outside), 0o644);
        close_tree(&folder.path().join("absent")).unwrap();
    }

    #[test]
    fn a_tree_is_given_whole_and_not_with_a_file_that_has_another_name() {
        if !nix::unistd::geteuid().is_root() {
            eprintln!("skipped: only root can give files away");
            return;
        }
        let folder = tempfile::tempdir().unwrap();
        let tree = open_tree(folder.path());
        let outside = folder.path().join("outside");
        std::fs::write(&outside, "x").unwrap();
        symlink(&outside, tree.join("link")).unwrap();
        let account = Account::for_servers(crate::DEFAULT_ACCOUNT).unwrap();
        let uid = account.ids().unwrap().0.as_raw();
        std::fs::hard_link(&outside, tree.join("inner/second-name")).unwrap();
        let refused = give_tree(&tree, account).unwrap_err().to_string();
        assert!(refused.contains("second-name"), "{refused}");
        assert_eq!(std::fs::metadata(&outside).unwrap().uid(), 0);
        assert_eq!((std::fs::metadata(&tree).unwrap().uid(), mode(&tree)), (0, 0o700));

        std::fs::remove_file(tree.join("inner/second-name")).unwrap();
        give_tree(&tree, account).unwrap();
        for path in ["", "file", "inner", "inner/program"] {
            let found = std::fs::metadata(tree.join(path)).unwrap();
            assert_eq!((found.uid(), found.mode() & OTHERS), (uid, 0), "{path}");
        }
        assert_eq!(std::fs::metadata(&outside).unwrap().uid(), 0);
    }

    #[test]
    fn a_link_in_the_place_of_a_file_is_replaced_and_not_followed() {
        let folder = tempfile::tempdir().unwrap();
        let (outside, path) = (folder.path().join("outside"), folder.path().join("secret"));
        std::fs::write(&outside, "theirs").unwrap();
        symlink(&outside, &path).unwrap();
        write(&path, "ours", Account::ours()).unwrap();
        assert_eq!(std::fs::read_to_string(&outside).unwrap(), "theirs");
        assert_eq!((std::fs::read_to_string(&path).unwrap(), mode(&path)), ("ours".to_owned(), 0o600));
    }
}
