//! Bytes that go between client and artifact store without passing through here: uploads in parts, and
//! downloads, at signed addresses. What was uploaded so is read back once and hashed before it becomes an
//! artifact, so that it is as trustworthy as any.

use std::time::Duration;

use axum::Router;
use axum::extract::{Path, State};
use axum::routing::{get, post};
use serde_json::json;
use slipway_artifact_store::{MAX_PARTS, UploadedPart};
use slipway_domain::registry::normalise_artifact_path;

use crate::access::caller::Caller;
use crate::api::download::encoded_path;
use crate::api::mlflow::error::Failure;
use crate::api::mlflow::{Answer, Fields, answer, empty};
use crate::state::Registry;
use crate::store::artifacts::Artifact;
use crate::tracking::artifacts::{find, writable};
use crate::tracking::direct_uploads as use_cases;

const DOWNLOAD_VALID_S: u64 = 3_600;
/// S3's own limit.
const MAX_VALID_S: i64 = 7 * 24 * 3_600;

pub(super) fn router(prefix: &str) -> Router<Registry> {
    let root = format!("{prefix}/mlflow-artifacts");
    Router::new()
        .route(&format!("{root}/presigned/{{*path}}"), get(download))
        .route(&format!("{root}/mpu/create/{{*path}}"), post(create))
        .route(&format!("{root}/mpu/complete/{{*path}}"), post(complete))
        .route(&format!("{root}/mpu/abort/{{*path}}"), post(abort))
}

/// Where the file may be read; its length is what clients cut into ranges.
pub(crate) async fn address(
    registry: &Registry,
    artifact: &Artifact,
    expiration_s: Option<i64>,
) -> Result<String, Failure> {
    let valid = match expiration_s {
        None => DOWNLOAD_VALID_S,
        Some(seconds) if (1..=MAX_VALID_S).contains(&seconds) => seconds.unsigned_abs(),
        Some(seconds) => {
            return Err(Failure::invalid(format!(
                "Invalid value {seconds} for parameter 'expiration' supplied: expected 1 to {MAX_VALID_S} \
                 seconds"
            )));
        }
    };
    Ok(use_cases::download_url(registry, artifact, Duration::from_secs(valid)).await?)
}

async fn download(State(registry): State<Registry>, Path(path): Path<String>) -> Answer {
    let artifact = find(&registry, &path).await?;
    let url = address(&registry, &artifact, None).await?;
    Ok(answer(json!({"url": url, "headers": {}, "file_size": artifact.size_bytes})))
}

/// The client names the directory in the address, and its own local file in the body: of that the last
/// segment counts.
fn target(directory: &str, fields: &Fields) -> Result<String, Failure> {
    let local = fields.required("path")?;
    let name = local.rsplit(['/', '\\']).next().unwrap_or_default();
    if name.is_empty() {
        return Err(Failure::invalid(
            "Invalid value for parameter 'path' supplied: expected the name of a file",
        ));
    }
    Ok(normalise_artifact_path(&format!("{directory}/{name}"))?)
}

async fn create(
    State(registry): State<Registry>,
    caller: Caller,
    Path(directory): Path<String>,
    fields: Fields,
) -> Answer {
    let path = target(&directory, &fields)?;
    let parts = fields.integer("num_parts")?.unwrap_or(1);
    let parts =
        i32::try_from(parts).ok().filter(|parts| (1..=MAX_PARTS).contains(parts)).ok_or_else(|| {
            Failure::invalid(format!(
                "Invalid value {parts} for parameter 'num_parts' supplied: expected 1 to {MAX_PARTS}"
            ))
        })?;
    let begun = use_cases::begin(&registry, &caller, path, parts).await?;
    let numbered = begun.urls.iter().zip(1..);
    let credentials: Vec<_> =
        numbered.map(|(url, number)| json!({"url": url, "part_number": number, "headers": {}})).collect();
    Ok(answer(json!({"upload_id": begun.upload_id, "credentials": credentials})))
}

fn parts(fields: &mut Fields) -> Result<Vec<UploadedPart>, Failure> {
    let mut parts = Vec::new();
    for part in fields.messages("parts")? {
        let number = i32::try_from(part.required_integer("part_number")?)
            .ok()
            .filter(|number| (1..=MAX_PARTS).contains(number))
            .ok_or_else(|| Failure::invalid(format!("a part_number is not within 1 to {MAX_PARTS}")))?;
        parts.push(UploadedPart { number, etag: part.required("etag")? });
    }
    parts.sort_by_key(|part| part.number);
    if parts.is_empty() {
        return Err(Failure::missing("parts"));
    }
    Ok(parts)
}

async fn complete(
    State(registry): State<Registry>,
    caller: Caller,
    Path(directory): Path<String>,
    mut fields: Fields,
) -> Answer {
    let path = target(&directory, &fields)?;
    let upload_id = fields.required("upload_id")?;
    let parts = parts(&mut fields)?;
    use_cases::complete(&registry, caller, upload_id, path, parts).await?;
    Ok(empty())
}

async fn abort(State(registry): State<Registry>, Path(directory): Path<String>, fields: Fields) -> Answer {
    let path = target(&directory, &fields)?;
    use_cases::abort(&registry, &fields.required("upload_id")?, &path).await?;
    Ok(empty())
}

/// Where a file may be put by one request: the proxy itself, since only what passes through it is an artifact
/// at once.
pub(crate) async fn upload_address(
    registry: &Registry,
    caller: &Caller,
    headers: &http::HeaderMap,
    path: &str,
) -> Result<String, Failure> {
    let path = writable(registry, caller, path).await?;
    let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
    let host = text("host").ok_or_else(|| Failure::invalid("the request has no Host"))?;
    let scheme = text("x-forwarded-proto").filter(|scheme| *scheme == "https").unwrap_or("http");
    Ok(format!("{scheme}://{host}/api/2.0/mlflow-artifacts/artifacts/{}", encoded_path(&path)))
}

/// The file of a run, by its path within the run.
pub(crate) async fn file_of(registry: &Registry, root: &str, path: &str) -> Result<Artifact, Failure> {
    let path = normalise_artifact_path(path)?;
    Ok(find(registry, &format!("{root}/{path}")).await?)
}
