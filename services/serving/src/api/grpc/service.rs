//! `inference.GRPCInferenceService`.

use std::sync::Arc;

use slipway_api::inference as proto;
use slipway_domain::ensemble::is_version;
use slipway_inference::Signature;
use slipway_service_kit::health::Readiness;
use slipway_telemetry::context::TRACEPARENT;
use slipway_telemetry::spans;
use tonic::Extensions;
use tonic::metadata::MetadataMap;
use tracing::Instrument as _;

use super::{convert, trace};
use crate::api::access::{Access, Need};
use crate::api::parameters::{priority, timeout_us};
use crate::api::settings::Settings;
use crate::failure::Failure;
use crate::predict::{Call, Predictor, request_id};

/// The metadata that carries a request's id both ways.
pub(super) const REQUEST_ID: &str = "x-request-id";

/// An answer to a prediction.
pub(super) struct Answered {
    pub(super) response: proto::ModelInferResponse,
    /// Id of the request.
    pub(super) id: String,
    /// Whether the client is to leave the connection.
    pub(super) is_last: bool,
}

/// The service. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Service {
    pub(super) predictor: Predictor,
    pub(super) settings: Arc<Settings>,
    pub(super) access: Access,
    pub(super) readiness: Readiness,
}

impl Service {
    /// A service over `predictor`.
    pub(crate) const fn new(
        predictor: Predictor,
        settings: Arc<Settings>,
        access: Access,
        readiness: Readiness,
    ) -> Self {
        Self { predictor, settings, access, readiness }
    }

    /// Answers one prediction.
    ///
    /// # Errors
    /// As of [`Predictor::predict`], or the caller may not.
    pub(super) async fn infer(
        &self,
        metadata: &MetadataMap,
        extensions: &Extensions,
        request: proto::ModelInferRequest,
    ) -> Result<Answered, Failure> {
        // The model is known only now, where it has trace settings of its own.
        if spans::chooses_by_path()
            && !metadata.contains_key(TRACEPARENT)
            && let Some(span) = trace::span_of(&request.model_name)
        {
            // On the heap: every other request would carry the place for it.
            return Box::pin(self.infer_now(metadata, extensions, request).instrument(span)).await;
        }
        self.infer_now(metadata, extensions, request).await
    }

    async fn infer_now(
        &self,
        metadata: &MetadataMap,
        extensions: &Extensions,
        mut request: proto::ModelInferRequest,
    ) -> Result<Answered, Failure> {
        self.access.check_noted(extensions, Need::Model(&request.model_name))?;
        let id = request_id(&[text(metadata, REQUEST_ID), Some(&request.id)]);
        self.predictor.routing.currency.settled().await;
        let route = self.predictor.routing.get(&request.model_name)?;
        let version = version(&request.model_version)?;
        let parameters = std::mem::take(&mut request.parameters);
        let number = |name: &str| parameters.get(name).map(convert::whole_number);
        let key = |name: &str| {
            let given = text(metadata, name).map(str::to_owned);
            given.or_else(|| convert::text_parameter(parameters.get(name)?))
        };
        let call = Call {
            version: version.as_deref(),
            request_id: &id,
            timeout_us: timeout_us(number("timeout"))?,
            priority: priority(number("priority"))?,
            headers: &key,
            depth: 0,
        };
        let wanted = convert::wanted_outputs(&request)?;
        let (model_name, protocol_id) =
            (std::mem::take(&mut request.model_name), std::mem::take(&mut request.id));
        let inputs = convert::inputs(request)?;
        let read = |signature: &Signature| {
            wanted.iter().try_for_each(|wanted| wanted.check(signature))?;
            Ok(inputs)
        };
        let answer = self.predictor.predict(&route, &call, read).await?;
        let response = convert::response(model_name, protocol_id, &answer, &wanted)?;
        Ok(Answered { response, id, is_last: self.predictor.routing.is_left(&route) })
    }
}

fn text<'metadata>(metadata: &'metadata MetadataMap, name: &str) -> Option<&'metadata str> {
    metadata.get(name).and_then(|value| value.to_str().ok())
}

/// The version that a message names; none, where it names none.
///
/// # Errors
/// It is no version.
pub(super) fn version(given: &str) -> Result<Option<String>, Failure> {
    match given {
        "" => Ok(None),
        given if is_version(given) => Ok(Some(given.to_owned())),
        given => Err(Failure::not_found(format!("'{given}' is no version; expected digits"))),
    }
}
