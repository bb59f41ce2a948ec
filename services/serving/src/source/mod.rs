//! Where prediction records come from: what the records of a version, and those of a deployment, have in common.

mod feed;
mod policy;

pub(crate) use self::feed::Feed;
pub(crate) use self::policy::{RecordPolicy, Redaction};
