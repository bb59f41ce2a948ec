//! One checkpoint of the parts that the processes of a distributed job have saved.

use std::collections::BTreeMap;

use super::{MANIFEST_SCHEMA, Manifest, ManifestFile, ManifestFolder, ManifestLink};

/// Two processes have saved different things under one name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "processes {first} and {second} both saved `{path}`, with different contents; each process must save \
     under names of its own, such as `shard-{second}.pt`"
)]
pub struct PartConflict {
    /// Path within the checkpoint folder.
    pub path: String,
    /// Number of a process.
    pub first: u32,
    /// Number of another process.
    pub second: u32,
}

/// The checkpoint that consists of `parts`, which the processes of one attempt have saved for one step, by
/// the number of the process. A file that several processes saved alike is taken once. `None` where there are
/// no parts.
///
/// # Errors
/// Two parts do not fit together.
pub fn combine(
    parts: &[Manifest],
    prefix: &str,
    created_at_unix_ms: u64,
) -> Result<Option<Manifest>, PartConflict> {
    let Some(leader) = parts.first() else { return Ok(None) };
    let mut files: BTreeMap<&str, ManifestFile> = BTreeMap::new();
    let mut links: BTreeMap<&str, (u32, &ManifestLink)> = BTreeMap::new();
    let mut folders: BTreeMap<&str, u32> = BTreeMap::new();
    for (process, part) in (0..).zip(parts) {
        let conflict =
            |path: &str, first: u32| PartConflict { path: path.to_owned(), first, second: process };
        for file in &part.files {
            let own = ManifestFile { part: Some(process), ..file.clone() };
            let known = files.entry(&file.path).or_insert(own);
            if (known.size_bytes, &known.sha256) != (file.size_bytes, &file.sha256) {
                return Err(conflict(&file.path, known.part.unwrap_or(0)));
            }
        }
        for folder in &part.folders {
            folders.entry(&folder.path).or_insert(folder.mode);
        }
        for link in &part.links {
            let (first, known) = *links.entry(&link.path).or_insert((process, link));
            if known.target != link.target {
                return Err(conflict(&link.path, first));
            }
        }
    }
    let folder = |(path, mode): (&str, u32)| ManifestFolder { path: path.to_owned(), mode };
    Ok(Some(Manifest {
        schema: MANIFEST_SCHEMA.to_owned(),
        job_id: leader.job_id.clone(),
        attempt: leader.attempt,
        step: leader.step,
        prefix: prefix.to_owned(),
        files: files.into_values().collect(),
        folders: folders.into_iter().map(folder).collect(),
        links: links.into_values().map(|(_, link)| link.clone()).collect(),
        resume_from: leader.resume_from.clone(),
        world_size: u32::try_from(parts.len()).ok(),
        parts: parts.iter().map(|part| part.prefix.clone()).collect(),
        created_at_unix_ms,
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn part(process: u32, files: &[(&str, u64)]) -> Manifest {
        let file = |(path, digest): &(&str, u64)| ManifestFile {
            path: (*path).to_owned(),
            size_bytes: 8,
            sha256: format!("{digest:064x}"),
            mode: Some(0o644),
            part: None,
        };
        Manifest {
            schema: MANIFEST_SCHEMA.to_owned(),
            job_id: "j".to_owned(),
            attempt: 2,
            step: 500,
            prefix: format!("checkpoints/j/000000000500/2-p{process}"),
            files: files.iter().map(file).collect(),
            folders: vec![ManifestFolder { path: "500".to_owned(), mode: 0o755 }],
            links: vec![],
            resume_from: Some("500".to_owned()),
            world_size: None,
            parts: vec![],
            created_at_unix_ms: u64::from(process),
        }
    }

    const PREFIX: &str = "checkpoints/j/000000000500/2-all";

    #[test]
    fn the_shards_of_all_processes_are_one_checkpoint() {
        let parts = [
            part(0, &[("500/.metadata", 9), ("500/0.pt", 1), ("500/config", 7)]),
            part(1, &[("500/1.pt", 2), ("500/config", 7)]),
        ];
        let whole = combine(&parts, PREFIX, 77).unwrap().unwrap();
        whole.validate().unwrap();
        assert_eq!(whole.key(), format!("{PREFIX}/MANIFEST.json"));
        let keys: Vec<String> = whole.files.iter().map(|file| whole.file_key(file)).collect();
        let key = |process: u32, path: &str| format!("checkpoints/j/000000000500/2-p{process}/{path}");
        assert_eq!(
            keys,
            [key(0, "500/.metadata"), key(0, "500/0.pt"), key(1, "500/1.pt"), key(0, "500/config")],
            "what both saved alike is there once"
        );
        assert_eq!((whole.world_size, whole.resume_from.as_deref()), (Some(2), Some("500")));
        assert_eq!((whole.step, whole.attempt, whole.created_at_unix_ms), (500, 2, 77));
        assert_eq!(whole.prefixes().count(), 3);
        assert!(whole.fits(2, false) && !whole.fits(4, false) && whole.fits(4, true));
        assert_eq!(combine(&[], PREFIX, 1), Ok(None));
    }

    #[test]
    fn a_name_that_two_processes_use_for_different_things_is_refused() {
        let conflict = combine(&[part(0, &[("a", 1)]), part(1, &[("a", 2)])], PREFIX, 1).unwrap_err();
        assert_eq!((conflict.path.as_str(), conflict.first, conflict.second), ("a", 0, 1));
        assert!(conflict.to_string().starts_with("processes 0 and 1 both saved `a`"));
        let link = |target: &str, process| Manifest {
            links: vec![ManifestLink { path: "last".to_owned(), target: target.to_owned() }],
            ..part(process, &[(if process == 0 { "x" } else { "y" }, 1)])
        };
        let conflict = combine(&[link("x", 0), link("y", 1)], PREFIX, 1).unwrap_err();
        assert_eq!(conflict.path, "last");
    }
}
