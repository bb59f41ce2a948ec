//! What a stream holds already, and subscriptions whose filter changes.

use std::time::{Duration, SystemTime};

use async_nats::jetstream::consumer::{self, DeliverPolicy};
use futures::StreamExt as _;

use crate::consumer::{Received, pull_config};
use crate::{Error, EventBus};

/// A stream that says nothing more for so long has no more, whatever it promised.
const SILENCE_MS: u64 = 5_000;

impl EventBus {
    /// Makes the durable consumer `durable` with these filters, or gives it these; its place in the stream stays.
    ///
    /// # Errors
    /// NATS is away or refuses, e.g. filters that overlap.
    pub async fn ensure_filter(
        &self,
        stream: &str,
        durable: &str,
        subjects: Vec<String>,
    ) -> Result<(), Error> {
        let stream = self.jetstream().get_stream(stream).await.map_err(Error::nats)?;
        if let Ok(there) = stream.get_consumer::<consumer::pull::Config>(durable).await {
            let config = &there.cached_info().config;
            let mut filters = config.filter_subjects.clone();
            if !config.filter_subject.is_empty() {
                filters.push(config.filter_subject.clone());
            }
            filters.sort_unstable();
            if filters == subjects {
                return Ok(());
            }
        }
        stream.create_consumer(pull_config(durable, subjects)).await.map_err(Error::nats)?;
        Ok(())
    }

    /// Messages of a stream that were stored at or after `from`, in order, at most `limit`; and whether there were more.
    ///
    /// # Errors
    /// NATS is away or refuses.
    pub async fn history(
        &self,
        stream: &str,
        subjects: Vec<String>,
        from: SystemTime,
        limit: usize,
    ) -> Result<(Vec<Received>, bool), Error> {
        let stream = self.jetstream().get_stream(stream).await.map_err(Error::nats)?;
        let config = consumer::pull::OrderedConfig {
            deliver_policy: DeliverPolicy::ByStartTime { start_time: from.into() },
            filter_subjects: subjects,
            ..consumer::pull::OrderedConfig::default()
        };
        let mut consumer = stream.create_consumer(config).await.map_err(Error::nats)?;
        let mut found = Vec::new();
        if consumer.info().await.map_err(Error::nats)?.num_pending == 0 {
            return Ok((found, false));
        }
        let mut messages = consumer.messages().await.map_err(Error::nats)?;
        while let Ok(Some(message)) =
            tokio::time::timeout(Duration::from_millis(SILENCE_MS), messages.next()).await
        {
            let message = message.map_err(Error::nats)?;
            let pending = message.info().map_or(0, |info| info.pending);
            found.push(Received::from_message(&message));
            if pending == 0 || found.len() == limit {
                return Ok((found, pending > 0));
            }
        }
        Ok((found, false))
    }
}
