//! As much of Markdown as the lessons use, taken apart: headings, paragraphs, lists, code, quotes, tables.
//!
//! Not a parser for other people's Markdown. What is within a line (`code`, **bold**, links) stays in the text of
//! its block. Source: the CommonMark specification; GitHub's, on tables.

/// A part of a page.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Block {
    /// A heading, 1 to 6.
    Heading(usize, String),
    /// Lines that flow.
    Paragraph(String),
    /// An item of a list: how deep it is, its mark (`-` or `1.`), its text.
    Item(usize, String, String),
    /// Lines that do not flow.
    Code(Vec<String>),
    /// What someone else said.
    Quote(String),
    /// Rows of cells; the first row is the head.
    Table(Vec<Vec<String>>),
}

/// Takes `text` apart.
pub fn parse(text: &str) -> Vec<Block> {
    let mut blocks = Vec::new();
    let mut lines = text.lines().peekable();
    // Whether the next plain line goes on where the last block ended.
    let mut flows = false;
    while let Some(line) = lines.next() {
        let trimmed = line.trim();
        if trimmed.is_empty() {
            flows = false;
        } else if trimmed.starts_with("```") {
            let code = lines.by_ref().take_while(|line| line.trim() != "```");
            blocks.push(Block::Code(code.map(str::to_owned).collect()));
            flows = false;
        } else if let Some((level, title)) = heading(trimmed) {
            blocks.push(Block::Heading(level, title.to_owned()));
            flows = false;
        } else if trimmed.starts_with('|') {
            let mut rows = vec![cells(trimmed)];
            while let Some(row) = lines.next_if(|line| line.trim().starts_with('|')) {
                rows.push(cells(row.trim()));
            }
            rows.retain(|row| !is_rule(row));
            blocks.push(Block::Table(rows));
            flows = false;
        } else if let Some((mark, text)) = item(trimmed) {
            let depth = (line.len() - line.trim_start().len()) / 2;
            blocks.push(Block::Item(depth, mark.to_owned(), text.to_owned()));
            flows = true;
        } else if let Some(text) = trimmed.strip_prefix("> ") {
            match blocks.last_mut() {
                Some(Block::Quote(quote)) if flows => *quote += &format!(" {text}"),
                _ => blocks.push(Block::Quote(text.to_owned())),
            }
            flows = true;
        } else {
            match blocks.last_mut() {
                Some(Block::Paragraph(text) | Block::Item(_, _, text) | Block::Quote(text)) if flows => {
                    *text += &format!(" {trimmed}");
                }
                _ => blocks.push(Block::Paragraph(trimmed.to_owned())),
            }
            flows = true;
        }
    }
    blocks
}

fn heading(line: &str) -> Option<(usize, &str)> {
    let level = line.chars().take_while(|&c| c == '#').count();
    let title = line[level..].strip_prefix(' ')?;
    (1..=6).contains(&level).then_some((level, title))
}

/// `- text`, `* text` or `12. text`.
fn item(line: &str) -> Option<(&str, &str)> {
    let (mark, text) = line.split_once(' ')?;
    let is_number = mark.strip_suffix('.').is_some_and(|number| {
        !number.is_empty() && number.len() < 3 && number.bytes().all(|byte| byte.is_ascii_digit())
    });
    (["-", "*"].contains(&mark) || is_number).then_some((mark, text.trim_start()))
}

fn cells(row: &str) -> Vec<String> {
    let row = row.trim_start_matches('|').trim_end_matches('|');
    row.split('|').map(|cell| cell.trim().to_owned()).collect()
}

/// The line between head and body.
fn is_rule(row: &[String]) -> bool {
    row.iter().all(|cell| !cell.is_empty() && cell.chars().all(|c| c == '-' || c == ':'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_is_taken_apart() {
        let page = "# Title\n\nOne\ntwo.\n\n- a\n  b\n- c\n  - d\n\n1. first\n\n```console\n$ x\n\ny\n```\nafter\n\n> said\n> so\n\n\
                    | a | b |\n|---|--:|\n| 1 | 2 |\n";
        let text = str::to_owned;
        let item = |depth, mark, words| Block::Item(depth, text(mark), text(words));
        let row = |cells: [&str; 2]| cells.map(str::to_owned).to_vec();
        assert_eq!(
            parse(page),
            [
                Block::Heading(1, text("Title")),
                Block::Paragraph(text("One two.")),
                item(0, "-", "a b"),
                item(0, "-", "c"),
                item(1, "-", "d"),
                item(0, "1.", "first"),
                Block::Code(vec![text("$ x"), text(""), text("y")]),
                Block::Paragraph(text("after")),
                Block::Quote(text("said so")),
                Block::Table(vec![row(["a", "b"]), row(["1", "2"])]),
            ]
        );
    }

    #[test]
    fn what_only_looks_like_something_is_text() {
        for line in ["#no", "1973. It was long ago", "-x", "####### seven"] {
            assert_eq!(parse(line), [Block::Paragraph(line.to_owned())]);
        }
        assert_eq!(parse("```\nnever closed"), [Block::Code(vec!["never closed".into()])]);
        assert_eq!(parse(""), []);
    }
}
