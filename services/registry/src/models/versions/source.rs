//! Where a version's files come from: `models:/…`, `runs:/…`, a path of the proxy, or somewhere else.

use slipway_domain::registry::{normalise_artifact_path, validate_version};
use sqlx::PgConnection;

use crate::access::caller::Caller;
use crate::access::links::{LoggedModelLink, RunLink};
use crate::access::references;
use crate::error::Error;
use crate::store::model_versions::{self, ModelVersion};
use crate::store::{logged_models, registered_models, runs};

const PROXY_SCHEME: &str = "mlflow-artifacts:";
const PROXY_ROUTE: &str = "/mlflow-artifacts/artifacts/";

/// A source, resolved.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Source {
    /// What the version names as its source: an alias is replaced by the version that it points at.
    pub(crate) source: String,
    /// Where clients download from.
    pub(crate) download_uri: String,
    /// Directory of the artifact proxy; absent where the files lie elsewhere.
    pub(crate) root: Option<String>,
    pub(crate) run: Option<RunLink>,
    pub(crate) logged_model: Option<LoggedModelLink>,
    /// The version whose files these are, as model key and number: exactly its files, and not what its
    /// directory holds by now.
    pub(crate) pinned: Option<(i64, i32)>,
}

/// A source as a request names it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Named<'request> {
    pub(crate) source: &'request str,
    pub(crate) run_id: Option<&'request str>,
    pub(crate) model_id: Option<&'request str>,
}

/// Resolves a source. The rules are MLflow's: what a run or a logged model claims has to lie within it.
/// Everything that the request names, and everything that is reached through it, has to be readable for the
/// caller.
///
/// # Errors
/// It names something that does not exist or that the caller may not read, leaves its root, or is a path of
/// this machine.
pub(crate) async fn resolve(
    db: &mut PgConnection,
    caller: &Caller,
    Named { source, run_id, model_id }: Named<'_>,
) -> Result<Source, Error> {
    refuse_relative(source)?;
    let run = match run_id {
        Some(run_id) => Some(references::run(db, caller, run_id).await?),
        None => None,
    };
    let logged_model = match model_id {
        Some(model_id) => Some(references::logged_model(db, caller, model_id).await?),
        None => None,
    };
    if let Some(rest) = source.strip_prefix("models:/") {
        return of_model(db, caller, (source, rest.trim_start_matches('/')), (run, logged_model)).await;
    }
    if let Some(rest) = source.strip_prefix("runs:/") {
        return of_run(db, caller, (source, rest.trim_start_matches('/')), (run_id, model_id)).await;
    }
    let Some(root) = proxy_path(source)? else {
        if let Some(model_id) = model_id {
            logged_models::logged_model_get(db, model_id).await?;
        }
        return elsewhere(source, (run, logged_model));
    };
    references::artifacts(db, caller, &root).await?;
    let mut owners = Vec::new();
    let mut made_by = run;
    if let Some(model_id) = model_id {
        let model = logged_models::logged_model_get(db, model_id)
            .await
            .map_err(|error| unless_absent(error, || not_within(source, "model_id")))?;
        owners.extend(proxy_path(&model.artifact_uri)?);
        if made_by.is_none() {
            made_by = references::run_of_model(db, caller, &model).await?;
        }
    }
    if let Some(run_id) = run_id {
        let info = runs::run_info(db, run_id)
            .await
            .map_err(|error| unless_absent(error, || not_within(source, "run_id")))?;
        owners.extend(proxy_path(&info.artifact_uri)?);
    }
    if !owners.is_empty() && !owners.iter().any(|owner| is_within(owner, &root)) {
        return Err(not_within(source, if model_id.is_some() { "model_id" } else { "run_id" }));
    }
    Ok(Source {
        source: source.to_owned(),
        download_uri: format!("{PROXY_SCHEME}/{root}"),
        root: Some(root),
        run: made_by,
        logged_model,
        pinned: None,
    })
}

async fn of_model(
    db: &mut PgConnection,
    caller: &Caller,
    (source, rest): (&str, &str),
    (run, logged_model): (Option<RunLink>, Option<LoggedModelLink>),
) -> Result<Source, Error> {
    let (run_id, model_id) =
        (run.as_ref().map(RunLink::run_id), logged_model.as_ref().map(LoggedModelLink::model_id));
    if rest.starts_with("m-") && !rest.contains(['/', '@']) {
        let logged_model = references::logged_model(db, caller, rest).await?;
        if model_id.is_some_and(|given| given != rest) {
            return Err(not_within(source, "model_id"));
        }
        let model = logged_models::logged_model_get(db, rest)
            .await
            .map_err(|error| unless_absent(error, || not_within(source, "model_id")))?;
        let made_by = references::run_of_model(db, caller, &model).await?.or(run);
        return Ok(Source {
            source: source.to_owned(),
            root: proxy_path(&model.artifact_uri)?,
            download_uri: model.artifact_uri,
            run: made_by,
            logged_model: Some(logged_model),
            pinned: None,
        });
    }
    let version = if let Some((name, alias)) = rest.rsplit_once('@') {
        references::registered_model(caller, name)?;
        let version = registered_models::alias_get(db, name, alias).await?;
        model_versions::version_get(db, name, version).await?
    } else if let Some((name, version)) = rest.rsplit_once('/') {
        references::registered_model(caller, name)?;
        numbered(db, name, version).await?
    } else {
        return Err(not_within(source, "model_id"));
    };
    // A copy has the lineage of its original.
    let other = |given: Option<&str>, own: Option<&str>| given.is_some_and(|given| Some(given) != own);
    if other(run_id, version.run_id.as_deref()) || other(model_id, version.logged_model_id.as_deref()) {
        return Err(Error::invalid(
            "source",
            format!(
                "Invalid model version source: '{source}'. The run_id and model_id request parameters must \
                 match the referenced model version."
            ),
        ));
    }
    let run = references::run_of_version(db, caller, &version).await?;
    let logged_model = references::model_of_version(&version);
    Ok(Source {
        source: format!("models:/{}/{}", version.name, version.version),
        root: proxy_path(&version.download_uri)?,
        download_uri: version.download_uri,
        run,
        logged_model,
        pinned: Some((version.model_key, version.version)),
    })
}

/// The version of a model by its number, or the newest one for `latest`.
async fn numbered(db: &mut PgConnection, name: &str, version: &str) -> Result<ModelVersion, Error> {
    if !version.eq_ignore_ascii_case("latest") {
        return model_versions::version_get(db, name, validate_version(version)?).await;
    }
    let model = registered_models::model_get(db, name).await?;
    let newest = model_versions::versions_latest(db, &[model.model_key]).await?;
    let newest = newest.into_iter().max_by_key(|version| version.version);
    newest.ok_or_else(|| model_versions::absent(name, version))
}

/// The run need not be known here, as in MLflow: a version may come from another tracking server. Then
/// nothing can be read, and so it is not served.
async fn of_run(
    db: &mut PgConnection,
    caller: &Caller,
    (source, rest): (&str, &str),
    (run_id, model_id): (Option<&str>, Option<&str>),
) -> Result<Source, Error> {
    let (run, path) = rest.split_once('/').unwrap_or((rest, ""));
    let link = references::run(db, caller, run).await?;
    if run.is_empty() || run_id.is_some_and(|given| given != run) {
        return Err(not_within(source, "run_id"));
    }
    if model_id.is_some() {
        return Err(not_within(source, "model_id"));
    }
    let uri = match runs::run_infos(db, &[run]).await?.remove(run) {
        None => source.to_owned(),
        Some(info) => match normalise_artifact_path(path)? {
            path if path.is_empty() => info.artifact_uri,
            path => format!("{}/{path}", info.artifact_uri),
        },
    };
    Ok(Source {
        source: source.to_owned(),
        root: proxy_path(&uri)?,
        download_uri: uri,
        run: Some(link),
        logged_model: None,
        pinned: None,
    })
}

fn elsewhere(
    source: &str,
    (run, logged_model): (Option<RunLink>, Option<LoggedModelLink>),
) -> Result<Source, Error> {
    let local = source.starts_with("file:") || !source.contains(":/");
    if local {
        let (what, owner) = if logged_model.is_some() { ("model_id", "model") } else { ("run_id", "run") };
        return Err(Error::invalid(
            "source",
            format!(
                "Invalid model version source: '{source}'. To use a local path as a model version source, \
                 the {what} request parameter has to be specified and the local path has to be contained \
                 within the artifact directory of the {owner} specified by the {what}."
            ),
        ));
    }
    Ok(Source {
        source: source.to_owned(),
        download_uri: source.to_owned(),
        root: None,
        run,
        logged_model,
        pinned: None,
    })
}

/// Later readers of the address must not end up elsewhere, however often they decode it.
fn refuse_relative(source: &str) -> Result<(), Error> {
    let path = source.split_once(":/").map_or(source, |(_, rest)| rest).trim_start_matches('/');
    if normalise_artifact_path(path).is_ok() || source.starts_with("file:") || !source.contains(":/") {
        return Ok(());
    }
    Err(Error::invalid(
        "source",
        format!(
            "Invalid model version source: '{source}'. If supplying a source as an http, https, local file \
             path, ftp, objectstore, or mlflow-artifacts uri, an absolute path must be provided without \
             relative path references present. Please provide an absolute path."
        ),
    ))
}

/// The path within the proxy that a URI names; `None` for a URI of something else.
///
/// # Errors
/// The path is no valid one.
pub(crate) fn proxy_path(uri: &str) -> Result<Option<String>, Error> {
    let path = if let Some(rest) = uri.strip_prefix(PROXY_SCHEME) {
        match rest.strip_prefix("//") {
            // The authority is this server, by whatever name.
            Some(with_authority) => with_authority.split_once('/').map_or("", |(_, path)| path),
            None => rest.trim_start_matches('/'),
        }
    } else if uri.starts_with("http://") || uri.starts_with("https://") {
        match uri.split_once(PROXY_ROUTE) {
            Some((_, path)) => path,
            None => return Ok(None),
        }
    } else {
        return Ok(None);
    };
    let path = normalise_artifact_path(path)?;
    if path.is_empty() { Err(invalid(uri, "it names the root of all artifacts")) } else { Ok(Some(path)) }
}

fn is_within(owner: &str, path: &str) -> bool {
    path.strip_prefix(owner).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

fn invalid(source: &str, why: &str) -> Error {
    Error::invalid("source", format!("Invalid model version source: '{source}': {why}"))
}

/// The source is not in the run or logged model that the parameter names.
fn not_within(source: &str, parameter: &str) -> Error {
    Error::invalid(
        "source",
        format!(
            "Invalid model version source: '{source}'. The {parameter} request parameter must identify the \
             resource that contains the source."
        ),
    )
}

fn unless_absent(error: Error, otherwise: impl FnOnce() -> Error) -> Error {
    if matches!(error, Error::NotFound(_)) { otherwise() } else { error }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_way_to_name_a_place_of_the_proxy_is_understood() {
        for uri in [
            "mlflow-artifacts:/1/abc/artifacts/model",
            "mlflow-artifacts://host:5000/1/abc/artifacts/model",
            "http://host/api/2.0/mlflow-artifacts/artifacts/1/abc/artifacts/model",
        ] {
            assert_eq!(proxy_path(uri).unwrap().as_deref(), Some("1/abc/artifacts/model"), "{uri}");
        }
        assert_eq!(proxy_path("s3://bucket/key").unwrap(), None);
        assert!(proxy_path("mlflow-artifacts:/1/../2").is_err());
        assert!(proxy_path("mlflow-artifacts:/").is_err());
    }

    #[test]
    fn a_neighbour_with_the_same_beginning_is_not_within() {
        assert!(is_within("1/abc/artifacts", "1/abc/artifacts/model"));
        assert!(!is_within("1/abc/artifacts", "1/abc/artifacts2"));
    }

    #[test]
    fn paths_of_a_machine_are_refused() {
        for source in ["/etc/passwd", "file:///etc/passwd", "relative/path"] {
            let refused = elsewhere(source, (None, None)).unwrap_err();
            assert!(
                refused.to_string().contains("To use a local path as a model version source, the run_id")
            );
        }
        assert!(elsewhere("s3://bucket/key", (None, None)).is_ok());
        for source in [
            "s3://bucket/../x",
            "mlflow-artifacts://host:9000/models/../../../",
            "http://host/api/2.0/mlflow-artifacts/artifacts/..%2f..%2fx",
            "mlflow-artifacts://host:9000/models/artifact%00",
            "dbfs:/r/artifacts/a%3f/../../",
            "runs:/r/%252e%252e/x",
        ] {
            let refused = refuse_relative(source).unwrap_err();
            assert!(refused.to_string().contains("If supplying a source as an http, https,"), "{source}");
        }
        for source in
            ["mlflow-artifacts:/models/foo///bar", "s3://bucket/a....b/", "models:/m@champion", "runs:/r"]
        {
            refuse_relative(source).unwrap();
        }
    }
}
