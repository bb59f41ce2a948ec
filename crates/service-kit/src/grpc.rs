//! gRPC clients of other services.

use std::time::Duration;

use anyhow::Context as _;
use slipway_telemetry::grpc::PropagateTrace;
use tonic::service::interceptor::InterceptedService;
use tonic::transport::{Channel, Endpoint};

/// A channel that carries the trace context.
pub type TracedChannel = InterceptedService<Channel, PropagateTrace>;

const CONNECT_TIMEOUT_MS: u64 = 2_000;
/// One call.
const CALL_TIMEOUT_MS: u64 = 10_000;

/// A channel to `url`, e.g. `http://127.0.0.1:5000`. It connects at the first call, and again after each loss.
///
/// # Errors
/// The URL does not parse.
pub fn channel(url: &str) -> anyhow::Result<TracedChannel> {
    let endpoint = Endpoint::from_shared(url.to_owned())
        .with_context(|| format!("`{url}` is not a service's address; expected e.g. http://127.0.0.1:5000"))?
        .connect_timeout(Duration::from_millis(CONNECT_TIMEOUT_MS))
        .timeout(Duration::from_millis(CALL_TIMEOUT_MS))
        .tcp_nodelay(true)
        .http2_keep_alive_interval(Duration::from_secs(10))
        .keep_alive_while_idle(true);
    Ok(InterceptedService::new(endpoint.connect_lazy(), PropagateTrace))
}
