//! From words to an expression, by descent: one function a level of precedence, OR above AND above NOT.
//!
//! Its depth is bounded by [`FILTER_DEPTH_MAX`], its length by that of the text, so any input ends soon and in words.

use super::error::FilterError;
use super::expression::{Condition, Expression, Subject};
use super::tokens::{Token, tokens};
use crate::limits::{FILTER_BYTES_MAX, FILTER_DEPTH_MAX, FILTER_TERMS_MAX};

const TERM: &str = "a comparison (attributes.NAME = \"...\", attributes:NAME, key = \"...\", hasPrefix(...), exists(...)), \
                    NOT, - or (";
const SUBJECT: &str = "key, attributes.NAME or headers.NAME";

/// Reads a whole text.
pub(super) fn parse(text: &str) -> Result<Expression, FilterError> {
    if text.len() > FILTER_BYTES_MAX {
        return Err(FilterError::TooLong { bytes: text.len() });
    }
    let tokens = tokens(text)?;
    let mut parser = Parser { tokens, next: 0, terms: 0 };
    let expression = parser.any(0)?;
    match parser.peek() {
        Token::End => Ok(expression),
        _ => Err(parser.unexpected("AND, OR or the end")),
    }
}

struct Parser {
    /// The last one is the end, and never passed.
    tokens: Vec<(usize, Token)>,
    next: usize,
    terms: usize,
}

impl Parser {
    fn any(&mut self, depth: usize) -> Result<Expression, FilterError> {
        let first = self.all(depth)?;
        self.joined(first, "OR", Expression::Any, |parser| parser.all(depth))
    }

    fn all(&mut self, depth: usize) -> Result<Expression, FilterError> {
        let first = self.negation(depth)?;
        self.joined(first, "AND", Expression::All, |parser| parser.negation(depth))
    }

    /// What follows `first` behind the same operator again and again.
    fn joined(
        &mut self,
        first: Expression,
        operator: &str,
        join: fn(Vec<Expression>) -> Expression,
        part: impl Fn(&mut Self) -> Result<Expression, FilterError>,
    ) -> Result<Expression, FilterError> {
        let mut parts = vec![first];
        while self.take_word(operator) {
            parts.push(part(self)?);
        }
        if parts.len() > 1 {
            return Ok(join(parts));
        }
        Ok(parts.remove(0))
    }

    fn negation(&mut self, depth: usize) -> Result<Expression, FilterError> {
        let at = self.position();
        if self.take_word("NOT") || self.take_sign('-') {
            let depth = deeper(depth, at)?;
            return Ok(Expression::Not(Box::new(self.negation(depth)?)));
        }
        if self.take_sign('(') {
            let inside = self.any(deeper(depth, at)?)?;
            self.expect_sign(')', "AND, OR or )")?;
            return Ok(inside);
        }
        self.terms += 1;
        if self.terms > FILTER_TERMS_MAX {
            return Err(FilterError::TooManyTerms { position: at });
        }
        self.term()
    }

    fn term(&mut self) -> Result<Expression, FilterError> {
        if self.take_word("hasPrefix") {
            self.expect_sign('(', "( after hasPrefix")?;
            let subject = self.subject()?;
            self.expect_sign(',', "a comma and the prefix")?;
            let condition = Condition::HasPrefix(self.text()?);
            self.expect_sign(')', ")")?;
            return Ok(Expression::Term { subject, condition });
        }
        if self.take_word("exists") {
            self.expect_sign('(', "( after exists")?;
            let subject = self.subject()?;
            self.expect_sign(')', ")")?;
            return Ok(Expression::Term { subject, condition: Condition::Exists });
        }
        if self.take_word("key") {
            return self.comparison(Subject::Key);
        }
        if !self.take_word("attributes") && !self.take_word("headers") {
            return Err(self.unexpected(TERM));
        }
        if self.take_sign(':') {
            let subject = Subject::Header(self.name()?);
            return Ok(Expression::Term { subject, condition: Condition::Exists });
        }
        self.expect_sign('.', ". or : and a name")?;
        let subject = Subject::Header(self.name()?);
        self.comparison(subject)
    }

    fn comparison(&mut self, subject: Subject) -> Result<Expression, FilterError> {
        let is_equal = match self.peek() {
            Token::Sign('=') => true,
            Token::NotEqual => false,
            _ => return Err(self.unexpected("= or !=")),
        };
        self.next += 1;
        let equals = Expression::Term { subject, condition: Condition::Equals(self.text()?) };
        Ok(if is_equal { equals } else { Expression::Not(Box::new(equals)) })
    }

    fn subject(&mut self) -> Result<Subject, FilterError> {
        if self.take_word("key") {
            return Ok(Subject::Key);
        }
        if !self.take_word("attributes") && !self.take_word("headers") {
            return Err(self.unexpected(SUBJECT));
        }
        self.expect_sign('.', ". and a name")?;
        Ok(Subject::Header(self.name()?))
    }

    fn name(&mut self) -> Result<String, FilterError> {
        match self.peek() {
            Token::Word(name) | Token::Text(name) => {
                let name = name.clone();
                self.next += 1;
                Ok(name)
            }
            _ => Err(self.unexpected("a name, in double quotes if it has other characters than A-Za-z0-9_-")),
        }
    }

    fn text(&mut self) -> Result<String, FilterError> {
        match self.peek() {
            Token::Text(text) => {
                let text = text.clone();
                self.next += 1;
                Ok(text)
            }
            _ => Err(self.unexpected("a text in double quotes")),
        }
    }

    fn take_word(&mut self, wanted: &str) -> bool {
        let is_there = matches!(self.peek(), Token::Word(word) if word == wanted);
        self.next += usize::from(is_there);
        is_there
    }

    fn take_sign(&mut self, wanted: char) -> bool {
        let is_there = *self.peek() == Token::Sign(wanted);
        self.next += usize::from(is_there);
        is_there
    }

    fn expect_sign(&mut self, wanted: char, expected: &'static str) -> Result<(), FilterError> {
        if self.take_sign(wanted) { Ok(()) } else { Err(self.unexpected(expected)) }
    }

    fn peek(&self) -> &Token {
        self.tokens.get(self.next).map_or(&Token::End, |(_, token)| token)
    }

    fn position(&self) -> usize {
        self.tokens.get(self.next).or(self.tokens.last()).map_or(1, |(position, _)| *position)
    }

    fn unexpected(&self, expected: &'static str) -> FilterError {
        FilterError::Unexpected { position: self.position(), expected, found: self.peek().described() }
    }
}

fn deeper(depth: usize, position: usize) -> Result<usize, FilterError> {
    if depth < FILTER_DEPTH_MAX { Ok(depth + 1) } else { Err(FilterError::TooDeep { position }) }
}
