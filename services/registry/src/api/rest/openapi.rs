//! The OpenAPI document of REST v1, made of the handlers' own descriptions, and the page that shows it.

use std::sync::LazyLock;

use axum::Json;
use axum::response::{IntoResponse, Response};
use http::{HeaderValue, header};
use slipway_http_server::Problem;
use utoipa::openapi::security::{Http, HttpAuthScheme, SecurityRequirement, SecurityScheme};
use utoipa::openapi::{
    Components, ContentBuilder, Info, OpenApi, OpenApiBuilder, Ref, RefOr, Response as Described,
    ResponseBuilder, Schema,
};
use utoipa::{PartialSchema as _, ToSchema as _};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::docs;
use crate::state::Registry;

const DESCRIPTION: &str = "What the registry offers beside MLflow's own API, which it answers on the same port under \
    /api/2.0/mlflow. Errors are problem documents (RFC 9457) with a stable `code`; 503 carries `Retry-After`.";
/// Nothing of the page comes from elsewhere, and nothing in it runs.
const PAGE_POLICY: HeaderValue =
    HeaderValue::from_static("default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'none'");

static DOCUMENT: LazyLock<OpenApi> = LazyLock::new(|| finish(super::described().split_for_parts().1));
static PAGE: LazyLock<String> =
    LazyLock::new(|| docs::page(&serde_json::to_value(&*DOCUMENT).unwrap_or_default()));

/// The document before any handler is in it.
pub(super) fn frame() -> OpenApi {
    let mut info = Info::new("Slipway registry, REST v1", env!("CARGO_PKG_VERSION"));
    info.description = Some(DESCRIPTION.to_owned());
    OpenApiBuilder::new().info(info).build()
}

pub(super) fn router() -> OpenApiRouter<Registry> {
    OpenApiRouter::new().routes(routes!(document)).routes(routes!(page))
}

/// What holds for every operation: how to log in, and what a refusal looks like.
fn finish(mut document: OpenApi) -> OpenApi {
    let components = document.components.get_or_insert_with(Components::new);
    components.schemas.insert(Problem::name().into_owned(), Problem::schema());
    let scheme = |kind| SecurityScheme::Http(Http::new(kind));
    components.add_security_scheme("token", scheme(HttpAuthScheme::Bearer));
    components.add_security_scheme("basic", scheme(HttpAuthScheme::Basic));
    let none: [&str; 0] = [];
    document.security = Some(vec![
        SecurityRequirement::default(),
        SecurityRequirement::new("token", none),
        SecurityRequirement::new("basic", none),
    ]);
    let refusal = refusal();
    for (path, item) in &mut document.paths.paths {
        let operations = [
            ("get", &mut item.get),
            ("post", &mut item.post),
            ("put", &mut item.put),
            ("patch", &mut item.patch),
            ("delete", &mut item.delete),
        ];
        for (method, operation) in operations {
            let Some(operation) = operation else { continue };
            operation.operation_id = Some(operation_id(method, path));
            let responses = &mut operation.responses.responses;
            for response in responses.values_mut() {
                if let RefOr::T(response) = response
                    && response.description.is_empty()
                {
                    response.description = "Done".to_owned();
                }
            }
            responses.entry("default".to_owned()).or_insert_with(|| RefOr::T(refusal.clone()));
        }
    }
    document
}

/// A name for generators of clients, e.g. `get_models_name_versions`. Handlers' own names repeat from file to file.
fn operation_id(method: &str, path: &str) -> String {
    let words = path.trim_start_matches("/api/v1/").split(|letter: char| !letter.is_alphanumeric());
    let words: Vec<&str> = std::iter::once(method).chain(words).filter(|word| !word.is_empty()).collect();
    words.join("_")
}

fn refusal() -> Described {
    let schema: RefOr<Schema> = RefOr::Ref(Ref::from_schema_name(Problem::name()));
    ResponseBuilder::new()
        .description("A refusal; `code` says which, `field` which part of the request is at fault")
        .content("application/problem+json", ContentBuilder::new().schema(Some(schema)).build())
        .build()
}

/// Describes this API as an OpenAPI 3.1 document.
#[utoipa::path(get, path = "/api/v1/openapi.json", tag = "description", responses((status = 200, body = Object)))]
async fn document() -> Json<&'static OpenApi> {
    Json(&DOCUMENT)
}

/// Shows this API as a page for people.
#[utoipa::path(get, path = "/api/v1/docs", tag = "description",
    responses((status = 200, body = String, content_type = "text/html")))]
async fn page() -> Response {
    let headers = [
        (header::CONTENT_TYPE, HeaderValue::from_static("text/html; charset=utf-8")),
        (header::CONTENT_SECURITY_POLICY, PAGE_POLICY),
        (header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff")),
    ];
    (headers, PAGE.as_str()).into_response()
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};
    use std::path::Path;

    use super::*;

    const COMMITTED: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/openapi/registry.json");

    /// Paths and methods of a router, as its debug form shows them: axum has no other way to walk it.
    fn walk(router: &axum::Router<Registry>) -> BTreeMap<String, BTreeSet<String>> {
        let text = format!("{router:?}");
        let own = text.split("fallback_router").next().unwrap();
        let (routes, rest) = own.split_once("node: Node").expect("axum shows its nodes");
        let entries = |text: &str| -> BTreeMap<usize, String> {
            let entries = text.split("RouteId(").skip(1);
            entries
                .filter_map(|entry| {
                    let (id, rest) = entry.split_once("): ")?;
                    Some((id.parse().ok()?, rest.to_owned()))
                })
                .collect()
        };
        let methods = entries(routes).into_values().map(|route| -> BTreeSet<String> {
            let allowed =
                route.split("allow_header: Bytes(b\"").nth(1).and_then(|rest| rest.split('"').next());
            let allowed = allowed.unwrap_or_default().split(',');
            allowed.filter(|method| *method != "HEAD").map(str::to_lowercase).collect()
        });
        let methods: Vec<BTreeSet<String>> = methods.collect();
        let paths: BTreeMap<usize, String> = entries(rest)
            .into_iter()
            .filter_map(|(id, entry)| Some((id, entry.strip_prefix('"')?.split('"').next()?.to_owned())))
            .collect();
        assert_eq!(paths.len(), methods.len(), "each route allows some methods");
        paths.into_values().zip(methods).collect()
    }

    #[test]
    fn the_document_describes_every_route_and_no_other() {
        let document = serde_json::to_value(&*DOCUMENT).unwrap();
        let described: BTreeMap<String, BTreeSet<String>> = document["paths"]
            .as_object()
            .unwrap()
            .iter()
            .map(|(path, item)| (path.clone(), item.as_object().unwrap().keys().cloned().collect()))
            .collect();
        assert_eq!(
            described,
            walk(&super::super::router()),
            "give each handler #[utoipa::path] and mount it with routes!"
        );
    }

    #[test]
    fn every_operation_says_what_it_does_and_under_a_name_of_its_own() {
        let document = serde_json::to_value(&*DOCUMENT).unwrap();
        assert_eq!(document["openapi"], "3.1.0");
        let mut names = BTreeSet::new();
        for (path, item) in document["paths"].as_object().unwrap() {
            for (method, operation) in item.as_object().unwrap() {
                assert!(operation["summary"].is_string(), "{method} {path} has no doc comment");
                assert!(operation["tags"][0] != "", "{method} {path} has no tag");
                assert_eq!(operation["responses"]["default"]["content"].as_object().unwrap().len(), 1);
                let name = operation["operationId"].as_str().unwrap().to_owned();
                assert!(names.insert(name.clone()), "{method} {path}: another operation is called {name}");
            }
        }
    }

    /// References that lead nowhere make a document useless for generators of clients.
    #[test]
    fn every_reference_leads_somewhere() {
        let document = serde_json::to_value(&*DOCUMENT).unwrap();
        for rest in document.to_string().split("\"$ref\":\"#").skip(1) {
            let pointer = rest.split('"').next().unwrap();
            assert!(document.pointer(pointer).is_some(), "{pointer}");
        }
    }

    #[test]
    fn the_page_shows_every_operation() {
        let document = serde_json::to_value(&*DOCUMENT).unwrap();
        for path in document["paths"].as_object().unwrap().keys() {
            assert!(PAGE.contains(&docs::escape(path)), "{path}");
        }
        assert!(!PAGE.contains("<script"), "the page runs nothing");
    }

    #[test]
    fn the_openapi_document_in_the_repository_is_this_one() {
        let text = format!("{:#}\n", serde_json::to_value(&*DOCUMENT).unwrap());
        if std::env::var_os("SLIPWAY_WRITE_DOCS").is_some() {
            std::fs::create_dir_all(Path::new(COMMITTED).parent().unwrap()).unwrap();
            std::fs::write(COMMITTED, text).unwrap();
            return;
        }
        let committed = std::fs::read_to_string(COMMITTED).unwrap_or_default();
        assert!(
            committed == text,
            "docs/openapi/registry.json is out of date: cargo xtask codegen writes it anew"
        );
    }
}
