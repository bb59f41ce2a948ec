//! What lies in the checkpoint folder at one moment: the checkpoints in it, and what is no checkpoint.

use std::collections::hash_map::DefaultHasher;
use std::collections::{BTreeMap, BTreeSet};
use std::fs::Metadata;
use std::hash::{Hash as _, Hasher as _};
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use slipway_domain::training::{
    EntryKind, Evidence, MODE_BITS, ManifestFolder, ManifestLink, Naming, QUIET_BEFORE_END_MS, Sighting,
    classify, link_destination,
};

use super::renames::Renames;

/// Files, folders and links of one checkpoint.
const MAX_ENTRIES: usize = 10_000;
/// Folders within each other, where links are stored by content.
const MAX_DEPTH: usize = 64;
/// Checkpoints that are looked into: the newest ones.
const MAX_LOOKED_INTO: usize = 3;
/// Extensions of the files that a command can resume from by themselves.
const RESUMABLE_EXTENSIONS: [&str; 5] = ["ckpt", "pt", "pth", "pkl", "joblib"];

/// A file that is to be stored.
#[derive(Debug, Clone)]
pub(super) struct FoundFile {
    /// Path within the checkpoint folder.
    pub(super) path: String,
    /// Where its content is: elsewhere, where a link is stored by content.
    pub(super) source: PathBuf,
    pub(super) size_bytes: u64,
    pub(super) mode: u32,
}

/// Everything that belongs to one checkpoint.
#[derive(Debug, Clone)]
pub(super) struct Group {
    pub(super) sighting: Sighting,
    pub(super) files: Vec<FoundFile>,
    pub(super) folders: Vec<ManifestFolder>,
    pub(super) links: Vec<ManifestLink>,
    /// The entry that a command resumes from.
    pub(super) resume_from: Option<String>,
    /// What is left out of it, and why.
    pub(super) left_out: Vec<String>,
    /// Why it cannot be stored.
    pub(super) refused: Option<String>,
    /// Whether no entry of it carries a step in its name.
    pub(super) is_rolling: bool,
}

impl Group {
    /// Of all of its files.
    pub(super) fn size_bytes(&self) -> u64 {
        self.files.iter().map(|file| file.size_bytes).sum()
    }
}

/// The checkpoint folder at one moment.
#[derive(Debug, Clone, Default)]
pub(super) struct Found {
    /// The newest checkpoints, in the order of their steps.
    pub(super) groups: Vec<Group>,
    /// Names of entries that are not recognised as checkpoints.
    pub(super) not_recognised: BTreeSet<String>,
}

impl Found {
    pub(super) fn group(&self, step: u64) -> Option<&Group> {
        self.groups.iter().find(|group| group.sighting.step == step)
    }
}

/// How the folder is looked at.
#[derive(Debug, Clone)]
pub(super) struct Look {
    pub(super) folder: PathBuf,
    pub(super) marker: Option<String>,
    /// Ages are counted up to here.
    pub(super) until: SystemTime,
    /// The step of a checkpoint that has none in its names.
    pub(super) rolling_step: u64,
}

/// An entry at the top of the checkpoint folder.
#[derive(Debug, Clone)]
struct Entry {
    name: String,
    kind: EntryKind,
    metadata: Metadata,
}

impl Look {
    /// Looks at the folder. A folder that is not there is empty.
    ///
    /// # Errors
    /// The folder itself cannot be read.
    pub(super) fn take(&self, renames: &mut Renames) -> io::Result<Found> {
        let moved = renames.take();
        let mut found = Found::default();
        let (mut numbered, mut companions) = (BTreeMap::<u64, Vec<Entry>>::new(), Vec::new());
        let entries = match std::fs::read_dir(&self.folder) {
            Ok(entries) => entries,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(found),
            Err(error) => return Err(error),
        };
        for entry in entries {
            let entry = entry?;
            let Ok(metadata) = std::fs::symlink_metadata(entry.path()) else { continue };
            let Ok(name) = entry.file_name().into_string() else {
                found.not_recognised.insert(entry.file_name().to_string_lossy().into_owned());
                continue;
            };
            let Some(kind) = kind_of(&metadata) else {
                found.not_recognised.insert(name);
                continue;
            };
            match classify(&name, kind) {
                Naming::Step(step) => numbered.entry(step).or_default().push(Entry { name, kind, metadata }),
                Naming::Companion => companions.push(Entry { name, kind, metadata }),
                Naming::Temporary => {}
                Naming::Other => {
                    found.not_recognised.insert(name);
                }
            }
        }
        if numbered.is_empty() && !companions.is_empty() {
            found.groups.extend(self.group(self.rolling_step, Vec::new(), companions, &moved));
            return Ok(found);
        }
        let newest = numbered.last_key_value().map(|(step, _)| *step);
        for (step, entries) in numbered.into_iter().rev().take(MAX_LOOKED_INTO) {
            let with = if Some(step) == newest { companions.clone() } else { Vec::new() };
            found.groups.extend(self.group(step, entries, with, &moved));
        }
        found.groups.reverse();
        Ok(found)
    }

    /// The checkpoint that these entries make; none where it holds no file yet or changes under the look.
    fn group(
        &self,
        step: u64,
        numbered: Vec<Entry>,
        companions: Vec<Entry>,
        moved: &BTreeSet<String>,
    ) -> Option<Group> {
        let names: BTreeSet<&str> =
            numbered.iter().chain(&companions).map(|entry| entry.name.as_str()).collect();
        let mut walk = Walk::new(&self.folder, names);
        let mut parts = Vec::new();
        for entry in numbered.iter().chain(&companions) {
            walk.changed = SystemTime::UNIX_EPOCH;
            match walk.entry(&self.folder.join(&entry.name), &entry.name, 0) {
                Ok(()) => {}
                Err(error) if error.kind() == io::ErrorKind::NotFound => return None,
                Err(error) => walk.refuse(format!("`{}`: {error}", entry.name)),
            }
            parts.push(self.part(entry, walk.changed, moved));
        }
        if walk.files.is_empty() && walk.refused.is_none() {
            return None;
        }
        let evidence = match self.marked(&numbered) {
            Some(true) => Evidence::Whole,
            Some(false) => Evidence::Unfinished,
            None => evidence(&numbered, &companions, &parts),
        };
        let changed = parts.iter().map(|part| part.changed).max().unwrap_or(self.until);
        let sighting =
            Sighting { step, fingerprint: walk.hash.finish(), age_ms: self.age_ms(changed), evidence };
        let resume_from = resume_from(&numbered, &companions);
        Some(Group {
            sighting,
            files: walk.files,
            folders: walk.folders,
            links: walk.links,
            resume_from,
            left_out: walk.left_out,
            refused: walk.refused,
            is_rolling: numbered.is_empty(),
        })
    }

    fn part(&self, entry: &Entry, inner_change: SystemTime, moved: &BTreeSet<String>) -> Part {
        let own = changed_at(&entry.metadata);
        let changed = own.max(inner_change);
        let renamed = is_renamed(entry, own, inner_change, moved);
        Part { changed, renamed, quiet: self.age_ms(changed) >= QUIET_BEFORE_END_MS }
    }

    /// Whether the folders of a checkpoint carry the job's marker; none where the job names none or there is
    /// no folder.
    fn marked(&self, numbered: &[Entry]) -> Option<bool> {
        let marker = self.marker.as_ref()?;
        let mut folders = numbered.iter().filter(|entry| entry.kind == EntryKind::Folder).peekable();
        folders.peek()?;
        Some(folders.all(|entry| self.folder.join(&entry.name).join(marker).exists()))
    }

    fn age_ms(&self, changed: SystemTime) -> u64 {
        let age = self.until.duration_since(changed).unwrap_or_default();
        u64::try_from(age.as_millis()).unwrap_or(u64::MAX)
    }
}

/// What is known about one entry of a checkpoint.
#[derive(Debug, Clone, Copy)]
struct Part {
    /// Its last change.
    changed: SystemTime,
    /// Whether it was renamed into place.
    renamed: bool,
    /// Whether it has not changed for a while.
    quiet: bool,
}

/// What the entries show about their checkpoint; `parts` are those of the numbered entries, then those of the
/// companions.
fn evidence(numbered: &[Entry], companions: &[Entry], parts: &[Part]) -> Evidence {
    if !parts.iter().all(|part| part.renamed || part.quiet) {
        return Evidence::None;
    }
    let (own, others) = parts.split_at(numbered.len());
    let written = own.iter().map(|part| part.changed).max();
    // A companion such as `latest` that is older than the step still speaks of the step before.
    let companions_follow = others.iter().all(|part| part.renamed && Some(part.changed) >= written);
    let alone = match (numbered, companions) {
        ([], [only]) => ["last", "checkpoint", "ckpt"].iter().any(|word| only.name.starts_with(word)),
        // Other files of the same step may follow a file, but a folder is all there is.
        ([], _) => false,
        _ => numbered.iter().all(|entry| entry.kind == EntryKind::Folder),
    };
    let renamed = own.iter().all(|part| part.renamed);
    if alone && renamed && companions_follow { Evidence::Whole } else { Evidence::WholeSoFar }
}

/// The entry that a command resumes from: what was written last of the folders and state files. None where
/// several files make the checkpoint.
fn resume_from(numbered: &[Entry], companions: &[Entry]) -> Option<String> {
    let resumable = |entry: &&Entry| {
        let extension = Path::new(&entry.name).extension().and_then(std::ffi::OsStr::to_str);
        extension.is_some_and(|extension| RESUMABLE_EXTENSIONS.contains(&extension))
    };
    let last = |entry: &&Entry| entry.name.starts_with("last") || entry.name.starts_with("latest");
    let written = |entry: &&Entry| changed_at(&entry.metadata);
    let companion = companions.iter().filter(resumable).filter(last).max_by_key(written);
    match (numbered, companion) {
        ([], None) => match companions {
            [only] => Some(only.name.clone()),
            _ => None,
        },
        ([], Some(companion)) => Some(companion.name.clone()),
        // A link says nothing of its own.
        ([only], Some(companion))
            if companion.kind == EntryKind::File && written(&companion) > written(&only) =>
        {
            Some(companion.name.clone())
        }
        ([only], _) => Some(only.name.clone()),
        _ => None,
    }
}

/// Whether an entry was renamed into place and nothing in it has changed since: seen as it happened, or told
/// from a change of its inode that is later than its content's.
fn is_renamed(
    entry: &Entry,
    own_change: SystemTime,
    inner_change: SystemTime,
    moved: &BTreeSet<String>,
) -> bool {
    if entry.kind == EntryKind::Link {
        return true;
    }
    let modified = entry.metadata.modified().unwrap_or(own_change);
    let inner_change = if entry.kind == EntryKind::Folder { inner_change } else { own_change };
    (moved.contains(&entry.name) || own_change > modified) && inner_change <= own_change
}

fn kind_of(metadata: &Metadata) -> Option<EntryKind> {
    let kind = metadata.file_type();
    if kind.is_dir() {
        Some(EntryKind::Folder)
    } else if kind.is_file() {
        Some(EntryKind::File)
    } else {
        kind.is_symlink().then_some(EntryKind::Link)
    }
}

/// Last change of the inode, which no program can set: the content's, or that of its name or mode.
fn changed_at(metadata: &Metadata) -> SystemTime {
    let seconds = u64::try_from(metadata.ctime()).unwrap_or(0);
    let nanoseconds = u32::try_from(metadata.ctime_nsec()).unwrap_or(0);
    SystemTime::UNIX_EPOCH + Duration::new(seconds, nanoseconds)
}

/// One walk through the entries of a checkpoint.
struct Walk<'names> {
    root: &'names Path,
    canonical_root: PathBuf,
    /// Names at the top of the checkpoint folder that belong to the checkpoint.
    names: BTreeSet<&'names str>,
    files: Vec<FoundFile>,
    folders: Vec<ManifestFolder>,
    links: Vec<ManifestLink>,
    left_out: Vec<String>,
    refused: Option<String>,
    hash: DefaultHasher,
    /// Latest change of an entry below the one that the walk began at.
    changed: SystemTime,
}

impl<'names> Walk<'names> {
    fn new(root: &'names Path, names: BTreeSet<&'names str>) -> Self {
        Self {
            root,
            canonical_root: root.canonicalize().unwrap_or_else(|_| root.to_owned()),
            names,
            files: Vec::new(),
            folders: Vec::new(),
            links: Vec::new(),
            left_out: Vec::new(),
            refused: None,
            hash: DefaultHasher::new(),
            changed: SystemTime::UNIX_EPOCH,
        }
    }

    fn refuse(&mut self, reason: String) {
        reason.hash(&mut self.hash);
        self.refused.get_or_insert(reason);
    }

    /// Takes in what lies at `source`, under `path` within the checkpoint folder.
    fn entry(&mut self, source: &Path, path: &str, depth: usize) -> io::Result<()> {
        if self.files.len() + self.folders.len() + self.links.len() >= MAX_ENTRIES || depth > MAX_DEPTH {
            self.refuse(format!("it has more than {MAX_ENTRIES} files or {MAX_DEPTH} levels of folders"));
            return Ok(());
        }
        let metadata = std::fs::symlink_metadata(source)?;
        if depth > 0 {
            self.changed = self.changed.max(changed_at(&metadata));
        }
        let mode = metadata.mode() & MODE_BITS;
        let written = (metadata.ino(), metadata.size(), metadata.mtime(), metadata.mtime_nsec());
        match kind_of(&metadata) {
            Some(EntryKind::File) => {
                (path, mode, written).hash(&mut self.hash);
                let file = FoundFile {
                    path: path.to_owned(),
                    source: source.to_owned(),
                    size_bytes: metadata.size(),
                    mode,
                };
                self.files.push(file);
            }
            Some(EntryKind::Folder) => {
                // Not its size and time: what was left out comes and goes.
                (path, mode, metadata.ino()).hash(&mut self.hash);
                self.folders.push(ManifestFolder { path: path.to_owned(), mode });
                self.content(source, path, depth)?;
            }
            Some(EntryKind::Link) => self.link(source, path, depth)?,
            None => self.left_out.push(format!("`{path}` is neither a file, a folder nor a symbolic link")),
        }
        Ok(())
    }

    fn content(&mut self, source: &Path, path: &str, depth: usize) -> io::Result<()> {
        let mut entries = std::fs::read_dir(source)?.collect::<io::Result<Vec<_>>>()?;
        entries.sort_by_key(std::fs::DirEntry::file_name);
        for entry in entries {
            let name = entry.file_name();
            let Some(name) =
                name.to_str().filter(|name| !name.contains('\\') && !name.contains(char::is_control))
            else {
                let shown = name.to_string_lossy().into_owned();
                self.refuse(format!(
                    "the name of `{path}/{}` is not UTF-8, or holds a backslash or control character",
                    shown.escape_debug()
                ));
                continue;
            };
            match self.entry(&entry.path(), &format!("{path}/{name}"), depth + 1) {
                Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
                    self.refuse(format!("`{path}/{name}`: {error}"));
                }
                outcome => outcome?,
            }
        }
        Ok(())
    }

    /// A link within the checkpoint stays one; one to another entry of the checkpoint folder is stored by
    /// content; one that leaves the checkpoint folder is left out.
    fn link(&mut self, source: &Path, path: &str, depth: usize) -> io::Result<()> {
        let target = std::fs::read_link(source)?;
        (path, &target).hash(&mut self.hash);
        let shown = target.display().to_string();
        let Ok(real) = source.canonicalize() else {
            self.left_out.push(format!("`{path}` is a symbolic link to `{shown}`, which does not exist"));
            return Ok(());
        };
        let Ok(inside) = real.strip_prefix(&self.canonical_root) else {
            self.left_out.push(format!(
                "`{path}` is a symbolic link to `{shown}`, which lies outside the checkpoint folder"
            ));
            return Ok(());
        };
        let own = inside.components().next().and_then(|first| first.as_os_str().to_str());
        let is_own = own.is_some_and(|name| self.names.contains(name));
        if is_own && let Some(target) = self.relative_target(path, &target) {
            self.links.push(ManifestLink { path: path.to_owned(), target });
            return Ok(());
        }
        if real.is_dir()
            && source
                .parent()
                .is_some_and(|parent| parent.canonicalize().is_ok_and(|parent| parent.starts_with(&real)))
        {
            self.left_out.push(format!("`{path}` is a symbolic link to a folder that it lies in"));
            return Ok(());
        }
        self.entry(&real, path, depth + 1)
    }

    /// The target of a link as it is stored: relative, and within the checkpoint folder at every step of the
    /// way.
    fn relative_target(&self, path: &str, target: &Path) -> Option<String> {
        let relative =
            match target.strip_prefix(self.root).or_else(|_| target.strip_prefix(&self.canonical_root)) {
                Ok(within) => {
                    let up = "../".repeat(path.matches('/').count());
                    format!("{up}{}", within.to_str()?)
                }
                Err(_) => target.to_str()?.to_owned(),
            };
        let destination = link_destination(path, &relative)?;
        let first = destination.split('/').next()?;
        self.names.contains(first).then_some(relative)
    }
}
