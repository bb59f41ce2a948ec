//! Past events.

use slipway_api::events::EVENTS_STREAM;

use super::subjects::subjects;
use super::visible::may_read;
use super::{From, Stored, unreachable};
use crate::access::caller::Caller;
use crate::error::Error;
use crate::state::Registry;

/// Events that one request examines, whether the caller may read them or not.
const MAX_EXAMINED: usize = 5_000;
/// Events that are requested from NATS at a time.
const BATCH: usize = 500;

/// A page of events.
#[derive(Debug, Default)]
pub(crate) struct Page {
    pub(crate) events: Vec<Stored>,
    /// Position behind which the next page starts, if there are later events.
    pub(crate) next: Option<u64>,
}

/// A page of the events that the caller may read and whose type begins with `prefix`, oldest first.
///
/// # Errors
/// The prefix is invalid, or NATS or Postgres is unreachable.
pub(crate) async fn page(
    registry: &Registry,
    caller: &Caller,
    prefix: &str,
    mut from: From,
    limit: usize,
) -> Result<Page, Error> {
    let subjects = subjects(prefix)?;
    let mut page = Page::default();
    // No filter would be all events.
    if subjects.is_empty() {
        return Ok(page);
    }
    let bus = &registry.webhooks.bus;
    let mut examined = 0;
    while examined < MAX_EXAMINED {
        let batch = bus.page(EVENTS_STREAM, subjects.clone(), from, BATCH).await;
        let batch = batch.map_err(|error| unreachable(&error))?;
        let count = batch.messages.len();
        for (index, stored) in batch.messages.into_iter().enumerate() {
            let sequence = stored.sequence;
            if stored.event.subject.starts_with(prefix) && may_read(registry, caller, &stored.event).await? {
                page.events.push(stored);
            }
            page.next = Some(sequence).filter(|_| batch.more || index + 1 < count);
            if page.events.len() == limit {
                return Ok(page);
            }
            from = From::After(sequence);
        }
        if !batch.more {
            return Ok(page);
        }
        examined += count;
    }
    Ok(page)
}
