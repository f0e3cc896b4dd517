//! Tables of text, for a terminal or a page.

use comfy_table::presets::NOTHING;
use comfy_table::{CellAlignment, Table as Layout};

use crate::util::text::clean;

/// A head and rows of cells.
pub(crate) struct Table {
    pub(crate) head: Vec<&'static str>,
    /// Indices of the columns that are aligned right.
    pub(crate) right: &'static [usize],
    pub(crate) rows: Vec<Vec<String>>,
}

impl Table {
    /// Creates a table from a head such as `ACCOUNT|LEVEL`.
    pub(crate) fn new(head: &'static str, right: &'static [usize], rows: Vec<Vec<String>>) -> Self {
        Self { head: head.split('|').collect(), right, rows }
    }

    /// Formats the table in aligned columns, one line per row and no spaces at the end of a line. Control characters in cells
    /// are made visible.
    pub(crate) fn text(&self) -> String {
        let mut layout = Layout::new();
        layout.load_style(NOTHING).set_header(self.head.iter().copied());
        layout.add_rows(self.rows.iter().map(|row| row.iter().map(|cell| clean(cell))));
        for (index, column) in layout.column_iter_mut().enumerate() {
            column.set_padding((0, 2));
            if self.right.contains(&index) {
                column.set_cell_alignment(CellAlignment::Right);
            }
        }
        layout.trim_fmt() + "\n"
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(cells: [&str; 2]) -> Vec<String> {
        cells.map(str::to_owned).to_vec()
    }

    #[test]
    fn columns_are_aligned_and_escape_sequences_do_not_reach_the_terminal() {
        let table = Table::new("NAME|VALUE", &[1], vec![row(["\u{1b}[31mred", "7"]), row(["Škola", ""])]);
        assert_eq!(table.text(), "NAME      VALUE\n\u{fffd}[31mred      7\nŠkola\n");
    }

    #[test]
    fn wide_characters_count_as_two_columns() {
        let table = Table::new("NAME|VALUE", &[], vec![row(["漢字漢字", "7"]), row(["x", "8"])]);
        assert_eq!(table.text(), "NAME      VALUE\n漢字漢字  7\nx         8\n");
    }

    #[test]
    fn a_table_without_rows_is_its_head() {
        assert_eq!(Table::new("NAME|VALUE", &[1], Vec::new()).text(), "NAME  VALUE\n");
    }
}
