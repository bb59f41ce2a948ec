//! Reading prediction records and labels from a moment on: facts for analysis, rebuilt after a restart.

use std::time::SystemTime;

use async_nats::jetstream::consumer::DeliverPolicy;
use futures::StreamExt as _;
use tokio_util::sync::CancellationToken;

use crate::liveness::jittered;
use crate::place::Place;
use crate::position::ordered;
use crate::{Error, EventBus};

/// Pause before a lost subscription is made again.
const RESUBSCRIBE_DELAY_MS: u64 = 500;

/// [`read_subjects`] of every subject of the stream.
pub async fn read_from<F>(
    bus: &EventBus,
    stream: &'static str,
    from: SystemTime,
    shutdown: &CancellationToken,
    handler: F,
) where
    F: FnMut(&async_nats::Message) + Send,
{
    read_subjects(bus, stream, &[], from, shutdown, handler).await;
}

/// Hands each message of `stream` on one of `subjects` (none: on any) that was stored at or after `from` to
/// `handler`, in order, until `shutdown`. NATS delivers no others.
///
/// Nothing is acknowledged and no place is kept: who restarts reads again from the moment that it names. A
/// lost connection is mended and reading goes on behind the last message seen.
pub async fn read_subjects<F>(
    bus: &EventBus,
    stream: &'static str,
    subjects: &[String],
    from: SystemTime,
    shutdown: &CancellationToken,
    mut handler: F,
) where
    F: FnMut(&async_nats::Message) + Send,
{
    let mut place = Place::default();
    while !shutdown.is_cancelled() {
        tokio::select! {
            () = shutdown.cancelled() => return,
            outcome = deliver(bus, stream, subjects, from, &mut place, &mut handler) => {
                if let Err(error) = outcome {
                    tracing::debug!(%error, stream, "reader resumes");
                }
            }
        }
        tokio::select! {
            () = shutdown.cancelled() => return,
            () = tokio::time::sleep(jittered(RESUBSCRIBE_DELAY_MS)) => {}
        }
    }
}

async fn deliver<F>(
    bus: &EventBus,
    stream: &'static str,
    subjects: &[String],
    from: SystemTime,
    place: &mut Place,
    handler: &mut F,
) -> Result<(), Error>
where
    F: FnMut(&async_nats::Message) + Send,
{
    let reconnected = bus.reconnected();
    tokio::pin!(reconnected);
    let stream = bus.jetstream().get_stream(stream).await.map_err(Error::nats)?;
    let deliver_policy = if place.sequence() > 0 {
        place.resume(stream.cached_info())
    } else {
        DeliverPolicy::ByStartTime { start_time: from.into() }
    };
    let consumer = ordered(&stream, deliver_policy, subjects.to_vec()).await?;
    let mut messages = consumer.messages().await.map_err(Error::nats)?;
    loop {
        let message = tokio::select! {
            message = messages.next() => message,
            () = &mut reconnected => return Ok(()),
        };
        let Some(message) = message.transpose().map_err(Error::nats)? else { return Ok(()) };
        if place.read(&message)?.is_some() {
            handler(&message);
        }
    }
}

/// Whether nothing newer waits in the stream.
///
/// Source: <https://docs.nats.io/reference/reference-protocols/nats_api_reference>, the reply subject of a
/// delivered message, in its shape with and without a domain.
pub fn is_last(message: &async_nats::Message) -> bool {
    const PENDING: usize = 8;
    const PENDING_WITH_DOMAIN: usize = 10;
    let Some(reply) = &message.reply else { return false };
    let tokens: Vec<&str> = reply.split('.').collect();
    let place = if tokens.len() > PENDING_WITH_DOMAIN { PENDING_WITH_DOMAIN } else { PENDING };
    tokens.get(place).is_some_and(|pending| *pending == "0")
}
