//! What each entity can be searched and ordered by.

use std::collections::BTreeSet;

use super::cursor::Cursor;
use super::terms::{Comparison, Entity, Key, ParseError};

const MAX_ORDER_KEYS: usize = 100;

/// One key of an order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Order {
    /// What is ordered by.
    pub key: Key,
    /// Direction.
    pub ascending: bool,
}

/// What values a field has, and so how it is compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// Numbers.
    Number,
    /// Strings that are there for every entity.
    Text,
    /// The same, where lists make sense.
    Listed,
    /// Strings that an entity need not have.
    Optional,
}

impl Kind {
    pub(super) fn is_number(self) -> bool {
        self == Self::Number
    }

    pub(super) fn allows(self, comparison: Comparison) -> bool {
        use Comparison::{
            Equal, Greater, GreaterOrEqual, ILike, In, IsNotNull, IsNull, Less, LessOrEqual, Like,
        };
        match comparison {
            Equal | Comparison::NotEqual => true,
            Less | LessOrEqual | Greater | GreaterOrEqual => self == Self::Number,
            Like | ILike => self != Self::Number,
            In | Comparison::NotIn => self == Self::Listed,
            IsNull | IsNotNull => self == Self::Optional,
        }
    }

    pub(super) fn comparators(self) -> &'static str {
        match self {
            Self::Number => "=, !=, <, <=, >, >=",
            Self::Text => "=, !=, LIKE, ILIKE",
            Self::Listed => "=, !=, LIKE, ILIKE, IN, NOT IN",
            Self::Optional => "=, !=, LIKE, ILIKE, IS NULL, IS NOT NULL",
        }
    }
}

/// A field of an entity.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Field {
    pub(super) key: Key,
    pub(super) kind: Kind,
}

impl Field {
    /// The field of that name, or what is wrong with it.
    pub(super) fn resolve(entity: Entity, prefix: Option<&str>, name: &str) -> Result<Self, String> {
        let Some(prefix) = prefix else { return attribute(entity, name) };
        let owned = name.to_owned();
        let of_runs = entity == Entity::Runs;
        match prefix {
            "metrics" if of_runs || entity == Entity::LoggedModels => {
                Ok(Self { key: Key::Metric(owned), kind: Kind::Number })
            }
            "metric" if of_runs => Ok(Self { key: Key::Metric(owned), kind: Kind::Number }),
            "params" if entity == Entity::LoggedModels => {
                Ok(Self { key: Key::Param(owned), kind: Kind::Listed })
            }
            "param" | "params" | "parameter" | "parameters" if of_runs => {
                Ok(Self { key: Key::Param(owned), kind: Kind::Optional })
            }
            "tags" if entity == Entity::LoggedModels => Ok(Self { key: Key::Tag(owned), kind: Kind::Listed }),
            "tag" | "tags" if entity != Entity::LoggedModels => {
                Ok(Self { key: Key::Tag(owned), kind: Kind::Optional })
            }
            "dataset" | "datasets" if of_runs && matches!(name, "name" | "digest" | "context") => {
                Ok(Self { key: Key::Dataset(owned), kind: Kind::Listed })
            }
            "dataset" | "datasets" if of_runs => {
                Err(format!("Invalid dataset key '{name}' specified. Valid keys are name, digest, context"))
            }
            "attribute" if entity != Entity::LoggedModels => attribute(entity, name),
            "attributes" if of_runs || entity == Entity::LoggedModels => attribute(entity, name),
            "attr" | "run" if of_runs => attribute(entity, name),
            _ => Err(unknown_type(entity, prefix)),
        }
    }

    /// What MLflow's messages call it.
    pub(super) fn noun(&self) -> &'static str {
        match self.key {
            Key::Metric(_) => "metric",
            Key::Param(_) => "parameter",
            Key::Tag(_) => "tag",
            Key::Attribute(_) => "attributes",
            Key::Dataset(_) => "dataset",
        }
    }

    /// The same for a number.
    pub(super) fn what(&self, name: &str) -> String {
        match self.key {
            Key::Attribute(_) => format!("numeric attribute: {name}"),
            _ => self.noun().to_owned(),
        }
    }

    /// Why a comparison is refused.
    pub(super) fn not_compared(&self, entity: Entity, name: &str, comparison: Comparison) -> String {
        let noun = self.noun().trim_end_matches('s');
        let symbol = comparison.symbol();
        match comparison {
            Comparison::IsNull | Comparison::IsNotNull if entity == Entity::Runs => {
                format!(
                    "IS NULL / IS NOT NULL is only supported for tags and params, not for '{noun}' '{name}'"
                )
            }
            Comparison::IsNull | Comparison::IsNotNull => {
                format!("IS NULL / IS NOT NULL is only supported for tags, not for {noun} '{name}'")
            }
            Comparison::In | Comparison::NotIn if self.noun() == "attributes" => {
                let listed = attributes(entity).iter().filter(|(_, kind)| *kind == Kind::Listed);
                let listed: Vec<String> = listed.map(|(name, _)| format!("'{name}'")).collect();
                format!(
                    "Only [{}] attributes support comparison with a list of quoted string values.",
                    listed.join(", ")
                )
            }
            Comparison::In | Comparison::NotIn if self.kind.is_number() => {
                format!("Expected numeric value type for {noun}. Found a list")
            }
            Comparison::In | Comparison::NotIn => {
                format!("Expected a quoted string value for {noun} (e.g. 'my-value'). Got value: a list")
            }
            _ if entity == Entity::LoggedModels => {
                format!(
                    "Invalid comparison operator for {name}: '{symbol}'. Expected one of {}",
                    self.kind.comparators()
                )
            }
            _ if entity == Entity::Runs => {
                format!("Invalid comparator '{symbol}' not one of '{{{}}}'", self.kind.comparators())
            }
            _ => format!("Invalid comparator for {noun}: {symbol}"),
        }
    }
}

fn unknown_type(entity: Entity, prefix: &str) -> String {
    match entity {
        Entity::Runs => format!(
            "Invalid entity type '{prefix}'. Valid values are ['metric', 'parameter', 'tag', 'attribute', \
             'dataset']"
        ),
        Entity::LoggedModels => format!(
            "Invalid entity type: '{prefix}'. Expected one of ['attributes', 'metrics', 'params', 'tags']."
        ),
        _ => format!("Invalid entity type '{prefix}'. Valid entity types are ('attribute', 'tag', 'tags')"),
    }
}

fn attributes(entity: Entity) -> &'static [(&'static str, Kind)] {
    match entity {
        Entity::Runs => &[
            ("run_id", Kind::Listed),
            ("run_name", Kind::Listed),
            ("status", Kind::Listed),
            ("user_id", Kind::Listed),
            ("artifact_uri", Kind::Listed),
            ("start_time", Kind::Number),
            ("end_time", Kind::Number),
        ],
        Entity::Experiments => &[
            ("name", Kind::Text),
            ("experiment_id", Kind::Listed),
            ("creation_time", Kind::Number),
            ("last_update_time", Kind::Number),
        ],
        Entity::RegisteredModels => {
            &[("name", Kind::Listed), ("timestamp", Kind::Number), ("last_updated_timestamp", Kind::Number)]
        }
        Entity::ModelVersions => &[
            ("name", Kind::Listed),
            ("run_id", Kind::Listed),
            ("source_path", Kind::Text),
            ("version_number", Kind::Number),
            ("creation_timestamp", Kind::Number),
            ("last_updated_timestamp", Kind::Number),
        ],
        Entity::LoggedModels => &[
            ("name", Kind::Listed),
            ("model_id", Kind::Listed),
            ("model_type", Kind::Listed),
            ("status", Kind::Listed),
            ("source_run_id", Kind::Listed),
            ("experiment_id", Kind::Listed),
            ("creation_timestamp", Kind::Number),
            ("last_updated_timestamp", Kind::Number),
        ],
    }
}

fn attribute(entity: Entity, name: &str) -> Result<Field, String> {
    let canonical = match (entity, name) {
        (Entity::Runs, "created" | "Created") => "start_time",
        (Entity::Runs, "run name" | "Run name" | "Run Name") => "run_name",
        (Entity::LoggedModels, "creation_time" | "creation_timestamp_ms") => "creation_timestamp",
        (Entity::LoggedModels, "last_updated_timestamp_ms") => "last_updated_timestamp",
        (Entity::RegisteredModels, "timestamp") => "last_updated_timestamp",
        (_, name) => name,
    };
    let known = attributes(entity);
    known
        .iter()
        .find(|(known, _)| *known == canonical)
        .map(|(known, kind)| Field { key: Key::Attribute((*known).to_owned()), kind: *kind })
        .ok_or_else(|| {
            // Of models and versions MLflow names those of filters, and not of orders.
            let named = |key: &str| {
                entity == Entity::Runs || entity == Entity::Experiments || !key.contains("timestamp")
            };
            let known = known.iter().filter(|(name, _)| named(name));
            let known: Vec<String> = known.map(|(name, _)| format!("'{name}'")).collect();
            format!("Invalid attribute key '{name}' specified. Valid keys are '{{{}}}'", known.join(", "))
        })
}

/// Reads the keys of an order, each `key [ASC|DESC]`. What follows for ties is the store's business.
pub fn parse_order_by(entity: Entity, keys: &[String]) -> Result<Vec<Order>, ParseError> {
    if keys.len() > MAX_ORDER_KEYS {
        return Err(ParseError { at: 0, message: format!("`order_by` has at most {MAX_ORDER_KEYS} keys") });
    }
    let mut seen = BTreeSet::new();
    let mut orders = Vec::new();
    for text in keys {
        let order = parse_order(entity, text)?;
        if !seen.insert(order.key.clone()) {
            return Err(ParseError {
                at: 0,
                message: format!("`order_by` contains duplicate fields: {text}"),
            });
        }
        orders.push(order);
    }
    Ok(orders)
}

fn parse_order(entity: Entity, text: &str) -> Result<Order, ParseError> {
    let mut cursor = Cursor { entity, text, at: 0 };
    let (prefix, name) = cursor.key().map_err(|error| ParseError {
        message: format!("Invalid order_by clause '{text}'. Could not be parsed."),
        ..error
    })?;
    let field = Field::resolve(entity, prefix.as_deref(), &name).map_err(|message| match entity {
        Entity::RegisteredModels => {
            format!("Invalid order by key '{name}' specified. Valid keys are '{{'name', 'timestamp'}}'")
        }
        Entity::LoggedModels => format!("Invalid order by field name: {name}"),
        _ => message,
    });
    let field = field.map_err(|message| ParseError { at: 0, message })?;
    let descending = cursor.take_keyword("DESC");
    let directed = descending || cursor.take_keyword("ASC");
    cursor.skip_spaces();
    if !cursor.is_done() {
        return Err(cursor.error(if directed {
            format!("Invalid order_by clause '{text}'. Could not be parsed.")
        } else {
            format!("Invalid ordering key in order_by clause '{text}'.")
        }));
    }
    if matches!(field.key, Key::Dataset(_)) {
        return Err(ParseError { at: 0, message: format!("Invalid order_by key '{name}' specified") });
    }
    let unordered = matches!(&field.key, Key::Attribute(name) if name == "source_path" || name == "run_id");
    if entity == Entity::ModelVersions && unordered {
        let message = format!(
            "Invalid attribute key '{name}' specified. Valid keys are '{{'name', 'version_number', \
             'creation_timestamp', 'last_updated_timestamp'}}'"
        );
        return Err(ParseError { at: 0, message });
    }
    Ok(Order { key: field.key, ascending: !descending })
}
