//! Extractors whose refusals are problems that name the field.

use axum::body::Bytes;
use axum::extract::path::ErrorKind;
use axum::extract::rejection::{BytesRejection, PathRejection};
use axum::extract::{FromRequest, FromRequestParts, RawPathParams, Request};
use http::StatusCode;
use http::request::Parts;
use serde::de::DeserializeOwned;

use crate::Problem;
use crate::json::{self, JsonError, NUL_REFUSED, nul_in_json};

/// A JSON body. What does not parse is answered with the path of the field at fault.
#[derive(Debug, Clone)]
pub struct JsonBody<T>(pub T);

impl<T, S> FromRequest<S> for JsonBody<T>
where
    T: DeserializeOwned,
    S: Send + Sync,
{
    type Rejection = Problem;

    async fn from_request(request: Request, state: &S) -> Result<Self, Problem> {
        let bytes = Bytes::from_request(request, state).await.map_err(body_problem)?;
        parse_json(&bytes).map(Self)
    }
}

/// The query string. What does not parse is answered with what was expected.
#[derive(Debug, Clone)]
pub struct Query<T>(pub T);

impl<T, S> FromRequestParts<S> for Query<T>
where
    T: DeserializeOwned,
    S: Send + Sync,
{
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _state: &S) -> Result<Self, Problem> {
        if let Some(field) = parts.uri.query().and_then(nul_in_query) {
            return Err(Problem::invalid(field, NUL_REFUSED));
        }
        let pairs = form_urlencoded::parse(parts.uri.query().unwrap_or_default().as_bytes());
        serde_path_to_error::deserialize(serde_urlencoded::Deserializer::new(pairs))
            .map(Self)
            .map_err(|error| query_problem(&error))
    }
}

/// What the path names. What is no UTF-8, or no number where one is expected, is answered as other bad input
/// is.
#[derive(Debug, Clone)]
pub struct Path<T>(pub T);

impl<T, S> FromRequestParts<S> for Path<T>
where
    T: DeserializeOwned + Send,
    S: Send + Sync,
{
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        if parts.uri.path().contains(ENCODED_NUL) {
            let params = RawPathParams::from_request_parts(parts, state).await.ok();
            let name = params.iter().flatten().find(|(_, value)| value.contains('\0')).map(|(name, _)| name);
            return Err(Problem::invalid(name.unwrap_or("path"), NUL_REFUSED));
        }
        match axum::extract::Path::<T>::from_request_parts(parts, state).await {
            Ok(axum::extract::Path(path)) => Ok(Self(path)),
            Err(rejection) => {
                let names = RawPathParams::from_request_parts(parts, state).await.ok();
                let names: Vec<&str> = names.iter().flatten().map(|(name, _)| name).collect();
                Err(path_problem(&rejection, &names))
            }
        }
    }
}

/// Names the parameter of the query string that does not parse.
fn query_problem(error: &serde_path_to_error::Error<serde_urlencoded::de::Error>) -> Problem {
    let message = error.inner().to_string();
    // Of a parameter that is missing, the path names only the whole.
    let missing = message.strip_prefix("missing field `").and_then(|rest| rest.split('`').next());
    let field = missing.map_or_else(|| error.path().to_string(), str::to_owned);
    Problem::invalid(if field == "." { "query".to_owned() } else { field }, message)
}

/// Names the parameter of the path that does not parse; `names` has the path's parameters in their order.
fn path_problem(rejection: &PathRejection, names: &[&str]) -> Problem {
    let PathRejection::FailedToDeserializePathParams(failed) = rejection else {
        return Problem::invalid("path", rejection.body_text());
    };
    let name = match failed.kind() {
        ErrorKind::ParseErrorAtKey { key, .. }
        | ErrorKind::DeserializeError { key, .. }
        | ErrorKind::InvalidUtf8InPathParam { key } => Some(key.as_str()),
        ErrorKind::ParseErrorAtIndex { index, .. } => names.get(*index).copied(),
        _ => names.first().copied(),
    };
    let message = match failed.kind() {
        ErrorKind::ParseErrorAtKey { value, expected_type, .. }
        | ErrorKind::ParseErrorAtIndex { value, expected_type, .. }
        | ErrorKind::ParseError { value, expected_type } => {
            format!("expected {}, got `{value}`", json::in_json_terms(expected_type))
        }
        _ => failed.body_text(),
    };
    Problem::invalid(name.unwrap_or("path"), message)
}

/// The NUL character, percent-encoded.
const ENCODED_NUL: &str = "%00";

/// Name of the first parameter of a query string whose value contains NUL.
fn nul_in_query(query: &str) -> Option<String> {
    let pair = query.split('&').find(|pair| pair.contains(ENCODED_NUL))?;
    Some(pair.split_once('=').map_or("query", |(name, _)| name).replace(ENCODED_NUL, ""))
}

/// Parses JSON; an empty body counts as `{}`.
///
/// # Errors
/// A problem that names the field's path and what was expected there.
pub fn parse_json<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, Problem> {
    let bytes = if bytes.is_empty() { b"{}" } else { bytes };
    if let Some(field) = nul_in_json(bytes) {
        return Err(Problem::invalid(field, NUL_REFUSED));
    }
    json::read(bytes).map_err(|error| {
        let JsonError { field, message, .. } = error;
        Problem::invalid(field.unwrap_or_else(|| "body".to_owned()), message)
    })
}

fn body_problem(rejection: BytesRejection) -> Problem {
    if rejection.status() == StatusCode::PAYLOAD_TOO_LARGE {
        Problem::new(
            StatusCode::PAYLOAD_TOO_LARGE,
            "body-too-large",
            "Request body too large",
            "the body exceeds the limit of this route; send a smaller one",
        )
    } else {
        Problem::invalid("body", rejection.body_text())
    }
}

#[cfg(test)]
mod tests {
    use serde::Deserialize;
    use serde_json::{json, to_value};

    use super::*;

    #[derive(Debug, Deserialize)]
    struct Outer {
        #[expect(dead_code, reason = "only parsed")]
        steps: Vec<Inner>,
    }

    #[derive(Debug, Deserialize)]
    struct Inner {
        #[expect(dead_code, reason = "only parsed")]
        weight: u8,
    }

    #[test]
    fn nul_in_a_query_is_found_by_its_parameter() {
        assert_eq!(nul_in_query("limit=3&deployment=a%00b").as_deref(), Some("deployment"));
        assert_eq!(nul_in_query("limit=3&deployment=a%20b"), None);
    }

    #[derive(Debug, Deserialize)]
    struct Filter {
        #[expect(dead_code, reason = "only parsed")]
        limit: Option<u32>,
        #[expect(dead_code, reason = "only parsed")]
        name: String,
    }

    async fn take(_: Path<(String, u64)>, _: Query<Filter>) {}

    #[tokio::test]
    async fn a_parameter_that_does_not_parse_is_named() {
        for (target, field) in [
            ("/a/1?name=b&limit=x", "limit"),
            ("/a/1?limit=1", "name"),
            ("/a/1?name=%00", "name"),
            ("/a/one?name=b", "number"),
            ("/%FF/1?name=b", "owner"),
            ("/%00/1?name=b", "owner"),
        ] {
            let router = axum::Router::new().route("/{owner}/{number}", axum::routing::get(take));
            let request = Request::get(target).body(axum::body::Body::empty()).unwrap();
            let response = tower::ServiceExt::oneshot(router, request).await.unwrap();
            assert_eq!(response.status(), StatusCode::BAD_REQUEST, "{target}");
            let body = axum::body::to_bytes(response.into_body(), 10_000).await.unwrap();
            let problem: serde_json::Value = serde_json::from_slice(&body).unwrap();
            assert_eq!(problem["field"], field, "{target}: {problem}");
        }
    }

    #[test]
    fn refusals_name_the_field_also_where_it_is_missing() {
        let field = |body: &str| {
            to_value(parse_json::<Outer>(body.as_bytes()).unwrap_err()).unwrap()["field"].clone()
        };
        assert_eq!(field("{}"), json!("steps"));
        assert_eq!(field(r#"{"steps": [{"weight": 1}, {}]}"#), json!("steps[1].weight"));
        assert_eq!(field(r#"{"steps": [{"weight": "x"}]}"#), json!("steps[0].weight"));
        assert_eq!(field("nonsense"), json!("body"));
        assert_eq!(field(r#"[[]]"#), json!("body"), "fields have names");
        assert_eq!(field(r#"{"steps": [[1]]}"#), json!("steps[0]"));
        assert_eq!(field(r#"{"steps": []} and more"#), json!("body"));
        assert_eq!(field(r#"{"steps": [], "note": "\u0000"}"#), json!("note"), "Postgres cannot store NUL");
    }
}
