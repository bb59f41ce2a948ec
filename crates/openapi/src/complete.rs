//! What holds for every operation of a document: how to authenticate, and which errors to expect.

use slipway_http_server::{Problem, health};
use utoipa::openapi::path::{Operation, PathItem};
use utoipa::openapi::security::{Http, HttpAuthScheme, SecurityRequirement, SecurityScheme};
use utoipa::openapi::server::Server;
use utoipa::openapi::{
    Components, ContentBuilder, Info, OpenApi, OpenApiBuilder, Ref, RefOr, Response, ResponseBuilder, Schema,
};
use utoipa::{PartialSchema as _, ToSchema as _};

use crate::also;
use crate::described::Described;
use crate::router::{Description, DocumentedRouter, Operations};

const PROBLEM_CONTENT_TYPE: &str = "application/problem+json";
const METHODS: [&str; 5] = ["get", "post", "put", "patch", "delete"];

/// The document before any handler of the service is in it: with health and metrics, which the HTTP server
/// adds.
fn frame(described: Described) -> OpenApi {
    let mut info = Info::new(described.title, described.version);
    info.description = Some(described.description.to_owned());
    let server = Server::new(format!("http://127.0.0.1:{}", described.port));
    let document = OpenApiBuilder::new().info(info).servers(Some([server])).build();
    document.merge_from(health::described())
}

/// The complete document of a router's handlers, with the `own` operations of every service. For tests: only
/// there the router has the descriptions.
pub(crate) fn document<S>(described: DocumentedRouter<S>, own: fn(&mut Operations)) -> OpenApi {
    let mut document = described.head.map_or_else(OpenApi::default, frame);
    for description in described.descriptions.into_iter().chain([Description::Operations(own)]) {
        match description {
            Description::Operations(describe) => {
                let mut operations = Operations::default();
                describe(&mut operations);
                let mut components = Components::new();
                components.schemas.extend(operations.schemas);
                let builder = OpenApiBuilder::new().paths(operations.paths).components(Some(components));
                document.merge(builder.build());
            }
            Description::Also { path, other } => also::describe(&mut document, &path, &other),
            Description::Adjusted(adjust) => adjust(&mut document),
        }
    }
    complete(document)
}

fn complete(mut document: OpenApi) -> OpenApi {
    describe_access(&mut document);
    for (path, item) in &mut document.paths.paths {
        for method in METHODS {
            if let Some(operation) = operation_mut(item, method) {
                complete_operation(operation, method, path);
            }
        }
    }
    document
}

/// Describes problem documents and how callers authenticate.
fn describe_access(document: &mut OpenApi) {
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
}

/// A response that is a problem document.
fn problem_response(description: &str) -> Response {
    error_response(description, &Problem::name(), PROBLEM_CONTENT_TYPE)
}

fn operation_mut<'item>(item: &'item mut PathItem, method: &str) -> Option<&'item mut Operation> {
    let operation = match method {
        "get" => &mut item.get,
        "post" => &mut item.post,
        "put" => &mut item.put,
        "patch" => &mut item.patch,
        _ => &mut item.delete,
    };
    operation.as_mut()
}

fn complete_operation(operation: &mut Operation, method: &str, path: &str) {
    operation.operation_id = Some(operation_id(method, path));
    for (status, description) in expected_errors(operation, method, path) {
        let responses = &mut operation.responses.responses;
        responses.entry(status.to_owned()).or_insert_with(|| RefOr::T(Response::new(description)));
    }
    for (status, response) in &mut operation.responses.responses {
        let RefOr::T(response) = response else { continue };
        if response.description.is_empty() {
            "Success".clone_into(&mut response.description);
        }
        let is_error = status.starts_with('4') || status.starts_with('5');
        if is_error && response.content.is_empty() {
            *response = problem_response(&response.description);
        }
    }
}

/// Errors that every operation of its kind can have. Handlers describe all others, such as 409.
fn expected_errors(
    operation: &Operation,
    method: &str,
    path: &str,
) -> impl Iterator<Item = (&'static str, &'static str)> + use<> {
    let has_parameters = operation.parameters.as_ref().is_some_and(|all| !all.is_empty());
    let has_body = operation.request_body.is_some();
    let is_health = health::PATHS.contains(&path);
    let errors = [
        ("400", "A field is not valid; `field` names it", has_parameters || has_body),
        ("401", "The token is missing, unknown, revoked or expired", !is_health),
        ("403", "The role is not sufficient, or a web page of another origin sent the request", !is_health),
        ("403", "A web page of another origin sent the request, or the host name is unknown", is_health),
        ("404", "The named object does not exist", path.contains('{')),
        ("413", "The body exceeds the limit of the route", has_body),
        ("415", "The `Content-Type` of the body is not supported", method != "get"),
        ("503", "A dependency is unavailable; `Retry-After` has the delay in seconds", !is_health),
    ];
    errors.into_iter().filter(|(.., applies)| *applies).map(|(status, description, _)| (status, description))
}

/// Describes the errors of operations whose protocol has its own shape: `schema` is the name of a component.
/// Errors that the handlers describe with a body stay as they are.
pub fn set_errors(document: &mut OpenApi, schema: &str, applies: impl Fn(&str) -> bool) {
    for (path, item) in &mut document.paths.paths {
        if !applies(path) {
            continue;
        }
        for method in METHODS {
            let Some(operation) = operation_mut(item, method) else { continue };
            let mut errors: Vec<(String, String)> = expected_errors(operation, method, path)
                .map(|(status, description)| {
                    (status.to_owned(), description.replace("; `field` names it", ""))
                })
                .collect();
            let described = operation.responses.responses.iter().filter_map(|(status, response)| {
                let RefOr::T(response) = response else { return None };
                let is_error = status.starts_with('4') || status.starts_with('5');
                (is_error && response.content.is_empty())
                    .then(|| (status.clone(), response.description.clone()))
            });
            errors.extend(described.collect::<Vec<_>>());
            for (status, description) in errors {
                let has_body = operation.responses.responses.get(&status).is_some_and(
                    |response| matches!(response, RefOr::T(response) if !response.content.is_empty()),
                );
                if !has_body {
                    let response = error_response(&description, schema, "application/json");
                    operation.responses.responses.insert(status, RefOr::T(response));
                }
            }
        }
    }
}

fn error_response(description: &str, schema: &str, content_type: &str) -> Response {
    let schema: RefOr<Schema> = RefOr::Ref(Ref::from_schema_name(schema));
    ResponseBuilder::new()
        .description(description)
        .content(content_type, ContentBuilder::new().schema(Some(schema)).build())
        .build()
}

/// A name for generators of clients, e.g. `get_models_name_versions`. Handlers' own names repeat from file to
/// file.
fn operation_id(method: &str, path: &str) -> String {
    // A service may have the document and its page under both paths.
    let below = path.strip_prefix("/api/v1/").filter(|path| !["openapi.json", "docs"].contains(path));
    let path = below.unwrap_or(path);
    let words = path.split(|letter: char| !letter.is_alphanumeric());
    let words = std::iter::once(method).chain(words).filter(|word| !word.is_empty());
    // `/v2` and `/v2/` are two paths.
    let slash = (path.len() > 1 && path.ends_with('/')).then_some("slash");
    words.chain(slash).collect::<Vec<&str>>().join("_")
}
