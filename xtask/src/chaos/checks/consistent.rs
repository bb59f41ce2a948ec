//! Postgres, NATS and the replicas of serving have the same state.

use std::collections::BTreeSet;

use crate::chaos::facts::Facts;
use crate::chaos::faults::NATS_NODES;
use crate::chaos::nats::Copy;

/// Postgres, NATS KV and every replica of serving have the same traffic table.
pub(super) fn tables(facts: &Facts) -> Vec<String> {
    let mut found = Vec::new();
    for (node, copy) in facts.table_copies.iter().enumerate() {
        if copy.as_ref() != Some(&facts.table) {
            let (table, copy) =
                (&facts.table["revision"], copy.as_ref().map(|copy| copy["revision"].clone()));
            found.push(format!("Postgres has traffic table {table}, NATS KV {copy:?}, by node {node}"));
        }
    }
    let revision = facts.table["revision"].as_u64();
    for (replica, followed) in &facts.revisions {
        if *followed != revision {
            found.push(format!("{replica} routes by table {followed:?}, Postgres has {revision:?}"));
        }
    }
    found
}

/// Every node has a copy of every stream that has caught up.
pub(super) fn copies(all: &[Copy]) -> Vec<String> {
    let streams: BTreeSet<&str> = all.iter().map(|copy| copy.stream.as_str()).collect();
    let mut found = Vec::new();
    for stream in streams {
        let of_stream = all.iter().filter(|copy| copy.stream == stream && copy.is_current);
        let current: BTreeSet<&str> = of_stream.map(|copy| copy.node.as_str()).collect();
        if current.len() != NATS_NODES {
            found.push(format!("only {current:?} have the current state of the stream {stream}"));
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use serde_json::{Value, json};

    use super::*;

    #[test]
    fn a_node_without_the_current_state_of_a_stream_is_found() {
        let copy = |node: usize, is_current| Copy { stream: "s".into(), node: node.to_string(), is_current };
        assert!(copies(&[copy(0, true), copy(1, true), copy(2, true)]).is_empty());
        assert_eq!(copies(&[copy(0, true), copy(1, true), copy(2, false)]).len(), 1);
        assert_eq!(copies(&[copy(0, true), copy(1, true)]).len(), 1);
    }

    #[test]
    fn tables_are_the_same_everywhere() {
        let table = json!({"revision": 3});
        let facts = |copy: Option<Value>, followed| Facts {
            table: table.clone(),
            table_copies: vec![Some(table.clone()), copy],
            revisions: BTreeMap::from([("serving-0".to_owned(), followed)]),
            ..Facts::default()
        };
        assert!(tables(&facts(Some(table.clone()), Some(3))).is_empty());
        assert_eq!(tables(&facts(None, Some(3))).len(), 1);
        assert_eq!(tables(&facts(Some(json!({"revision": 2})), Some(3))).len(), 1);
        assert_eq!(tables(&facts(Some(table.clone()), Some(2))).len(), 1);
    }
}
