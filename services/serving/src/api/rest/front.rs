//! Predictions over REST, on the quick way in.

use std::sync::Arc;

use axum::body::Body;
use axum::extract::Request;
use axum::response::{IntoResponse as _, Response};
use http::header;
use slipway_http_server::front::Front;

use super::extract::Model;
use super::infer;
use crate::state::ServingState;

/// Longer bodies take the ordinary way, which lets the client hear a refusal before it has sent all of it.
const MAX_BYTES: usize = 512 * 1024;

/// Answers `…/infer` of models that are there.
#[derive(Clone)]
pub(crate) struct RestFront(pub(crate) Arc<ServingState>);

impl Front for RestFront {
    const ROUTES: &'static [&'static str] =
        &["/v2/models/{name}/infer", "/v2/models/{name}/versions/{version}/infer"];

    fn route(&self, request: &Request) -> Option<usize> {
        let (name, version) = named(request.uri().path())?;
        let headers = request.headers();
        let length: usize = headers.get(header::CONTENT_LENGTH)?.to_str().ok()?.parse().ok()?;
        let short = length <= MAX_BYTES.min(self.0.max_body_bytes) && !headers.contains_key(header::EXPECT);
        (short && self.0.routing.get(name).is_ok()).then_some(usize::from(version.is_some()))
    }

    fn answer(&self, _route: usize, request: Request) -> impl Future<Output = Response> + Send + 'static {
        let state = Arc::clone(&self.0);
        async move {
            let (parts, body): (_, Body) = request.into_parts();
            // `route` has seen it.
            let (name, version) = named(parts.uri.path()).unwrap_or_default();
            // Before its body is read.
            if let Err(refusal) = state.access.admit_prediction(&parts.headers, name) {
                return refusal.into_response();
            }
            let model = Model { name: name.to_owned(), version: version.map(str::to_owned) };
            infer::respond(&state, model, &parts.headers, body).await
        }
    }
}

/// Model and version of a path; `None` for other paths, and for such as have to be decoded first.
fn named(path: &str) -> Option<(&str, Option<&str>)> {
    let model = path.strip_prefix("/v2/models/")?.strip_suffix("/infer")?;
    let (name, version) = match model.split_once("/versions/") {
        Some((name, version)) => (name, Some(version)),
        None => (model, None),
    };
    let plain = |part: &str| !part.is_empty() && !part.contains(['/', '%']);
    (plain(name) && version.is_none_or(plain)).then_some((name, version))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_paths_of_predictions_are_taken() {
        assert_eq!(named("/v2/models/m/infer"), Some(("m", None)));
        assert_eq!(named("/v2/models/m/versions/3/infer"), Some(("m", Some("3"))));
        for other in [
            "/v2/models//infer",
            "/v2/models/a/b/infer",
            "/v2/models/a%20b/infer",
            "/v2/models/infer",
            "/v1/models/m/infer",
        ] {
            assert_eq!(named(other), None, "{other}");
        }
    }
}
