//! Histograms with cells that hold enough rows for a test.

use super::profile::ColumnKind;

/// A cell is expected to have this many rows in the smaller of the two samples: below, X² is not distributed
/// as χ².
const MIN_EXPECTED_ROWS: f64 = 5.0;

/// Two histograms on the same cells, in rows.
#[derive(Debug, Clone, PartialEq, Default)]
pub(super) struct Cells {
    pub(super) expected: Vec<f64>,
    pub(super) actual: Vec<f64>,
}

/// One cell of both histograms, in rows.
#[derive(Debug, Clone, Copy, Default)]
struct Cell {
    expected: f64,
    actual: f64,
}

/// Joins bins into cells: neighbours of a numeric column, rare values of a categorical one. A row of `actual`
/// is `worth` that many independent rows.
pub(super) fn cells(kind: ColumnKind, expected: &[f64], actual: &[f64], worth: f64) -> Cells {
    let (expected_total, actual_total): (f64, f64) =
        (expected.iter().sum(), actual.iter().sum::<f64>() * worth);
    let (smaller, all) = (expected_total.min(actual_total), expected_total + actual_total);
    let is_enough = |cell: Cell| (cell.expected + cell.actual * worth) / all * smaller >= MIN_EXPECTED_ROWS;
    let mut cells = Cells::default();
    let mut open = Cell::default();
    let last = expected.len().saturating_sub(1);
    for (at, (left, right)) in expected.iter().zip(actual).enumerate() {
        let bin = Cell { expected: *left, actual: *right };
        let joined = Cell { expected: open.expected + left, actual: open.actual + right };
        match kind {
            ColumnKind::Numeric if is_enough(joined) => {
                cells.push(joined);
                open = Cell::default();
            }
            // The last bin is for values that are not listed, and those that are rare are like them.
            ColumnKind::Categorical if at < last && is_enough(bin) => cells.push(bin),
            _ => open = joined,
        }
    }
    cells.close(open, kind, is_enough(open));
    cells
}

impl Cells {
    fn push(&mut self, cell: Cell) {
        self.expected.push(cell.expected);
        self.actual.push(cell.actual);
    }

    /// What is left is a cell of its own where it is large enough, and else goes to a neighbour, or to the
    /// smallest cell.
    fn close(&mut self, cell: Cell, kind: ColumnKind, is_enough: bool) {
        if cell.expected + cell.actual <= 0.0 {
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
                self.expected[place] += cell.expected;
                self.actual[place] += cell.actual;
            }
            None => self.push(cell),
        }
    }
}
