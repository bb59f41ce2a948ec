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

impl Comparison {
    /// As it is written.
    pub(super) const fn symbol(self) -> &'static str {
        match self {
            Self::Equal => "=",
            Self::NotEqual => "!=",
            Self::Less => "<",
            Self::LessOrEqual => "<=",
            Self::Greater => ">",
            Self::GreaterOrEqual => ">=",
            Self::Like => "LIKE",
            Self::ILike => "ILIKE",
            Self::In => "IN",
            Self::NotIn => "NOT IN",
            Self::IsNull => "IS NULL",
            Self::IsNotNull => "IS NOT NULL",
        }
    }
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
        // At the end it is the clause as a whole that lacks something.
        let shown = if self.is_done() { self.text.trim() } else { self.next_word() };
        self.error(format!("Invalid clause(s) in filter string: '{shown}'"))
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

    /// A number; `quoted` ones are taken where MLflow's clients write them so.
    fn number(&mut self, what: &str, quoted: bool) -> Result<f64, ParseError> {
        self.skip_spaces();
        let rest = self.rest();
        let length = rest.find(|c: char| c.is_whitespace() || c == ',' || c == ')').unwrap_or(rest.len());
        let text = &rest[..length];
        let text = if quoted { text.trim_matches(['\'', '"']) } else { text };
        match text.parse::<f64>() {
            Ok(number) => {
                self.at += length;
                Ok(number)
            }
            Err(_) if text.is_empty() => Err(self.unexpected()),
            Err(_) => {
                Err(self.error(format!("Expected numeric value type for {what}. Found {}", self.next_word())))
            }
        }
    }

    fn string(&mut self, what: &str) -> Result<String, ParseError> {
        self.skip_spaces();
        match self.rest().chars().next() {
            Some(quote @ ('\'' | '"')) => self.quoted(quote),
            None => Err(self.unexpected()),
            Some(digit) if digit.is_ascii_digit() || digit == '(' => Err(self.error(format!(
                "Expected a quoted string value for {what} (e.g. 'my-value'). Got value {}",
                self.next_word()
            ))),
            Some(_) => Err(self.error(format!(
                "Parameter value is either not quoted or unidentified quote types used for string value {}. Use either \
                 single or double quotes.",
                self.next_word()
            ))),
        }
    }

    fn list(&mut self, may_be_empty: bool) -> Result<Vec<String>, ParseError> {
        const ILL_FORMED: &str = "expected a non-empty list of string values, but got ill-formed list";
        let started = self.at;
        let refuse =
            |cursor: &Self, why: &str| cursor.error(format!("While parsing a list in the query, {why}"));
        if !self.take_symbol("(") {
            return Err(self.unexpected());
        }
        if self.take_symbol(")") {
            let why = "expected a non-empty list of string values, but got empty list";
            return if may_be_empty { Ok(Vec::new()) } else { Err(refuse(self, why)) };
        }
        let mut values = Vec::new();
        loop {
            self.skip_spaces();
            match self.rest().chars().next() {
                Some(quote @ ('\'' | '"')) => values.push(self.quoted(quote)?),
                None => return Err(self.unexpected()),
                // A comma may follow the last value.
                Some(')') if !values.is_empty() => {
                    self.take_symbol(")");
                    return Ok(values);
                }
                Some(',' | ')') => return Err(refuse(self, ILL_FORMED)),
                Some(_) => {
                    let list = self.text[started..].trim_start();
                    let list = list.split_inclusive(')').next().unwrap_or(list);
                    let why = format!(
                        "expected string value, punctuation, or whitespace, but got different type in list: {list}"
                    );
                    return Err(refuse(self, &why));
                }
            }
            if values.len() > MAX_LIST {
                return Err(self.error(format!("a list has at most {MAX_LIST} values")));
            }
            if self.take_symbol(")") {
                return Ok(values);
            }
            if !self.take_symbol(",") {
                return Err(if self.is_done() { self.unexpected() } else { refuse(self, ILL_FORMED) });
            }
        }
    }
}

#[cfg(test)]
mod tests;
