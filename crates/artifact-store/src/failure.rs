//! What is said of a request to the store that failed: a kind for clients, the rest for the log.

use std::error::Error;

use aws_sdk_s3::config::http::HttpResponse;
use aws_sdk_s3::error::{ProvideErrorMetadata, SdkError};

/// The kind of failure, and what to look at; without addresses, and without what the store wrote.
pub(crate) fn reason<E: ProvideErrorMetadata>(error: &SdkError<E, HttpResponse>) -> String {
    let kind = match error {
        SdkError::TimeoutError(_) => "it did not answer in time",
        SdkError::DispatchFailure(failure) if failure.is_timeout() => "it did not answer in time",
        SdkError::DispatchFailure(_) => {
            "it cannot be reached; check the endpoint (--s3-endpoint or SLIPWAY_S3_ENDPOINT)"
        }
        SdkError::ServiceError(answer) => {
            return refusal(answer.err().code(), answer.raw().status().as_u16());
        }
        SdkError::ResponseError(_) => {
            "its response is not that of an S3 server; check the endpoint (--s3-endpoint or \
             SLIPWAY_S3_ENDPOINT)"
        }
        _ => "the request cannot be made",
    };
    kind.to_owned()
}

/// Whether the store answered that the caller may not, or that there is no such bucket.
pub(crate) fn is_refusal<E: ProvideErrorMetadata>(error: &SdkError<E, HttpResponse>) -> bool {
    let SdkError::ServiceError(answer) = error else { return false };
    matches!(answer.raw().status().as_u16(), 401 | 403) || answer.err().code() == Some("NoSuchBucket")
}

fn refusal(code: Option<&str>, status: u16) -> String {
    let named = code.map_or_else(|| status.to_string(), |code| format!("{status}, {code}"));
    match (code, status) {
        (Some("NoSuchBucket"), _) => {
            format!("there is no such bucket ({named}); check --s3-bucket or SLIPWAY_S3_BUCKET")
        }
        (_, 401 | 403) => format!(
            "access is denied ({named}); check the keys (SLIPWAY_S3_ACCESS_KEY, SLIPWAY_S3_SECRET_KEY) and \
             their permissions"
        ),
        (_, 404) => format!("there is no such object or bucket ({named})"),
        _ => format!("it answered {named}"),
    }
}

/// All that is known of it, in a line.
pub(crate) fn details<E>(error: &SdkError<E, HttpResponse>) -> String
where
    E: Error + ProvideErrorMetadata + 'static,
{
    let mut told = vec![error.to_string()];
    let mut cause = error.source();
    while let Some(error) = cause {
        told.push(error.to_string());
        cause = error.source();
    }
    let answer = error.as_service_error();
    told.extend(answer.and_then(|answer| answer.message()).map(str::to_owned));
    told.dedup();
    told.join(": ")
}

#[cfg(test)]
mod tests {
    use super::refusal;

    #[test]
    fn a_refusal_is_its_kind_and_what_to_look_at() {
        let denied = refusal(Some("InvalidAccessKeyId"), 403);
        assert!(denied.starts_with("access is denied (403, InvalidAccessKeyId); check the keys"), "{denied}");
        assert!(refusal(None, 403).starts_with("access is denied (403);"));
        assert!(refusal(Some("NoSuchBucket"), 404).contains("SLIPWAY_S3_BUCKET"));
        assert_eq!(refusal(Some("SlowDown"), 503), "it answered 503, SlowDown");
    }
}
