//! Text on a terminal: as wide as it is, in colour if it has any, in ASCII if its locale knows no more.
//!
//! Inside, text carries its emphasis as control characters ([`BOLD`] … [`PLAIN`]), which have no width; they become
//! escape sequences, or nothing, when a line is finished. Sources: ECMA-48 on SGR; no-color.org; locale(7); Unicode
//! Annex 11 on the width of characters, by the unicode-width crate.

use crate::sys;
use crate::text::one_line;
use std::env;
use std::io::{IsTerminal, stdout};
use unicode_width::UnicodeWidthChar;

/// What follows is bold.
pub const BOLD: char = '\u{1}';
/// What follows is something to type or a name, as in `code`.
pub const CODE: char = '\u{2}';
/// What follows is good.
pub const GOOD: char = '\u{3}';
/// What follows is to be considered.
pub const WARN: char = '\u{4}';
/// What follows is bad.
pub const BAD: char = '\u{5}';
/// What follows is of less weight.
pub const DIM: char = '\u{6}';
/// What follows has no emphasis.
pub const PLAIN: char = '\u{7}';

/// Each of them as an escape sequence.
const SEQUENCES: [(char, &str); 7] = [
    (BOLD, "\x1b[1m"),
    (CODE, "\x1b[36m"),
    (GOOD, "\x1b[32m"),
    (WARN, "\x1b[33m"),
    (BAD, "\x1b[31m"),
    (DIM, "\x1b[2m"),
    (PLAIN, "\x1b[0m"),
];

/// The longest line: longer ones are tiring to read.
const WIDTH_MAX: usize = 100;
/// The width where there is no terminal, or one that does not tell its width.
const WIDTH_DEFAULT: usize = 80;
/// The narrowest frame.
const FRAME_MIN: usize = 24;

/// Where text goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Terminal {
    /// Columns.
    pub width: usize,
    /// Whether more than ASCII can be shown.
    pub unicode: bool,
    /// Whether it has colours.
    pub colour: bool,
}

impl Terminal {
    /// What standard output is.
    pub fn of_stdout() -> Terminal {
        let variable = |name| env::var(name).ok().filter(|value| !value.is_empty());
        // Some shells set 0 where they do not know.
        let columns =
            variable("COLUMNS").and_then(|columns| columns.parse().ok()).filter(|&columns| columns > 0);
        let width = sys::columns(&stdout()).or(columns).unwrap_or(WIDTH_DEFAULT);
        let has_colour = stdout().is_terminal() && variable("NO_COLOR").is_none();
        Terminal {
            width: width.clamp(1, WIDTH_MAX),
            colour: has_colour && variable("TERM").is_some_and(|term| term != "dumb"),
            ..Terminal::of_locale()
        }
    }

    /// What is known without a look at it: the characters of its locale. For a process that may not look any more.
    pub fn of_locale() -> Terminal {
        let variable = |name| env::var(name).ok().filter(|value| !value.is_empty());
        let unicode = charset(&locale(variable)) == "UTF-8";
        Terminal { width: WIDTH_DEFAULT, unicode, colour: false }
    }

    /// `text` with what this terminal cannot show replaced by what it can.
    pub fn fit(&self, text: &str) -> String {
        if self.unicode {
            text.to_owned()
        } else {
            text.chars().map(|c| ascii(c).unwrap_or('?'.into())).collect()
        }
    }

    /// The same of what ASCII can say in other characters; all else, such as a name, stays.
    pub fn spell(&self, text: &str) -> String {
        if self.unicode {
            text.to_owned()
        } else {
            text.chars().map(|c| ascii(c).unwrap_or(c.into())).collect()
        }
    }

    /// Breaks `text` into lines of at most `width` columns, between words where there are any. Emphasis goes on in
    /// the next line.
    pub fn wrap(&self, text: &str, width: usize) -> Vec<String> {
        let text = self.fit(text);
        let width = width.max(1);
        let mut lines = vec![String::new()];
        let mut style = PLAIN;
        for word in text.split(' ').filter(|word| !word.is_empty()) {
            let used = columns(lines.last().map_or("", String::as_str));
            if used > 0 && used + 1 + columns(word) > width {
                next_line(&mut lines, style);
            } else if used > 0 {
                lines.last_mut().into_iter().for_each(|line| line.push(' '));
            }
            for c in word.chars() {
                let used = columns(lines.last().map_or("", String::as_str));
                if used > 0 && used + columns_of(c) > width {
                    next_line(&mut lines, style);
                }
                if SEQUENCES.iter().any(|&(mark, _)| mark == c) {
                    style = c;
                }
                lines.last_mut().into_iter().for_each(|line| line.push(c));
            }
        }
        lines
    }

    /// `head`, then `text` wrapped behind it; on a terminal too narrow for that, below it.
    pub fn hang(&self, head: &str, text: &str) -> Vec<String> {
        /// With less room than this, the text goes below.
        const ROOM: usize = 16;
        let head = self.fit(head);
        let indent = columns(&head);
        let is_mark = indent <= 4;
        if self.width < indent + if is_mark { 4 } else { ROOM } {
            let mut lines = self.wrap(head.trim_end(), self.width);
            lines.retain(|line| columns(line) > 0);
            lines.extend(self.wrap(text, self.width));
            return lines;
        }
        let mut lines = self.wrap(text, self.width - indent);
        for (number, line) in lines.iter_mut().enumerate() {
            let before = if number == 0 { head.clone() } else { " ".repeat(indent) };
            *line = format!("{before}{line}");
        }
        lines
    }

    /// A line as it is written: emphasis turned into escape sequences, or dropped. Whatever else a terminal would obey, from a
    /// name in the line, is spelled out.
    pub fn finish(&self, line: &str) -> String {
        let mut text = String::new();
        for c in line.chars() {
            match SEQUENCES.iter().find(|&&(mark, _)| mark == c) {
                Some((_, sequence)) if self.colour => text += sequence,
                Some(_) => {}
                None => text += &one_line(c.encode_utf8(&mut [0; 4])),
            }
        }
        text
    }

    /// `lines` in a frame of `width` columns, with a title and, at the right, a note about it.
    pub fn frame(&self, title: &str, note: Option<&str>, lines: &[String], width: usize) -> Vec<String> {
        let title = self.fit(title);
        let note = note.map(|note| self.fit(note));
        if width < FRAME_MIN {
            let heads = [Some(format!("{BOLD}{title}{PLAIN}")), note.map(|note| format!("[{note}]"))];
            let heads = heads.into_iter().flatten().flat_map(|head| self.wrap(&head, width));
            return heads.chain(lines.iter().cloned()).collect();
        }
        let [horizontal, vertical, corners] =
            if self.unicode { ["─", "│", "┌┐└┘"] } else { ["-", "|", "++++"] };
        let corner: Vec<char> = corners.chars().collect();
        let inner = width - 4;
        let mut body = Vec::new();
        let mut head = format!("{horizontal} {BOLD}{title}{PLAIN} ");
        let mut tail = String::new();
        if let Some(note) = note {
            tail = format!(" {WARN}{note}{PLAIN} {horizontal}");
            if columns(&head) + columns(&tail) + 3 > width {
                body.extend(self.wrap(&format!("{WARN}[{note}]{PLAIN}"), inner));
                tail.clear();
            }
        }
        if columns(&head) + 3 > width {
            // The title goes inside as well.
            body.splice(0..0, self.wrap(&format!("{BOLD}{title}{PLAIN}"), inner));
            head.clear();
        }
        let rest = horizontal.repeat(width - 2 - columns(&head) - columns(&tail));
        body.extend(lines.iter().cloned());
        let mut framed = vec![format!("{}{head}{rest}{tail}{}", corner[0], corner[1])];
        for line in body {
            let space = " ".repeat(inner.saturating_sub(columns(&line)));
            framed.push(format!("{vertical} {line}{PLAIN}{space} {vertical}"));
        }
        framed.push(format!("{}{}{}", corner[2], horizontal.repeat(width - 2), corner[3]));
        framed
    }

    /// How many columns are left for text in a frame of `width`.
    pub fn inside(&self, width: usize) -> usize {
        if width < FRAME_MIN { width } else { width - 4 }
    }
}

fn next_line(lines: &mut Vec<String>, style: char) {
    if style == PLAIN {
        lines.push(String::new());
        return;
    }
    lines.last_mut().into_iter().for_each(|line| line.push(PLAIN));
    lines.push(style.to_string());
}

/// The columns that `text` takes.
pub fn columns(text: &str) -> usize {
    text.chars().map(columns_of).sum()
}

fn columns_of(c: char) -> usize {
    c.width().unwrap_or(0)
}

/// The locale for characters: LC_ALL, else LC_CTYPE, else LANG.
pub(super) fn locale(variable: impl Fn(&'static str) -> Option<String>) -> String {
    ["LC_ALL", "LC_CTYPE", "LANG"].into_iter().find_map(variable).unwrap_or_default()
}

/// `ko` of `ko_KR.UTF-8`: LC_ALL, else LC_MESSAGES, else LANG.
pub(super) fn locale_language(variable: impl Fn(&'static str) -> Option<String>) -> String {
    let set = |name| variable(name).filter(|value| !value.is_empty());
    let locale = ["LC_ALL", "LC_MESSAGES", "LANG"].into_iter().find_map(set).unwrap_or_default();
    locale.split(['_', '.', '@']).next().unwrap_or("").to_owned()
}

/// The character set of a locale such as `ko_KR.UTF-8@modifier`, as far as we know any.
pub(super) fn charset(locale: &str) -> &'static str {
    let charset = locale.split_once('.').map_or("", |(_, charset)| charset);
    let charset = charset.split('@').next().unwrap_or("").to_ascii_lowercase();
    if ["utf-8", "utf8"].contains(&charset.as_str()) { "UTF-8" } else { "ASCII" }
}

/// A character in ASCII, where that says the same.
fn ascii(c: char) -> Option<String> {
    Some(match c {
        '\0'..='\x7f' => c.into(),
        'µ' | 'μ' => "u".into(),
        '×' => "x".into(),
        '…' => "...".into(),
        '–' | '─' | '—' | '−' => "-".into(),
        '│' => "|".into(),
        '┌' | '┐' | '└' | '┘' | '├' | '┤' | '┬' | '┴' | '┼' => "+".into(),
        '▶' | '▷' | '▸' => ">".into(),
        '▇' | '█' => "#".into(),
        '◀' => "<".into(),
        '▲' => "^".into(),
        '▼' => "v".into(),
        '→' => "->".into(),
        '←' => "<-".into(),
        '≤' => "<=".into(),
        '≥' => ">=".into(),
        '“' | '”' => "\"".into(),
        '‘' | '’' => "'".into(),
        '·' | '•' => "*".into(),
        '\u{a0}' => " ".into(),
        'é' => "e".into(),
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const WIDE: Terminal = Terminal { width: 80, unicode: true, colour: false };
    const PLAIN_TERMINAL: Terminal = Terminal { width: 80, unicode: false, colour: false };

    #[test]
    fn nothing_is_drawn_wider_than_can_be_read() {
        assert!(Terminal::of_stdout().width <= WIDTH_MAX);
    }

    #[test]
    fn lines_break_between_words_and_within_one_that_is_too_long() {
        assert_eq!(WIDE.wrap("one two three", 7), ["one two", "three"]);
        assert_eq!(WIDE.wrap("abcdefgh ij", 3), ["abc", "def", "gh", "ij"]);
        assert_eq!(WIDE.wrap("", 5), [""]);
        assert_eq!(WIDE.wrap("ab", 0), ["a", "b"]);
    }

    #[test]
    fn korean_takes_two_columns_each() {
        assert_eq!(columns("가상화"), 6);
        assert_eq!(WIDE.wrap("가상화 기술", 7), ["가상화", "기술"]);
        let framed = WIDE.frame("하이퍼바이저", Some("Type 1"), &["가상 머신".into()], 40);
        assert!(framed.iter().all(|line| columns(line) == 40), "{framed:#?}");
    }

    #[test]
    fn emphasis_has_no_width_goes_on_in_the_next_line_and_is_dropped_without_colour() {
        let text = format!("{BOLD}one two{PLAIN} three");
        let lines = WIDE.wrap(&text, 4);
        assert_eq!(
            lines.iter().map(|line| WIDE.finish(line)).collect::<Vec<_>>(),
            ["one", "two", "thre", "e"]
        );
        let colour = Terminal { colour: true, ..WIDE };
        assert_eq!(colour.finish(&lines[0]), "\x1b[1mone\x1b[0m");
        assert_eq!(colour.finish(&lines[1]), "\x1b[1mtwo\x1b[0m");
    }

    #[test]
    fn every_frame_is_as_wide_as_it_is_told_however_long_its_title() {
        for width in 1..60 {
            for note in [None, Some("Type 1 or 2: not to be seen from here")] {
                for terminal in [WIDE, PLAIN_TERMINAL] {
                    let lines = terminal.wrap("some words that have to be wrapped", terminal.inside(width));
                    let framed =
                        terminal.frame("hardware: a processor with a long name", note, &lines, width);
                    assert!(framed.iter().all(|line| columns(line) <= width), "{width}: {framed:#?}");
                }
            }
        }
    }

    #[test]
    fn what_ascii_lacks_is_spelled() {
        assert_eq!(PLAIN_TERMINAL.fit("10 µs → 2 × 5 …"), "10 us -> 2 x 5 ...");
        assert_eq!((PLAIN_TERMINAL.fit("가"), PLAIN_TERMINAL.spell("가 …")), ("?".into(), "가 ...".into()));
        let framed = PLAIN_TERMINAL.frame("a", None, &["b".into()], 30);
        assert!(framed.iter().all(|line| line.is_ascii()), "{framed:#?}");
    }

    #[test]
    fn a_locale_says_which_characters_there_are() {
        for (locale, expected) in [
            ("ko_KR.UTF-8", "UTF-8"),
            ("C.utf8", "UTF-8"),
            ("C", "ASCII"),
            ("ko_KR.EUC-KR", "ASCII"),
            ("", "ASCII"),
        ] {
            assert_eq!(charset(locale), expected, "{locale}");
        }
        let of = |name| (name == "LANG").then(|| "C.UTF-8".to_owned());
        assert_eq!(locale(of), "C.UTF-8");
        let both = |name| Some(if name == "LC_ALL" { "C" } else { "C.UTF-8" }.to_owned());
        assert_eq!(locale(both), "C");
    }
}
