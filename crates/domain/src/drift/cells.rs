//! Histograms with cells that hold enough rows for a test.

use super::profile::ColumnKind;

/// A cell is expected to have this many rows in the smaller of the two samples: below, X² is not distributed as χ².
const MIN_EXPECTED_ROWS: f64 = 5.0;

/// Two histograms on the same cells, in rows.
#[derive(Debug, Clone, PartialEq, Default)]
pub(super) struct Cells {
    pub(super) expected: Vec<f64>,
    pub(super) actual: Vec<f64>,
}

/// Joins bins into cells: neighbours of a numeric column, rare values of a categorical one. A row of `actual` is `worth` that many
/// independent rows.
pub(super) fn cells(kind: ColumnKind, expected: &[f64], actual: &[f64], worth: f64) -> Cells {
    let (expected_total, actual_total): (f64, f64) =
        (expected.iter().sum(), actual.iter().sum::<f64>() * worth);
    let (smaller, all) = (expected_total.min(actual_total), expected_total + actual_total);
    let is_enough =
        |expected: f64, actual: f64| (expected + actual * worth) / all * smaller >= MIN_EXPECTED_ROWS;
    let mut cells = Cells::default();
    let mut open = (0.0, 0.0);
    let last = expected.len().saturating_sub(1);
    for (at, (left, right)) in expected.iter().zip(actual).enumerate() {
        let joined = (open.0 + left, open.1 + right);
        match kind {
            ColumnKind::Numeric if is_enough(joined.0, joined.1) => {
                cells.push(joined);
                open = (0.0, 0.0);
            }
            // The last bin is for values that are not listed, and those that are rare are like them.
            ColumnKind::Categorical if at < last && is_enough(*left, *right) => cells.push((*left, *right)),
            _ => open = joined,
        }
    }
    cells.close(open, kind, is_enough(open.0, open.1));
    cells
}

impl Cells {
    fn push(&mut self, (expected, actual): (f64, f64)) {
        self.expected.push(expected);
        self.actual.push(actual);
    }

    /// What is left is a cell of its own where it is large enough, and else goes to a neighbour, or to the smallest cell.
    fn close(&mut self, (expected, actual): (f64, f64), kind: ColumnKind, is_enough: bool) {
        if expected + actual <= 0.0 {
            return;
        }
        let sums = self.expected.iter().zip(&self.actual).map(|(left, right)| left + right);
        let smallest = sums.enumerate().min_by(|left, right| left.1.total_cmp(&right.1)).map(|(at, _)| at);
        let place = match kind {
            ColumnKind::Numeric => self.expected.len().checked_sub(1),
            ColumnKind::Categorical => smallest,
        };
        match place.filter(|_| !is_enough) {
            Some(place) => {
                self.expected[place] += expected;
                self.actual[place] += actual;
            }
            None => self.push((expected, actual)),
        }
    }
}
