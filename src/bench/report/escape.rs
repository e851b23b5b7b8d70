//! Text as HTML and SVG take it.

/// `text` with the characters replaced that mean something in HTML.
pub fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}
