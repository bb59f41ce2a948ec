//! Signatures of a version: found among its files or attached to it, and judged by the keys that are trusted
//! now.

use sha2::{Digest as _, Sha256};
use slipway_artifact_store::ArtifactStore;
use slipway_model_signing::{File, MAX_BUNDLE_BYTES, Material, State, Trusted, Verdict, verify};
use sqlx::PgConnection;

use crate::clock::now_ms;
use crate::error::{Error, of_file};
use crate::store::artifacts::{Artifact, within};
use crate::store::model_versions::{self, VersionFile};
use crate::store::signatures::{self, Signature};

/// Keys and roots that are trusted at once.
pub(crate) const MAX_KEYS: i64 = 200;
/// Where the format's tools put one signature.
const SIGNATURE_FILE: &str = "model.sig";
/// Where they put several, one a line.
const CLAIMS_FILE: &str = "claims.jsonl";
/// Lines of that which are looked at.
const MAX_CLAIMS: usize = 16;

/// How a version is signed.
#[derive(Debug, Clone)]
pub(crate) struct Judged {
    /// The best of its signatures.
    pub(crate) verdict: Verdict,
    /// Each of them.
    pub(crate) each: Vec<Signed>,
}

/// One signature and how it stands.
#[derive(Debug, Clone)]
pub(crate) struct Signed {
    /// Where it lies among the version's files; empty for one that was attached.
    pub(crate) path: String,
    pub(crate) created_ms: i64,
    pub(crate) verdict: Verdict,
}

impl Judged {
    /// Names of the trusted keys that signed exactly these files.
    pub(crate) fn valid_keys(&self) -> impl Iterator<Item = &str> {
        let valid = self.each.iter().filter(|one| one.verdict.state == State::Valid);
        valid.filter_map(|one| one.verdict.key.as_deref())
    }
}

/// Reads the signatures that lie among the files of a version to be made. A file that is none is kept as
/// such: it says that somebody meant to sign.
///
/// # Errors
/// The store is unreachable.
pub(crate) async fn find(
    store: &ArtifactStore,
    root: &str,
    files: &[Artifact],
) -> Result<Vec<Signature>, Error> {
    let mut found = Vec::new();
    for file in files {
        let path = within(root, &file.path);
        if path != SIGNATURE_FILE && path != CLAIMS_FILE {
            continue;
        }
        let signature = |line: usize, bundle: &str, fault: Option<String>| Signature {
            path: path.to_owned(),
            line: i32::try_from(line).unwrap_or(i32::MAX),
            bundle: bundle.to_owned(),
            fault,
            created_ms: now_ms(),
        };
        match read(store, file).await? {
            Err(fault) => found.push(signature(0, "", Some(fault))),
            Ok(text) if path == SIGNATURE_FILE => found.push(signature(0, &text, None)),
            Ok(text) => {
                let lines = text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty());
                found.extend(lines.take(MAX_CLAIMS).map(|(at, line)| signature(at + 1, line, None)));
            }
        }
    }
    Ok(found)
}

/// The text of a file, or why it cannot be a signature.
async fn read(store: &ArtifactStore, file: &Artifact) -> Result<Result<String, String>, Error> {
    if u64::try_from(file.size_bytes).is_ok_and(|size| size > MAX_BUNDLE_BYTES) {
        return Ok(Err(format!("the file is longer than {MAX_BUNDLE_BYTES} bytes")));
    }
    let bytes = store
        .get_bytes(&file.blob_key, MAX_BUNDLE_BYTES)
        .await
        .map_err(|error| of_file(&file.path, error))?;
    if hex::encode(Sha256::digest(&bytes)) != file.sha256 {
        return Err(Error::damaged(&file.path));
    }
    Ok(match String::from_utf8(bytes.to_vec()) {
        // Postgres holds no zero byte, and JSON has none.
        Ok(text) if !text.contains('\0') => Ok(text),
        _ => Err("the file is not text".to_owned()),
    })
}

/// Judges all signatures of a version.
///
/// # Errors
/// Postgres is unreachable.
pub(crate) async fn judge(db: &mut PgConnection, model_key: i64, version: i32) -> Result<Judged, Error> {
    let signatures = signatures::signatures(db, model_key, version).await?;
    if signatures.is_empty() {
        return Ok(Judged { verdict: Verdict::unsigned(), each: Vec::new() });
    }
    let files = model_versions::version_files(db, model_key, version).await?;
    let trusted = trusted(db).await?;
    // Long manifests take milliseconds, which other requests shall not wait for.
    let each = tokio::task::spawn_blocking(move || judge_each(signatures, &files, &trusted));
    let each = each.await.map_err(Error::internal)?;
    let best = each.iter().min_by_key(|one| rank(one.verdict.state));
    let verdict = best.map_or_else(Verdict::unsigned, |one| one.verdict.clone());
    Ok(Judged { verdict, each })
}

fn judge_each(signatures: Vec<Signature>, files: &[VersionFile], trusted: &[Trusted]) -> Vec<Signed> {
    let list: Vec<File<'_>> = files.iter().map(VersionFile::signed_as).collect();
    let judge = |signature: Signature| {
        let own_path = Some(signature.path.as_str()).filter(|path| !path.is_empty());
        let verdict = match signature.fault {
            Some(fault) => Verdict::told(State::Malformed, fault),
            None => verify(&signature.bundle, &list, own_path, trusted),
        };
        Signed { path: signature.path, created_ms: signature.created_ms, verdict }
    };
    signatures.into_iter().map(judge).collect()
}

/// A good signature is good whatever lies next to it; of the others the one that says most goes first.
const fn rank(state: State) -> u8 {
    match state {
        State::Valid => 0,
        State::Mismatch => 1,
        State::UntrustedKey => 2,
        State::NotVerifiable => 3,
        State::Malformed => 4,
        State::Unsigned => 5,
    }
}

/// All keys and roots that are trusted now.
async fn trusted(db: &mut PgConnection) -> Result<Vec<Trusted>, Error> {
    let keys = signatures::keys(db, None, MAX_KEYS).await?;
    let trusted = |key: signatures::SigningKey| match Material::from_pem(&key.pem) {
        Ok(material) => Some(Trusted { name: key.name, material }),
        Err(error) => {
            tracing::error!(key = key.name, %error, "trusted key does not parse");
            None
        }
    };
    Ok(keys.into_iter().filter_map(trusted).collect())
}
