//! The value of an expression.

use regex_lite::Regex;
use serde_json::{Number, Value};

use super::parse::Expression;

/// Variables, the innermost last.
type Scope = Vec<(String, Value)>;

pub(super) fn eval(expression: &Expression, scope: &mut Scope) -> Result<Value, String> {
    match expression {
        Expression::Text(text) => Ok(Value::String(text.clone())),
        Expression::Number(number) => number_of(*number),
        Expression::Bool(value) => Ok(Value::Bool(*value)),
        Expression::List(items) => items.iter().map(|item| eval(item, scope)).collect(),
        Expression::Name(name) => {
            let found = scope.iter().rev().find(|(known, _)| known == name);
            found.map(|(_, value)| value.clone()).ok_or_else(|| format!("`{name}` is unknown"))
        }
        Expression::Field(of, field) => {
            let of = eval(of, scope)?;
            of.get(field).cloned().ok_or_else(|| format!("there is no field `{field}`"))
        }
        Expression::Has(of, field) => Ok(Value::Bool(eval(of, scope)?.get(field).is_some())),
        Expression::Not(inner) => Ok(Value::Bool(!truth(&eval(inner, scope)?)?)),
        Expression::Negative(inner) => number_of(-number(&eval(inner, scope)?)?),
        Expression::Choice(parts) => {
            let [condition, first, second] = &**parts;
            if truth(&eval(condition, scope)?)? { eval(first, scope) } else { eval(second, scope) }
        }
        Expression::Binary(operator, left, right) => binary(operator, left, right, scope),
        Expression::Call(name, of, arguments) => call(name, of, arguments, scope),
    }
}

fn binary(operator: &str, left: &Expression, right: &Expression, scope: &mut Scope) -> Result<Value, String> {
    // Either side decides alone, also where the other one has no value.
    if let "&&" | "||" = operator {
        let deciding = operator == "||";
        let first = eval(left, scope).and_then(|value| truth(&value));
        if first == Ok(deciding) {
            return Ok(Value::Bool(deciding));
        }
        let second = eval(right, scope).and_then(|value| truth(&value))?;
        return if second == deciding { Ok(Value::Bool(deciding)) } else { first.map(Value::Bool) };
    }
    let (left, right) = (eval(left, scope)?, eval(right, scope)?);
    let value = match operator {
        "==" => same(&left, &right),
        "!=" => !same(&left, &right),
        "in" => match &right {
            Value::Array(items) => items.iter().any(|item| same(item, &left)),
            Value::Object(fields) => left.as_str().is_some_and(|name| fields.contains_key(name)),
            _ => return Err("expected a list or a map after `in`".to_owned()),
        },
        "<" => number(&left)? < number(&right)?,
        "<=" => number(&left)? <= number(&right)?,
        ">" => number(&left)? > number(&right)?,
        ">=" => number(&left)? >= number(&right)?,
        "+" => return number_of(number(&left)? + number(&right)?),
        "-" => return number_of(number(&left)? - number(&right)?),
        _ => return Err(format!("`{operator}` is not understood")),
    };
    Ok(Value::Bool(value))
}

fn call(name: &str, of: &Expression, arguments: &[Expression], scope: &mut Scope) -> Result<Value, String> {
    let of = eval(of, scope)?;
    match (name, arguments) {
        ("size", []) => {
            let size = match &of {
                Value::String(text) => text.chars().count(),
                Value::Array(items) => items.len(),
                Value::Object(fields) => fields.len(),
                _ => return Err(format!("{of} has no size")),
            };
            Ok(Value::from(size))
        }
        ("all" | "exists", [Expression::Name(variable), condition]) => {
            each(name == "all", &of, variable, condition, scope)
        }
        ("startsWith" | "endsWith" | "contains" | "matches", [argument]) => {
            let argument = eval(argument, scope)?;
            let (Some(text), Some(part)) = (of.as_str(), argument.as_str()) else {
                return Err(format!("{name}: expected strings"));
            };
            let holds = match name {
                "startsWith" => text.starts_with(part),
                "endsWith" => text.ends_with(part),
                "contains" => text.contains(part),
                _ => Regex::new(part).map_err(|error| format!("`{part}`: {error}"))?.is_match(text),
            };
            Ok(Value::Bool(holds))
        }
        _ => Err(format!("the function {name} is not understood")),
    }
}

/// `all` and `exists`, over the items of a list or the names of a map.
fn each(
    all: bool,
    of: &Value,
    variable: &str,
    condition: &Expression,
    scope: &mut Scope,
) -> Result<Value, String> {
    let items: Vec<Value> = match of {
        Value::Array(items) => items.clone(),
        Value::Object(fields) => fields.keys().map(|name| Value::String(name.clone())).collect(),
        _ => return Err("expected a list or a map".to_owned()),
    };
    for item in items {
        scope.push((variable.to_owned(), item));
        let holds = eval(condition, scope).and_then(|value| truth(&value));
        scope.pop();
        if holds? != all {
            return Ok(Value::Bool(!all));
        }
    }
    Ok(Value::Bool(all))
}

fn same(left: &Value, right: &Value) -> bool {
    match (left.as_f64(), right.as_f64()) {
        (Some(left), Some(right)) => left.total_cmp(&right).is_eq(),
        _ => left == right,
    }
}

fn truth(value: &Value) -> Result<bool, String> {
    value.as_bool().ok_or_else(|| format!("expected true or false, got {value}"))
}

fn number(value: &Value) -> Result<f64, String> {
    value.as_f64().ok_or_else(|| format!("expected a number, got {value}"))
}

fn number_of(number: f64) -> Result<Value, String> {
    Number::from_f64(number).map(Value::Number).ok_or_else(|| "not a number".to_owned())
}
