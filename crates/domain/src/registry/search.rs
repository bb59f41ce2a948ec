//! MLflow's search filters: `clause (AND clause)*`, no OR, no parentheses but those of IN lists.

use super::cursor::Cursor;
use super::order::Field;
use super::terms::{Comparison, Entity, Key, ParseError};

const MAX_FILTER_BYTES: usize = 64 * 1024;
const MAX_CLAUSES: usize = 100;

/// What it is compared with.
#[derive(Debug, Clone, PartialEq)]
pub enum Operand {
    /// Nothing: IS NULL.
    Nothing,
    /// A number.
    Number(f64),
    /// A string or LIKE pattern.
    Text(String),
    /// A list of strings.
    List(Vec<String>),
}

/// One condition; all of a filter have to hold.
#[derive(Debug, Clone, PartialEq)]
pub struct Clause {
    /// What it is about.
    pub key: Key,
    /// How it is compared.
    pub comparison: Comparison,
    /// With what.
    pub operand: Operand,
}

/// Reads a filter. An empty one has no clauses.
pub fn parse(entity: Entity, filter: &str) -> Result<Vec<Clause>, ParseError> {
    if filter.len() > MAX_FILTER_BYTES {
        return Err(ParseError {
            at: 0,
            message: format!("a filter is at most {MAX_FILTER_BYTES} bytes long"),
        });
    }
    let mut cursor = Cursor { entity, text: filter, at: 0 };
    let mut clauses = Vec::new();
    cursor.skip_spaces();
    while !cursor.is_done() {
        if !clauses.is_empty() {
            cursor.expect_and()?;
        }
        if clauses.len() == MAX_CLAUSES {
            return Err(cursor.error(format!("a filter has at most {MAX_CLAUSES} clauses")));
        }
        clauses.push(parse_clause(entity, &mut cursor)?);
        cursor.skip_spaces();
    }
    Ok(clauses)
}

fn parse_clause(entity: Entity, cursor: &mut Cursor<'_>) -> Result<Clause, ParseError> {
    let started = cursor.at;
    let (prefix, name) = cursor.key()?;
    let compared = cursor.at;
    // As in MLflow, text that is no comparison is reported as such, whatever its key.
    let comparison = cursor.comparison()?;
    cursor.refuse_literal()?;
    let field = Field::resolve(entity, prefix.as_deref(), &name)
        .map_err(|message| ParseError { at: started, message })?;
    if !field.kind.allows(comparison) {
        return Err(ParseError { at: compared, message: field.not_compared(entity, &name, comparison) });
    }
    let operand = match comparison {
        Comparison::IsNull | Comparison::IsNotNull => Operand::Nothing,
        // Only for logged models does MLflow take the empty list, which nothing is in.
        Comparison::In | Comparison::NotIn => Operand::List(cursor.list(entity == Entity::LoggedModels)?),
        _ if field.kind.is_number() => {
            let quoted = entity == Entity::ModelVersions;
            Operand::Number(cursor.number(&field.what(&name), quoted)?)
        }
        _ => Operand::Text(cursor.string(field.noun())?),
    };
    Ok(Clause { key: field.key, comparison, operand })
}

#[cfg(test)]
mod tests;
