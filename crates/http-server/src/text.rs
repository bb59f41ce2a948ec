//! Text for people, of a bounded length.

/// The text with at most `most` characters of it: of a longer one the middle is left out, and the last `end`
/// characters stay.
pub fn shortened(text: String, most: usize, end: usize) -> String {
    if text.len() <= most {
        return text;
    }
    let length = text.chars().count();
    if length <= most {
        return text;
    }
    let head = text.chars().take(most.saturating_sub(end));
    head.chain(['…']).chain(text.chars().skip(length - end.min(most))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_middle_of_a_long_text_is_left_out() {
        assert_eq!(shortened("grün".into(), 4, 2), "grün");
        assert_eq!(shortened("grüner".into(), 4, 2), "gr…er");
        assert_eq!(shortened("ünüü".into(), 1, 5), "…ü");
    }
}
