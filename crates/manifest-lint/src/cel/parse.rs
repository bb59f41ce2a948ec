//! From words to an expression.

use super::tokens::Token;

#[derive(Debug, Clone, PartialEq)]
pub(super) enum Expression {
    Text(String),
    Number(f64),
    Bool(bool),
    List(Vec<Expression>),
    Name(String),
    Field(Box<Expression>, String),
    Has(Box<Expression>, String),
    Not(Box<Expression>),
    Negative(Box<Expression>),
    Binary(&'static str, Box<Expression>, Box<Expression>),
    Choice(Box<[Expression; 3]>),
    Call(String, Box<Expression>, Vec<Expression>),
}

/// Operators by precedence, the weakest first.
const LEVELS: [&[&str]; 4] = [&["||"], &["&&"], &["==", "!=", "<=", ">=", "<", ">", "in"], &["+", "-"]];

pub(super) fn parse(tokens: &[Token]) -> Result<Expression, String> {
    let mut parser = Parser { tokens, at: 0 };
    let expression = parser.choice()?;
    if parser.at < tokens.len() {
        return Err(format!("{:?} is not expected", tokens[parser.at]));
    }
    Ok(expression)
}

struct Parser<'tokens> {
    tokens: &'tokens [Token],
    at: usize,
}

impl Parser<'_> {
    fn take(&mut self, sign: &str) -> bool {
        let found = matches!(self.tokens.get(self.at), Some(Token::Sign(found)) if *found == sign);
        self.at += usize::from(found);
        found
    }

    fn expect(&mut self, sign: &str) -> Result<(), String> {
        if self.take(sign) { Ok(()) } else { Err(format!("expected `{sign}`")) }
    }

    fn choice(&mut self) -> Result<Expression, String> {
        let condition = self.level(0)?;
        if !self.take("?") {
            return Ok(condition);
        }
        let first = self.choice()?;
        self.expect(":")?;
        let second = self.choice()?;
        Ok(Expression::Choice(Box::new([condition, first, second])))
    }

    fn level(&mut self, level: usize) -> Result<Expression, String> {
        let Some(operators) = LEVELS.get(level) else { return self.unary() };
        let mut left = self.level(level + 1)?;
        while let Some(operator) = self.operator(operators) {
            let right = self.level(level + 1)?;
            left = Expression::Binary(operator, Box::new(left), Box::new(right));
        }
        Ok(left)
    }

    fn operator(&mut self, operators: &[&'static str]) -> Option<&'static str> {
        let found = match self.tokens.get(self.at)? {
            Token::Sign(sign) => operators.iter().find(|operator| *operator == sign),
            Token::Name(name) => operators.iter().find(|operator| *operator == name),
            _ => None,
        };
        self.at += usize::from(found.is_some());
        found.copied()
    }

    fn unary(&mut self) -> Result<Expression, String> {
        if self.take("!") {
            return Ok(Expression::Not(Box::new(self.unary()?)));
        }
        if self.take("-") {
            return Ok(Expression::Negative(Box::new(self.unary()?)));
        }
        let mut value = self.primary()?;
        while self.take(".") {
            let name = self.name()?;
            value = if self.take("(") {
                Expression::Call(name, Box::new(value), self.list(")")?)
            } else {
                Expression::Field(Box::new(value), name)
            };
        }
        Ok(value)
    }

    fn name(&mut self) -> Result<String, String> {
        let Some(Token::Name(name)) = self.tokens.get(self.at) else {
            return Err("expected a name".to_owned());
        };
        self.at += 1;
        Ok(name.clone())
    }

    /// Expressions between commas, up to a closing sign.
    fn list(&mut self, end: &str) -> Result<Vec<Expression>, String> {
        let mut items = Vec::new();
        while !self.take(end) {
            if !items.is_empty() {
                self.expect(",")?;
            }
            items.push(self.choice()?);
        }
        Ok(items)
    }

    fn primary(&mut self) -> Result<Expression, String> {
        let token = self.tokens.get(self.at).cloned().ok_or("it ends too early")?;
        self.at += 1;
        match token {
            Token::Text(text) => Ok(Expression::Text(text)),
            Token::Number(number) => Ok(Expression::Number(number)),
            Token::Sign("(") => {
                let inner = self.choice()?;
                self.expect(")")?;
                Ok(inner)
            }
            Token::Sign("[") => Ok(Expression::List(self.list("]")?)),
            Token::Name(name) if name == "true" || name == "false" => Ok(Expression::Bool(name == "true")),
            Token::Name(name) if self.take("(") => self.function(&name),
            Token::Name(name) => Ok(Expression::Name(name)),
            Token::Sign(sign) => Err(format!("`{sign}` is not expected")),
        }
    }

    fn function(&mut self, name: &str) -> Result<Expression, String> {
        let mut arguments = self.list(")")?;
        let (Some(argument), true) = (arguments.pop(), arguments.is_empty()) else {
            return Err(format!("{name}: expected one argument"));
        };
        match (name, argument) {
            ("has", Expression::Field(of, field)) => Ok(Expression::Has(of, field)),
            ("size", argument) => Ok(Expression::Call("size".to_owned(), Box::new(argument), Vec::new())),
            _ => Err(format!("the function {name} is not understood")),
        }
    }
}
