//! Filters and orders as MLflow's clients write them.

use proptest::prelude::*;

use super::*;
use crate::registry::filter::{Order, parse_order_by};

fn text(key: Key, comparison: Comparison, value: &str) -> Clause {
    Clause { key, comparison, operand: Operand::Text(value.into()) }
}

fn attribute(name: &str) -> Key {
    Key::Attribute(name.into())
}

#[expect(clippy::too_many_lines, reason = "a table of cases")]
#[test]
fn filters_that_clients_send() {
    use Comparison::{Equal, Greater, ILike, In, IsNotNull, IsNull, LessOrEqual, Like, NotEqual, NotIn};
    let list = |values: &[&str]| Operand::List(values.iter().map(|value| (*value).to_owned()).collect());
    let number = |key, comparison, value| Clause { key, comparison, operand: Operand::Number(value) };
    let cases = [
        (Entity::Runs, "", vec![]),
        (Entity::Runs, "   ", vec![]),
        (Entity::LoggedModels, "name = 'dir'", vec![text(attribute("name"), Equal, "dir")]),
        (
            Entity::LoggedModels,
            "params.p IN ()",
            vec![Clause { key: Key::Param("p".into()), comparison: In, operand: list(&[]) }],
        ),
        (
            Entity::Runs,
            "metrics.val/loss <= 0.5 and params.solver='lbfgs' AND tags.`mlflow.runName` != \"r 1\"",
            vec![
                number(Key::Metric("val/loss".into()), LessOrEqual, 0.5),
                text(Key::Param("solver".into()), Equal, "lbfgs"),
                text(Key::Tag("mlflow.runName".into()), NotEqual, "r 1"),
            ],
        ),
        (Entity::Runs, "metric.\"a b\" > -1e3", vec![number(Key::Metric("a b".into()), Greater, -1000.0)]),
        (
            Entity::Runs,
            "tags.mlflow.source.name LIKE '%.py'",
            vec![text(Key::Tag("mlflow.source.name".into()), Like, "%.py")],
        ),
        (
            Entity::Runs,
            "attributes.run_id IN ('a', 'b')AND run_name not in ('x')",
            vec![
                Clause { key: attribute("run_id"), comparison: In, operand: list(&["a", "b"]) },
                Clause { key: attribute("run_name"), comparison: NotIn, operand: list(&["x"]) },
            ],
        ),
        (
            Entity::ModelVersions,
            "run_id IN ('a',) AND version_number >= '2'",
            vec![
                Clause { key: attribute("run_id"), comparison: In, operand: list(&["a"]) },
                number(attribute("version_number"), Comparison::GreaterOrEqual, 2.0),
            ],
        ),
        (Entity::Runs, "created > 5", vec![number(attribute("start_time"), Greater, 5.0)]),
        (
            Entity::Runs,
            "params.p IS NULL and tags.t is not null",
            vec![
                Clause { key: Key::Param("p".into()), comparison: IsNull, operand: Operand::Nothing },
                Clause { key: Key::Tag("t".into()), comparison: IsNotNull, operand: Operand::Nothing },
            ],
        ),
        (
            Entity::Runs,
            "dataset.context = 'train'",
            vec![text(Key::Dataset("context".into()), Equal, "train")],
        ),
        (Entity::Experiments, "name ILIKE 'iris%'", vec![text(attribute("name"), ILike, "iris%")]),
        (
            Entity::RegisteredModels,
            "name='m' AND tag.`mlflow.prompt.is_prompt` != 'true'",
            vec![
                text(attribute("name"), Equal, "m"),
                text(Key::Tag("mlflow.prompt.is_prompt".into()), NotEqual, "true"),
            ],
        ),
        (
            Entity::ModelVersions,
            "name='it''s' and version_number = 3",
            vec![text(attribute("name"), Equal, "it's"), number(attribute("version_number"), Equal, 3.0)],
        ),
    ];
    for (entity, filter, expected) in cases {
        assert_eq!(parse(entity, filter).unwrap_or_else(|error| panic!("{filter}: {error}")), expected);
    }
}

#[expect(clippy::too_many_lines, reason = "a table of cases")]
#[test]
fn filters_that_are_refused_say_where_and_why() {
    let cases = [
        (Entity::Runs, "metrics.a > 1 OR metrics.b > 1", 14, "Invalid clause(s) in filter string: 'OR'"),
        (Entity::Runs, "metrics.a > 'x'", 12, "Expected numeric value type for metric. Found 'x'"),
        (
            Entity::Runs,
            "params.a = 1",
            11,
            "Expected a quoted string value for parameter (e.g. 'my-value'). Got value 1",
        ),
        (
            Entity::Runs,
            "params.a > 'x'",
            8,
            "Invalid comparator '>' not one of '{=, !=, LIKE, ILIKE, IS NULL, IS NOT NULL}'",
        ),
        (
            Entity::Runs,
            "color = 'x'",
            0,
            "Invalid attribute key 'color' specified. Valid keys are \
             '{'run_id', 'run_name', 'status', 'user_id', 'artifact_uri', 'start_time', 'end_time'}'",
        ),
        (
            Entity::Experiments,
            "metrics.a > 1",
            0,
            "Invalid entity type 'metrics'. Valid entity types are ('attribute', 'tag', 'tags')",
        ),
        (Entity::Runs, "run_id IN ('a'", 14, "Invalid clause(s) in filter string: 'run_id IN ('a''"),
        (
            Entity::ModelVersions,
            "run_id IN ('a',,'b')",
            15,
            "While parsing a list in the query, expected a non-empty list of string values, but got \
             ill-formed list",
        ),
        (Entity::RegisteredModels, "name LIKE", 9, "Invalid clause(s) in filter string: 'name LIKE'"),
        (
            Entity::RegisteredModels,
            "name!=something",
            6,
            "Parameter value is either not quoted or unidentified quote types used for string value \
             something. Use either single or double quotes.",
        ),
        (
            Entity::RegisteredModels,
            "run_id = 'x'",
            0,
            "Invalid attribute key 'run_id' specified. Valid keys are '{'name'}'",
        ),
        (
            Entity::Runs,
            "run_id IN ()",
            12,
            "While parsing a list in the query, expected a non-empty list of string values, but got empty \
             list",
        ),
        (
            Entity::ModelVersions,
            "run_id IN ('a', 1)",
            16,
            "While parsing a list in the query, expected string value, punctuation, or whitespace, but got \
             different type in list: ('a', 1)",
        ),
        (
            Entity::Runs,
            "end_time IS NULL",
            8,
            "IS NULL / IS NOT NULL is only supported for tags and params, not for 'attribute' 'end_time'",
        ),
        (Entity::RegisteredModels, "name > 'a'", 4, "Invalid comparator for attribute: >"),
        (
            Entity::LoggedModels,
            "tag.t = 'a'",
            0,
            "Invalid entity type: 'tag'. Expected one of ['attributes', 'metrics', 'params', 'tags'].",
        ),
        (Entity::Runs, "run_id IN 'a'", 10, "Invalid clause(s) in filter string: ''a''"),
        (Entity::Runs, "tags.a = 'x", 9, "Invalid filter string: the ' is not closed"),
        (Entity::Runs, "tags.a = 'x' AND ", 17, "Invalid filter string: a clause has to follow AND"),
        (Entity::Runs, "tags.a", 6, "Invalid clause(s) in filter string: 'tags.a'"),
        // No comparison: that comes before the question whether there is such a key.
        (Entity::Experiments, "foo", 3, "Invalid clause(s) in filter string: 'foo'"),
        (Entity::RegisteredModels, "evilhax = true", 10, "Invalid clause(s) in filter string: 'true'"),
        (Entity::Runs, "params.a = NULL", 11, "Invalid clause(s) in filter string: 'NULL'"),
        (
            Entity::LoggedModels,
            "name = 'a' OR name = 'b'",
            11,
            "Invalid filter string: 'name = 'a' OR name = 'b''. Expected a list of comparisons separated by \
             'AND' (e.g. 'metrics.loss > 0.1 AND params.lr = 0.01'), but found 'OR'",
        ),
        (Entity::Runs, "(tags.a = 'x')", 0, "Invalid clause(s) in filter string: '(tags.a'"),
        (Entity::Runs, "tags.a = 'x' tags.b = 'y'", 13, "Invalid clause(s) in filter string: 'tags.b'"),
        (
            Entity::Runs,
            "dataset.size = 'x'",
            0,
            "Invalid dataset key 'size' specified. Valid keys are name, digest, context",
        ),
    ];
    for (entity, filter, at, message) in cases {
        let error = parse(entity, filter).expect_err(filter);
        assert_eq!((error.at, error.message.as_str()), (at, message), "{filter}");
    }
}

#[test]
fn orders() {
    let keys = |keys: &[&str]| keys.iter().map(|key| (*key).to_owned()).collect::<Vec<_>>();
    let order = |key, ascending| Order { key, ascending };
    assert_eq!(
        parse_order_by(Entity::Runs, &keys(&["metrics.`val loss` DESC", "start_time", "tags.a asc"])),
        Ok(vec![
            order(Key::Metric("val loss".into()), false),
            order(attribute("start_time"), true),
            order(Key::Tag("a".into()), true),
        ])
    );
    assert_eq!(
        parse_order_by(Entity::RegisteredModels, &keys(&["timestamp DESC"])),
        Ok(vec![order(attribute("last_updated_timestamp"), false)])
    );
    for (entity, bad) in [
        (Entity::Runs, vec!["start_time", "attribute.start_time DESC"]),
        (Entity::Runs, vec!["start_time DOWN"]),
        (Entity::Runs, vec!["dataset.name"]),
        (Entity::RegisteredModels, vec!["creation_timestamp"]),
        (Entity::ModelVersions, vec!["name", "run_id DESC"]),
        (Entity::ModelVersions, vec!["source_path"]),
        (Entity::Runs, vec![""]),
    ] {
        assert!(parse_order_by(entity, &keys(&bad)).is_err(), "{bad:?}");
    }
}

proptest! {
    #[test]
    fn no_text_breaks_the_parser(filter in ".{0,60}", soup in "[a-z.='\"` ()<>!,0-9ANDIORNULLKE]{0,60}") {
        for entity in [Entity::Runs, Entity::Experiments, Entity::LoggedModels] {
            let _ = parse(entity, &filter);
            let _ = parse_order_by(entity, std::slice::from_ref(&filter));
            if let Err(error) = parse(entity, &soup) {
                prop_assert!(error.at <= soup.len());
            }
        }
    }

    #[test]
    fn quoted_values_come_back_as_they_were(value in ".{0,40}", key in "[a-zA-Z0-9_ /.-]{1,20}") {
        let filter = format!("tags.`{key}` = '{}'", value.replace('\'', "''"));
        prop_assert_eq!(parse(Entity::Runs, &filter).expect("valid"),
            vec![text(Key::Tag(key), Comparison::Equal, &value)]);
    }
}
