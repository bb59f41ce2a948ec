//! Records on their way: gathered in columns where they are alike.

use std::collections::{BTreeSet, HashMap, VecDeque};
use std::sync::Arc;

use super::bounds::longest;
use super::columns::{Columns, Part, is_regular};
use super::observation::Observation;
use crate::source::Feed;

/// Of the columns of one version, so many of the newest are looked at: who sends another shape each time must
/// not hold up the others.
const LOOKED_AT: usize = 8;

/// No more memory is kept for the next records.
const KEPT_BYTES: usize = 4 * 1024 * 1024;

/// Records that wait for a message.
#[derive(Debug, Default)]
pub(super) struct Pending {
    columns: Vec<Columns>,
    /// By the address of their source, which lives as long as they do.
    of_source: HashMap<usize, Vec<usize>>,
    /// What has no columns.
    rows: VecDeque<Observation>,
    /// Whether `rows` are in the order of their feeds.
    sorted: bool,
    len: usize,
}

impl Pending {
    pub(super) const fn len(&self) -> usize {
        self.len
    }

    pub(super) const fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Nothing that waits, in the memory of what was sent: columns of those that had records, ready for more
    /// of them. To make columns again for each message would cost most where many models have few records
    /// each.
    pub(super) fn recycled(self) -> Self {
        if self.columns.iter().map(Columns::capacity_bytes).sum::<usize>() > KEPT_BYTES {
            return Self::default();
        }
        let mut of_source = self.of_source;
        for places in of_source.values_mut() {
            places.clear();
        }
        let columns: Vec<Columns> = self.columns.into_iter().filter_map(Columns::emptied).collect();
        for (place, columns) in columns.iter().enumerate() {
            of_source.entry(columns.source_address()).or_default().push(place);
        }
        of_source.retain(|_, places| !places.is_empty());
        Self { columns, of_source, rows: VecDeque::new(), sorted: false, len: 0 }
    }

    /// Adds a record; returns what is to be freed once no request waits for these.
    pub(super) fn push(&mut self, observation: Observation) -> Option<Observation> {
        self.len += 1;
        if !is_regular(&observation) {
            self.rows.push_back(observation);
            self.sorted = false;
            return None;
        }
        let places = self.of_source.entry(Arc::as_ptr(&observation.source).addr()).or_default();
        let newest = places.iter().rev().take(LOOKED_AT);
        let known = newest.copied().find(|place| self.columns[*place].takes(&observation));
        let place = known.unwrap_or_else(|| {
            places.push(self.columns.len());
            self.columns.push(Columns::like(&observation));
            self.columns.len() - 1
        });
        self.columns[place].push(&observation);
        Some(observation)
    }

    /// The feed that the next message is about; `None` where nothing waits.
    pub(super) fn next_feed(&mut self) -> Option<Arc<Feed>> {
        if !self.sorted {
            // Stable: the records of a feed stay in their order.
            let rows = self.rows.make_contiguous();
            rows.sort_by(|left, right| left.source.feed.key().cmp(&right.source.feed.key()));
            self.sorted = true;
        }
        let columns = self.columns.iter().filter(|columns| !columns.is_sent()).map(Columns::feed);
        let rows = self.rows.front().map(|row| &row.source.feed);
        columns.chain(rows).min_by(|left, right| left.key().cmp(&right.key())).map(Arc::clone)
    }

    /// What the records of a feed do not tell of their tensors.
    pub(super) fn redacted(&self, feed: &Feed) -> BTreeSet<&str> {
        let columns = self.columns.iter().filter(|columns| !columns.is_sent()).map(Columns::source);
        let rows = self.rows.iter().take_while(|row| *row.source.feed == *feed).map(|row| &row.source);
        let sources = columns.chain(rows).filter(|source| *source.feed == *feed);
        sources.flat_map(|source| source.policy.redact.iter().map(String::as_str)).collect()
    }

    /// The next columns of a feed that surely take no more than `room` as JSON; a record at least, where
    /// `first`.
    pub(super) fn take_columns(
        &mut self,
        feed: &Feed,
        room: &mut usize,
        mut first: bool,
    ) -> Vec<(usize, Part)> {
        let mut parts = Vec::new();
        let of_feed = |columns: &Columns| !columns.is_sent() && **columns.feed() == *feed;
        for (place, columns) in self.columns.iter_mut().enumerate().filter(|(_, columns)| of_feed(columns)) {
            let Some(part) = columns.take(room, first) else { break };
            self.len -= part.len();
            first = false;
            parts.push((place, part));
        }
        parts
    }

    pub(super) fn columns(&self, place: usize) -> &Columns {
        &self.columns[place]
    }

    /// The next record of a feed without columns, if it surely takes no more than `room` as JSON, or is the
    /// `first`.
    pub(super) fn take_row(&mut self, feed: &Feed, room: &mut usize, first: bool) -> Option<Observation> {
        let longest = longest(self.rows.front().filter(|row| *row.source.feed == *feed)?);
        if longest > *room && !first {
            return None;
        }
        *room = room.saturating_sub(longest);
        self.len -= 1;
        self.rows.pop_front()
    }
}
