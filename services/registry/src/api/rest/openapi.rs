//! The OpenAPI document of REST v1, made of the handlers' own descriptions, and the page that shows it.

use std::sync::LazyLock;

use axum::Json;
use axum::body::Bytes;
use axum::response::Response;
use slipway_api::rest::registry::JsonObject;
use slipway_openapi::{describe_access, page_response, problem_response};
use utoipa::openapi::path::Operation;
use utoipa::openapi::{Info, OpenApi, OpenApiBuilder, RefOr};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::state::Registry;

const DESCRIPTION: &str = "Experiments, runs, models and everything that belongs to them. MLflow's own API \
    is on the same port under /api/2.0/mlflow. Errors are problem documents (RFC 9457) with a stable `code`; \
    503 carries `Retry-After`.";

static DOCUMENT: LazyLock<OpenApi> = LazyLock::new(|| finish(super::described().split_for_parts().1));
static PAGE: LazyLock<String> =
    LazyLock::new(|| slipway_openapi::page(&serde_json::to_value(&*DOCUMENT).unwrap_or_default()));

/// The document before any handler is in it.
pub(super) fn frame() -> OpenApi {
    let mut info = Info::new("Slipway registry, REST v1", env!("CARGO_PKG_VERSION"));
    info.description = Some(DESCRIPTION.to_owned());
    OpenApiBuilder::new().info(info).build()
}

pub(super) fn router() -> OpenApiRouter<Registry> {
    OpenApiRouter::new()
        .routes(routes!(document))
        .routes(routes!(page))
        .routes(routes!(root_document))
        .routes(routes!(root_page))
}

/// What holds for every operation: how to log in, and what a refusal looks like.
fn finish(mut document: OpenApi) -> OpenApi {
    describe_access(&mut document);
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
            let errors = errors(method, path, operation);
            let responses = &mut operation.responses.responses;
            for response in responses.values_mut() {
                if let RefOr::T(response) = response
                    && response.description.is_empty()
                {
                    response.description = "Done".to_owned();
                }
            }
            for (status, description) in errors {
                responses.entry(status.to_owned()).or_insert_with(|| RefOr::T(problem_response(description)));
            }
        }
    }
    document
}

/// The error statuses of an operation: each with what it means there.
fn errors(method: &str, path: &str, operation: &Operation) -> Vec<(&'static str, &'static str)> {
    let has_body = operation.request_body.is_some();
    let has_input = has_body || operation.parameters.as_ref().is_some_and(|all| !all.is_empty());
    let named = path.contains('{');
    let changes = method != "get";
    let known = [
        (has_input, "400", "A value is invalid; `field` names it"),
        (true, "401", "Access control is on, and the token is missing, unknown, revoked or expired"),
        (
            true,
            "403",
            "The caller lacks a role, a policy forbids it, or the request comes from a foreign web page",
        ),
        (named || has_body, "404", "What the request names does not exist"),
        (changes, "409", "The state of what the request names does not allow it, or a name is taken"),
        (has_body, "413", "The body is too large"),
        (changes, "415", "The body is not `application/json`"),
        (true, "500", "The server failed; its log has the cause under `trace_id`"),
        (true, "503", "A dependency is unreachable; `Retry-After` says when to repeat the request"),
        (true, "default", "Any other error; `code` says which"),
    ];
    known.into_iter().filter(|(applies, ..)| *applies).map(|(_, status, about)| (status, about)).collect()
}

/// A name for generators of clients, e.g. `get_models_name_versions`. Handlers' own names repeat from file to
/// file.
fn operation_id(method: &str, path: &str) -> String {
    // What is served outside of the API belongs to the service.
    let path = path.strip_prefix("/api/v1").map_or_else(|| format!("/service{path}"), str::to_owned);
    let words = path.split(|letter: char| !letter.is_alphanumeric());
    let words: Vec<&str> = std::iter::once(method).chain(words).filter(|word| !word.is_empty()).collect();
    words.join("_")
}

/// Describes this API as an OpenAPI 3.1 document.
#[utoipa::path(get, path = "/api/v1/openapi.json", tag = "description",
    responses((status = 200, body = JsonObject)))]
async fn document() -> Json<&'static OpenApi> {
    Json(&DOCUMENT)
}

/// Shows this API as a page for people.
#[utoipa::path(get, path = "/api/v1/docs", tag = "description",
    responses((status = 200, body = String, content_type = "text/html")))]
async fn page() -> Response {
    page_response(Bytes::from_static(PAGE.as_bytes()))
}

/// Describes this API as an OpenAPI 3.1 document, where other services have theirs.
#[utoipa::path(get, path = "/openapi.json", tag = "description",
    responses((status = 200, body = JsonObject)))]
async fn root_document() -> Json<&'static OpenApi> {
    document().await
}

/// Shows this API as a page for people, where other services have theirs.
#[utoipa::path(get, path = "/docs", tag = "description",
    responses((status = 200, body = String, content_type = "text/html")))]
async fn root_page() -> Response {
    page().await
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

    /// Schemas without fields of their own, each with the reason.
    const OPEN: [(&str, &str); 1] = [(
        "JsonObject",
        "described elsewhere: facts of events by type, Sigstore bundles, logged signatures, this document",
    )];

    /// What of a schema says nothing about its values.
    fn untyped(schema: &serde_json::Value, at: &str, found: &mut Vec<String>) {
        let parts = ["oneOf", "anyOf", "allOf"].iter().filter_map(|name| schema[*name].as_array()).flatten();
        for part in parts.clone() {
            untyped(part, at, found);
        }
        for (name, field) in schema["properties"].as_object().into_iter().flatten() {
            untyped(field, &format!("{at}.{name}"), found);
        }
        let kinds: Vec<&str> = match &schema["type"] {
            serde_json::Value::String(kind) => vec![kind],
            kinds => kinds.as_array().into_iter().flatten().filter_map(serde_json::Value::as_str).collect(),
        };
        let is_known = schema.get("$ref").is_some() || schema.get("enum").is_some() || parts.count() > 0;
        if kinds.is_empty() && !is_known {
            found.push(format!("{at}: any value"));
        }
        if kinds.contains(&"array") {
            untyped(&schema["items"], &format!("{at}[]"), found);
        }
        let more = &schema["additionalProperties"];
        if more.is_object() {
            untyped(more, &format!("{at}.*"), found);
        } else if kinds.contains(&"object")
            && schema.get("properties").is_none()
            && *more != false
            && !is_known
        {
            found.push(format!("{at}: an object of any fields"));
        }
    }

    #[test]
    fn no_response_and_no_body_is_untyped() {
        let document = serde_json::to_value(&*DOCUMENT).unwrap();
        let mut found = Vec::new();
        for (name, schema) in document["components"]["schemas"].as_object().unwrap() {
            if !OPEN.iter().any(|(open, _)| open == name) {
                untyped(schema, name, &mut found);
            }
        }
        for (path, item) in document["paths"].as_object().unwrap() {
            for (method, operation) in item.as_object().unwrap() {
                let responses = operation["responses"].as_object().unwrap().values();
                for holder in responses.chain(operation.get("requestBody")) {
                    for content in holder["content"].as_object().into_iter().flat_map(serde_json::Map::values)
                    {
                        untyped(&content["schema"], &format!("{method} {path}"), &mut found);
                    }
                }
            }
        }
        assert!(found.is_empty(), "give these a type: {found:#?}");
    }

    #[test]
    fn every_operation_documents_its_errors() {
        let document = serde_json::to_value(&*DOCUMENT).unwrap();
        for (path, item) in document["paths"].as_object().unwrap() {
            for (method, operation) in item.as_object().unwrap() {
                let responses = operation["responses"].as_object().unwrap();
                let wanted = ["401", "403", "500", "503", "default"]
                    .into_iter()
                    .chain(path.contains('{').then_some("404"));
                for status in wanted {
                    let schema = &responses[status]["content"]["application/problem+json"]["schema"];
                    assert_eq!(schema["$ref"], "#/components/schemas/Problem", "{method} {path} {status}");
                }
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
            assert!(PAGE.contains(&slipway_openapi::escape(path)), "{path}");
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
