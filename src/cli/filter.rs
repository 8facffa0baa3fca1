//! `--filter`: read here, so that a mistake in it is shown at its place before anything is asked of a broker.

use crate::filter::Filter;

/// The filter that was typed; the error shows it with a mark under the character that is wrong.
pub(super) fn parse_filter(text: &str) -> Result<Filter, String> {
    Filter::new(text).map_err(|error| {
        // A mark below one of several lines would point nowhere.
        let Some(position) = error.position().filter(|_| !text.contains('\n')) else { return error.to_string() };
        format!("{error}\n\n  {text}\n  {}^", " ".repeat(position - 1))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mistake_is_marked() {
        let shown = parse_filter("attributes.a = v").expect_err("the text has no quotes");
        assert!(shown.ends_with("\n\n  attributes.a = v\n                 ^"), "{shown}");
        assert!(parse_filter("attributes:a").is_ok());
        assert!(!parse_filter("a\nb").expect_err("it is none").contains('^'));
    }
}
