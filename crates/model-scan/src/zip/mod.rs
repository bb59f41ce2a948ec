//! Zip archives, as PKWARE's APPNOTE.TXT describes them, and the models that are zip archives: torch, numpy, Keras and
//! skops files. Whatever two readers could understand differently is refused.

mod directory;

use std::{collections::BTreeSet, io};

pub(crate) use directory::has_directory;
use directory::{Entry, Extent};

use crate::{
    compressed::{self, Inflated},
    config,
    input::Input,
    path,
    report::{Code, Format},
    scanner::{Place, Role, Scanner},
};

const METHOD_STORED: u16 = 0;
const METHOD_DEFLATED: u16 = 8;
/// General purpose bits: encrypted, strongly encrypted, and a directory that is encrypted.
const FLAGS_ENCRYPTED: u16 = 0x0001 | 0x0040 | 0x2000;
/// The file type in the upper half of the external attributes, where Unix made the archive.
const FILE_TYPE_MASK: u32 = 0o170_000;
const FILE_TYPES_PLAIN: [u32; 3] = [0, 0o100_000, 0o040_000];
const FILE_TYPE_LINK: u32 = 0o120_000;

/// What kind of model an archive is, and where its parts lie.
struct Kind {
    format: Format,
    /// What stands before the names of a torch archive's parts.
    torch_root: Option<String>,
}

/// Looks at every member of an archive.
pub(crate) fn scan(scanner: &mut Scanner<'_>, input: &mut Input<'_>, place: Place<'_>) -> io::Result<Format> {
    let Some(entries) = directory::read(scanner, input, place.path)? else { return Ok(Format::Zip) };
    let mut names = path::Names::default();
    for entry in &entries {
        names.check(scanner, place.path, &entry.name, entry.is_directory());
    }
    let kind = kind_of(&entries);
    if let Some(root) = &kind.torch_root
        && let Some(code) =
            entries.iter().map(|entry| entry.text()).find(|name| name.starts_with(&format!("{root}code/")))
    {
        let detail = "it is a TorchScript archive, which holds code that torch compiles and runs";
        scanner.find(Code::EmbeddedCode, &path::inside(place.path, &code), detail);
    }
    for entry in &entries {
        if !scanner.count_member(place.path) {
            break;
        }
        scan_member(scanner, input, place, &kind, entry)?;
    }
    Ok(kind.format)
}

fn scan_member(
    scanner: &mut Scanner<'_>,
    input: &mut Input<'_>,
    place: Place<'_>,
    kind: &Kind,
    entry: &Entry,
) -> io::Result<()> {
    let name = entry.text();
    let path = path::inside(place.path, &name);
    if entry.flags & FLAGS_ENCRYPTED != 0 {
        scanner.find(Code::MemberEncrypted, &path, "it is encrypted, so its content cannot be seen");
        return Ok(());
    }
    match (entry.external_attributes >> 16) & FILE_TYPE_MASK {
        FILE_TYPE_LINK => {
            scanner.find(Code::MemberIsLink, &path, "it is a symbolic link; a file was expected");
        }
        other if !FILE_TYPES_PLAIN.contains(&other) => {
            scanner.find(Code::MemberIsSpecial, &path, "it is a device, pipe or socket; a file was expected");
        }
        _ => {}
    }
    let Some(Extent { start, length }) = entry.data else { return Ok(()) };
    let member = Place { path: &path, name: &name, depth: place.depth + 1, role: kind.role(&name) };
    match entry.method {
        METHOD_STORED => {
            if entry.size != length {
                mismatch(scanner, &path, entry.size, length);
            }
            scan_content(scanner, &mut input.section(start, length), member, kind)
        }
        METHOD_DEFLATED => {
            let (inflated, read) =
                compressed::inflate_member(scanner, &mut input.section(start, length), &path)?;
            match inflated {
                Inflated::Refused => Ok(()),
                Inflated::Broken(_, size, why) => {
                    let detail = format!("after {size} bytes its compressed content breaks off: {why}");
                    scanner.find(Code::CannotBeFollowed, &path, detail);
                    Ok(())
                }
                Inflated::Whole(mut file, size) => {
                    if size != entry.size || read != length {
                        mismatch(scanner, &path, entry.size, size);
                    }
                    scan_content(scanner, &mut Input::new(&mut file)?, member, kind)
                }
            }
        }
        other => {
            let detail = format!("it is packed by method {other}; methods 0 and 8 are followed");
            scanner.find(Code::CannotBeFollowed, &path, detail);
            Ok(())
        }
    }
}

fn mismatch(scanner: &mut Scanner<'_>, path: &str, stated: u64, found: u64) {
    let detail = format!("the directory gives it {stated} bytes, but its content has {found}");
    scanner.find(Code::ZipDirectoryMismatch, path, detail);
}

fn scan_content(
    scanner: &mut Scanner<'_>,
    content: &mut Input<'_>,
    member: Place<'_>,
    kind: &Kind,
) -> io::Result<()> {
    match (kind.format, member.name) {
        (Format::Skops, "schema.json") => config::scan_skops(scanner, content, member.path)?,
        (Format::Keras, "config.json") => config::scan_keras(scanner, content, member.path)?,
        _ => {}
    }
    scanner.examine(content, member).map(drop)
}

fn kind_of(entries: &[Entry]) -> Kind {
    let names: BTreeSet<String> = entries.iter().map(Entry::text).collect();
    let root = names.iter().find_map(|name| {
        let root = name.strip_suffix("data.pkl").filter(|root| root.is_empty() || root.ends_with('/'))?;
        let is_torch = names.contains(&format!("{root}version"))
            || names.iter().any(|other| other.starts_with(&format!("{root}data/")));
        is_torch.then(|| root.to_owned())
    });
    let format = if root.is_some() {
        Format::TorchZip
    } else if names.contains("schema.json") {
        Format::Skops
    } else if names.contains("config.json") && names.contains("metadata.json") {
        Format::Keras
    } else if !names.is_empty() && names.iter().all(|name| name.ends_with(".npy")) {
        Format::Npz
    } else {
        Format::Zip
    };
    Kind { format, torch_root: root }
}

impl Kind {
    fn role(&self, name: &str) -> Role {
        let Some(part) = self.torch_root.as_ref().and_then(|root| name.strip_prefix(root.as_str())) else {
            return Role::File;
        };
        match part {
            "data.pkl" | "constants.pkl" => Role::TorchPickle,
            _ if part.strip_prefix("data/").is_some_and(|key| !key.is_empty() && !key.contains('/')) => {
                Role::TorchStorage
            }
            _ => Role::File,
        }
    }
}
