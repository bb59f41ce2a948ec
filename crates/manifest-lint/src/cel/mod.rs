//! The part of CEL (Common Expression Language) that validation rules use: fields, `has`, comparisons, `in`,
//! `&&`, `||`, `!`, `? :`, `+`, and the functions `size`, `startsWith`, `endsWith`, `contains`, `matches`,
//! `all`, `exists`.

mod eval;
mod parse;
mod tokens;

use serde_json::Value;

/// What a rule says of a value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Outcome {
    Holds,
    Fails,
    /// It compares the value with an earlier one.
    NeedsOldSelf,
}

/// Whether a rule holds for a value.
///
/// # Errors
/// The rule uses a part of CEL that is not understood here, or does not fit the value.
pub(crate) fn holds(rule: &str, value: &Value) -> Result<Outcome, String> {
    let tokens = tokens::tokens(rule)?;
    if tokens.iter().any(|token| *token == tokens::Token::Name("oldSelf".to_owned())) {
        return Ok(Outcome::NeedsOldSelf);
    }
    let expression = parse::parse(&tokens)?;
    match eval::eval(&expression, &mut vec![("self".to_owned(), value.clone())])? {
        Value::Bool(true) => Ok(Outcome::Holds),
        Value::Bool(false) => Ok(Outcome::Fails),
        other => Err(format!("it is {other}, not true or false")),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn rules_hold_or_fail() {
        let value = json!({"a": 1, "b": "text", "list": ["x", "y"], "map": {"k-1": true}, "f": 0.5});
        for (rule, expected) in [
            ("has(self.a) && !has(self.c)", true),
            ("self.a == 1 && self.a != 2 && self.a < 2 && self.a >= 1 && self.f > 0.0", true),
            ("(has(self.a) ? 1 : 0) + (has(self.c) ? 1 : 0) == 1", true),
            ("self.b.size() <= 4 && size(self.list) == 2", true),
            ("self.b.startsWith('te') && self.b.matches('^[a-z]+$')", true),
            ("self.b in ['text', \"other\"] && !('z' in self.list)", true),
            ("self.list.all(x, x in ['x', 'y']) && self.list.exists(x, x == 'y')", true),
            ("self.map.all(key, key.startsWith('k'))", true),
            ("has(self.map.none) || self.map == self.map", true),
            ("has(self.c) && self.c.d == 1", false),
            ("!has(self.c) || self.c.d == 1", true),
            ("self.list.exists(x, x == 'z')", false),
        ] {
            let outcome = if expected { Outcome::Holds } else { Outcome::Fails };
            assert_eq!(holds(rule, &value), Ok(outcome), "{rule}");
        }
        assert_eq!(holds("self.a == oldSelf.a", &value), Ok(Outcome::NeedsOldSelf));
    }

    #[test]
    fn what_is_not_understood_is_an_error() {
        for rule in [
            "self.map(x, x)",
            "self.a ==",
            "self.a",
            "self.c == 1",
            "self.a & 1",
            "'open",
            "self.a + 'b' == 1",
        ] {
            assert!(holds(rule, &json!({"a": 1})).is_err(), "{rule}");
        }
    }
}
