//! Listings by run and by logged model; bytes go through the proxy.

use axum::Router;
use axum::extract::{Path, State};
use axum::routing::get;
use slipway_domain::registry::normalise_artifact_path;

use super::message::Message;
use super::proxy::files;
use super::{Answer, Fields, answer};
use crate::error::Error;
use crate::state::Registry;
use crate::store::{artifacts as table, logged_models, runs};
use crate::versions::source::proxy_path;

pub(super) fn router(prefix: &str) -> Router<Registry> {
    Router::new().route(&format!("{prefix}/2.0/mlflow/artifacts/list"), get(of_run)).route(
        &format!("{prefix}/2.0/mlflow/logged-models/{{model_id}}/artifacts/directories"),
        get(of_model),
    )
}

async fn of_run(State(registry): State<Registry>, fields: Fields) -> Answer {
    let mut db = registry.pool.acquire().await?;
    let run = runs::run_info(&mut db, &fields.run_id()?).await?;
    list(&mut db, &run.artifact_uri, &fields.string("path")?.unwrap_or_default()).await
}

async fn of_model(State(registry): State<Registry>, Path(model_id): Path<String>, fields: Fields) -> Answer {
    let mut db = registry.pool.acquire().await?;
    let model = logged_models::logged_model_get(&mut db, &model_id).await?;
    let path = fields.string("artifact_directory_path")?.unwrap_or_default();
    list(&mut db, &model.artifact_uri, &path).await
}

async fn list(db: &mut sqlx::PgConnection, uri: &str, path: &str) -> Answer {
    let path = normalise_artifact_path(path)?;
    let root = proxy_path(uri)?.ok_or_else(|| {
        Error::invalid(format!("the artifacts lie at {uri}, outside of this registry's artifact store"))
    })?;
    let directory = if path.is_empty() { root } else { format!("{root}/{path}") };
    let entries = table::artifact_list(db, &directory).await?;
    Ok(answer(Message::new().put("root_uri", uri).list("files", files(&entries, &path))))
}
