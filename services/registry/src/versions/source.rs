//! Where a version's files come from: `models:/…`, `runs:/…`, a path of the proxy, or somewhere else.

use slipway_domain::registry::{normalise_artifact_path, validate_version};
use sqlx::PgConnection;

use crate::error::Error;
use crate::store::{logged_models, model_versions, registered_models, runs};

const PROXY_SCHEME: &str = "mlflow-artifacts:";
const PROXY_ROUTE: &str = "/mlflow-artifacts/artifacts/";

/// A source, resolved.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Source {
    /// Where clients download from.
    pub(crate) download_uri: String,
    /// Directory of the artifact proxy; absent where the files lie elsewhere.
    pub(crate) root: Option<String>,
    pub(crate) run_id: Option<String>,
    pub(crate) logged_model_id: Option<String>,
}

/// Resolves a source. The rules are MLflow's: what a run or a logged model claims has to lie within it.
///
/// # Errors
/// It names something that is not there, leaves its root, or is a path of this machine.
pub(crate) async fn resolve(
    db: &mut PgConnection,
    source: &str,
    run_id: Option<&str>,
    model_id: Option<&str>,
) -> Result<Source, Error> {
    if let Some(rest) = source.strip_prefix("models:/") {
        return of_model(db, rest.trim_start_matches('/'), run_id, model_id).await;
    }
    if let Some(rest) = source.strip_prefix("runs:/") {
        return of_run(db, rest.trim_start_matches('/'), run_id).await;
    }
    let Some(root) = proxy_path(source)? else {
        return elsewhere(source, run_id, model_id);
    };
    let mut owners = Vec::new();
    let (mut run, mut logged_model_id) = (run_id.map(str::to_owned), None);
    if let Some(model_id) = model_id {
        let model = logged_models::logged_model_get(db, model_id).await?;
        owners.extend(proxy_path(&model.artifact_uri)?);
        run = run.or(model.source_run_id);
        logged_model_id = Some(model.model_id);
    }
    if let Some(run_id) = run_id {
        owners.extend(proxy_path(&runs::run_info(db, run_id).await?.artifact_uri)?);
    }
    if !owners.is_empty() && !owners.iter().any(|owner| is_within(owner, &root)) {
        return Err(invalid(source, "it has to lie within the artifacts of the given run_id or model_id"));
    }
    Ok(Source {
        download_uri: format!("{PROXY_SCHEME}/{root}"),
        root: Some(root),
        run_id: run,
        logged_model_id,
    })
}

async fn of_model(
    db: &mut PgConnection,
    rest: &str,
    run_id: Option<&str>,
    model_id: Option<&str>,
) -> Result<Source, Error> {
    if rest.starts_with("m-") && !rest.contains(['/', '@']) {
        if model_id.is_some_and(|given| given != rest) {
            return Err(invalid(&format!("models:/{rest}"), "it is another model than the given model_id"));
        }
        let model = logged_models::logged_model_get(db, rest).await?;
        return Ok(Source {
            root: proxy_path(&model.artifact_uri)?,
            download_uri: model.artifact_uri,
            run_id: model.source_run_id.or_else(|| run_id.map(str::to_owned)),
            logged_model_id: Some(model.model_id),
        });
    }
    let version = if let Some((name, alias)) = rest.rsplit_once('@') {
        let version = registered_models::alias_get(db, name, alias).await?;
        model_versions::version_get(db, name, version).await?
    } else if let Some((name, version)) = rest.rsplit_once('/') {
        let number = i32::try_from(validate_version(version)?).unwrap_or(i32::MAX);
        model_versions::version_get(db, name, number).await?
    } else {
        return Err(invalid(
            &format!("models:/{rest}"),
            "expected models:/<model id>, models:/<name>/<version> or models:/<name>@<alias>",
        ));
    };
    Ok(Source {
        root: proxy_path(&version.download_uri)?,
        download_uri: version.download_uri,
        run_id: version.run_id.or_else(|| run_id.map(str::to_owned)),
        logged_model_id: version.logged_model_id,
    })
}

async fn of_run(db: &mut PgConnection, rest: &str, run_id: Option<&str>) -> Result<Source, Error> {
    let (run, path) = rest.split_once('/').unwrap_or((rest, ""));
    if run_id.is_some_and(|given| given != run) {
        return Err(invalid(&format!("runs:/{rest}"), "it is another run than the given run_id"));
    }
    let info = runs::run_info(db, run).await?;
    let path = normalise_artifact_path(path)?;
    let uri = if path.is_empty() { info.artifact_uri } else { format!("{}/{path}", info.artifact_uri) };
    Ok(Source {
        root: proxy_path(&uri)?,
        download_uri: uri,
        run_id: Some(info.run_id),
        logged_model_id: None,
    })
}

fn elsewhere(source: &str, run_id: Option<&str>, model_id: Option<&str>) -> Result<Source, Error> {
    let local = source.starts_with("file:") || !source.contains(":/");
    if local {
        return Err(invalid(source, "a path of the client's machine cannot be read by the server"));
    }
    if source.split('/').any(|segment| segment == "..") {
        return Err(invalid(source, "it must not hold '..'"));
    }
    Ok(Source {
        download_uri: source.to_owned(),
        root: None,
        run_id: run_id.map(str::to_owned),
        logged_model_id: model_id.map(str::to_owned),
    })
}

/// The path within the proxy that a URI names; `None` for a URI of something else.
///
/// # Errors
/// The path is no lawful one.
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
    Error::invalid(format!("Invalid model version source: '{source}': {why}"))
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
        for source in ["/etc/passwd", "file:///etc/passwd", "relative/path", "s3://bucket/../x"] {
            assert!(elsewhere(source, None, None).is_err(), "{source}");
        }
        assert!(elsewhere("s3://bucket/key", None, None).is_ok());
    }
}
