//! Reading a stream from a position: page by page, and live. A position is the sequence number of a message
//! in its stream.

use std::pin::Pin;
use std::time::{Duration, SystemTime};

use async_nats::jetstream::consumer::{self, DeliverPolicy};
use async_nats::jetstream::stream;
use futures::{Stream, StreamExt as _};

use crate::consumer::Received;
use crate::liveness::jittered;
use crate::place::Place;
use crate::{Error, EventBus};

/// A stream that delivers nothing for this long has no further messages, whatever it announced.
const SILENCE_MS: u64 = 5_000;

/// Pause before a lost subscription is made again.
const RESUBSCRIBE_DELAY_MS: u64 = 500;
/// How often, and how many times, a stream is looked at that seems to have lost messages.
const LOOK_INTERVAL_MS: u64 = 500;
const MAX_LOOKS: usize = 20;

/// Where reading starts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum From {
    /// At the first message that was stored at or after this time.
    Time(SystemTime),
    /// Behind the message with this sequence number.
    After(u64),
    /// Behind the last message.
    Now,
}

/// A message with its position.
#[derive(Debug, Clone)]
pub struct Stored {
    /// Sequence number in the stream, from 1.
    pub sequence: u64,
    /// The message.
    pub event: Received,
}

/// A page of a stream.
#[derive(Debug, Clone)]
pub struct Page {
    /// The messages, oldest first.
    pub messages: Vec<Stored>,
    /// Whether there are later ones.
    pub more: bool,
}

/// Messages as they are stored. NATS keeps those that were not requested yet.
pub type Live = Pin<Box<dyn Stream<Item = Result<Stored, Error>> + Send>>;

impl EventBus {
    /// A page of the messages of a stream on these subjects, oldest first, at most `limit`.
    ///
    /// # Errors
    /// NATS is unreachable or rejects the request.
    pub async fn page(
        &self,
        stream: &str,
        subjects: Vec<String>,
        from: From,
        limit: usize,
    ) -> Result<Page, Error> {
        let (mut place, mut consumer) = self.begin(stream, subjects, from).await?;
        let mut page = Page { messages: Vec::new(), more: false };
        if consumer.info().await.map_err(Error::nats)?.num_pending == 0 {
            return Ok(page);
        }
        let mut messages = consumer.messages().await.map_err(Error::nats)?;
        while let Ok(Some(message)) =
            tokio::time::timeout(Duration::from_millis(SILENCE_MS), messages.next()).await
        {
            let message = message.map_err(Error::nats)?;
            let pending = message.info().map_or(0, |info| info.pending);
            page.messages.extend(unread(&mut place, &message)?);
            if pending == 0 || page.messages.len() == limit {
                page.more = pending > 0;
                return Ok(page);
            }
        }
        Ok(page)
    }

    /// The messages of a stream on these subjects as they are stored, and the sequence number behind which
    /// they start (0 for a start by time).
    ///
    /// # Errors
    /// NATS is unreachable or rejects the request.
    pub async fn follow(
        &self,
        stream: &str,
        subjects: Vec<String>,
        from: From,
    ) -> Result<(u64, Live), Error> {
        let reconnected = Box::pin(self.reconnected());
        let (place, consumer) = self.begin(stream, subjects.clone(), from).await?;
        let messages = consumer.messages().await.map_err(Error::nats)?;
        let from = match from {
            From::Time(_) => from,
            From::After(_) | From::Now => From::After(place.sequence()),
        };
        let (bus, stream) = (self.clone(), stream.to_owned());
        let following = Following { bus, stream, subjects, from, place, messages, reconnected };
        let live = futures::stream::unfold(following, async |mut following| {
            following.next().await.map(|next| (next, following))
        });
        Ok((place.sequence(), Box::pin(live)))
    }

    /// The place at which reading begins, and a consumer for it.
    async fn begin(
        &self,
        stream: &str,
        subjects: Vec<String>,
        from: From,
    ) -> Result<(Place, consumer::Consumer<consumer::pull::OrderedConfig>), Error> {
        let mut stream = self.jetstream().get_stream(stream).await.map_err(Error::nats)?;
        let position = if let From::After(sequence) = from { sequence } else { 0 };
        let last = last_sequence(&mut stream, position).await?;
        let after = match from {
            From::Time(_) => 0,
            // A position behind the end comes from a stream that was created again since.
            From::After(sequence) => sequence.min(last),
            From::Now => last,
        };
        let deliver_policy = match from {
            From::Time(time) => DeliverPolicy::ByStartTime { start_time: time.into() },
            From::After(_) | From::Now => DeliverPolicy::ByStartSequence { start_sequence: after + 1 },
        };
        let place = Place::behind(after, stream.cached_info());
        Ok((place, ordered(&stream, deliver_policy, subjects).await?))
    }

    /// A consumer that goes on at a place.
    async fn resume(
        &self,
        stream: &str,
        subjects: Vec<String>,
        place: &mut Place,
    ) -> Result<consumer::Consumer<consumer::pull::OrderedConfig>, Error> {
        let stream = self.jetstream().get_stream(stream).await.map_err(Error::nats)?;
        let deliver_policy = place.resume(stream.cached_info());
        ordered(&stream, deliver_policy, subjects).await
    }
}

/// A consumer that keeps its place in this process.
pub(crate) async fn ordered(
    stream: &stream::Stream,
    deliver_policy: DeliverPolicy,
    filter_subjects: Vec<String>,
) -> Result<consumer::Consumer<consumer::pull::OrderedConfig>, Error> {
    let config = consumer::pull::OrderedConfig {
        deliver_policy,
        filter_subjects,
        ..consumer::pull::OrderedConfig::default()
    };
    stream.create_consumer(config).await.map_err(Error::nats)
}

/// Sequence number of the last message. One before `position` counts only if it stays so: while a stream has
/// no leader, or its server has just started, it seems to be empty.
///
/// # Errors
/// The stream has no leader, or NATS is unreachable.
pub async fn last_sequence(stream: &mut stream::Stream, position: u64) -> Result<u64, Error> {
    for _ in 0..MAX_LOOKS {
        let info = stream.cached_info();
        let has_leader = info.cluster.as_ref().is_none_or(|cluster| cluster.leader.is_some());
        if has_leader && info.state.last_sequence >= position {
            break;
        }
        tokio::time::sleep(Duration::from_millis(LOOK_INTERVAL_MS)).await;
        stream.info().await.map_err(Error::nats)?;
    }
    let info = stream.cached_info();
    if info.cluster.as_ref().is_some_and(|cluster| cluster.leader.is_none()) {
        return Err(Error::nats("the stream has no leader"));
    }
    Ok(info.state.last_sequence)
}

/// What [`EventBus::follow`] keeps between two messages.
struct Following {
    bus: EventBus,
    stream: String,
    subjects: Vec<String>,
    /// Where it began.
    from: From,
    place: Place,
    messages: consumer::pull::Ordered,
    reconnected: Pin<Box<dyn Future<Output = ()> + Send>>,
}

impl Following {
    async fn next(&mut self) -> Option<Result<Stored, Error>> {
        loop {
            let message = tokio::select! {
                message = self.messages.next() => message?,
                () = &mut self.reconnected => {
                    self.follow_again().await;
                    continue;
                }
            };
            let message = message.map_err(Error::nats);
            match message.and_then(|message| unread(&mut self.place, &message)) {
                Ok(Some(stored)) => return Some(Ok(stored)),
                Ok(None) => {}
                Err(error) => return Some(Err(error)),
            }
        }
    }

    async fn subscribe(&mut self) -> Result<(), Error> {
        let (bus, stream, subjects) = (&self.bus, &self.stream, self.subjects.clone());
        let consumer = if self.place.sequence() > 0 {
            bus.resume(stream, subjects, &mut self.place).await?
        } else {
            let (place, consumer) = bus.begin(stream, subjects, self.from).await?;
            self.place = place;
            consumer
        };
        self.messages = consumer.messages().await.map_err(Error::nats)?;
        Ok(())
    }

    /// Goes on behind the last message, with a consumer of the present connection.
    async fn follow_again(&mut self) {
        loop {
            let reconnected = Box::pin(self.bus.reconnected());
            match self.subscribe().await {
                Ok(()) => {
                    self.reconnected = reconnected;
                    return;
                }
                Err(error) => tracing::debug!(%error, stream = self.stream, "following resumes"),
            }
            tokio::time::sleep(jittered(RESUBSCRIBE_DELAY_MS)).await;
        }
    }
}

/// The message, unless the reader has read it before.
fn unread(place: &mut Place, message: &async_nats::jetstream::Message) -> Result<Option<Stored>, Error> {
    let unread = place.read(message)?;
    Ok(unread.map(|sequence| Stored { sequence, event: Received::from_message(message) }))
}
