//! Reads the tokens of filters and orders, one after the other.

use super::terms::{Comparison, Entity, ParseError};

const MAX_LIST: usize = 1_000;

/// A place in a text.
pub(super) struct Cursor<'text> {
    /// What is searched: MLflow's messages depend on it.
    pub(super) entity: Entity,
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
        if self.entity == Entity::LoggedModels {
            return self.error(format!(
                "Invalid filter string: '{}'. Expected a list of comparisons separated by 'AND' \
                 (e.g. 'metrics.loss > 0.1 AND params.lr = 0.01'), but found '{shown}'",
                self.text
            ));
        }
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

    pub(super) fn expect_and(&mut self) -> Result<(), ParseError> {
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

    /// A key: `prefix.name` or `name`, each part plain or quoted. Only the first point of a plain key
    /// separates.
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

    pub(super) fn comparison(&mut self) -> Result<Comparison, ParseError> {
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

    /// Refuses the values that SQL has as keywords, which make no comparison in MLflow's filters.
    pub(super) fn refuse_literal(&mut self) -> Result<(), ParseError> {
        self.skip_spaces();
        let word = self.next_word();
        let is_literal = ["true", "false", "null"].iter().any(|literal| word.eq_ignore_ascii_case(literal));
        if is_literal { Err(self.unexpected()) } else { Ok(()) }
    }

    /// A number; `quoted` ones are taken where MLflow's clients write them so.
    pub(super) fn number(&mut self, what: &str, quoted: bool) -> Result<f64, ParseError> {
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

    pub(super) fn string(&mut self, what: &str) -> Result<String, ParseError> {
        self.skip_spaces();
        match self.rest().chars().next() {
            Some(quote @ ('\'' | '"')) => self.quoted(quote),
            None => Err(self.unexpected()),
            Some(digit) if digit.is_ascii_digit() || digit == '(' => Err(self.error(format!(
                "Expected a quoted string value for {what} (e.g. 'my-value'). Got value {}",
                self.next_word()
            ))),
            Some(_) => Err(self.error(format!(
                "Parameter value is either not quoted or unidentified quote types used for string value {}. \
                 Use either single or double quotes.",
                self.next_word()
            ))),
        }
    }

    pub(super) fn list(&mut self, may_be_empty: bool) -> Result<Vec<String>, ParseError> {
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
                        "expected string value, punctuation, or whitespace, but got different type in list: \
                         {list}"
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
