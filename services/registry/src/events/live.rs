//! Live events: one stream for each client, which reads from NATS as fast as the client reads from it.

use std::time::Duration;

use futures::{Stream, StreamExt as _};
use http::HeaderMap;
use slipway_access::Place;
use slipway_api::events::EVENTS_STREAM;
use slipway_event_bus::position;
use tokio::time::{Interval, MissedTickBehavior, interval};

use super::subjects::subjects;
use super::visible::may_read;
use super::{From, Stored, unreachable};
use crate::access::caller::{Caller, proven};
use crate::error::Error;
use crate::state::Registry;

/// Pause between two checks of the caller's token: a stream outlives a revocation by no more than this and
/// the lifetime of a cached credential.
const CHECK_INTERVAL: Duration = Duration::from_secs(2);

/// What a stream delivers.
#[derive(Debug)]
pub(crate) enum Item {
    /// The position behind which the stream starts, with which a client that received no event resumes.
    Start(u64),
    /// An event.
    Event(Stored),
}

/// The events of one client.
pub(crate) struct Live {
    registry: Registry,
    caller: Caller,
    /// The request's headers, with its credential.
    headers: HeaderMap,
    prefix: String,
    start: Option<u64>,
    messages: position::Live,
    checks: Interval,
    ended: bool,
    _place: Place,
}

/// Follows the events that the caller may read and whose type begins with `prefix`.
///
/// # Errors
/// The prefix is invalid, too many streams are open, or NATS is unreachable.
pub(crate) async fn follow(
    registry: &Registry,
    caller: Caller,
    headers: HeaderMap,
    prefix: String,
    from: From,
) -> Result<Live, Error> {
    let subjects = subjects(&prefix)?;
    let place = registry.events.streams.take(proven(&caller.actor));
    let place = place.map_err(|why| Error::Unavailable(format!("event streams: {why}")))?;
    let (start, messages): (u64, position::Live) = if subjects.is_empty() {
        // There are no such events, and no filter would be all of them.
        (0, futures::stream::pending().boxed())
    } else {
        let followed = registry.webhooks.bus.follow(EVENTS_STREAM, subjects, from).await;
        followed.map_err(|error| unreachable(&error))?
    };
    let mut checks = interval(CHECK_INTERVAL);
    checks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    Ok(Live {
        registry: registry.clone(),
        caller,
        headers,
        prefix,
        start: (start > 0).then_some(start),
        messages,
        checks,
        ended: false,
        _place: place,
    })
}

impl Live {
    /// The events as a stream. An error is its last item.
    pub(crate) fn into_stream(self) -> impl Stream<Item = Result<Item, Error>> + Send {
        futures::stream::unfold(self, |mut live| async move {
            let next = live.next().await?;
            live.ended = next.is_err();
            Some((next, live))
        })
    }

    /// The next event; `None` when the service stops.
    async fn next(&mut self) -> Option<Result<Item, Error>> {
        if self.ended {
            return None;
        }
        if let Some(start) = self.start.take() {
            return Some(Ok(Item::Start(start)));
        }
        let hang_up = self.registry.events.hang_up.clone();
        loop {
            tokio::select! {
                biased;
                () = hang_up.cancelled() => return None,
                _ = self.checks.tick() => {
                    if let Err(refused) = self.check().await {
                        return Some(Err(refused));
                    }
                }
                message = self.messages.next() => match message? {
                    Ok(stored) => match self.admits(&stored).await {
                        Ok(true) => return Some(Ok(Item::Event(stored))),
                        Ok(false) => {}
                        Err(error) => return Some(Err(error)),
                    },
                    Err(error) => return Some(Err(unreachable(&error))),
                },
            }
        }
    }

    async fn admits(&mut self, stored: &Stored) -> Result<bool, Error> {
        Ok(stored.event.subject.starts_with(&self.prefix)
            && may_read(&self.registry, &self.caller, &stored.event).await?)
    }

    /// Authenticates the caller again: its token may be revoked or expired, its grants may have changed.
    async fn check(&mut self) -> Result<(), Error> {
        if let Some(authenticator) = &self.registry.access.authenticator {
            let origin = self.caller.actor.origin.clone();
            match authenticator.authenticate(&self.headers, origin).await {
                Ok(caller) => self.caller = caller,
                // Nothing is known against the caller.
                Err(Error::Unavailable(_)) => {}
                Err(refused) => return Err(refused),
            }
        }
        Ok(())
    }
}
