//! Where a reader without a consumer of its own in NATS is in a stream.

use async_nats::jetstream::consumer::DeliverPolicy;
use async_nats::jetstream::{Message, stream};

use crate::Error;

/// The place of a reader in a stream.
///
/// A consumer reads one server's copy of a stream. A copy that lacks the newest messages has the consumer
/// begin at its own end, so that a reader that resumes there gets again what it has read. Such messages are
/// recognised: none is newer than the last one read.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Place {
    /// Sequence number of the last message read; 0 before the first.
    sequence: u64,
    /// When that was stored, Unix time in nanoseconds; none where it was not read by this reader.
    stored_ns: Option<i128>,
    /// When the stream was created, Unix time in nanoseconds.
    created_ns: Option<i128>,
}

impl Place {
    /// Behind the message with this sequence number.
    pub(crate) fn behind(sequence: u64, info: &stream::Info) -> Self {
        Self { sequence, stored_ns: None, created_ns: Some(info.created.unix_timestamp_nanos()) }
    }

    /// Sequence number of the last message read; 0 before the first.
    pub(crate) const fn sequence(&self) -> u64 {
        self.sequence
    }

    /// Where a new consumer goes on.
    pub(crate) fn resume(&mut self, info: &stream::Info) -> DeliverPolicy {
        let after = self.resume_in(info.created.unix_timestamp_nanos(), info.state.last_sequence);
        DeliverPolicy::ByStartSequence { start_sequence: after + 1 }
    }

    /// All of a stream that was created again is new.
    fn resume_in(&mut self, created_ns: i128, last_sequence: u64) -> u64 {
        let is_same = self.created_ns.replace(created_ns).is_none_or(|known| known == created_ns);
        if is_same { self.sequence.min(last_sequence) } else { 0 }
    }

    /// Takes in a message; its sequence number, unless the reader has read it before.
    pub(crate) fn read(&mut self, message: &Message) -> Result<Option<u64>, Error> {
        let info = message.info().map_err(Error::nats)?;
        let is_unread = self.advance(info.stream_sequence, info.published.unix_timestamp_nanos());
        Ok(is_unread.then_some(info.stream_sequence))
    }

    /// Takes in a message; `false` where the reader has read it before.
    fn advance(&mut self, sequence: u64, stored_ns: i128) -> bool {
        let is_older = self.stored_ns.is_none_or(|last| stored_ns <= last);
        if sequence <= self.sequence && is_older {
            return false;
        }
        self.sequence = sequence;
        self.stored_ns = Some(stored_ns);
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(sequence: u64, stored_ns: i128, created_ns: i128) -> Place {
        Place { sequence, stored_ns: Some(stored_ns), created_ns: Some(created_ns) }
    }

    #[test]
    fn what_a_copy_that_lags_behind_delivers_again_is_not_read_again() {
        let mut place = at(5, 500, 1);
        assert_eq!(place.resume_in(1, 2), 2, "the copy ends there");
        let read: Vec<u64> =
            (3..=8).filter(|sequence| place.advance(*sequence, i128::from(*sequence) * 100)).collect();
        assert_eq!(read, [6, 7, 8]);
    }

    #[test]
    fn all_of_a_stream_that_was_created_again_is_read() {
        let mut place = at(5, 500, 1);
        assert_eq!(place.resume_in(2, 9), 0);
        let read: Vec<u64> = (1..=3).filter(|sequence| place.advance(*sequence, 600)).collect();
        assert_eq!(read, [1, 2, 3], "messages of one moment too");
        assert_eq!(place.resume_in(2, 9), 3);
    }

    #[test]
    fn messages_that_took_the_numbers_of_lost_ones_are_read() {
        let mut place = at(5, 500, 1);
        assert_eq!(place.resume_in(1, 3), 3, "the server lost two");
        assert!(place.advance(4, 700) && place.advance(5, 700) && !place.advance(5, 700));
    }

    #[test]
    fn a_reader_that_starts_behind_a_message_does_not_get_it() {
        let mut place = Place { sequence: 5, ..Place::default() };
        assert!(!place.advance(5, 500) && place.advance(6, 400));
    }
}
