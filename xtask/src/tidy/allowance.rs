//! Lists of files that broke a rule before it existed, with the number of their findings. The numbers only
//! fall.

use std::collections::BTreeMap;

use anyhow::Context as _;

use super::Finding;

/// Reads lines such as `FILE COUNT`.
fn parse(list: &str, name: &str) -> anyhow::Result<BTreeMap<String, usize>> {
    let lines = list.lines().filter(|line| !line.is_empty() && !line.starts_with('#'));
    let entry = |line: &str| {
        let (file, count) = line.rsplit_once(' ')?;
        Some((file.to_owned(), count.parse().ok()?))
    };
    lines
        .map(|line| entry(line).with_context(|| format!("{name}: expected `FILE COUNT`, got `{line}`")))
        .collect()
}

/// The findings of files that have more than the list allows, and the entries that allow more than there are.
///
/// # Errors
/// A line of the list does not parse.
pub(crate) fn beyond(findings: Vec<Finding>, list: &str, name: &str) -> anyhow::Result<Vec<Finding>> {
    let allowed = parse(list, name)?;
    let mut counts = BTreeMap::<&str, usize>::new();
    for finding in &findings {
        *counts.entry(&finding.file).or_default() += 1;
    }
    let stale = allowed.iter().filter_map(|(file, count)| {
        let left = counts.get(file.as_str()).copied().unwrap_or_default();
        let message =
            format!("{file} has {left} findings, not {count}: lower the number, or remove the line");
        (left < *count).then(|| Finding { file: name.to_owned(), line: 0, message })
    });
    let mut found: Vec<Finding> = stale.collect();
    let is_beyond =
        |file: &str| counts.get(file).copied() > Some(allowed.get(file).copied().unwrap_or_default());
    found.extend(findings.iter().filter(|finding| is_beyond(&finding.file)).cloned());
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_allows_as_many_findings_as_it_says_and_no_fewer() {
        let found = |count| {
            let finding = |line| Finding { file: "a.rs".to_owned(), line, message: String::new() };
            (1..=count).map(finding).collect::<Vec<_>>()
        };
        let list = "# a comment\na.rs 2\n";
        assert!(beyond(found(2), list, "l.txt").unwrap().is_empty());
        assert_eq!(beyond(found(3), list, "l.txt").unwrap().len(), 3);
        let stale = beyond(found(1), list, "l.txt").unwrap();
        assert_eq!((stale.len(), stale[0].file.as_str()), (1, "l.txt"));
        assert!(beyond(found(0), "a.rs\n", "l.txt").unwrap_err().to_string().contains("l.txt"));
    }
}
