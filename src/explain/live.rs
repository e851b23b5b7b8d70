//! The parts of a lesson that are about the machine it is read on.
//!
//! ```text
//! <!-- live
//! An exit takes {{exit}} here.
//! -->
//! Where there is a KVM, `matchstick explain vm-exit` measures an exit.
//! <!-- end -->
//! ```

/// The beginning of a live part; its text ends at [`BOOK`].
const LIVE: &str = "<!-- live\n";
/// What ends the live text; what is said instead follows.
const BOOK: &str = "\n-->\n";
/// The end of the part.
const END: &str = "<!-- end -->\n";

/// The Markdown of `text` with live parts filled in by `value`, which is asked for each figure by its name. A part
/// that lacks a figure is the one for the book. Other comments are left out.
pub fn fill(text: &str, mut value: impl FnMut(&str) -> Option<String>) -> String {
    let mut filled = String::new();
    let mut rest = text;
    while let Some((before, live, book, after)) = split(rest) {
        filled += before;
        filled += &replace(live, &mut value).map_or_else(|| book.to_owned(), |live| live + "\n");
        rest = after;
    }
    without_comments(&(filled + rest))
}

/// What is before the first live part, its live text, its text for the book, and what is after it.
fn split(text: &str) -> Option<(&str, &str, &str, &str)> {
    let (before, rest) = text.split_once(LIVE)?;
    let (live, rest) = rest.split_once(BOOK)?;
    let (book, after) = rest.split_once(END)?;
    Some((before, live, book, after))
}

fn replace(text: &str, value: &mut impl FnMut(&str) -> Option<String>) -> Option<String> {
    let mut parts = text.split("{{");
    let mut filled = parts.next()?.to_owned();
    for part in parts {
        let (name, after) = part.split_once("}}")?;
        filled += &value(name.trim())?;
        filled += after;
    }
    Some(filled)
}

fn without_comments(text: &str) -> String {
    let mut parts = text.split("<!--");
    let mut kept = parts.next().unwrap_or("").to_owned();
    for part in parts {
        let after = part.split_once("-->").map_or("", |(_, after)| after);
        kept += after.strip_prefix('\n').unwrap_or(after);
    }
    kept
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "<!-- translates 00 -->\n# A\n\n<!-- live\nIt takes {{ time }}, {{rate}}.\n-->\nIt takes time.\n\
                        <!-- end -->\n\nB\n";

    #[test]
    fn figures_stand_in_the_live_text() {
        let value = |name: &str| Some(name.to_uppercase());
        assert_eq!(fill(TEXT, value), "# A\n\nIt takes TIME, RATE.\n\nB\n");
    }

    #[test]
    fn without_one_of_them_the_books_text_stands() {
        let value = |name: &str| (name == "time").then(|| "1 s".to_owned());
        assert_eq!(fill(TEXT, value), "# A\n\nIt takes time.\n\nB\n");
    }

    #[test]
    fn what_is_not_well_formed_is_left_out_or_left_alone() {
        assert_eq!(fill("a <!-- never closed", |_| None), "a ");
        assert_eq!(fill("<!-- live\nx\n-->\ny\n", |_| None), "y\n");
        assert_eq!(fill("<!-- live\n{{x\n-->\ny\n<!-- end -->\n", |_| Some("z".into())), "y\n");
        assert_eq!(fill("{{x}}", |_| Some("z".into())), "{{x}}");
    }
}
