//! A table in every form that it is shown in: as text, CSV, Markdown and HTML.
//!
//! An empty cell is what is not known. It is never a zero: text, Markdown and HTML show a dash, CSV has nothing.

use super::escape::escape;
use comfy_table::{Cell, CellAlignment, Table, TableStyle};

/// What is shown where something is not known.
const UNKNOWN: &str = "-";

/// Rows below heads. The first column names the rows.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Sheet {
    /// The heads of the columns.
    pub heads: Vec<String>,
    /// A row each, as long as the heads. An empty cell is not known.
    pub rows: Vec<Vec<String>>,
    /// Whether the cells are words, which stand at the left, and not figures.
    pub is_words: bool,
}

impl Sheet {
    /// A table of figures.
    pub fn figures(heads: &[&str], rows: Vec<Vec<String>>) -> Sheet {
        Sheet { heads: heads.iter().map(|&head| head.into()).collect(), rows, is_words: false }
    }

    /// A table of words.
    pub fn words(heads: &[&str], rows: Vec<Vec<String>>) -> Sheet {
        Sheet { is_words: true, ..Sheet::figures(heads, rows) }
    }

    /// For a terminal, without lines between the rows.
    pub fn text(&self) -> String {
        let alignment = if self.is_words { CellAlignment::Left } else { CellAlignment::Right };
        let mut table = Table::new();
        table.load_style(TableStyle::new());
        table.set_header(&self.heads);
        for row in &self.rows {
            table.add_row(row.iter().zip(0..).map(|(text, n)| {
                Cell::new(known(text)).set_alignment(if n == 0 { CellAlignment::Left } else { alignment })
            }));
        }
        for column in table.column_iter_mut().skip(1) {
            column.set_cell_alignment(alignment);
            column.set_padding((1, 0));
        }
        if let Some(first) = table.column_mut(0) {
            first.set_padding((0, 0));
        }
        table.lines().map(|line| line.trim_end().to_owned() + "\n").collect()
    }

    /// Comma-separated, heads first (RFC 4180).
    pub fn csv(&self) -> String {
        let line = |cells: &[String]| {
            let cells: Vec<String> = cells.iter().map(|cell| quoted(cell)).collect();
            cells.join(",") + "\n"
        };
        [&self.heads].into_iter().chain(&self.rows).map(|row| line(row)).collect()
    }

    /// A Markdown table.
    pub fn markdown(&self) -> String {
        let row = |cells: &[String]| {
            let cells: Vec<String> = cells.iter().map(|cell| cell.replace('|', "\\|")).collect();
            format!("| {} |\n", cells.join(" | "))
        };
        let side = if self.is_words { "---|" } else { "---:|" };
        let rows: String = self
            .rows
            .iter()
            .map(|cells| row(&cells.iter().map(|text| known(text).to_owned()).collect::<Vec<_>>()))
            .collect();
        format!("{}|---|{}\n{rows}", row(&self.heads), side.repeat(self.heads.len().saturating_sub(1)))
    }

    /// An HTML table. Each cell knows the head of its column: where the page is narrow, the style shows it beside the cell.
    pub fn html(&self) -> String {
        let kind = if self.is_words { "words" } else { "figures" };
        let heads: String = self.heads.iter().map(|head| format!("<th>{}</th>", escape(head))).collect();
        let cell = |(text, head): (&String, &String)| {
            format!("<td data-head=\"{}\">{}</td>", escape(head), escape(known(text)))
        };
        let row = |row: &Vec<String>| {
            format!("<tr>{}</tr>\n", row.iter().zip(&self.heads).map(cell).collect::<String>())
        };
        let rows: String = self.rows.iter().map(row).collect();
        format!(
            "<div class=\"scroll\"><table class=\"{kind}\">\n<thead><tr>{heads}</tr></thead>\n<tbody>\n{rows}</tbody>\n</table></div>\n"
        )
    }
}

fn known(text: &str) -> &str {
    if text.is_empty() { UNKNOWN } else { text }
}

/// A value that may hold a comma (RFC 4180).
fn quoted(text: &str) -> String {
    match text.contains([',', '"', '\n', '\r']) {
        true => format!("\"{}\"", text.replace('"', "\"\"")),
        false => text.into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_known_is_a_dash_to_read_and_nothing_to_count_with() {
        let row = ["a,\"b\"|<i>", ""].map(str::to_owned).to_vec();
        let sheet = Sheet::figures(&["name", "ms"], vec![row]);
        assert_eq!(sheet.text(), "name      ms\na,\"b\"|<i>  -\n");
        assert_eq!(sheet.csv(), "name,ms\n\"a,\"\"b\"\"|<i>\",\n");
        assert_eq!(sheet.markdown(), "| name | ms |\n|---|---:|\n| a,\"b\"\\|<i> | - |\n");
        assert!(sheet.html().contains("<td data-head=\"ms\">-</td>"), "{}", sheet.html());
        assert!(sheet.html().contains("&lt;i&gt;"), "{}", sheet.html());
    }
}
