//! REST v1: models from outside of the registry.

use axum::Json;
use axum::extract::State;
use http::StatusCode;
use slipway_api::rest::registry as body;
use slipway_http_server::Problem;
use slipway_http_server::extract::{JsonBody, Path, Query};
use slipway_http_server::page::{PageQuery, cut};
use slipway_openapi::{DocumentedRouter, routes};
use uuid::Uuid;

use super::Answer;
use crate::access::caller::Caller;
use crate::imports as use_cases;
use crate::state::Registry;
use crate::store::imports::Import;

pub(super) fn router() -> DocumentedRouter<Registry> {
    DocumentedRouter::new().routes(routes!(list, create)).routes(routes!(delete))
}

fn shown(import: Import) -> body::Import {
    body::Import {
        id: import.id.to_string(),
        model: import.model,
        uri: import.uri,
        alias: Some(import.alias).filter(|alias| !alias.is_empty()),
        watch: import.watch,
        version: import.version.map(|version| version.to_string()),
        problem: import.problem,
        done_bytes: import.done_bytes.unsigned_abs(),
        total_bytes: import.total_bytes.unsigned_abs(),
        created_at_unix_ms: import.created_ms,
        updated_at_unix_ms: import.updated_ms,
    }
}

/// Lists the imports of a model, oldest first.
#[utoipa::path(get, path = "/api/v1/models/{name}/imports", tag = "imports",
    params(("name" = String, Path), PageQuery), responses((status = 200, body = body::ImportPage)))]
async fn list(
    State(registry): State<Registry>,
    Path(name): Path<String>,
    Query(query): Query<PageQuery>,
) -> Answer<body::ImportPage> {
    let (limit, after) = (query.limit()?, query.after::<i64>()?);
    let found = use_cases::list(&registry, &name, after.unwrap_or_default(), i64::from(limit) + 1).await?;
    let (found, next_page_token) = cut(found, limit, |import| import.import_key);
    Ok(Json(body::ImportPage { imports: found.into_iter().map(shown).collect(), next_page_token }))
}

/// Imports the content of an address as a version of a model, which is created if it does not exist. The
/// response does not wait for the content: the import says which version it became. The same address and
/// alias again are the same import.
#[utoipa::path(post, path = "/api/v1/models/{name}/imports", tag = "imports",
    params(("name" = String, Path)), request_body = body::NewImport,
    responses((status = 202, description = "The import", body = body::Import)))]
async fn create(
    State(registry): State<Registry>,
    caller: Caller,
    Path(name): Path<String>,
    JsonBody(new): JsonBody<body::NewImport>,
) -> Result<(StatusCode, Json<body::Import>), Problem> {
    let request = use_cases::Request {
        model: name,
        uri: new.uri,
        alias: new.alias.unwrap_or_default(),
        watch: new.watch,
        delivered: false,
    };
    let import = use_cases::ensure(&registry, &caller, &request).await?;
    Ok((StatusCode::ACCEPTED, Json(shown(import))))
}

/// Ends an import. Its versions stay.
#[utoipa::path(delete, path = "/api/v1/models/{name}/imports/{id}", tag = "imports",
    params(("name" = String, Path), ("id" = String, Path)),
    responses((status = 204, description = "It is deleted")))]
async fn delete(
    State(registry): State<Registry>,
    Path((name, id)): Path<(String, String)>,
) -> Result<StatusCode, Problem> {
    let id = Uuid::parse_str(&id).map_err(|_| Problem::not_found(format!("import `{id}`")))?;
    use_cases::delete(&registry, &name, id).await?;
    Ok(StatusCode::NO_CONTENT)
}
