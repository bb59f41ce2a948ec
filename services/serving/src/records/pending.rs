//! Records on their way: gathered in columns where they are alike.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use super::Observation;
use super::columns::{Columns, Part, is_regular};
use super::encode::longest;

/// Of the columns of one version, so many of the newest are looked at: who sends another shape each time must not hold up the others.
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
    len: usize,
}

impl Pending {
    pub(super) const fn len(&self) -> usize {
        self.len
    }

    pub(super) const fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Nothing that waits, in the memory of what was sent: columns of those that had records, ready for more of them. To make columns anew for
    /// each message would cost most where many models have few records each.
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
        Self { columns, of_source, rows: VecDeque::new(), len: 0 }
    }

    /// Adds a record; gives back what is to be freed once nobody waits for these.
    pub(super) fn push(&mut self, observation: Observation) -> Option<Observation> {
        self.len += 1;
        if !is_regular(&observation) {
            self.rows.push_back(observation);
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

    /// The next columns that surely take no more than `room` as JSON; a record at least, where `first`.
    pub(super) fn take_columns(&mut self, room: &mut usize, mut first: bool) -> Vec<(usize, Part)> {
        let mut parts = Vec::new();
        for (place, columns) in self.columns.iter_mut().enumerate().filter(|(_, columns)| !columns.is_sent())
        {
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

    /// The next record without columns, if it surely takes no more than `room` as JSON, or is the `first`.
    pub(super) fn take_row(&mut self, room: &mut usize, first: bool) -> Option<Observation> {
        let longest = longest(self.rows.front()?);
        if longest > *room && !first {
            return None;
        }
        *room = room.saturating_sub(longest);
        self.len -= 1;
        self.rows.pop_front()
    }
}
