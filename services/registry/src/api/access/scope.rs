//! On what a request wants to act: read from its path, its query or its body, and looked up where that is a
//! run, a logged model or an artifact. What is not found counts as everything, so that only callers who may
//! see all learn that it is not there.

use std::collections::BTreeSet;
use std::time::Duration;

use axum::RequestExt as _;
use axum::body::Body;
use axum::extract::{FromRequest as _, RawPathParams, Request};
use slipway_domain::access::{Role, Scope};
use slipway_domain::registry::normalise_artifact_path;

use super::refusal::Refusal;
use crate::access::authenticator::Authenticator;
use crate::access::caller::Caller;
use crate::access::references::{PinnedBy, owners};
use crate::access::ttl_cache::KEPT_S;
use crate::api::mlflow::Fields;
use crate::error::Error;

use crate::store::access as table;

/// Bytes of a body that is read before it is authorised.
const MAX_BODY_BYTES: usize = 2 * 1024 * 1024;

/// Where a request says what it is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Resource {
    Everything,
    /// `experiment_id`.
    Experiment,
    /// The same; without one the default experiment.
    ExperimentOrDefault,
    ExperimentName,
    /// `run_id`.
    Run,
    /// `run_uuid` of the query, whatever the body holds.
    RunOfQuery,
    /// Several runs in that field.
    Runs(&'static str),
    /// `run_id`, and the logged models that its points name.
    Points,
    /// `model_id`; without one `run_id`.
    RunOrLoggedModel,
    /// `{model_id}` of the path.
    LoggedModel,
    /// `{experiment_id}` of the path.
    ExperimentInPath,
    /// `{run_id}` of the path.
    RunInPath,
    /// `name` of a registered model.
    Model,
    /// `{name}` of the path.
    ModelInPath,
    /// `name` in a body of REST v1.
    ModelInBody,
    /// `name` and `new_name`.
    Rename,
    /// `{path}` of the artifact proxy.
    Artifact,
    /// `path` of its query.
    Directory,
}

/// Where the route's role is needed.
type Wanted = Vec<Scope>;

/// Lets a request through whose caller holds the role on all that it is about.
///
/// # Errors
/// A role is missing, the request does not say what it is about, or Postgres is unreachable.
pub(super) async fn admit(
    authenticator: &Authenticator,
    caller: &Caller,
    (role, resource): (Role, Resource),
    mut request: Request,
) -> Result<Request, Refusal> {
    if caller.grants.check(role, &Scope::Everything).is_ok() {
        return Ok(request);
    }
    let wanted = match resource {
        Resource::Everything => vec![Scope::Everything],
        Resource::ModelInPath => vec![Scope::Model(parameter(&mut request, "name").await?)],
        Resource::ExperimentInPath => {
            let id = parameter(&mut request, "experiment_id").await?;
            vec![id.parse().map_or(Scope::Everything, Scope::Experiment)]
        }
        Resource::RunInPath => {
            let run_id = parameter(&mut request, "run_id").await?;
            runs(authenticator, vec![run_id]).await?
        }
        Resource::ModelInBody => {
            let (name, rest) = body_field(request, "name").await?;
            request = rest;
            vec![Scope::Model(name)]
        }
        Resource::LoggedModel => {
            let id = parameter(&mut request, "model_id").await?;
            table::logged_model_experiments(&mut *authenticator.pool.acquire().await?, &[id]).await?
        }
        Resource::RunOfQuery => {
            let run_id = Fields::of_query(request.uri()).required("run_uuid")?;
            runs(authenticator, vec![run_id]).await?
        }
        Resource::Artifact => {
            let path = parameter(&mut request, "path").await?;
            return artifact(authenticator, caller, role, &path).await.map(|()| request);
        }
        _ => {
            let (fields, rest) = read(request).await?;
            request = rest;
            if resource == Resource::Directory {
                let path = fields.string("path")?.unwrap_or_default();
                if let Some(pinned) = directory(authenticator, caller, role, &path).await? {
                    request.extensions_mut().insert(pinned);
                }
                return Ok(request);
            }
            wanted(authenticator, resource, &fields).await?
        }
    };
    held(caller, role, wanted)?;
    Ok(request)
}

/// The message of a request, left there for its handler.
async fn read(request: Request) -> Result<(Fields, Request), Refusal> {
    let (parts, body) = request.into_parts();
    let mut bare = Request::new(body);
    (*bare.method_mut(), *bare.uri_mut()) = (parts.method.clone(), parts.uri.clone());
    *bare.headers_mut() = parts.headers.clone();
    let fields = Fields::from_request(bare, &()).await?;
    let mut request = Request::from_parts(parts, Body::empty());
    request.extensions_mut().insert(fields.clone());
    Ok((fields, request))
}

/// A field of the JSON object that a request of REST v1 carries; the body stays for its handler, which
/// rejects repeated fields.
async fn body_field(request: Request, name: &str) -> Result<(String, Request), Refusal> {
    let (parts, body) = request.into_parts();
    let bytes = axum::body::to_bytes(body, MAX_BODY_BYTES).await;
    let bytes =
        bytes.map_err(|_| Error::invalid("body", format!("expected at most {MAX_BODY_BYTES} bytes")))?;
    let fields: serde_json::Value = serde_json::from_slice(&bytes).unwrap_or_default();
    let found = fields.get(name).and_then(serde_json::Value::as_str).map(str::to_owned);
    let found = found.ok_or_else(|| Error::invalid(name, "expected a text"))?;
    Ok((found, Request::from_parts(parts, Body::from(bytes))))
}

async fn parameter(request: &mut Request, name: &str) -> Result<String, Refusal> {
    let parameters: RawPathParams =
        request.extract_parts().await.map_err(|_| Error::invalid("path", "the path is not valid UTF-8"))?;
    let found = parameters.iter().find(|(known, _)| *known == name).map(|(_, value)| value.to_owned());
    found.ok_or_else(|| Error::internal(format!("the route has no parameter {name}")).into())
}

async fn wanted(
    authenticator: &Authenticator,
    resource: Resource,
    fields: &Fields,
) -> Result<Wanted, Refusal> {
    let one = |scope: Scope| Ok(vec![scope]);
    let experiment = |id: String| id.parse().map_or(Scope::Everything, Scope::Experiment);
    match resource {
        Resource::Experiment => one(experiment(fields.required("experiment_id")?)),
        Resource::ExperimentOrDefault => {
            one(experiment(fields.non_empty("experiment_id")?.unwrap_or_else(|| "0".to_owned())))
        }
        Resource::ExperimentName => {
            let name = fields.required("experiment_name")?;
            let id = table::experiment_of_name(&mut *authenticator.pool.acquire().await?, &name).await?;
            one(id.map_or(Scope::Everything, Scope::Experiment))
        }
        Resource::Run => runs(authenticator, vec![fields.run_id()?]).await,
        Resource::RunOrLoggedModel => match fields.non_empty("model_id")? {
            Some(id) => {
                let mut db = authenticator.pool.acquire().await?;
                Ok(table::logged_model_experiments(&mut db, &[id]).await?)
            }
            None => runs(authenticator, vec![fields.run_id()?]).await,
        },
        Resource::Runs(name) => runs(authenticator, fields.strings(name)?).await,
        Resource::Points => {
            let mut wanted = runs(authenticator, vec![fields.run_id()?]).await?;
            let mut models = fields.peek("metrics", "model_id")?;
            models.extend(fields.non_empty("model_id")?);
            if !models.is_empty() {
                let models: Vec<String> = models.into_iter().collect();
                let mut db = authenticator.pool.acquire().await?;
                wanted.extend(table::logged_model_experiments(&mut db, &models).await?);
            }
            Ok(wanted)
        }
        Resource::Model => one(Scope::Model(fields.required("name")?)),
        Resource::Rename => Ok(["name", "new_name"]
            .into_iter()
            .map(|name| Ok(Scope::Model(fields.required(name)?)))
            .collect::<Result<_, Refusal>>()?),
        _ => one(Scope::Everything),
    }
}

/// The experiments of runs.
async fn runs(authenticator: &Authenticator, run_ids: Vec<String>) -> Result<Vec<Scope>, Refusal> {
    let mut scopes = BTreeSet::new();
    let mut asked = Vec::new();
    for run_id in run_ids {
        match authenticator.runs.get(&run_id) {
            Some(experiment) => _ = scopes.insert(Scope::Experiment(experiment)),
            None => asked.push(run_id),
        }
    }
    if !asked.is_empty() {
        let found = table::run_experiments(&mut *authenticator.pool.acquire().await?, &asked).await?;
        if asked.iter().any(|run_id| !found.contains_key(run_id)) {
            scopes.insert(Scope::Everything);
        }
        for (run_id, experiment) in found {
            scopes.insert(Scope::Experiment(experiment));
            authenticator.runs.put(run_id, experiment, Duration::from_secs(KEPT_S));
        }
    }
    Ok(scopes.into_iter().collect())
}

async fn artifact(
    authenticator: &Authenticator,
    caller: &Caller,
    role: Role,
    path: &str,
) -> Result<(), Refusal> {
    let path = normalise_artifact_path(path)?;
    let mut db = authenticator.pool.acquire().await?;
    let refused = match held(caller, role, owners(&mut db, &path).await?) {
        Ok(()) => return Ok(()),
        Err(refused) => refused,
    };
    // A caller that may see a model may read the files of its versions, wherever they were logged.
    let models = if role == Role::Viewer { table::models_pinning(&mut db, &path).await? } else { Vec::new() };
    if models.iter().any(|name| caller.sees_model(name)) { Ok(()) } else { Err(refused) }
}

async fn directory(
    authenticator: &Authenticator,
    caller: &Caller,
    role: Role,
    path: &str,
) -> Result<Option<PinnedBy>, Refusal> {
    let path = normalise_artifact_path(path)?;
    let mut db = authenticator.pool.acquire().await?;
    let refused = match held(caller, role, owners(&mut db, &path).await?) {
        Ok(()) => return Ok(None),
        Err(refused) => refused,
    };
    let ancestors: Vec<&str> =
        path.match_indices('/').map(|(end, _)| &path[..end]).chain([path.as_str()]).collect();
    let models = table::models_rooted(&mut db, &ancestors).await?;
    let seen: Vec<String> = models.into_iter().filter(|name| caller.sees_model(name)).collect();
    if seen.is_empty() { Err(refused) } else { Ok(Some(PinnedBy(seen))) }
}

fn held(caller: &Caller, role: Role, scopes: Vec<Scope>) -> Result<(), Refusal> {
    Ok(scopes.into_iter().try_for_each(|scope| caller.require(role, &scope))?)
}
