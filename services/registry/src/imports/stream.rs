//! Bytes that are read and stored as they come.

use bytes::Bytes;
use futures::Stream;

/// The bytes of a file as they come.
pub(super) type Bytestream = std::pin::Pin<Box<dyn Stream<Item = Result<Bytes, String>> + Send>>;
