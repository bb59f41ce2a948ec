//! Zip archives, as PKWARE's APPNOTE.TXT describes them, and the models that are zip archives: torch, numpy,
//! Keras and skops files. Whatever two readers could understand differently is refused.

mod directory;

use std::{collections::BTreeSet, io};

pub(crate) use directory::has_directory;
use directory::{Entry, Extent};

use crate::{
    compressed::{self, Inflated},
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

/// Members that say the version, the byte order and the like.
const TORCH_NOTES: [&str; 5] =
    ["version", "byteorder", ".data/serialization_id", ".format_version", ".storage_alignment"];

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
    let outer = std::mem::take(&mut scanner.storages);
    // The pickle first, because it says which storages there are.
    let (first, rest): (Vec<&Entry>, Vec<&Entry>) =
        entries.iter().partition(|entry| kind.role(&entry.text()) == Role::TorchPickle);
    for entry in first.into_iter().chain(rest) {
        if !scanner.count_member(place.path) {
            break;
        }
        scan_member(scanner, input, place, &kind, entry)?;
    }
    scanner.storages = outer;
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
                    let detail = format!("after {size} bytes its compressed content is truncated: {why}");
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
            let detail = format!("it is packed by method {other}; methods 0 and 8 are unpacked");
            scanner.find(Code::NotUnderstood, &path, detail);
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
    if let Some(key) = kind.storage(member.name) {
        let stated = scanner.storages.get(key).copied();
        if stated != Some(content.length()) {
            let detail = format!(
                "it has {} bytes, but the archive's pickle asks for {}",
                content.length(),
                stated.map_or_else(|| "no such storage".to_owned(), |bytes| format!("a storage of {bytes}")),
            );
            scanner.find(Code::NotUnderstood, member.path, detail);
        }
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
    /// The name of a member below the root of a torch archive.
    fn part<'n>(&self, name: &'n str) -> Option<&'n str> {
        name.strip_prefix(self.torch_root.as_deref()?)
    }

    /// The key of a torch storage.
    fn storage<'n>(&self, name: &'n str) -> Option<&'n str> {
        self.part(name)?.strip_prefix("data/").filter(|key| !key.is_empty() && !key.contains('/'))
    }

    fn role(&self, name: &str) -> Role {
        // Bytes of Python that skops keeps in members of their own.
        if self.format == Format::Skops && name.ends_with(".bin") && !name.contains('/') {
            return Role::Numbers;
        }
        match self.part(name) {
            Some("data.pkl" | "constants.pkl") => Role::TorchPickle,
            Some(part) if TORCH_NOTES.contains(&part) => Role::TorchNote,
            _ if self.storage(name).is_some() => Role::Numbers,
            _ => Role::File,
        }
    }
}
