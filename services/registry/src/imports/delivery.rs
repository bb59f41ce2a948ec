//! Imports whose bytes the registry cannot read: volumes of a cluster, and buckets with the credentials of a
//! namespace. A client that can read them hands them over, with a token that is good for this alone.
//!
//! The token is random, stored as its SHA-256, and expires. A new one replaces the one before, whose files
//! are removed.

use std::collections::BTreeMap;

use axum::body::Body;
use axum::body::HttpBody as _;
use bytes::Bytes;
use futures::StreamExt as _;
use secrecy::{ExposeSecret as _, SecretString};
use slipway_access::principal::ROLLOUT_CONTROLLER_SERVICE;
use slipway_api::rest::registry::DeliveredFile;
use slipway_domain::access::token_digest;
use slipway_domain::registry::new_artifact_path;
use slipway_runtime::id;
use uuid::Uuid;

use super::reading::{ROOT, own_caller};
use super::remote::MAX_FILES;
use crate::access::caller::{Caller, proven};
use crate::clock::now_ms;
use crate::error::Error;
use crate::state::Registry;
use crate::store::artifacts::{Artifact, artifact_tree, within};
use crate::store::import_deliveries::{self as table, Delivery, NewDelivery};
use crate::store::imports;
use crate::tracking::artifacts as files;

/// Time for which a token is valid.
const LIFE_MS: i64 = 24 * 3_600 * 1_000;
const TOKEN_BYTES: usize = 32;
/// Ended deliveries that are removed together.
const SWEPT: i64 = 100;
/// Volumes of Kubernetes.
pub(super) const PVC: &str = "pvc://";

/// A token for one delivery.
#[derive(Debug)]
pub(crate) struct Issued {
    pub(crate) token: SecretString,
    pub(crate) expires_ms: i64,
}

/// Only the rollout controller has bytes delivered: it answers for who may read them. With access control
/// off, everyone may.
///
/// # Errors
/// The caller is another one.
pub(super) fn may_have_delivered(caller: &Caller) -> Result<(), Error> {
    let is_controller = caller.actor.principal == ROLLOUT_CONTROLLER_SERVICE;
    if is_controller || proven(&caller.actor).is_none() {
        return Ok(());
    }
    Err(Error::Denied("only the rollout controller may have the bytes of an import delivered".to_owned()))
}

/// Checks the form of an address whose bytes are delivered.
///
/// # Errors
/// It has another one.
pub(super) fn check(uri: &str) -> Result<(), Error> {
    let rest = uri.strip_prefix(PVC).or_else(|| uri.strip_prefix("s3://"));
    let is_whole = rest.and_then(|rest| rest.split_once('/'));
    match is_whole.is_some_and(|(first, rest)| !first.is_empty() && !rest.is_empty()) {
        true => Ok(()),
        false => {
            let text = format!("expected pvc://NAMESPACE/CLAIM/PATH or s3://BUCKET/PREFIX, got {uri}");
            Err(Error::invalid("uri", text))
        }
    }
}

/// Issues the token for the bytes of an import.
///
/// # Errors
/// The caller may not, there is no such import, it needs no delivery, or Postgres is unreachable.
pub(crate) async fn issue(registry: &Registry, caller: &Caller, import: &str) -> Result<Issued, Error> {
    may_have_delivered(caller)?;
    let absent = || Error::not_found(format!("There is no import '{import}'"));
    let import = Uuid::parse_str(import).map_err(|_| absent())?;
    let mut change = registry.change().await?;
    let found = imports::import_by_id(change.db(), import).await?;
    let found = found.ok_or_else(absent)?;
    if !found.delivered || found.version.is_some() {
        return Err(Error::Conflict(format!("The import '{import}' waits for no delivery")));
    }
    let token = SecretString::from(hex::encode(rand::random::<[u8; TOKEN_BYTES]>()));
    let root = format!("{ROOT}/{}/{}", import.simple(), id::random().simple());
    let now = now_ms();
    let expires_ms = now + LIFE_MS;
    let new = NewDelivery {
        import_key: found.import_key,
        token_sha256: &token_digest(token.expose_secret().as_bytes()),
        root: &root,
        expires_ms,
    };
    table::delivery_put(change.db(), &new, now).await?;
    change.commit().await?;
    Ok(Issued { token, expires_ms })
}

/// The delivery of this import that the token is for.
///
/// # Errors
/// There is none, or it has expired; or Postgres is unreachable.
pub(crate) async fn find(registry: &Registry, import: Uuid, token: &str) -> Result<Delivery, Error> {
    let mut db = registry.pool.acquire().await?;
    let found = table::delivery_of_token(&mut db, import, &token_digest(token.as_bytes()), now_ms()).await?;
    found.ok_or_else(|| {
        Error::Unauthenticated("expected the delivery token of this import, which expires".to_owned())
    })
}

/// Stores a file of an import; one that is there is replaced.
///
/// # Errors
/// The token is not of this import or has expired, the path is invalid, the delivery is complete, it has
/// more bytes or files than an import may have, or Postgres or the artifact store is unreachable.
pub(crate) async fn store(
    registry: &Registry,
    import: Uuid,
    token: &str,
    path: &str,
    body: Body,
) -> Result<Artifact, Error> {
    let path = new_artifact_path(path)?;
    let delivery = find(registry, import, token).await?;
    if delivery.completed {
        return Err(Error::Conflict(format!("The delivery of the import '{import}' is complete")));
    }
    let length_bytes = body.size_hint().exact();
    let rest_bytes = rest_bytes(registry, &delivery.root, &path).await?;
    if length_bytes.is_some_and(|length_bytes| length_bytes > rest_bytes) {
        return Err(Error::invalid("body", too_large(registry)));
    }
    let (mut read_bytes, problem) = (0_u64, too_large(registry));
    let limited = body.into_data_stream().map(move |chunk: Result<Bytes, axum::Error>| {
        let chunk = chunk.map_err(|error| error.to_string())?;
        read_bytes += chunk.len() as u64;
        if read_bytes > rest_bytes { Err(problem.clone()) } else { Ok(chunk) }
    });
    let at = format!("{}/{path}", delivery.root);
    files::upload(registry, own_caller(), &at, limited, length_bytes).await?;
    // If the token has expired meanwhile, the files may be removed already.
    if find(registry, import, token).await.is_err() {
        remove(registry, &at).await?;
    }
    files::find(registry, &at).await
}

fn too_large(registry: &Registry) -> String {
    let most_bytes = registry.imports.remote.max_bytes;
    format!("the import has more than {most_bytes} bytes (SLIPWAY_IMPORT_MAX_BYTES)")
}

/// Bytes that a file may have.
async fn rest_bytes(registry: &Registry, root: &str, path: &str) -> Result<u64, Error> {
    let mut db = registry.pool.acquire().await?;
    let stored = table::stored_except(&mut db, root, path).await?;
    if stored.files.unsigned_abs() >= MAX_FILES as u64 {
        return Err(Error::invalid("path", format!("the import has more than {MAX_FILES} files")));
    }
    Ok(registry.imports.remote.max_bytes.saturating_sub(stored.size_bytes.unsigned_abs()))
}

/// Says that all files are there, which are these. What becomes of them is said by the import.
///
/// # Errors
/// The token is not of this import or has expired, other files are there, or Postgres is unreachable.
pub(crate) async fn complete(
    registry: &Registry,
    import: Uuid,
    token: &str,
    listed: &[DeliveredFile],
) -> Result<(), Error> {
    let delivery = find(registry, import, token).await?;
    if delivery.completed {
        return Ok(());
    }
    if listed.is_empty() {
        return Err(Error::invalid("files", "expected at least one file"));
    }
    let mut change = registry.change().await?;
    let most = i64::try_from(MAX_FILES).map_err(Error::internal)?;
    let stored = artifact_tree(change.db(), &delivery.root, most).await?;
    compare(&delivery.root, &stored, listed)?;
    table::delivery_complete(change.db(), delivery.delivery_key).await?;
    change.commit().await
}

/// Whether the stored files are those that the client has.
fn compare(root: &str, stored: &[Artifact], listed: &[DeliveredFile]) -> Result<(), Error> {
    let mut stored: BTreeMap<&str, &Artifact> =
        stored.iter().map(|file| (within(root, &file.path), file)).collect();
    for DeliveredFile { path, sha256 } in listed {
        let found = stored.remove(path.as_str()).map(|file| file.sha256.as_str());
        if found != Some(sha256.as_str()) {
            let found = found.unwrap_or("no such file");
            return Err(Error::Conflict(format!("`{path}`: expected the SHA-256 {sha256}, found {found}")));
        }
    }
    match stored.keys().next() {
        Some(path) => Err(Error::Conflict(format!("`{path}` was delivered, and is not listed"))),
        None => Ok(()),
    }
}

/// Removes the files of deliveries that have ended, unless a version has them.
///
/// # Errors
/// Postgres is unreachable.
pub(super) async fn sweep(registry: &Registry) -> Result<(), Error> {
    let mut db = registry.pool.acquire().await?;
    let ended = table::deliveries_ended(&mut db, now_ms(), SWEPT).await?;
    drop(db);
    for Delivery { delivery_key, root, .. } in ended {
        remove(registry, &root).await?;
        let mut change = registry.change().await?;
        table::delivery_delete(change.db(), delivery_key).await?;
        change.commit().await?;
    }
    Ok(())
}

async fn remove(registry: &Registry, path: &str) -> Result<(), Error> {
    match files::delete(registry, &own_caller(), path).await {
        // A version has them.
        Err(Error::Conflict(_)) => Ok(()),
        removed => removed,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stored(path: &str, sha256: &str) -> Artifact {
        let (path, sha256) = (format!("imports/i/r/{path}"), sha256.to_owned());
        Artifact { path, blob_key: String::new(), size_bytes: 1, sha256 }
    }

    #[test]
    fn a_delivery_is_complete_with_exactly_the_files_that_are_listed() {
        let listed = |files: &[(&str, &str)]| -> Vec<DeliveredFile> {
            let file = |(path, sha256): &(&str, &str)| DeliveredFile {
                path: (*path).to_owned(),
                sha256: (*sha256).to_owned(),
            };
            files.iter().map(file).collect()
        };
        let there = [stored("a/b", "11"), stored("c", "22")];
        let compared = |files: &[(&str, &str)]| {
            compare("imports/i/r", &there, &listed(files)).map_err(|error| error.to_string())
        };
        assert_eq!(compared(&[("c", "22"), ("a/b", "11")]), Ok(()));
        for (files, text) in [
            (&[("c", "22")][..], "`a/b` was delivered, and is not listed"),
            (&[("c", "23"), ("a/b", "11")], "`c`: expected the SHA-256 23, found 22"),
            (&[("c", "22"), ("a/b", "11"), ("d", "33")], "`d`: expected the SHA-256 33, found no such file"),
            (&[("c", "22"), ("c", "22"), ("a/b", "11")], "`c`: expected the SHA-256 22, found no such file"),
        ] {
            assert_eq!(compared(files), Err(text.to_owned()));
        }
    }

    #[test]
    fn delivered_addresses_are_of_volumes_and_buckets() {
        for uri in ["pvc://ml/models/fraud", "pvc://ml/models", "s3://models/fraud"] {
            assert_eq!(check(uri), Ok(()), "{uri}");
        }
        for uri in ["pvc://ml", "pvc:///models", "s3://models", "https://a/b", "oci://ghcr.io/m:1", ""] {
            assert!(check(uri).is_err(), "{uri}");
        }
    }
}
