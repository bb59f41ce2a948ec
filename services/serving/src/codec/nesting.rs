//! Nested arrays have to be even: of an uneven one it would be a guess which element belongs where.

use super::parse::{is_between, string_length};

/// Deepest nesting; no tensor has as many dimensions.
const MAX_DEPTH: usize = 32;

/// What stands at one depth of nested arrays.
#[derive(Default)]
struct Level {
    /// Elements of the array that is open.
    count: usize,
    /// Elements of each array that was closed.
    length: Option<usize>,
    /// Whether its elements are arrays; `None` before the first one.
    holds_arrays: Option<bool>,
}

/// Refuses arrays of one depth that differ in length, or in what they hold. The text is valid JSON. Flat data
/// cost one quick search.
///
/// # Errors
/// Which depth is uneven.
pub(super) fn check(text: &str) -> Result<(), String> {
    let mut rest = text.trim_ascii_start().as_bytes();
    if !rest.get(1..).unwrap_or_default().contains(&b'[') {
        return Ok(());
    }
    let mut levels: Vec<Level> = Vec::new();
    let mut depth = 0;
    while let Some(byte) = rest.first() {
        let length = match byte {
            b'[' => {
                add(&mut levels, depth, true)?;
                depth += 1;
                if depth > MAX_DEPTH {
                    return Err(format!("data is nested over {MAX_DEPTH} arrays deep"));
                }
                if levels.len() < depth {
                    levels.push(Level::default());
                }
                1
            }
            b']' => {
                close(&mut levels, depth)?;
                depth -= 1;
                1
            }
            byte if is_between(byte) => 1,
            // No element at all, which is reported where elements are read.
            b'{' => return Ok(()),
            _ => {
                add(&mut levels, depth, false)?;
                match byte {
                    b'"' => string_length(rest),
                    _ => rest.iter().position(is_between).unwrap_or(rest.len()),
                }
            }
        };
        rest = rest.get(length..).unwrap_or_default();
    }
    Ok(())
}

/// Shape of nested arrays, by the first ones of each depth; unequal ones are for [`check`] to refuse. The
/// text is valid JSON.
pub(super) fn shape(text: &str) -> Vec<i64> {
    // Of each depth: how many elements the first array has, and whether it has ended.
    let mut firsts: Vec<(i64, bool)> = Vec::new();
    let mut depth = 0_usize;
    let mut rest = text.as_bytes();
    while let Some(byte) = rest.first() {
        if !is_between(byte) || *byte == b'[' {
            let open = depth.checked_sub(1).and_then(|at| firsts.get_mut(at));
            if let Some((count, false)) = open {
                *count += 1;
            }
        }
        match byte {
            b'[' if depth == MAX_DEPTH => break,
            b'[' => {
                depth += 1;
                if firsts.len() < depth {
                    firsts.push((0, false));
                }
            }
            b']' => {
                depth = depth.saturating_sub(1);
                if let Some((_, ended)) = firsts.get_mut(depth) {
                    *ended = true;
                }
            }
            b'{' => break,
            _ => {}
        }
        let length = match byte {
            b'"' => string_length(rest),
            byte if is_between(byte) => 1,
            _ => rest.iter().position(is_between).unwrap_or(rest.len()),
        };
        rest = rest.get(length..).unwrap_or_default();
    }
    firsts.into_iter().map(|(count, _)| count).collect()
}

/// Counts an element of the array that is open at a depth.
fn add(levels: &mut [Level], depth: usize, is_array: bool) -> Result<(), String> {
    let Some(level) = depth.checked_sub(1).and_then(|at| levels.get_mut(at)) else { return Ok(()) };
    level.count += 1;
    if *level.holds_arrays.get_or_insert(is_array) == is_array {
        Ok(())
    } else {
        Err(format!("data is nested unevenly: at depth {depth} stand arrays and values side by side"))
    }
}

fn close(levels: &mut [Level], depth: usize) -> Result<(), String> {
    let Some(level) = depth.checked_sub(1).and_then(|at| levels.get_mut(at)) else { return Ok(()) };
    let count = std::mem::take(&mut level.count);
    let length = *level.length.get_or_insert(count);
    if length == count {
        Ok(())
    } else {
        Err(format!(
            "data is nested unevenly: at depth {depth} one array has {length} elements, another {count}"
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_shape_is_that_of_the_first_arrays() {
        for (text, expected) in [
            ("5", &[][..]),
            ("\"[1,2]\"", &[]),
            ("[]", &[0]),
            ("[1, 2, 3]", &[3]),
            ("[[1,2],[3,4],[5,6]]", &[3, 2]),
            ("[ [ [ ] , [ ] ] ]", &[1, 2, 0]),
            ("[[\"a],[\\\"\", \"b\"]]", &[1, 2]),
        ] {
            assert_eq!(shape(text), expected, "{text}");
        }
        assert_eq!(shape(&"[".repeat(100_000)).len(), MAX_DEPTH);
    }

    #[test]
    fn uneven_arrays_are_refused() {
        for even in [
            "[]",
            "5",
            "[1, 2]",
            "[[1, 2], [3, 4]]",
            "[[], []]",
            " [ [ \"]\\\"[\" ] , [ \"a\" ] ] ",
            "[[[1]], [[2]]]",
            r#"["[", "[["]"#,
            "[[{}]]",
        ] {
            assert_eq!(check(even), Ok(()), "{even}");
        }
        for (uneven, expected) in [
            ("[[1, 2, 3], [4]]", "at depth 2 one array has 3 elements, another 1"),
            ("[[1], []]", "at depth 2 one array has 1 elements, another 0"),
            ("[1, [2]]", "at depth 1 stand arrays and values side by side"),
            ("[[[1]], [2]]", "at depth 2 stand arrays and values side by side"),
            ("[[], 1]", "at depth 1 stand"),
            (r#"[["a,["], ["b", "c"]]"#, "one array has 1 elements, another 2"),
        ] {
            let refused = check(uneven).unwrap_err();
            assert!(refused.contains(expected), "{uneven}: {refused}");
        }
        let deep = "[".repeat(100_000) + &"]".repeat(100_000);
        assert_eq!(check(&deep), Err("data is nested over 32 arrays deep".to_owned()));
    }
}
