//! Extractors whose refusals are problems that name the field.

use axum::body::Bytes;
use axum::extract::rejection::BytesRejection;
use axum::extract::{FromRequest, FromRequestParts, Request};
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

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        if let Some(field) = parts.uri.query().and_then(nul_in_query) {
            return Err(Problem::invalid(field, NUL_REFUSED));
        }
        axum::extract::Query::<T>::from_request_parts(parts, state)
            .await
            .map(|axum::extract::Query(query)| Self(query))
            .map_err(|rejection| Problem::invalid("query", rejection.body_text()))
    }
}

/// What the path names. What is no UTF-8, or no number where one is expected, is answered as other bad input is.
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
            return Err(Problem::invalid("path", NUL_REFUSED));
        }
        axum::extract::Path::<T>::from_request_parts(parts, state)
            .await
            .map(|axum::extract::Path(path)| Self(path))
            .map_err(|rejection| Problem::invalid("path", rejection.body_text()))
    }
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
            "The body is too large",
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
