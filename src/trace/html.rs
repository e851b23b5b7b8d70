//! The story as an HTML page with a timeline to zoom into: one file that loads nothing from elsewhere.

use super::{Recording, json, story};
use serde_json::Value;

/// The page; `{{story}}` and `{{data}}` are to be replaced.
const PAGE: &str = include_str!("page.html");

/// The page for `recording`.
pub fn page(recording: &Recording) -> String {
    filled(&json::page_data(recording), &story::tell(recording))
}

/// The page with that data, and that text below it.
pub(super) fn filled(data: &Value, text: &str) -> String {
    // Within a script element, only `</script` would be read as markup.
    let data = data.to_string().replace('<', "\\u003c");
    let text = text.replace('&', "&amp;").replace('<', "&lt;");
    let (head, rest) = PAGE.split_once("{{story}}").unwrap_or((PAGE, ""));
    let (middle, end) = rest.split_once("{{data}}").unwrap_or((rest, ""));
    [head, &text, middle, &data, end].concat()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::trace::{Event, EventKind, Tracer};
    use std::time::Duration;

    #[test]
    fn a_name_cannot_leave_its_place() {
        let recording = Tracer::new().finish("</script><b>");
        let page = page(&recording);
        assert_eq!(page.matches("</script>").count(), PAGE.matches("</script>").count());
        assert!(!page.contains("<b>"));
        assert!(!page.contains("{{"));
    }

    #[test]
    fn the_page_needs_no_network() {
        assert!(!PAGE.contains("http") && !PAGE.contains("src=") && !PAGE.contains("@import"));
    }

    #[test]
    fn every_event_is_a_bar() {
        let mut recording = Tracer::new().finish("x");
        let kind = EventKind::Phase(crate::timeline::Phase::Guest);
        recording.events.push(Event { at: Duration::ZERO, took: Duration::from_micros(3), kind });
        assert!(page(&recording).contains("guest: to its end"));
    }
}
