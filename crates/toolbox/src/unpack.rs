//! Wheels are zip archives.

use std::fs::File;
use std::path::Path;

use crate::Error;

/// A pinned wheel unpacks to less; more is not what was pinned.
const MAX_UNPACKED_BYTES: u64 = 2 * 1024 * 1024 * 1024;

/// Unpacks `archive` into `folder`, keeping executable bits. A member that would land outside is refused.
pub(crate) fn unpack(archive: &Path, folder: &Path) -> Result<(), Error> {
    let refuse = |reason: String| Error::Archive { path: archive.to_path_buf(), reason };
    let file = File::open(archive).map_err(Error::file("cannot open", archive))?;
    let mut zip = zip::ZipArchive::new(file).map_err(|error| refuse(error.to_string()))?;
    let mut unpacked_bytes = 0u64;
    for index in 0..zip.len() {
        let mut member = zip.by_index(index).map_err(|error| refuse(error.to_string()))?;
        let name = member.name().to_owned();
        let relative =
            member.enclosed_name().ok_or_else(|| refuse(format!("the member `{name}` points outside")))?;
        let target = folder.join(relative);
        if member.is_dir() {
            std::fs::create_dir_all(&target).map_err(Error::file("cannot make", &target))?;
            continue;
        }
        unpacked_bytes = unpacked_bytes.saturating_add(member.size());
        if unpacked_bytes > MAX_UNPACKED_BYTES {
            return Err(refuse(format!("it unpacks to more than {MAX_UNPACKED_BYTES} bytes")));
        }
        if let Some(parent) = target.parent() {
            std::fs::create_dir_all(parent).map_err(Error::file("cannot make", parent))?;
        }
        let mut output = File::create(&target).map_err(Error::file("cannot write", &target))?;
        std::io::copy(&mut member, &mut output).map_err(Error::file("cannot write", &target))?;
        set_mode(&target, &name, member.unix_mode())?;
    }
    Ok(())
}

/// What the archive says, readable by all; scripts and programs of a wheel are executable even where it does
/// not say so.
fn set_mode(target: &Path, name: &str, mode: Option<u32>) -> Result<(), Error> {
    use std::os::unix::fs::PermissionsExt as _;
    let program = name.contains(".data/scripts/")
        || name.contains("/bin/")
        || name.contains("/_bin/")
        || name.contains(".so");
    let executable = program || mode.is_some_and(|mode| mode & 0o111 != 0);
    let mode = if executable { 0o755 } else { 0o644 };
    std::fs::set_permissions(target, std::fs::Permissions::from_mode(mode))
        .map_err(Error::file("cannot open", target))
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::*;

    fn archive(folder: &Path, member: &str) -> std::path::PathBuf {
        let path = folder.join("test.whl");
        let mut zip = zip::ZipWriter::new(File::create(&path).unwrap());
        zip.start_file(member, zip::write::SimpleFileOptions::default().unix_permissions(0o644)).unwrap();
        zip.write_all(b"#!/bin/sh\n").unwrap();
        zip.finish().unwrap();
        path
    }

    #[test]
    fn a_member_that_points_outside_is_refused_and_nothing_is_written_there() {
        let folder = tempfile::tempdir().unwrap();
        let inside = folder.path().join("inside");
        std::fs::create_dir(&inside).unwrap();
        let error = unpack(&archive(folder.path(), "../outside"), &inside).unwrap_err().to_string();
        assert!(error.contains("../outside"), "{error}");
        assert!(!folder.path().join("outside").exists());
    }

    #[test]
    fn programs_can_be_started() {
        use std::os::unix::fs::PermissionsExt as _;
        let folder = tempfile::tempdir().unwrap();
        unpack(&archive(folder.path(), "x.data/scripts/tool"), folder.path()).unwrap();
        let mode = std::fs::metadata(folder.path().join("x.data/scripts/tool")).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o755);
    }

    #[test]
    fn what_is_no_archive_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("rubbish.whl");
        std::fs::write(&path, b"not a zip").unwrap();
        assert!(matches!(unpack(&path, folder.path()), Err(Error::Archive { .. })));
    }
}
