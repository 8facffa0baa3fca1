//! Tables for people: columns apart by blanks, no lines, so that `awk` and `cut` work on them too.

use super::exit::CliError;
use comfy_table::{CellAlignment, ContentArrangement, Table, presets};
use std::io::Write as _;

/// Prints a table. Columns whose header begins with `>` are numbers and stand to the right.
pub(super) fn print<const COLUMNS: usize>(
    header: [&str; COLUMNS],
    rows: impl IntoIterator<Item = [String; COLUMNS]>,
) -> Result<(), CliError> {
    let text = render(header, rows);
    std::io::stdout().write_all(text.as_bytes()).map_err(CliError::output)
}

/// Prints more rows of a table whose header was printed; columns are as wide as these rows need.
pub(super) fn print_rows<const COLUMNS: usize>(
    rows: impl IntoIterator<Item = [String; COLUMNS]>,
) -> Result<(), CliError> {
    let text = render([""; COLUMNS], rows);
    let rows = text.split_once('\n').map_or("", |(_, rows)| rows);
    std::io::stdout().write_all(rows.as_bytes()).map_err(CliError::output)
}

fn render<const COLUMNS: usize>(header: [&str; COLUMNS], rows: impl IntoIterator<Item = [String; COLUMNS]>) -> String {
    let mut table = Table::new();
    table.load_style(presets::NOTHING).set_content_arrangement(ContentArrangement::Disabled);
    table.set_header(header.map(|name| name.trim_start_matches('>')));
    table.add_rows(rows);
    for (index, name) in header.iter().enumerate() {
        if let Some(column) = table.column_mut(index) {
            column.set_padding((0, 2));
            if name.starts_with('>') {
                column.set_cell_alignment(CellAlignment::Right);
            }
        }
    }
    let mut text = String::new();
    for line in table.lines() {
        text.push_str(line.trim_end());
        text.push('\n');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_stand_to_the_right_and_lines_have_no_tail() {
        let text = render(["NAME", ">N"], [["a".to_owned(), "1".to_owned()], ["bcdef".to_owned(), "100".to_owned()]]);
        assert_eq!(text, "NAME     N\na        1\nbcdef  100\n");
    }
}
