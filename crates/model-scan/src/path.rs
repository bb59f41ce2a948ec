//! Names of members: how they are shown, and which of them reach beyond the archive.

use std::collections::HashSet;

use crate::{report::Code, scanner::Scanner};

/// A member's name is this long at most.
const MAX_NAME_BYTES: usize = 4_096;
/// A name in a finding is cut after this many characters.
const MAX_SHOWN_CHARS: usize = 200;

/// A name from a file, fit for a message: without control characters, and cut.
pub(crate) fn shown(name: &str) -> String {
    let mut shown: String =
        name.chars().take(MAX_SHOWN_CHARS).map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect();
    if name.chars().nth(MAX_SHOWN_CHARS).is_some() {
        shown.push('…');
    }
    shown
}

/// The path of a member within an archive.
pub(crate) fn inside(archive: &str, member: &str) -> String {
    format!("{archive}!/{}", shown(member))
}

/// The names of one archive.
#[derive(Default)]
pub(crate) struct Names {
    seen: HashSet<String>,
}

impl Names {
    /// Reports what is wrong with a name, and remembers it.
    pub(crate) fn check(
        &mut self,
        scanner: &mut Scanner<'_>,
        archive: &str,
        name: &[u8],
        is_directory: bool,
    ) {
        let text = String::from_utf8_lossy(name);
        let path = inside(archive, &text);
        // Windows takes both signs for a separator.
        let parts: Vec<&str> = text.split(['/', '\\']).filter(|part| !matches!(*part, "" | ".")).collect();
        if text.starts_with(['/', '\\']) || text.as_bytes().get(1) == Some(&b':') {
            scanner.find(
                Code::MemberNameAbsolute,
                &path,
                "its name is an absolute path; a relative one was expected",
            );
        }
        if parts.contains(&"..") {
            scanner.find(
                Code::MemberNameTraversal,
                &path,
                "its name climbs out of the archive's folder with `..`",
            );
        }
        if name.len() > MAX_NAME_BYTES {
            let detail = format!("its name has {} bytes; {MAX_NAME_BYTES} is the limit", name.len());
            scanner.find(Code::MemberNameInvalid, &path, detail);
        }
        if text.contains(['\0', '\n', '\r', '\u{fffd}']) || (parts.is_empty() && !is_directory) {
            scanner.find(
                Code::MemberNameInvalid,
                &path,
                "its name is empty, not UTF-8, or holds a NUL or a line end",
            );
        }
        if !is_directory && !self.seen.insert(parts.join("/")) {
            let detail =
                "another member has the same name, so loaders may read another one than was looked at";
            scanner.find(Code::MemberNameDuplicate, &path, detail);
        }
    }
}

/// The last part of a member's name.
pub(crate) fn file_name(name: &str) -> &str {
    name.rsplit(['/', '\\']).next().unwrap_or(name)
}

/// Whether a path that a file names leads out of the folder that it is relative to.
pub(crate) fn leaves_folder(path: &str) -> bool {
    let is_absolute =
        path.starts_with(['/', '\\', '~']) || path.as_bytes().get(1) == Some(&b':') || path.contains("://");
    is_absolute || path.contains('\0') || path.split(['/', '\\']).any(|part| part == "..")
}
