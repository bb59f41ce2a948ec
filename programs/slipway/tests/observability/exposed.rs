//! What a service exposes at `/metrics`.

use std::collections::{BTreeMap, BTreeSet};

/// A metric of a service.
#[derive(Debug, Default)]
pub(crate) struct Exposed {
    pub(crate) kind: String,
    pub(crate) help: String,
    /// Sets of names of labels, without `le`.
    pub(crate) labels: BTreeSet<Vec<String>>,
}

/// Reads OpenMetrics text. Names of counters have their `_total`.
pub(crate) fn read(text: &str) -> BTreeMap<String, Exposed> {
    let mut found: BTreeMap<String, Exposed> = BTreeMap::new();
    let mut kinds: BTreeMap<&str, &str> = BTreeMap::new();
    let mut helps: BTreeMap<&str, &str> = BTreeMap::new();
    for line in text.lines() {
        if let Some((name, kind)) = line.strip_prefix("# TYPE ").and_then(|rest| rest.split_once(' ')) {
            kinds.insert(name, kind);
        } else if let Some((name, help)) = line.strip_prefix("# HELP ").and_then(|rest| rest.split_once(' '))
        {
            helps.insert(name, help.trim_end_matches('.'));
        } else if !line.starts_with('#') {
            let end = line.find(['{', ' ']).unwrap();
            let (series, rest) = line.split_at(end);
            let suffixes = ["_total", "_bucket", "_sum", "_count", ""];
            let family = suffixes
                .into_iter()
                .filter_map(|suffix| series.strip_suffix(suffix))
                .find(|family| kinds.contains_key(family))
                .unwrap_or_else(|| panic!("{series} has no type"));
            let kind = kinds[family];
            let name = if kind == "counter" { format!("{family}_total") } else { family.to_owned() };
            let exposed = found.entry(name).or_default();
            exposed.kind = kind.to_owned();
            exposed.help = helps.get(family).copied().unwrap_or_default().to_owned();
            exposed.labels.insert(labels(rest));
        }
    }
    found
}

/// Names of labels, in their order.
fn labels(rest: &str) -> Vec<String> {
    let Some(inner) = rest.strip_prefix('{') else { return Vec::new() };
    let (mut names, mut name, mut quoted, mut escaped) = (Vec::new(), String::new(), false, false);
    for letter in inner.chars() {
        match letter {
            _ if escaped => escaped = false,
            '\\' if quoted => escaped = true,
            '"' => quoted = !quoted,
            _ if quoted => {}
            '}' => break,
            '=' => names.push(std::mem::take(&mut name)),
            ',' => name.clear(),
            letter => name.push(letter),
        }
    }
    names.retain(|name| name != "le");
    names
}

#[test]
fn text_is_read_with_its_labels() {
    let text = "# HELP a A.\n# TYPE a counter\na_total{x=\"1,}\\\"\",y=\"2\"} 3\n\
                # HELP h H\n# TYPE h histogram\nh_bucket{le=\"1.0\",z=\"\"} 1\nh_sum{z=\"\"} 1\n# EOF\n";
    let found = read(text);
    assert_eq!((found["a_total"].kind.as_str(), found["a_total"].help.as_str()), ("counter", "A"));
    assert_eq!(found["a_total"].labels, BTreeSet::from([vec!["x".to_owned(), "y".to_owned()]]));
    assert_eq!(found["h"].labels, BTreeSet::from([vec!["z".to_owned()]]));
}
