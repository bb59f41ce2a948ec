//! Counts requests by route and status.

use std::time::Instant;

use axum::extract::{MatchedPath, Request, State};
use axum::middleware::Next;
use axum::response::Response;
use http::Method;
use slipway_service_kit::metrics::Metrics;

/// The name of a method that RFC 9110 or RFC 5789 defines. Clients may invent any number of others, so those
/// are not used as labels.
pub(crate) fn known_method(method: &Method) -> Option<&'static str> {
    const KNOWN: [&str; 9] = ["GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS", "PATCH", "CONNECT", "TRACE"];
    KNOWN.into_iter().find(|known| method == known)
}

/// Middleware: counts each request under its route pattern, so that ids in paths do not multiply the series.
pub(crate) async fn count_requests(State(metrics): State<Metrics>, request: Request, next: Next) -> Response {
    let method = known_method(request.method()).unwrap_or("OTHER");
    let route = request
        .extensions()
        .get::<MatchedPath>()
        .map_or_else(|| "unmatched".to_owned(), |path| path.as_str().to_owned());
    let started = Instant::now();
    let response = next.run(request).await;
    metrics.observe_request(method, &route, response.status().as_u16(), started.elapsed());
    response
}

#[cfg(test)]
mod tests {
    use axum::Router;
    use axum::body::Body;
    use axum::middleware::from_fn_with_state;
    use tower::ServiceExt as _;

    use super::*;

    #[tokio::test]
    async fn methods_that_clients_make_up_are_one_series() {
        let metrics = Metrics::new();
        let app: Router = Router::new().layer(from_fn_with_state(metrics.clone(), count_requests));
        for method in ["GET", "PATCH", "M1X1", "M2X2", "get"] {
            let request = Request::builder().method(method).body(Body::empty()).unwrap();
            app.clone().oneshot(request).await.unwrap();
        }
        let text = metrics.render();
        let mut counted: Vec<&str> =
            text.lines().filter(|line| line.starts_with("slipway_http_requests_total")).collect();
        counted.sort_unstable();
        assert_eq!(counted.len(), 3, "{counted:?}");
        assert!(counted[1].contains("\"OTHER\"") && counted[1].ends_with(" 3"), "{counted:?}");
    }
}
