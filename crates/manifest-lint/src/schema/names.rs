//! Names that are nearly right.

/// Differences up to which a name is taken for a mistyped one.
const MAX_DISTANCE: usize = 2;

/// The name that differs the least, if it differs by little.
pub(crate) fn nearest<'name>(name: &str, known: impl IntoIterator<Item = &'name str>) -> Option<&'name str> {
    let distances = known.into_iter().map(|known| (distance(name, known), known));
    let limit = MAX_DISTANCE.min(name.chars().count() / 2);
    distances.filter(|(distance, _)| *distance <= limit).min().map(|(_, known)| known)
}

/// Letters to insert, delete, replace or swap, without regard to case.
fn distance(one: &str, other: &str) -> usize {
    let letters = |text: &str| text.to_lowercase().chars().collect::<Vec<char>>();
    let (one, other) = (letters(one), letters(other));
    let mut rows = vec![(0..=other.len()).collect::<Vec<usize>>()];
    for (i, letter) in one.iter().enumerate() {
        let mut row = vec![i + 1];
        for (j, second) in other.iter().enumerate() {
            let replaced = rows[i][j] + usize::from(letter != second);
            let mut least = replaced.min(rows[i][j + 1] + 1).min(row[j] + 1);
            if i > 0 && j > 0 && *letter == other[j - 1] && one[i - 1] == *second {
                least = least.min(rows[i - 1][j - 1] + 1);
            }
            row.push(least);
        }
        rows.push(row);
    }
    rows[one.len()][other.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mistyped_names_are_found_and_others_are_not() {
        let known = ["replicas", "resources", "model"];
        for (name, expected) in
            [("replica", Some("replicas")), ("modle", Some("model")), ("Resources", Some("resources"))]
        {
            assert_eq!(nearest(name, known), expected, "{name}");
        }
        assert_eq!(nearest("image", known), None);
        assert_eq!(nearest("x", ["y"]), None);
    }
}
