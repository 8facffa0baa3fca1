//! The words of a filter: names and operators, texts in quotes, signs; each with the character it begins at.

use super::error::FilterError;
use std::iter::Peekable;
use std::str::Chars;

/// One word.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Token {
    /// Letters, digits, `_`, and inside it `-`.
    Word(String),
    /// What stands between quotes, without escapes.
    Text(String),
    /// `(`, `)`, `.`, `,`, `:`, `=`, or `-`.
    Sign(char),
    /// `!=`.
    NotEqual,
    /// Nothing follows.
    End,
}

impl Token {
    /// As a message says it.
    pub(super) fn described(&self) -> String {
        match self {
            Self::Word(word) => word.clone(),
            // Long ones need not be repeated whole.
            Self::Text(text) => format!("the text {:?}", text.chars().take(40).collect::<String>()),
            Self::Sign(sign) => sign.to_string(),
            Self::NotEqual => "!=".to_owned(),
            Self::End => "the end".to_owned(),
        }
    }
}

pub(super) fn begins_a_word(c: char) -> bool {
    c.is_ascii_alphanumeric() || c == '_'
}

pub(super) fn is_in_a_word(c: char) -> bool {
    begins_a_word(c) || c == '-'
}

/// All words of a text with their positions (characters, from 1). The last one is [`Token::End`].
pub(super) fn tokens(text: &str) -> Result<Vec<(usize, Token)>, FilterError> {
    let mut reader = Reader { chars: text.chars().peekable(), position: 0 };
    let mut found = Vec::new();
    loop {
        while reader.take_if(char::is_whitespace).is_some() {}
        let at = reader.position + 1;
        let Some(first) = reader.take() else {
            found.push((at, Token::End));
            return Ok(found);
        };
        let token = match first {
            '(' | ')' | '.' | ',' | ':' | '=' | '-' => Token::Sign(first),
            '!' => match reader.take_if(|c| c == '=') {
                Some(_) => Token::NotEqual,
                None => return Err(unexpected(at, "!=", '!')),
            },
            '"' => Token::Text(reader.text(at)?),
            c if begins_a_word(c) => {
                let mut word = String::from(c);
                while let Some(c) = reader.take_if(is_in_a_word) {
                    word.push(c);
                }
                Token::Word(word)
            }
            c => return Err(unexpected(at, "a name, a text in double quotes, or an operator", c)),
        };
        found.push((at, token));
    }
}

fn unexpected(position: usize, expected: &'static str, found: char) -> FilterError {
    FilterError::Unexpected { position, expected, found: found.escape_debug().to_string() }
}

struct Reader<'a> {
    chars: Peekable<Chars<'a>>,
    /// Characters taken.
    position: usize,
}

impl Reader<'_> {
    fn take(&mut self) -> Option<char> {
        let taken = self.chars.next()?;
        self.position += 1;
        Some(taken)
    }

    fn take_if(&mut self, is_wanted: impl Fn(char) -> bool) -> Option<char> {
        let taken = self.chars.next_if(|c| is_wanted(*c))?;
        self.position += 1;
        Some(taken)
    }

    /// What follows an opening quote, up to the closing one.
    fn text(&mut self, opened_at: usize) -> Result<String, FilterError> {
        let unclosed =
            FilterError::Text { position: opened_at, what: "the text that begins here has no closing quote" };
        let mut text = String::new();
        loop {
            match self.take() {
                None => return Err(unclosed),
                Some('"') => return Ok(text),
                Some('\\') => {
                    let at = self.position;
                    let escaped = self.take().ok_or_else(|| unclosed.clone())?;
                    text.push(self.escaped(escaped, at)?);
                }
                Some(c) => text.push(c),
            }
        }
    }

    /// The character that a backslash and this one mean, with the digits behind it.
    fn escaped(&mut self, first: char, at: usize) -> Result<char, FilterError> {
        let digits = match first {
            '\\' | '"' | '\'' | '`' | '?' => return Ok(first),
            'n' => return Ok('\n'),
            'r' => return Ok('\r'),
            't' => return Ok('\t'),
            'a' => return Ok('\u{7}'),
            'b' => return Ok('\u{8}'),
            'f' => return Ok('\u{c}'),
            'v' => return Ok('\u{b}'),
            'x' | 'X' => self.digits(16, 2, 0),
            'u' => self.digits(16, 4, 0),
            'U' => self.digits(16, 8, 0),
            '0'..='3' => self.digits(8, 2, u32::from(first) - u32::from('0')),
            _ => None,
        };
        digits.and_then(char::from_u32).ok_or(FilterError::Text {
            position: at,
            what: "the backslash is followed by nothing known; there are \\\\ \\\" \\' \\n \\r \\t \\xHH \\ooo \\uHHHH \\UHHHHHHHH",
        })
    }

    /// A number of exactly so many more digits.
    fn digits(&mut self, radix: u32, count: usize, first: u32) -> Option<u32> {
        let mut number = first;
        for _ in 0..count {
            let digit = self.take_if(|c| c.is_digit(radix))?.to_digit(radix)?;
            number = number.checked_mul(radix)?.checked_add(digit)?;
        }
        Some(number)
    }
}
