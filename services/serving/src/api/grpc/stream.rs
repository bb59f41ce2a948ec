//! `ModelStreamInfer`: answers in the order of the requests; a failed one gets an error, and the stream goes
//! on.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use futures::{Stream, StreamExt as _, stream};
use slipway_api::inference as proto;
use tonic::metadata::MetadataMap;
use tonic::{Extensions, Status, Streaming};
use tracing::{Instrument as _, Span};

use super::convert;
use super::service::Service;
use crate::api::drain::HangUp;

/// Requests of one stream that are worked on at the same time. Further ones wait with the client: HTTP/2
/// holds them back.
const PARALLEL_REQUESTS: usize = 16;
/// Marks the last answer to a request; here each request has one answer.
const FINAL_RESPONSE: &str = "triton_final_response";

/// What the requests of a stream have in common.
struct About {
    metadata: MetadataMap,
    extensions: Extensions,
}

/// One answer for each request. Dropping it, as a cancelled call does, gives up what still waits. At the end
/// of the process no further request is taken, and the stream ends once those are answered that were.
pub(super) fn answers(
    service: Service,
    metadata: MetadataMap,
    extensions: Extensions,
    requests: Streaming<proto::ModelInferRequest>,
) -> impl Stream<Item = Result<proto::ModelStreamInferResponse, Status>> + Send {
    let hang_up = extensions.get::<HangUp>().cloned().unwrap_or_default();
    let is_cut = Arc::new(AtomicBool::new(false));
    let cut = Arc::clone(&is_cut);
    let requests = requests.take_until(async move {
        hang_up.come().await;
        cut.store(true, Ordering::Relaxed);
    });
    let last = async move { is_cut.load(Ordering::Relaxed).then(|| Err(HangUp::status())) };
    let about = Arc::new(About { metadata, extensions });
    // The call's span is that of all its requests.
    let span = Span::current();
    let answer = move |request: Result<proto::ModelInferRequest, Status>| {
        let (service, about) = (service.clone(), Arc::clone(&about));
        async move { Ok(answer(&service, &about, request?).await) }.instrument(span.clone())
    };
    let last = stream::once(last).filter_map(std::future::ready);
    requests.map(answer).buffered(PARALLEL_REQUESTS).chain(last)
}

async fn answer(
    service: &Service,
    About { metadata, extensions }: &About,
    request: proto::ModelInferRequest,
) -> proto::ModelStreamInferResponse {
    let id = request.id.clone();
    let (mut response, error_message) = match service.infer(metadata, extensions, request).await {
        Ok(answered) => (answered.response, String::new()),
        Err(failure) => (proto::ModelInferResponse { id, ..Default::default() }, failure.message),
    };
    response.parameters.insert(FINAL_RESPONSE.to_owned(), convert::flag(true));
    proto::ModelStreamInferResponse { error_message, infer_response: Some(response) }
}
