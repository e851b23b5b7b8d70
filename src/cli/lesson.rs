//! Markdown in lines for a terminal.

use super::terminal::{BOLD, CODE, DIM, PLAIN, Terminal, columns};
use crate::explain::markdown::Block;

/// A column of a table is not made narrower than this.
const COLUMN_MIN: usize = 8;
/// What separates columns.
const GAP: usize = 2;

/// The lines of `blocks` on `terminal`, one empty line between blocks that do not belong together.
pub fn draw(blocks: &[Block], terminal: &Terminal) -> Vec<String> {
    let mut lines = Vec::new();
    let mut last: Option<&Block> = None;
    for block in blocks {
        let goes_on = matches!((last, block), (Some(Block::Item(..)), Block::Item(..)));
        if last.is_some() && !goes_on {
            lines.push(String::new());
        }
        lines.extend(draw_block(block, terminal));
        last = Some(block);
    }
    lines
}

fn draw_block(block: &Block, terminal: &Terminal) -> Vec<String> {
    match block {
        Block::Heading(_, title) => terminal.wrap(&format!("{BOLD}{title}{PLAIN}"), terminal.width),
        Block::Paragraph(text) => terminal.wrap(&inline(text), terminal.width),
        Block::Item(depth, mark, text) => {
            terminal.hang(&format!("{}{mark} ", "  ".repeat(*depth)), &inline(text))
        }
        Block::Quote(text) => terminal.hang("  ", &inline(text)),
        Block::Code(code) => code.iter().flat_map(|line| code_line(line, terminal)).collect(),
        Block::Table(rows) => table(rows, terminal),
    }
}

/// A line of code is not broken between words: its spaces count. What does not fit goes on below.
fn code_line(line: &str, terminal: &Terminal) -> Vec<String> {
    let indent = if terminal.width < 30 { "" } else { "    " };
    let width = terminal.width - indent.len();
    let mut lines = vec![String::new()];
    for c in terminal.fit(line).chars() {
        if columns(lines.last().map_or("", String::as_str)) + columns(c.encode_utf8(&mut [0; 4])) > width {
            lines.push(String::new());
        }
        lines.last_mut().into_iter().for_each(|line| line.push(c));
    }
    lines.iter().map(|line| format!("{indent}{CODE}{line}{PLAIN}")).collect()
}

/// `code`, **bold**, *this* and [links](of.any/kind), as the terminal's own emphasis. A link to another page of the book is its
/// text; one to the outside shows where it goes.
fn inline(text: &str) -> String {
    let mut drawn = String::new();
    let mut rest = text;
    while let Some(at) = rest.find(['`', '*', '[']) {
        drawn += &rest[..at];
        rest = &rest[at..];
        let (piece, after) = span(rest).unwrap_or_else(|| (rest[..1].to_owned(), &rest[1..]));
        drawn += &piece;
        rest = after;
    }
    drawn + rest
}

/// What `text` begins with, drawn, and what follows it.
fn span(text: &str) -> Option<(String, &str)> {
    if let Some(inner) = text.strip_prefix('`') {
        let (code, after) = inner.split_once('`')?;
        return Some((format!("{CODE}{code}{PLAIN}"), after));
    }
    if let Some(inner) = text.strip_prefix("**") {
        let (bold, after) = inner.split_once("**")?;
        return Some((format!("{BOLD}{bold}{PLAIN}"), after));
    }
    if let Some(inner) = text.strip_prefix('*') {
        // Text between single stars is shown as plain text.
        let (words, after) = inner.split_once('*').filter(|_| !inner.starts_with(' '))?;
        return Some((words.to_owned(), after));
    }
    let (words, after) = text.strip_prefix('[')?.split_once("](")?;
    let (target, after) = after.split_once(')')?;
    let drawn = match target.contains("://") {
        true => format!("{} ({target})", inline(words)),
        false => inline(words),
    };
    Some((drawn, after))
}

fn table(rows: &[Vec<String>], terminal: &Terminal) -> Vec<String> {
    let count = rows.iter().map(Vec::len).max().unwrap_or(0);
    let cell = |row: &Vec<String>, column: usize| {
        let text = inline(row.get(column).map_or("", String::as_str));
        terminal.fit(&text)
    };
    let natural = |column| rows.iter().map(|row| columns(&cell(row, column))).max().unwrap_or(0);
    let widths = widths((0..count).map(natural).collect(), terminal.width);
    if count == 0 || widths.iter().sum::<usize>() + GAP * (count - 1) > terminal.width {
        return list(rows, terminal);
    }
    let mut lines = Vec::new();
    for (number, row) in rows.iter().enumerate() {
        let is_head = number == 0;
        let cells: Vec<Vec<String>> = (0..count)
            .map(|column| {
                let text = cell(row, column);
                let text = if is_head { format!("{BOLD}{text}{PLAIN}") } else { text };
                terminal.wrap(&text, widths[column])
            })
            .collect();
        let height = cells.iter().map(Vec::len).max().unwrap_or(0);
        for i in 0..height {
            let mut line = String::new();
            for (cell, width) in cells.iter().zip(&widths) {
                let text = cell.get(i).map_or("", String::as_str);
                line += &format!("{text}{}", " ".repeat(width - columns(text).min(*width) + GAP));
            }
            lines.push(line.trim_end().to_owned());
        }
        if is_head {
            let rule = if terminal.unicode { "─" } else { "-" };
            let rules: Vec<String> = widths.iter().map(|&width| rule.repeat(width)).collect();
            lines.push(format!("{DIM}{}{PLAIN}", rules.join(&" ".repeat(GAP))));
        }
    }
    lines
}

/// Takes from the widest column until all fit into `room`, or none can give any more.
fn widths(mut widths: Vec<usize>, room: usize) -> Vec<usize> {
    let room = room.saturating_sub(GAP * widths.len().saturating_sub(1));
    while widths.iter().sum::<usize>() > room {
        match widths.iter_mut().max() {
            Some(widest) if *widest > COLUMN_MIN => *widest -= 1,
            _ => break,
        }
    }
    widths
}

/// A table where there is no room for one: each row as a list of its cells.
fn list(rows: &[Vec<String>], terminal: &Terminal) -> Vec<String> {
    let Some((head, rows)) = rows.split_first() else { return Vec::new() };
    let mut lines = Vec::new();
    for row in rows {
        for (name, cell) in head.iter().zip(row) {
            let text =
                if name.is_empty() { inline(cell) } else { format!("{}: {}", inline(name), inline(cell)) };
            lines.extend(terminal.hang("- ", &text));
        }
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::explain::markdown::parse;

    fn drawn(text: &str, width: usize) -> Vec<String> {
        let terminal = Terminal { width, unicode: true, colour: false };
        draw(&parse(text), &terminal).iter().map(|line| terminal.finish(line)).collect()
    }

    #[test]
    fn emphasis_is_taken_out_and_links_are_shown_where_they_lead_outside() {
        assert_eq!(drawn("*Principles* of 2 * 3", 80), ["Principles of 2 * 3"]);
        assert_eq!(
            drawn("A `word`, **two**, [kvm](kvm.md) and [more](https://x.y). 2 * 3 [no] `open", 80),
            ["A word, two, kvm and more (https://x.y). 2 * 3 [no] `open"]
        );
    }

    #[test]
    fn blocks_are_apart_and_items_together() {
        let lines = drawn("# T\n\ntext\n\n- one two three\n- b\n\n```\n$ x  y\n```\n", 12);
        assert_eq!(lines, ["T", "", "text", "", "- one two", "  three", "- b", "", "$ x  y"]);
    }

    #[test]
    fn tables_are_as_wide_as_their_text_korean_counted_twice() {
        let lines = drawn("| 이름 | what |\n|---|---|\n| 게스트 | a guest |\n| x | y |\n", 40);
        assert_eq!(lines, ["이름    what", "──────  ───────", "게스트  a guest", "x       y"]);
    }

    #[test]
    fn a_table_without_room_wraps_and_at_last_becomes_a_list() {
        let text = "| a | b |\n|---|---|\n| some words here | and some more there |\n";
        let lines = drawn(text, 24);
        assert!(lines.iter().all(|line| columns(line) <= 24), "{lines:#?}");
        assert_eq!(lines.len(), 4);
        assert_eq!(drawn(text, 12)[0], "- a: some");
    }
}
