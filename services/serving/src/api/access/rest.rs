//! The guard of REST: before a handler runs, whatever it reads.

use axum::extract::rejection::RawPathParamsRejection;
use axum::extract::{MatchedPath, RawPathParams, Request, State};
use axum::middleware::Next;
use axum::response::{IntoResponse as _, Response};

use super::Access;
use super::policy::need;
use crate::api::paths::is_own;

/// Middleware of the routes; not added where no tokens are asked for.
pub(crate) async fn guard(
    State(access): State<Access>,
    matched: Option<MatchedPath>,
    params: Result<RawPathParams, RawPathParamsRejection>,
    mut request: Request,
    next: Next,
) -> Response {
    let pattern = matched.as_ref().map_or("", MatchedPath::as_str);
    let name = params.as_ref().ok().and_then(|params| params.iter().find(|(key, _)| *key == "name"));
    let need = need(request.method(), pattern, name.map(|(_, name)| name));
    match access.admit(&request, need) {
        Ok(caller) => {
            if let Some(caller) = caller {
                request.extensions_mut().insert(caller);
            }
            next.run(request).await
        }
        Err(refusal) if is_own(request.uri().path()) => refusal.into_problem_response(),
        Err(refusal) => refusal.into_response(),
    }
}

#[cfg(test)]
mod tests {
    use http::Method;

    use super::*;
    use crate::api::access::Need;

    #[test]
    fn each_route_asks_for_what_it_shows_or_changes() {
        let (get, post) = (Method::GET, Method::POST);
        for (method, pattern, name, wanted) in [
            (&get, "/v2/health/ready", None, Need::Nothing),
            (&get, "/v2", None, Need::AnyToken),
            (&get, "", None, Need::AnyToken),
            (&post, "/v2/models/{name}/infer", Some("a:b"), Need::Model("a:b")),
            (&post, "/v1/models/{name}", Some("a:predict"), Need::Model("a")),
            (&get, "/v1/models/{name}", Some("a:predict"), Need::Model("a:predict")),
            (&get, "/v2/models/{name}", None, Need::AllModels),
            (&get, "/v2/logging", None, Need::AnyToken),
            (&post, "/v2/logging", None, Need::AllModels),
            (&get, "/v2/models/{name}/trace/setting", Some("a"), Need::Model("a")),
            (&post, "/v2/models/{name}/trace/setting", Some("a"), Need::AllModels),
            (&post, "/v2/repository/models/{name}/unload", Some("a"), Need::AllModels),
        ] {
            assert_eq!(need(method, pattern, name), wanted, "{method} {pattern}");
        }
    }
}
