//! `/openapi.json` and `/docs`.

use std::sync::{Arc, OnceLock};

use axum::body::Bytes;
use axum::response::{IntoResponse as _, Response};
use axum::{Extension, Router};
use http::{HeaderValue, StatusCode, header};
use slipway_http_server::Problem;
use utoipa::openapi::OpenApi;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::complete::complete;
use crate::page::page;

/// The page loads nothing and runs nothing.
const PAGE_POLICY: HeaderValue =
    HeaderValue::from_static("default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'none'");

/// The document and its page; empty until the router is complete.
#[derive(Debug, Default)]
pub(crate) struct Pages {
    published: OnceLock<Published>,
}

#[derive(Debug)]
struct Published {
    document: Bytes,
    page: Bytes,
}

type Shared = Extension<Arc<Pages>>;

/// The routes with a problem document for methods that a path does not take.
pub fn reject_other_methods<S: Clone + Send + Sync + 'static>(routes: Router<S>) -> Router<S> {
    routes.method_not_allowed_fallback(method_not_allowed)
}

/// The routes of the handlers with `/openapi.json` and `/docs`.
pub fn mount<S: Clone + Send + Sync + 'static>(described: OpenApiRouter<S>) -> Router<S> {
    let (described, pages) = with_pages(described);
    let (router, document) = described.split_for_parts();
    let document = serde_json::to_value(complete(document)).unwrap_or_default();
    let published =
        Published { page: page(&document).into(), document: document.to_string().into_bytes().into() };
    // The cell is new: `with_pages` made it.
    let _ = pages.published.set(published);
    router
}

/// The complete document of a router's handlers, with `/openapi.json` and `/docs`.
pub fn document<S: Clone + Send + Sync + 'static>(described: OpenApiRouter<S>) -> OpenApi {
    complete(with_pages(described).0.into_openapi())
}

/// The router with the two routes described as all others.
pub(crate) fn with_pages<S: Clone + Send + Sync + 'static>(
    described: OpenApiRouter<S>,
) -> (OpenApiRouter<S>, Arc<Pages>) {
    let pages = Arc::new(Pages::default());
    let own = OpenApiRouter::new().routes(routes!(openapi_json)).routes(routes!(docs));
    (described.merge(own.layer(Extension(Arc::clone(&pages)))), pages)
}

async fn method_not_allowed(method: http::Method, uri: http::Uri) -> Problem {
    Problem::new(
        StatusCode::METHOD_NOT_ALLOWED,
        "method-not-allowed",
        "Method not allowed",
        format!("{} does not take {method}; `Allow` lists the methods that it takes", uri.path()),
    )
}

/// Returns this document.
#[utoipa::path(get, path = "/openapi.json", tag = "description",
    responses((status = 200, description = "An OpenAPI 3.1 document", content_type = "application/json",
        body = std::collections::HashMap<String, serde_json::Value>)))]
async fn openapi_json(Extension(pages): Shared) -> Response {
    let document = pages.published.get().map(|published| published.document.clone()).unwrap_or_default();
    ([(header::CONTENT_TYPE, HeaderValue::from_static("application/json"))], document).into_response()
}

/// Shows this document as a page.
#[utoipa::path(get, path = "/docs", tag = "description",
    responses((status = 200, description = "A page without scripts", body = String,
    content_type = "text/html")))]
async fn docs(Extension(pages): Shared) -> Response {
    page_response(pages.published.get().map(|published| published.page.clone()).unwrap_or_default())
}

/// A page that [`page`] wrote, with the headers that keep it from loading or running anything.
pub fn page_response(page: Bytes) -> Response {
    let headers = [
        (header::CONTENT_TYPE, HeaderValue::from_static("text/html; charset=utf-8")),
        (header::CONTENT_SECURITY_POLICY, PAGE_POLICY),
        (header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff")),
    ];
    (headers, page).into_response()
}
