//! How names, bytes and numbers of things are written in messages, whoever writes them.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;

/// A path or a name as it may stand in a message: in one line, and with nothing that a terminal would obey. A byte that is
/// no text is `\\xff`.
pub fn shown(name: impl AsRef<OsStr>) -> String {
    let mut text = String::new();
    for chunk in name.as_ref().as_bytes().utf8_chunks() {
        text += &one_line(chunk.valid());
        text.extend(chunk.invalid().iter().map(|byte| format!("\\x{byte:02x}")));
    }
    text
}

/// Text in one line: control characters, and those that turn the direction of what follows, are spelled out (`\\n`,
/// `\\u{1b}`).
pub fn one_line(text: &str) -> String {
    let spelled = |c: char| if is_obeyed(c) { c.escape_default().to_string() } else { c.to_string() };
    text.chars().map(spelled).collect()
}

/// The same for text of several lines, which may be indented.
#[cfg(feature = "cli")]
pub fn plain(text: &str) -> String {
    let spelled = |c: char| match c {
        '\n' | '\t' => c.to_string(),
        c => one_line(c.encode_utf8(&mut [0; 4])),
    };
    text.chars().map(spelled).collect()
}

/// The same for JSON, whose strings have another way to spell them: `\\u001b`.
#[cfg(feature = "cli")]
pub fn plain_json(text: &str) -> String {
    let spelled = |c: char| match c {
        c if c != '\n' && is_obeyed(c) => format!("\\u{:04x}", u32::from(c)),
        c => c.to_string(),
    };
    text.chars().map(spelled).collect()
}

/// Whether a terminal does something else with it than show it: C0 and C1 controls (ECMA-48), line and paragraph
/// separators, and Unicode's marks, embeddings, overrides and isolates of direction (UAX #9).
fn is_obeyed(c: char) -> bool {
    let directions = ['\u{61c}', '\u{200e}', '\u{200f}'];
    c.is_control()
        || directions.contains(&c)
        || matches!(c, '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

/// Bytes as a reader expects them: `6e 6f 74 20`.
pub fn hex(bytes: &[u8]) -> String {
    let words: Vec<String> = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    words.join(" ")
}

/// `1 page`, `2 pages`.
pub fn counted(count: usize, what: &str) -> String {
    format!("{count} {what}{}", if count == 1 { "" } else { "s" })
}

/// A number of bytes in the largest unit that shows it whole: `512M`, `4097 bytes`.
pub fn size(bytes: u64) -> String {
    let units = [(40, 'T'), (30, 'G'), (20, 'M'), (10, 'K')];
    let whole = units.iter().find(|(shift, _)| bytes != 0 && bytes.trailing_zeros() >= *shift);
    whole.map_or(format!("{bytes} bytes"), |(shift, unit)| format!("{}{unit}", bytes >> shift))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_one_line_that_no_terminal_obeys() {
        assert_eq!(shown("/tmp/a b/안녕"), "/tmp/a b/안녕");
        assert_eq!(shown("a\x1b[2Jb\nc\td\re"), "a\\u{1b}[2Jb\\nc\\td\\re");
        assert_eq!(shown(OsStr::from_bytes(b"\xff\x9b2J\xc2\x9b")), "\\xff\\x9b2J\\u{9b}");
        assert_eq!(shown("x\u{202e}cod.exe"), "x\\u{202e}cod.exe");
        for c in (0..=0x10ffff).filter_map(char::from_u32).filter(|c| c.is_control()) {
            assert!(one_line(&c.to_string()).chars().all(|c| c.is_ascii_graphic()), "{c:?}");
        }
        #[cfg(feature = "cli")]
        assert_eq!(plain_json("\"\u{7f}\u{9b}\u{202e}\"\n"), "\"\\u007f\\u009b\\u202e\"\n");
        #[cfg(feature = "cli")]
        assert_eq!(plain("a\n\tb\x1b\r\n"), "a\n\tb\\u{1b}\\r\n");
    }
}
