//! `/openapi.json` and `/docs`.

use std::sync::{Arc, LazyLock};

use axum::body::Bytes;
use axum::response::{IntoResponse as _, Response};
use axum::{Extension, Router};
use http::{HeaderValue, StatusCode, header};
use serde_json::Value;
use slipway_http_server::Problem;
use utoipa::openapi::OpenApi;

use crate::described::Described;
use crate::page::page;
use crate::router::DocumentedRouter;

/// The page loads nothing and runs nothing.
const PAGE_POLICY: HeaderValue =
    HeaderValue::from_static("default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'none'");

/// The document and its page, made when they are first asked for: most processes never are.
struct Pages(LazyLock<Published, Box<dyn FnOnce() -> Published + Send>>);

/// A document and its page, as they are served.
#[derive(Debug, Clone, Default)]
pub struct Published {
    document: Bytes,
    page: Bytes,
}

impl Published {
    /// The committed document of a service: for one that serves it under another path, too.
    pub fn new(described: &Described) -> Self {
        let document: Value = serde_json::from_str(described.document).unwrap_or_default();
        Self { page: page(&document).into(), document: document.to_string().into_bytes().into() }
    }

    /// The document.
    pub fn document(&self) -> Response {
        let json = HeaderValue::from_static("application/json");
        ([(header::CONTENT_TYPE, json)], self.document.clone()).into_response()
    }

    /// The page, with the headers that keep it from loading or running anything.
    pub fn page(&self) -> Response {
        let headers = [
            (header::CONTENT_TYPE, HeaderValue::from_static("text/html; charset=utf-8")),
            (header::CONTENT_SECURITY_POLICY, PAGE_POLICY),
            (header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff")),
        ];
        (headers, self.page.clone()).into_response()
    }
}

type Shared = Extension<Arc<Pages>>;

/// The routes with a problem document for methods that a path does not take.
pub fn reject_other_methods<S: Clone + Send + Sync + 'static>(routes: Router<S>) -> Router<S> {
    routes.method_not_allowed_fallback(method_not_allowed)
}

/// The routes of the handlers with `/openapi.json` and `/docs`.
pub fn mount<S: Clone + Send + Sync + 'static>(described: DocumentedRouter<S>) -> Router<S> {
    let head = described.head;
    let published = move || head.as_ref().map_or_else(Published::default, Published::new);
    let pages = Arc::new(Pages(LazyLock::new(Box::new(published))));
    let own = DocumentedRouter::new().routes(crate::routes!(openapi_json)).routes(crate::routes!(docs));
    described.routes.merge(own.routes.layer(Extension(pages)))
}

/// The complete document of a router's handlers, with `/openapi.json` and `/docs`. For tests: only there the
/// router has the descriptions.
pub fn document<S>(described: DocumentedRouter<S>) -> OpenApi {
    crate::complete::document(described, |own| {
        own.add::<__path_openapi_json>();
        own.add::<__path_docs>();
    })
}

/// 405 of a path that exists with other methods.
pub async fn method_not_allowed(method: http::Method, uri: http::Uri) -> Problem {
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
    pages.0.document()
}

/// Shows this document as a page.
#[utoipa::path(get, path = "/docs", tag = "description",
    responses((status = 200, description = "A page without scripts", body = String,
    content_type = "text/html")))]
async fn docs(Extension(pages): Shared) -> Response {
    pages.0.page()
}
