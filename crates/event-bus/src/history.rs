//! What a stream holds already, and subscriptions whose filter changes.

use std::time::SystemTime;

use async_nats::jetstream::consumer;

use crate::consumer::{Received, filters, pull_config};
use crate::position::From;
use crate::{Error, EventBus};

impl EventBus {
    /// Makes the durable consumer `durable` with these filters, or gives it these; its place in the stream
    /// stays.
    ///
    /// # Errors
    /// NATS is unreachable or refuses, e.g. filters that overlap.
    pub async fn ensure_filter(
        &self,
        stream: &str,
        durable: &str,
        subjects: Vec<String>,
    ) -> Result<(), Error> {
        let stream = self.jetstream().get_stream(stream).await.map_err(Error::nats)?;
        if let Ok(there) = stream.get_consumer::<consumer::pull::Config>(durable).await
            && filters(&there.cached_info().config) == subjects
        {
            return Ok(());
        }
        stream.create_consumer(pull_config(durable, subjects)).await.map_err(Error::nats)?;
        Ok(())
    }

    /// Messages of a stream that were stored at or after `from`, in order, at most `limit`; and whether there
    /// were more.
    ///
    /// # Errors
    /// NATS is unreachable or refuses.
    pub async fn history(
        &self,
        stream: &str,
        subjects: Vec<String>,
        from: SystemTime,
        limit: usize,
    ) -> Result<(Vec<Received>, bool), Error> {
        let page = self.page(stream, subjects, From::Time(from), limit).await?;
        Ok((page.messages.into_iter().map(|stored| stored.event).collect(), page.more))
    }
}
