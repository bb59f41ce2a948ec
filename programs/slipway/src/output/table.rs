//! Tables: columns as wide as their widest cell, within the width of the terminal.

use unicode_width::{UnicodeWidthChar as _, UnicodeWidthStr as _};

use super::escape;

/// Columns of text are not made narrower than this.
const MIN_TEXT_WIDTH: usize = 20;
const GAP: &str = "  ";

/// The lines of a table. With a limit, in columns of the terminal, sentences are shortened with `…`; names,
/// ids and digests stay whole, since a part of them is of no use.
pub(super) fn lines(header: &[&str], rows: &[Vec<String>], limit: Option<usize>) -> Vec<String> {
    let header = header.iter().map(|cell| (*cell).to_owned()).collect();
    let rows = rows.iter().map(|row| row.iter().map(|cell| escape::one_line(cell).into_owned()).collect());
    let rows: Vec<Vec<String>> = std::iter::once(header).chain(rows).collect();
    let mut widths = widest(&rows, |_| true);
    if let Some(limit) = limit {
        shrink(&mut widths, &widest(&rows, |cell| !is_text(cell)), limit);
    }
    rows.iter().map(|row| line(row, &widths)).collect()
}

/// Whether a cell holds a sentence rather than a name or a time, which has two words at most.
fn is_text(cell: &str) -> bool {
    cell.matches(' ').count() > 1
}

/// The widest of the chosen cells of each column.
fn widest(rows: &[Vec<String>], chosen: impl Fn(&str) -> bool) -> Vec<usize> {
    let mut widths = vec![0; rows.first().map_or(0, Vec::len)];
    for (width, cell) in rows.iter().flat_map(|row| widths_and(row)).filter(|(_, cell)| chosen(cell)) {
        widths[width] = widths[width].max(cell.width());
    }
    widths
}

fn widths_and(row: &[String]) -> impl Iterator<Item = (usize, &str)> {
    row.iter().map(String::as_str).enumerate()
}

/// Takes from the widest column that can give, until the table fits or none can.
fn shrink(widths: &mut [usize], whole: &[usize], limit: usize) {
    let gaps = GAP.len() * widths.len().saturating_sub(1);
    loop {
        let total: usize = widths.iter().sum::<usize>() + gaps;
        let floor = |column: usize| whole[column].max(MIN_TEXT_WIDTH);
        let widest = (0..widths.len())
            .filter(|column| widths[*column] > floor(*column))
            .max_by_key(|column| widths[*column]);
        match widest {
            Some(column) if total > limit => {
                widths[column] = floor(column).max(widths[column] - (total - limit).min(widths[column]));
            }
            _ => return,
        }
    }
}

fn line(row: &[String], widths: &[usize]) -> String {
    let mut line = String::new();
    for (cell, width) in row.iter().zip(widths) {
        let cell = shortened(cell, *width);
        line.push_str(&cell);
        line.extend(std::iter::repeat_n(' ', width.saturating_sub(cell.width()) + GAP.len()));
    }
    line.truncate(line.trim_end().len());
    line
}

fn shortened(cell: &str, width: usize) -> String {
    if cell.width() <= width {
        return cell.to_owned();
    }
    let (mut short, mut left) = (String::new(), width.saturating_sub(1));
    for character in cell.chars() {
        let wide = character.width().unwrap_or(0);
        if wide > left {
            break;
        }
        left -= wide;
        short.push(character);
    }
    short.push('…');
    short
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(cells: [&str; 3]) -> Vec<String> {
        cells.map(str::to_owned).to_vec()
    }

    #[test]
    fn wide_characters_and_line_breaks_keep_the_columns_straight() {
        let rows = [row(["表示", "1", "first\nsecond"]), row(["ab", "2", "\u{1b}[31mred"])];
        let expected = ["NAME  N  TEXT", "表示  1  first\\nsecond", "ab    2  \\x1b[31mred"];
        assert_eq!(lines(&["NAME", "N", "TEXT"], &rows, None), expected);
    }

    #[test]
    fn text_is_shortened_to_fit_the_terminal_and_ids_are_not() {
        let id = "0123456789abcdef0123456789abcdef";
        let text = "the candidate answers wrongly more often than the stable version does";
        let rows = [row([id, text, "x"])];
        let shown = lines(&["ID", "REASON", "N"], &rows, Some(70));
        assert_eq!(shown[1].width(), 70);
        assert!(
            shown[1].starts_with(id) && shown[1].contains('…') && shown[1].ends_with('x'),
            "{}",
            shown[1]
        );
        let narrow = lines(&["ID", "REASON", "N"], &rows, Some(10));
        assert!(narrow[1].starts_with(id) && narrow[1].contains("the candidate"), "{}", narrow[1]);
        assert!(lines(&["ID", "REASON", "N"], &rows, None)[1].contains(text));
    }
}
