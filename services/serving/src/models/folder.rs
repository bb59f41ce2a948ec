//! Models of a local folder, without registry and NATS: `<model>/<version>/model.onnx`, as Triton has it.
//!
//! The folder is looked at again and again; what changed is loaded and swapped in as a new traffic table
//! would be. The highest version answers, the others answer who names them.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use sha2::{Digest as _, Sha256};
use slipway_api::traffic::{Target, TrafficTable};
use slipway_domain::ensemble::{ENSEMBLE_FILE, is_version};
use slipway_runtime::clock::now_unix_ms;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::files::{LOCAL_PREFIX, MODEL_FILE, files_below};
use super::pbtxt::{self, VersionPolicy};
use super::update::{Entry, Update};

/// How often the folder is looked at.
const POLL_INTERVAL_MS: u64 = 1_000;
/// Versions of one model that are kept ready, where its configuration does not say which: the highest ones.
const MAX_VERSIONS: usize = 16;

/// Sends a table for each model of the folder, and again when it changed, until the shutdown.
pub(crate) async fn watch(folder: PathBuf, updates: mpsc::Sender<Update>, shutdown: CancellationToken) {
    let mut shown: BTreeMap<String, TrafficTable> = BTreeMap::new();
    let mut pending: Option<BTreeMap<String, TrafficTable>> = None;
    let mut unreadable = BTreeSet::new();
    let mut first = true;
    loop {
        let scanned = {
            let folder = folder.clone();
            let before = pending.clone().unwrap_or_default();
            tokio::task::spawn_blocking(move || scan(&folder, &before)).await
        };
        match scanned {
            Ok(Ok(Scan { tables, unreadable: now })) => {
                // Each once, until it can be read.
                for path in now.difference(&unreadable) {
                    let path = path.display();
                    tracing::warn!(%path, "folder of a model cannot be read; its loaded versions stay in \
                        use");
                }
                unreadable = now;
                // Files that are being copied change from one look to the next; only what kept still is
                // taken.
                let still = first || pending.as_ref() == Some(&tables);
                if still && tables != shown && tell(&tables, &mut shown, &updates).await.is_err() {
                    return;
                }
                pending = Some(tables);
                if std::mem::take(&mut first) && updates.send(Update::Current).await.is_err() {
                    return;
                }
            }
            Ok(Err(error)) => {
                tracing::warn!(%error, folder = %folder.display(), "folder of models cannot be read");
            }
            Err(error) => tracing::error!(%error, "reading the folder of models failed"),
        }
        tokio::select! {
            () = shutdown.cancelled() => return,
            () = tokio::time::sleep(Duration::from_millis(POLL_INTERVAL_MS)) => {}
        }
    }
}

async fn tell(
    tables: &BTreeMap<String, TrafficTable>,
    shown: &mut BTreeMap<String, TrafficTable>,
    updates: &mpsc::Sender<Update>,
) -> Result<(), mpsc::error::SendError<Update>> {
    let gone: Vec<String> = shown.keys().filter(|name| !tables.contains_key(*name)).cloned().collect();
    for name in gone {
        updates.send(Update::Deleted(name)).await?;
    }
    for (name, table) in tables {
        if shown.get(name) != Some(table) {
            let revision = table.revision.max(1);
            let decided_at_unix_ms = now_unix_ms();
            let table = TrafficTable { revision, decided_at_unix_ms, ..table.clone() };
            updates.send(Update::Table(Box::new(Entry { table, revision: 0 }))).await?;
        }
    }
    *shown = tables.clone();
    Ok(())
}

/// The folder as it is now.
#[derive(Debug, Default)]
struct Scan {
    /// By model.
    tables: BTreeMap<String, TrafficTable>,
    /// Folders of models and versions that may not be looked into.
    unreadable: BTreeSet<PathBuf>,
}

/// Looks at the folder; a model that cannot be read is what it was `before`, and does not affect the
/// others.
fn scan(folder: &Path, before: &BTreeMap<String, TrafficTable>) -> io::Result<Scan> {
    let mut scan = Scan::default();
    for entry in std::fs::read_dir(folder)? {
        let entry = entry?;
        let Ok(name) = entry.file_name().into_string() else { continue };
        // Volumes have the latter, for root alone.
        if !entry.path().is_dir() || name.starts_with('.') || name == "lost+found" {
            continue;
        }
        let looked = table_of(&name, &entry.path(), &mut scan.unreadable);
        if is_refused(&looked) {
            scan.unreadable.insert(entry.path());
        }
        if let Some(table) = found(&name, looked, before.get(&name)) {
            scan.tables.insert(name, table);
        }
    }
    Ok(scan)
}

fn is_refused<T>(looked: &io::Result<T>) -> bool {
    looked.as_ref().is_err_and(|error| error.kind() == io::ErrorKind::PermissionDenied)
}

/// What a look at a model's folder gives: one that is gone is gone, and one that cannot be read is what it
/// was before.
fn found(
    name: &str,
    looked: io::Result<Option<TrafficTable>>,
    before: Option<&TrafficTable>,
) -> Option<TrafficTable> {
    match looked {
        Ok(table) => table,
        Err(error) if error.kind() == io::ErrorKind::NotFound => None,
        Err(error) => {
            tracing::debug!(%error, name, "folder of a model cannot be read");
            before.cloned()
        }
    }
}

/// The table of one model; `None` where it has no version.
fn table_of(
    name: &str,
    folder: &Path,
    unreadable: &mut BTreeSet<PathBuf>,
) -> io::Result<Option<TrafficTable>> {
    let mut versions: Vec<(u64, Target)> = Vec::new();
    let labels = labels_of(folder);
    // One that cannot be read says so where a version is loaded.
    let policy = pbtxt::config(folder).ok().flatten().and_then(|config| config.version_policy);
    for entry in std::fs::read_dir(folder)? {
        let entry = entry?;
        let Ok(version) = entry.file_name().into_string() else { continue };
        if !is_version(&version) {
            continue;
        }
        if is_refused(&std::fs::read_dir(entry.path())) {
            unreadable.insert(entry.path());
            continue;
        }
        if !holds_version(folder, &entry.path()) {
            continue;
        }
        let Ok(number) = version.parse() else { continue };
        if matches!(&policy, Some(VersionPolicy::Specific(chosen)) if !chosen.contains(&number)) {
            continue;
        }
        let digest = digest_of(folder, &entry.path(), &labels)?;
        versions.push((number, Target { version, digest }));
    }
    if let Some(VersionPolicy::Specific(chosen)) = &policy {
        let missing = chosen.iter().filter(|number| !versions.iter().any(|(there, _)| there == *number));
        let missing: Vec<u64> = missing.copied().collect();
        versions.extend(missing.into_iter().map(|number| (number, missing_version(folder, number))));
    }
    versions.sort_by(|left, right| right.cmp(left));
    versions.truncate(match policy {
        None => MAX_VERSIONS,
        Some(VersionPolicy::Latest(count)) => count,
        Some(VersionPolicy::All | VersionPolicy::Specific(_)) => usize::MAX,
    });
    let mut targets = versions.into_iter().map(|(_, target)| target);
    let Some(stable) = targets.next() else { return Ok(None) };
    Ok(Some(TrafficTable {
        stable: Some(stable),
        warm: targets.collect(),
        ..TrafficTable::empty(name, name)
    }))
}

/// The table in place of `wanted`, whose highest version does not load: the highest of the others that has
/// not failed answers.
///
/// `None` where the highest version has not failed, no other can answer, the table is none of a folder, or
/// the files of the version that answers were changed in their place: then those that are loaded go on.
pub(super) fn without_failed(
    wanted: &TrafficTable,
    active: &TrafficTable,
    failed: impl Fn(&Target) -> bool,
    ready: impl Fn(&Target) -> bool,
) -> Option<TrafficTable> {
    let stable = wanted.stable.as_ref().filter(|stable| stable.digest.starts_with(LOCAL_PREFIX))?;
    let goes_on = |active: &Target| active.version == stable.version && ready(active);
    if !failed(stable) || active.stable.as_ref().is_some_and(goes_on) {
        return None;
    }
    let number = |target: &&Target| target.version.parse::<u64>().unwrap_or(0);
    let all = || wanted.stable.iter().chain(&wanted.warm);
    // If none loads, the reason of the highest one is shown.
    let answering = all().filter(|target| !failed(target)).max_by_key(number).or(all().max_by_key(number))?;
    if answering == stable {
        return None;
    }
    let warm = all().filter(|target| *target != answering).cloned().collect();
    Some(TrafficTable { stable: Some(answering.clone()), warm, ..wanted.clone() })
}

/// A version that the policy names and that is not there: it is shown as one that does not load.
fn missing_version(model: &Path, number: u64) -> Target {
    let named = format!("missing\0{}\0{number}", model.display());
    let digest = format!("{LOCAL_PREFIX}{}", hex::encode(Sha256::digest(named)));
    Target { version: number.to_string(), digest }
}

/// Whether there is something to serve: a model, or an ensemble. A configuration that cannot be read may be
/// one, and loading it says what is wrong.
fn holds_version(model: &Path, version: &Path) -> bool {
    version.join(MODEL_FILE).is_file()
        || version.join(ENSEMBLE_FILE).is_file()
        || version.is_dir()
            && pbtxt::config(model)
                .map_or(true, |config| config.is_some_and(|config| config.ensemble.is_some()))
}

/// The digest of a version as it lies there now.
///
/// # Errors
/// Its folder cannot be read.
pub(super) fn digest_now(model: &Path, version: &Path) -> io::Result<String> {
    digest_of(model, version, &labels_of(model))
}

/// The files of labels that the configuration of a model names; they may lie in a folder next to the
/// versions.
fn labels_of(model: &Path) -> Vec<PathBuf> {
    let config = pbtxt::config(model).ok().flatten().unwrap_or_default();
    config.settings.labels.values().map(|file| model.join(file)).collect()
}

/// Changes when a file of the version, or one next to the versions, does: configuration and labels.
fn digest_of(model: &Path, version: &Path, labels: &[PathBuf]) -> io::Result<String> {
    let mut hasher = Sha256::new();
    let mut files = labels.to_vec();
    for entry in std::fs::read_dir(model)? {
        let path = entry?.path();
        // The other versions are next to this one.
        if path.is_file() {
            files.push(path);
        }
    }
    files.extend(files_below(version)?);
    files.sort();
    files.dedup();
    for file in files {
        let Ok(described) = std::fs::metadata(&file) else { continue };
        let changed = described.modified().ok().and_then(|at| at.duration_since(SystemTime::UNIX_EPOCH).ok());
        let changed = changed.unwrap_or_default().as_nanos();
        // Whether it can be read is part of what it is.
        let (mode, owner) = (described.mode(), (described.uid(), described.gid()));
        let (path, bytes) = (file.display(), described.len());
        hasher.update(format!("{path}\0{bytes}\0{changed}\0{mode}\0{owner:?}\n"));
    }
    Ok(format!("{LOCAL_PREFIX}{}", hex::encode(hasher.finalize())))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn the_highest_version_answers_and_a_changed_file_is_another_version() {
        let folder = tempfile::tempdir().unwrap();
        for version in ["2", "10", "not-a-version"] {
            std::fs::create_dir_all(folder.path().join("m").join(version)).unwrap();
            std::fs::write(folder.path().join("m").join(version).join(MODEL_FILE), version).unwrap();
        }
        std::fs::create_dir_all(folder.path().join("empty/1")).unwrap();
        let tables = scan(folder.path(), &BTreeMap::new()).unwrap().tables;
        assert_eq!(tables.keys().collect::<Vec<_>>(), ["m"]);
        let table = &tables["m"];
        assert_eq!(
            (table.stable.as_ref().unwrap().version.as_str(), table.warm[0].version.as_str()),
            ("10", "2")
        );
        assert!(table.validate().is_ok());
        std::fs::write(folder.path().join("m/10").join(MODEL_FILE), "other bytes").unwrap();
        let again = scan(folder.path(), &BTreeMap::new()).unwrap().tables;
        assert_ne!(again["m"].stable, table.stable);
        assert_eq!(again["m"].warm, table.warm);
        // What could not be read may be readable now.
        let mode = std::fs::Permissions::from_mode(0o600);
        std::fs::set_permissions(folder.path().join("m/2").join(MODEL_FILE), mode).unwrap();
        let allowed = scan(folder.path(), &BTreeMap::new()).unwrap().tables;
        assert_ne!(allowed["m"].warm, table.warm);
    }

    #[test]
    fn the_highest_version_that_loads_answers() {
        let target = |version: &str| Target { version: version.into(), digest: format!("local:{version}") };
        let table = |stable: &str, warm: &[&str]| TrafficTable {
            stable: Some(target(stable)),
            warm: warm.iter().map(|version| target(version)).collect(),
            ..TrafficTable::empty("m", "m")
        };
        let wanted = table("10", &["9", "8"]);
        let instead = |active: &TrafficTable, failed: &[&str]| {
            let failed = |target: &Target| failed.contains(&target.version.as_str());
            without_failed(&wanted, active, failed, |_| true)
        };
        assert_eq!(instead(&table("9", &[]), &[]), None, "it is still loading");
        assert_eq!(instead(&table("9", &[]), &["10"]), Some(table("9", &["10", "8"])));
        assert_eq!(instead(&table("9", &[]), &["10", "9"]), Some(table("8", &["10", "9"])));
        assert_eq!(instead(&table("9", &[]), &["10", "9", "8"]), None);
        let before = Target { version: "10".into(), digest: "local:before".into() };
        let lower = table("8", &["10", "9"]);
        let none = |target: &Target| target.version != "11";
        assert_eq!(without_failed(&lower, &lower, none, |_| false), Some(table("10", &["8", "9"])));
        let replaced = TrafficTable { stable: Some(before), ..table("10", &[]) };
        assert_eq!(instead(&replaced, &["10"]), None, "the files were changed in their place");
    }

    #[test]
    fn the_version_policy_decides_which_versions_are_served() {
        let folder = tempfile::tempdir().unwrap();
        let model = folder.path().join("m");
        for version in 1..=20 {
            std::fs::create_dir_all(model.join(version.to_string())).unwrap();
            std::fs::write(model.join(version.to_string()).join(MODEL_FILE), "").unwrap();
        }
        let served = |config: &str| {
            std::fs::write(model.join("config.pbtxt"), config).unwrap();
            let tables = scan(folder.path(), &BTreeMap::new()).unwrap().tables;
            tables["m"].targets().map(|target| target.version.clone()).collect::<Vec<_>>()
        };
        assert_eq!(served("").len(), MAX_VERSIONS);
        assert_eq!(served("version_policy { latest { } }"), ["20"]);
        assert_eq!(served("version_policy: { latest { num_versions: 2 } }"), ["20", "19"]);
        assert_eq!(served("version_policy { all { } }").len(), 20);
        // One that is not there is shown as one that does not load.
        assert_eq!(served("version_policy { specific { versions: [ 3, 21, 1 ] } }"), ["21", "3", "1"]);
    }

    #[tokio::test]
    async fn a_table_says_when_it_was_made() {
        let (updates, mut told) = mpsc::channel(2);
        let tables = BTreeMap::from([("m".to_owned(), TrafficTable::empty("m", "m"))]);
        let (before, mut shown) = (now_unix_ms(), BTreeMap::new());
        tell(&tables, &mut shown, &updates).await.unwrap();
        let Some(Update::Table(entry)) = told.recv().await else { panic!("a table") };
        assert!(entry.table.decided_at_unix_ms >= before);
        // The time alone is no change.
        tell(&tables, &mut shown, &updates).await.unwrap();
        assert!(told.try_recv().is_err());
    }

    #[test]
    fn files_in_folders_of_a_version_and_of_labels_count_as_its_own() {
        let folder = tempfile::tempdir().unwrap();
        let model = folder.path().join("m");
        for (file, text) in [
            ("1/model.onnx", ""),
            ("1/data/weights", "1"),
            ("names/l.txt", "cat"),
            ("names/other.txt", "cat"),
            ("config.pbtxt", "output { name: \"p\" label_filename: \"names/l.txt\" }"),
        ] {
            std::fs::create_dir_all(model.join(file).parent().unwrap()).unwrap();
            std::fs::write(model.join(file), text).unwrap();
        }
        let look = || digest_now(&model, &model.join("1")).unwrap();
        let mut before = look();
        for (file, counts) in [("names/other.txt", false), ("names/l.txt", true), ("1/data/weights", true)] {
            std::fs::write(model.join(file), "longer than it was").unwrap();
            assert_eq!(look() != before, counts, "{file}");
            before = look();
        }
    }

    #[test]
    fn a_model_that_cannot_be_read_is_what_it_was() {
        let known = TrafficTable::empty("m", "m");
        let refused = || Err(io::Error::from(io::ErrorKind::PermissionDenied));
        assert_eq!(found("m", refused(), Some(&known)), Some(known.clone()));
        assert_eq!(found("lost+found", refused(), None), None);
        assert_eq!(found("m", Err(io::ErrorKind::NotFound.into()), Some(&known)), None);
        assert_eq!(found("m", Ok(None), Some(&known)), None);
    }
}
