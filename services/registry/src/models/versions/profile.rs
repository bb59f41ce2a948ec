//! Whether the profile of a version's training data, as its run logged it, fits the version: drift monitoring
//! would find out when the version is deployed, which is late.

use slipway_api::MAX_PROFILE_BYTES;
use slipway_domain::access::{Role, Scope};
use slipway_domain::drift::Profile;
use slipway_domain::drift::layout::{Fit, Input, fit};

use super::read::present_name;
use super::source::{Source, proxy_path};
use crate::access::caller::Caller;
use crate::access::links::RunLink;
use crate::access::references::visible_run;
use crate::error::{Error, of_file};
use crate::models::lineage::RUN_HIDDEN;
use crate::state::Registry;
use crate::store::facts::Facts;
use crate::store::{artifacts, model_versions, runs};

/// Where a run logs the profile of its training data.
pub(crate) const PROFILE_PATH: &str = "slipway/profile.json";
/// A longer profile is not looked into here.
const MAX_READ_BYTES: u64 = 16 * 1024 * 1024;

/// What of the profile does not fit, for people; `None` where all of it does, or where there is no profile or
/// no known input.
///
/// # Errors
/// Postgres or the artifact store is unreachable.
pub(super) async fn misfit(
    registry: &Registry,
    source: &Source,
    facts: &Facts,
) -> Result<Option<String>, Error> {
    let Some(run) = source.run.as_ref().filter(|_| !facts.inputs.is_empty()) else { return Ok(None) };
    let Some(bytes) = read(registry, run).await? else { return Ok(None) };
    let inputs: Vec<Input> =
        facts.inputs.iter().map(|input| Input::of_shape(&input.name, &input.shape)).collect();
    // A long profile takes a while, which other requests shall not wait for.
    let judging = tokio::task::spawn_blocking(move || judge(&bytes, &inputs));
    judging.await.map_err(Error::internal)
}

fn judge(bytes: &[u8], inputs: &[Input]) -> Option<String> {
    let profile: Profile = match serde_json::from_slice(bytes) {
        Ok(profile) => profile,
        Err(error) => return Some(format!("it is not a profile: {error}")),
    };
    if let Err(invalid) = profile.validate() {
        return Some(format!("`{}`: {}", invalid.field, invalid.message));
    }
    match fit(&profile, inputs) {
        Fit::Whole => None,
        Fit::Partly(why) | Fit::None(why) => Some(why),
    }
}

/// The profile's bytes; `None` where the run logged none, or is not here.
async fn read(registry: &Registry, run: &RunLink) -> Result<Option<Vec<u8>>, Error> {
    let mut db = registry.pool.acquire().await?;
    let Some(info) = runs::run_infos(&mut db, &[run.run_id()]).await?.remove(run.run_id()) else {
        return Ok(None);
    };
    let Some(root) = proxy_path(&info.artifact_uri)? else { return Ok(None) };
    let Some(file) = artifacts::artifact_get(&mut db, &format!("{root}/{PROFILE_PATH}")).await? else {
        return Ok(None);
    };
    drop(db);
    if file.size_bytes.unsigned_abs() > MAX_READ_BYTES {
        return Ok(None);
    }
    match registry.artifacts.get_bytes(&file.blob_key, MAX_READ_BYTES).await.map_err(Error::from) {
        Ok(bytes) => Ok(Some(bytes.to_vec())),
        // The version does not need it.
        Err(Error::NotFound(_)) => Ok(None),
        Err(error) => Err(error),
    }
}

/// The training profile of a version, for another service, and the run that logged it. What a service reads
/// here it shows to its own callers, so the version's link to the run must be authorised.
///
/// # Errors
/// The caller may not read the model, the version or the profile does not exist, the profile is too long, or
/// Postgres or the artifact store is unreachable.
pub(crate) async fn training_profile(
    registry: &Registry,
    caller: &Caller,
    model: String,
    version: i32,
) -> Result<(Vec<u8>, String), Error> {
    let mut db = registry.pool.acquire().await?;
    let model = present_name(&mut db, model).await?;
    caller.require(Role::Viewer, &Scope::Model(model.clone()))?;
    let found = model_versions::version_get(&mut db, &model, version).await?;
    let run_id = visible_run(&mut db, &found, registry.access.any_reader()).await?;
    let run_id = run_id.map(str::to_owned).ok_or_else(|| {
        let why = if found.run_id.is_some() { RUN_HIDDEN } else { "it has no run" };
        Error::not_found(format!("version {version} of {model} has no training profile: {why}"))
    })?;
    let run = runs::run_info(&mut db, &run_id).await?;
    let missing = || Error::not_found(format!("run {run_id} of {model}/{version} logged no {PROFILE_PATH}"));
    let root = proxy_path(&run.artifact_uri)?.ok_or_else(missing)?;
    let artifact = artifacts::artifact_get(&mut db, &format!("{root}/{PROFILE_PATH}")).await?;
    let artifact = artifact.ok_or_else(missing)?;
    drop(db);
    if artifact.size_bytes > i64::from(MAX_PROFILE_BYTES) {
        return Err(Error::Conflict(format!(
            "{PROFILE_PATH} of run {run_id} has {} bytes; up to {MAX_PROFILE_BYTES} are read",
            artifact.size_bytes
        )));
    }
    let bytes = registry.artifacts.get_bytes(&artifact.blob_key, MAX_PROFILE_BYTES.into()).await;
    let bytes = bytes.map_err(|error| of_file(&artifact.path, error))?;
    Ok((bytes.to_vec(), run_id))
}
