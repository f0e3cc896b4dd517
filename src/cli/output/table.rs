//! Tables for people: aligned columns, hostile text made harmless.

use crate::util::text::clean;

/// Aligned columns; the first row is the head. Columns whose index is in `right` are aligned right.
pub(crate) fn table(rows: &[Vec<String>], right: &[usize]) -> String {
    let rows: Vec<Vec<String>> = rows.iter().map(|row| row.iter().map(|cell| clean(cell)).collect()).collect();
    let columns = rows.iter().map(Vec::len).max().unwrap_or_default();
    let width = |column: usize| {
        rows.iter().filter_map(|row| row.get(column)).map(|cell| cell.chars().count()).max().unwrap_or_default()
    };
    let widths: Vec<usize> = (0..columns).map(width).collect();
    let mut text = String::new();
    for row in &rows {
        let cells = row.iter().enumerate().map(|(column, cell)| {
            let pad = " ".repeat(widths[column].saturating_sub(cell.chars().count()));
            if right.contains(&column) { pad + cell } else { cell.clone() + &pad }
        });
        text.push_str(cells.collect::<Vec<_>>().join("  ").trim_end());
        text.push('\n');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_aligned_and_escape_sequences_do_not_reach_the_terminal() {
        let rows = [vec!["NAME".to_owned(), "VALUE".to_owned()], vec!["\u{1b}[31mred".to_owned(), "7".to_owned()]];
        assert_eq!(table(&rows, &[1]), "NAME      VALUE\n\u{fffd}[31mred      7\n");
    }
}
