//! MLflow's search filters: `clause (AND clause)*`, no OR, no parentheses but those of IN lists.

use super::order::Field;

const MAX_FILTER_BYTES: usize = 64 * 1024;
const MAX_CLAUSES: usize = 100;
const MAX_LIST: usize = 1_000;

/// What is searched.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Entity {
    /// `runs/search`.
    Runs,
    /// `experiments/search`.
    Experiments,
    /// `registered-models/search`.
    RegisteredModels,
    /// `model-versions/search`.
    ModelVersions,
    /// `logged-models/search`.
    LoggedModels,
}

/// What a clause is about. Attribute names are the canonical ones: `created` of a run is `start_time`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Key {
    /// A metric's latest value.
    Metric(String),
    /// A parameter.
    Param(String),
    /// A tag.
    Tag(String),
    /// A field of the entity itself.
    Attribute(String),
    /// `name`, `digest` or `context` of a dataset that a run took in.
    Dataset(String),
}

/// How it is compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Comparison {
    /// `=`
    Equal,
    /// `!=`
    NotEqual,
    /// `<`
    Less,
    /// `<=`
    LessOrEqual,
    /// `>`
    Greater,
    /// `>=`
    GreaterOrEqual,
    /// `LIKE`, case-sensitive.
    Like,
    /// `ILIKE`, not case-sensitive.
    ILike,
    /// `IN`
    In,
    /// `NOT IN`
    NotIn,
    /// `IS NULL`
    IsNull,
    /// `IS NOT NULL`
    IsNotNull,
}

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

/// Where and why a filter or an order is not understood.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct ParseError {
    /// Byte offset in the text.
    pub at: usize,
    /// What is wrong, for people.
    pub message: String,
}

/// Reads a filter. An empty one has no clauses.
pub fn parse(entity: Entity, filter: &str) -> Result<Vec<Clause>, ParseError> {
    if filter.len() > MAX_FILTER_BYTES {
        return Err(ParseError {
            at: 0,
            message: format!("a filter is at most {MAX_FILTER_BYTES} bytes long"),
        });
    }
    let mut cursor = Cursor { text: filter, at: 0 };
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
    let field = Field::resolve(entity, prefix.as_deref(), &name)
        .map_err(|message| ParseError { at: started, message })?;
    let compared = cursor.at;
    let comparison = cursor.comparison()?;
    if !field.kind.allows(comparison) {
        let message =
            format!("Invalid comparator for '{name}': it takes one of {}", field.kind.comparators());
        return Err(ParseError { at: compared, message });
    }
    let operand = match comparison {
        Comparison::IsNull | Comparison::IsNotNull => Operand::Nothing,
        Comparison::In | Comparison::NotIn => Operand::List(cursor.list()?),
        _ if field.kind.is_number() => Operand::Number(cursor.number(&name)?),
        _ => Operand::Text(cursor.string(&name)?),
    };
    Ok(Clause { key: field.key, comparison, operand })
}

/// A place in a text.
pub(super) struct Cursor<'text> {
    pub(super) text: &'text str,
    pub(super) at: usize,
}

impl<'text> Cursor<'text> {
    fn rest(&self) -> &'text str {
        &self.text[self.at..]
    }

    pub(super) fn is_done(&self) -> bool {
        self.at == self.text.len()
    }

    pub(super) fn skip_spaces(&mut self) {
        self.at = self.text.len() - self.rest().trim_start().len();
    }

    pub(super) fn error(&self, message: impl Into<String>) -> ParseError {
        ParseError { at: self.at, message: message.into() }
    }

    /// The text up to the next space, for complaints.
    fn next_word(&self) -> &'text str {
        self.rest().split_whitespace().next().unwrap_or("")
    }

    fn unexpected(&self) -> ParseError {
        self.error(format!("Invalid clause(s) in filter string: '{}'", self.next_word()))
    }

    /// Takes `keyword`, any case, where it stands alone.
    pub(super) fn take_keyword(&mut self, keyword: &str) -> bool {
        self.skip_spaces();
        let rest = self.rest();
        let matches = rest.get(..keyword.len()).is_some_and(|start| start.eq_ignore_ascii_case(keyword));
        let after = rest.get(keyword.len()..).and_then(|rest| rest.chars().next());
        let alone = after.is_none_or(|next| !next.is_alphanumeric() && next != '_' && next != '.');
        if matches && alone {
            self.at += keyword.len();
        }
        matches && alone
    }

    fn take_symbol(&mut self, symbol: &str) -> bool {
        self.skip_spaces();
        let there = self.rest().starts_with(symbol);
        if there {
            self.at += symbol.len();
        }
        there
    }

    fn expect_and(&mut self) -> Result<(), ParseError> {
        if !self.take_keyword("AND") {
            return Err(self.unexpected());
        }
        self.skip_spaces();
        if self.is_done() {
            Err(self.error("Invalid filter string: a clause has to follow AND"))
        } else {
            Ok(())
        }
    }

    /// A key: `prefix.name` or `name`, each part plain or quoted. Only the first point of a plain key separates.
    pub(super) fn key(&mut self) -> Result<(Option<String>, String), ParseError> {
        self.skip_spaces();
        let first = self.key_part(true)?;
        if !self.rest().starts_with('.') {
            return Ok((None, first));
        }
        self.at += 1;
        let name = self.key_part(false)?;
        Ok((Some(first), name))
    }

    fn key_part(&mut self, ends_at_point: bool) -> Result<String, ParseError> {
        if let Some(quote @ ('`' | '"')) = self.rest().chars().next() {
            return self.quoted(quote);
        }
        let ends = |character: char| {
            character.is_whitespace()
                || "=!<>(),'\"`".contains(character)
                || (ends_at_point && character == '.')
        };
        let rest = self.rest();
        let length = rest.find(ends).unwrap_or(rest.len());
        if length == 0 {
            return Err(self.unexpected());
        }
        self.at += length;
        Ok(rest[..length].to_owned())
    }

    /// A quoted text; a doubled quote stands for one.
    fn quoted(&mut self, quote: char) -> Result<String, ParseError> {
        let started = self.at;
        self.at += quote.len_utf8();
        let mut text = String::new();
        loop {
            let Some(end) = self.rest().find(quote) else {
                let message = format!("Invalid filter string: the {quote} is not closed");
                return Err(ParseError { at: started, message });
            };
            text.push_str(&self.rest()[..end]);
            self.at += end + quote.len_utf8();
            if !self.rest().starts_with(quote) {
                return Ok(text);
            }
            text.push(quote);
            self.at += quote.len_utf8();
        }
    }

    fn comparison(&mut self) -> Result<Comparison, ParseError> {
        let symbols = [
            ("!=", Comparison::NotEqual),
            (">=", Comparison::GreaterOrEqual),
            ("<=", Comparison::LessOrEqual),
            ("=", Comparison::Equal),
            (">", Comparison::Greater),
            ("<", Comparison::Less),
        ];
        if let Some((_, comparison)) = symbols.into_iter().find(|(symbol, _)| self.take_symbol(symbol)) {
            return Ok(comparison);
        }
        let started = self.at;
        if self.take_keyword("LIKE") {
            Ok(Comparison::Like)
        } else if self.take_keyword("ILIKE") {
            Ok(Comparison::ILike)
        } else if self.take_keyword("IN") {
            Ok(Comparison::In)
        } else if self.take_keyword("NOT") && self.take_keyword("IN") {
            Ok(Comparison::NotIn)
        } else if self.take_keyword("IS") {
            let negated = self.take_keyword("NOT");
            let null = self.take_keyword("NULL");
            match (negated, null) {
                (false, true) => Ok(Comparison::IsNull),
                (true, true) => Ok(Comparison::IsNotNull),
                _ => Err(self.error("Invalid filter string: IS takes NULL or NOT NULL")),
            }
        } else {
            self.at = started;
            self.skip_spaces();
            Err(self.unexpected())
        }
    }

    fn number(&mut self, name: &str) -> Result<f64, ParseError> {
        self.skip_spaces();
        let rest = self.rest();
        let length = rest.find(|c: char| c.is_whitespace() || c == ',' || c == ')').unwrap_or(rest.len());
        let number = rest[..length].parse::<f64>().ok();
        match number {
            Some(number) => {
                self.at += length;
                Ok(number)
            }
            None => {
                Err(self
                    .error(format!("Expected numeric value type for '{name}'. Found {}", self.next_word())))
            }
        }
    }

    fn string(&mut self, name: &str) -> Result<String, ParseError> {
        self.skip_spaces();
        match self.rest().chars().next() {
            Some(quote @ ('\'' | '"')) => self.quoted(quote),
            _ => Err(self.error(format!(
                "Expected a quoted string value for '{name}' (e.g. 'my-value'). Got value {}",
                self.next_word()
            ))),
        }
    }

    fn list(&mut self) -> Result<Vec<String>, ParseError> {
        if !self.take_symbol("(") {
            return Err(self.error("While parsing a list in the query, expected '('"));
        }
        let mut values = Vec::new();
        loop {
            values.push(self.string("a list")?);
            if values.len() > MAX_LIST {
                return Err(self.error(format!("a list has at most {MAX_LIST} values")));
            }
            if self.take_symbol(")") {
                return Ok(values);
            }
            if !self.take_symbol(",") {
                return Err(self.error("While parsing a list in the query, expected ',' or ')'"));
            }
        }
    }
}

#[cfg(test)]
mod tests;
