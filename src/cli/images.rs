//! `matchstick images`: what `run-image` has unpacked and kept; what a program has written; and their removal.

use super::error::Result;
use super::option::{CommandHelp, Given, HELP, OptionHelp, Parsed, option};
use crate::image::{Change, Entry, Store, What, changes};
use crate::text::{counted, one_line, shown};
use lexopt::{Parser, ValueExt};

/// The command.
pub const COMMAND: CommandHelp = CommandHelp {
    name: "images",
    arguments: "[OPTIONS]",
    about: "list unpacked images and kept layers, show what was written, remove them",
    intro: "List the images that `matchstick run-image` has unpacked, and the layers that it was to keep.",
    options: OPTIONS,
    notes: NOTES,
    hint: "`matchstick images --help` shows all options",
};

const OPTIONS: &[OptionHelp] = &[
    option(
        None,
        "changes",
        Some("NAME"),
        "show what was written to the layer NAME: A added, C changed, D deleted",
    ),
    option(
        None,
        "remove",
        Some("NAME"),
        "remove a layer, or an image by its name or digest;\ncan be given more than once",
    ),
    option(None, "prune", None, "remove every image that no program runs from; layers stay"),
    HELP,
];

const NOTES: &str = "
Images lie in $XDG_CACHE_HOME/matchstick/images (~/.cache), layers in $XDG_DATA_HOME/matchstick/layers (~/.local/share).
An image that was removed is unpacked again when it is needed.
";

/// `images` as it was typed.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct ImagesArgs {
    /// `--changes`
    pub changes: Option<String>,
    /// `--remove`
    pub remove: Vec<String>,
    /// `--prune`
    pub prune: bool,
}

/// Reads what follows `images`.
///
/// # Errors
/// Of what makes no sense.
pub fn parse(parser: &mut Parser) -> std::result::Result<Parsed<ImagesArgs>, lexopt::Error> {
    let mut args = ImagesArgs::default();
    while let Some(given) = Given::next(parser, OPTIONS)? {
        match given {
            Given::Option("changes") => args.changes = Some(parser.value()?.string()?),
            Given::Option("remove") => args.remove.push(parser.value()?.string()?),
            Given::Option("prune") => args.prune = true,
            Given::Option(_) => return Ok(Parsed::Help),
            other => return Err(other.unexpected()),
        }
    }
    let asked = [args.changes.is_some(), !args.remove.is_empty(), args.prune];
    match asked.iter().filter(|&&is| is).count() {
        0 | 1 => Ok(Parsed::Arguments(args)),
        _ => Err("--changes, --remove and --prune are asked for one at a time".into()),
    }
}

/// Does it; returns what is to be printed.
///
/// # Errors
/// Of names that are not there, and of what is in use.
pub fn run(args: &ImagesArgs) -> Result<String> {
    let store = Store::open()?;
    if let Some(name) = &args.changes {
        let (directory, below) = store.layer(name)?;
        let line = |change: &Change| match change {
            Change::Added(path) => format!("A {}\n", shown(path)),
            Change::Changed(path) => format!("C {}\n", shown(path)),
            Change::Deleted(path) => format!("D {}\n", shown(path)),
        };
        return Ok(changes(&directory, below.as_deref())?.iter().map(line).collect());
    }
    if args.prune {
        return Ok(format!("{} removed\n", counted(store.prune()?, "image")));
    }
    if !args.remove.is_empty() {
        for name in &args.remove {
            store.remove(name)?;
        }
        return Ok(String::new());
    }
    Ok(table(&store.list()?))
}

/// A line for each.
fn table(entries: &[Entry]) -> String {
    let line = |entry: &Entry| {
        let size = format!("{:.1} MB", entry.bytes as f64 / 1e6);
        let (kind, name, about) = match entry.what {
            What::Image => ("image", &entry.name[..entry.name.len().min(12)], one_line(&entry.about)),
            What::Layer => {
                let digits = entry.about.strip_prefix("sha256:").unwrap_or(&entry.about);
                ("layer", entry.name.as_str(), format!("over {}", &digits[..digits.len().min(12)]))
            }
        };
        let in_use = if entry.is_in_use { " (in use)" } else { "" };
        format!("{kind}  {name:<20}  {size:>10}  {about}{in_use}").trim_end().to_owned() + "\n"
    };
    entries.iter().map(line).collect()
}
