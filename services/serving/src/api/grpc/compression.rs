//! Which answers are compressed.

use http::HeaderMap;

/// How messages of a request are compressed.
pub(super) const ENCODING: &str = "grpc-encoding";
const ACCEPT_ENCODING: &str = "grpc-accept-encoding";

/// Every gRPC library says that it accepts gzip; only who sends it wants it for tensors, too.
pub(crate) async fn answer_as_asked<B>(mut request: http::Request<B>) -> http::Request<B> {
    only_asked_compression(request.headers_mut());
    request
}

/// Leaves the compression that the client accepts only where it compresses itself.
pub(super) fn only_asked_compression(headers: &mut HeaderMap) {
    if !headers.contains_key(ENCODING) {
        headers.remove(ACCEPT_ENCODING);
    }
}
