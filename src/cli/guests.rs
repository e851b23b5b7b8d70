//! `matchstick guests`: the gallery, one line each.

use crate::guest::GALLERY;

/// Name, line, and what the guest needs beyond the ordinary.
pub fn list() -> String {
    let width = GALLERY.iter().map(|guest| guest.name.len()).max().unwrap_or(0);
    let line = |guest: &crate::guest::Guest| {
        let needs = match guest.needs {
            [] => String::new(),
            needs => format!(" (needs {})", needs.join(", ")),
        };
        format!("{:<width$}  {}{needs}\n", guest.name, guest.about)
    };
    GALLERY.iter().map(line).collect()
}
