//! A filter made ready: every comparison has a bit, one walk over a record sets those that hold, and the expression is
//! worked out on the bits.
//!
//! So a record costs one walk over its fields, however much the filter asks, and nothing is allocated for it. A header
//! is looked up by its name among those that the filter names.

use super::expression::{Condition, Expression, Subject};
use crate::limits::FILTER_TERMS_MAX;
use crate::types::record_set::{RecordPart, parts};

// Each comparison is a bit of a `u64`.
const _: () = assert!(FILTER_TERMS_MAX <= 64);

#[derive(Debug)]
pub(super) struct Program {
    /// What is asked about keys, and its bit.
    key_tests: Vec<(Condition, u64)>,
    /// What is asked about headers, by name.
    header_tests: Vec<HeaderTests>,
    root: Node,
}

/// Everything that is asked about headers of one name.
#[derive(Debug)]
struct HeaderTests {
    name: String,
    tests: Vec<(Condition, u64)>,
}

/// The expression on bits.
#[derive(Debug)]
enum Node {
    Bit(u64),
    Not(Box<Node>),
    All(Vec<Node>),
    Any(Vec<Node>),
}

impl Program {
    /// The program of an expression of at most [`FILTER_TERMS_MAX`] terms, which is what the parser lets through.
    pub(super) fn of(expression: &Expression) -> Self {
        let mut program = Self { key_tests: Vec::new(), header_tests: Vec::new(), root: Node::Bit(0) };
        let mut next_bit = 1;
        program.root = program.node_of(expression, &mut next_bit);
        program.header_tests.sort_by(|a, b| a.name.cmp(&b.name));
        program
    }

    fn node_of(&mut self, expression: &Expression, next_bit: &mut u64) -> Node {
        let mut nodes = |parts: &[Expression]| parts.iter().map(|part| self.node_of(part, next_bit)).collect();
        match expression {
            Expression::Term { subject, condition } => {
                let bit = *next_bit;
                debug_assert!(bit != 0, "the parser counts terms");
                *next_bit = bit.wrapping_shl(1);
                self.tests_of(subject).push((condition.clone(), bit));
                Node::Bit(bit)
            }
            Expression::Not(negated) => Node::Not(Box::new(self.node_of(negated, next_bit))),
            Expression::All(parts) => Node::All(nodes(parts)),
            Expression::Any(parts) => Node::Any(nodes(parts)),
        }
    }

    fn tests_of(&mut self, subject: &Subject) -> &mut Vec<(Condition, u64)> {
        let Subject::Header(name) = subject else { return &mut self.key_tests };
        let at = self.header_tests.iter().position(|asked| asked.name == *name).unwrap_or_else(|| {
            self.header_tests.push(HeaderTests { name: name.clone(), tests: Vec::new() });
            self.header_tests.len() - 1
        });
        &mut self.header_tests[at].tests
    }

    /// Whether an encoded record matches.
    pub(super) fn matches(&self, record: &[u8]) -> bool {
        let mut bits = 0;
        let mut last_key = None;
        for part in parts(record) {
            match part {
                RecordPart::Key(key) => last_key = Some(key),
                RecordPart::Header { name, value } => {
                    let asked = self.header_tests.binary_search_by(|asked| asked.name.as_bytes().cmp(name));
                    if let Ok(at) = asked {
                        bits |= bits_met(&self.header_tests[at].tests, value);
                    }
                }
            }
        }
        if let Some(key) = last_key {
            bits |= bits_met(&self.key_tests, key);
        }
        self.root.holds(bits)
    }
}

fn bits_met(tests: &[(Condition, u64)], bytes: &[u8]) -> u64 {
    let met = tests.iter().filter(|(condition, _)| condition.is_met_by(bytes));
    met.fold(0, |bits, (_, bit)| bits | bit)
}

impl Node {
    fn holds(&self, bits: u64) -> bool {
        match self {
            Self::Bit(bit) => bits & bit != 0,
            Self::Not(negated) => !negated.holds(bits),
            Self::All(nodes) => nodes.iter().all(|node| node.holds(bits)),
            Self::Any(nodes) => nodes.iter().any(|node| node.holds(bits)),
        }
    }
}
