//! The caller as an argument of a handler.

use std::convert::Infallible;

use axum::extract::FromRequestParts;
use http::request::Parts;

use crate::access::caller::Caller;

impl<S: Sync> FromRequestParts<S> for Caller {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, _state: &S) -> Result<Self, Infallible> {
        // A request that passed no guard has no caller.
        Ok(parts.extensions.get::<Self>().cloned().unwrap_or_else(|| Self::nobody(String::new())))
    }
}
