//! The parts of a lesson that are about the machine it is read on.
//!
//! ```text
//! <!-- live
//! An exit takes {{exit}} here.
//! -->
//! Where there is a KVM, `matchstick explain vm-exit` measures an exit.
//! <!-- end -->
//! ```
//!
//! A part may have several live texts, each after the first between `<!-- or` and `-->`: the first one that has all of its
//! figures stands. `{{if hardware}}` is a figure without text, which is there where the condition holds.

/// The beginning of a live part; its text ends at [`BOOK`].
const LIVE: &str = "<!-- live\n";
/// The beginning of another text, for where the one before lacks a figure.
const OR: &str = "<!-- or\n";
/// What ends a live text; the next one follows, or what is said instead of all of them.
const BOOK: &str = "\n-->\n";
/// The end of the part.
const END: &str = "<!-- end -->\n";

/// The Markdown of `text` with live parts filled in by `value`, which is asked for each figure by its name. Where each
/// live text lacks a figure, the text for the book stands. Other comments are left out.
pub fn fill(text: &str, mut value: impl FnMut(&str) -> Option<String>) -> String {
    let mut filled = String::new();
    let mut rest = text;
    while let Some((before, lives, book, after)) = split(rest) {
        filled += before;
        let live = lives.into_iter().find_map(|live| replace(live, &mut value));
        filled += &live.map_or_else(|| book.to_owned(), |live| live + "\n");
        rest = after;
    }
    without_comments(&(filled + rest))
}

/// The names of the figures in `text`, in the order of their first places.
pub fn names(text: &str) -> Vec<&str> {
    let mut names: Vec<&str> = Vec::new();
    let all = text.split("{{").skip(1).filter_map(|rest| rest.split_once("}}"));
    for name in all.map(|(name, _)| name.trim()) {
        if !names.contains(&name) {
            names.push(name);
        }
    }
    names
}

/// What is before the first live part, its live texts, its text for the book, and what is after it.
fn split(text: &str) -> Option<(&str, Vec<&str>, &str, &str)> {
    let (before, rest) = text.split_once(LIVE)?;
    let (live, mut rest) = rest.split_once(BOOK)?;
    let mut lives = vec![live];
    while let Some(other) = rest.strip_prefix(OR) {
        let (live, after) = other.split_once(BOOK)?;
        lives.push(live);
        rest = after;
    }
    let (book, after) = rest.split_once(END)?;
    Some((before, lives, book, after))
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
    fn the_first_text_that_has_all_its_figures_stands() {
        let text = "<!-- live\n{{if fast}}Fast, {{time}}.\n-->\n<!-- or\n{{if slow}}Slow.\n-->\nBook.\n<!-- end -->\n";
        let only = |names: &'static [&str]| {
            fill(text, |name| {
                names.contains(&name).then(|| name.strip_prefix("if ").map_or("1 s", |_| "").into())
            })
        };
        assert_eq!(only(&["if fast", "time"]), "Fast, 1 s.\n");
        assert_eq!(only(&["if fast", "if slow"]), "Slow.\n");
        assert_eq!(only(&["time"]), "Book.\n");
        assert_eq!(names(text), ["if fast", "time", "if slow"]);
    }

    #[test]
    fn what_is_not_well_formed_is_left_out_or_left_alone() {
        assert_eq!(fill("a <!-- never closed", |_| None), "a ");
        assert_eq!(fill("<!-- live\nx\n-->\ny\n", |_| None), "y\n");
        assert_eq!(fill("<!-- live\n{{x\n-->\ny\n<!-- end -->\n", |_| Some("z".into())), "y\n");
        assert_eq!(fill("{{x}}", |_| Some("z".into())), "{{x}}");
    }
}
