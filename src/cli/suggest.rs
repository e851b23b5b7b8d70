//! Complaints about a word that is not known, with a known one that is spelled much like it.

use super::option::OptionHelp;
use crate::explain::nearest;
use crate::guest::GALLERY;
use crate::linux;
use crate::text::shown;
use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::fs::DirEntry;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

/// The complaint about a command that is not one of `commands`.
pub fn no_command<'a>(word: &OsStr, commands: impl Iterator<Item = &'a str>) -> String {
    format!("no such command: {}{}", shown(word), is_it(word, commands, ""))
}

/// What was wrong with the arguments of a command that has `options`.
pub fn complaint(error: &lexopt::Error, options: &[OptionHelp]) -> String {
    let lexopt::Error::UnexpectedOption(option) = error else { return error.to_string() };
    let Some(word) = option.strip_prefix("--") else { return error.to_string() };
    let known = options.iter().map(|option| option.long);
    format!("{error}{}", is_it(OsStr::new(word), known, "--"))
}

/// The guest of the gallery that may be meant by `word`, as the end of a complaint.
pub fn guest(word: &OsStr) -> String {
    is_it(word, GALLERY.iter().map(|guest| guest.name).chain([linux::NAME]), "")
}

/// The program that may be meant by `word`, as the end of a complaint: one in its directory, or in one of `path` (PATH of
/// environ(7)) if it has no slash; below `root`.
pub fn program(word: &[u8], path: &OsStr, root: &Path) -> String {
    let (directory, name) = match word.iter().rposition(|&byte| byte == b'/') {
        Some(slash) => (Some(&word[..=slash]), &word[slash + 1..]),
        None => (None, word),
    };
    // Of two letters every word is one slip away.
    let Some(name) = std::str::from_utf8(name).ok().filter(|name| name.len() > 2) else {
        return String::new();
    };
    let directories: Vec<PathBuf> = match directory {
        Some(directory) => vec![OsStr::from_bytes(directory).into()],
        None => std::env::split_paths(path).collect(),
    };
    let programs: BTreeSet<String> = directories.iter().flat_map(|at| programs_in(at, root)).collect();
    // In a directory of thousands, much is like everything.
    let alike = || programs.iter().map(String::as_str).filter(|known| known.len().abs_diff(name.len()) <= 2);
    // A letter is forgotten more often than one too many is typed.
    let begun = alike().filter(|known| known.starts_with(name)).min_by_key(|known| known.len());
    match begun.or_else(|| nearest(name, alike()).first().copied()) {
        Some(near) => format!(": is it {}{near}?", shown(OsStr::from_bytes(directory.unwrap_or_default()))),
        None => String::new(),
    }
}

/// The names in a directory that may be executed; none of a relative one below another root than ours.
fn programs_in(directory: &Path, root: &Path) -> Vec<String> {
    let below = directory.strip_prefix("/").map_or_else(|_| directory.into(), |below| root.join(below));
    let may_be_run = |entry: &DirEntry| {
        let kind = std::fs::metadata(entry.path());
        kind.is_ok_and(|kind| kind.is_file() && kind.permissions().mode() & 0o111 != 0)
    };
    let entries = std::fs::read_dir(below).into_iter().flatten().flatten();
    entries.filter(may_be_run).filter_map(|entry| entry.file_name().into_string().ok()).collect()
}

/// `: is it run?`, or nothing. The name begins with `dashes`.
fn is_it<'a>(word: &OsStr, known: impl Iterator<Item = &'a str>, dashes: &str) -> String {
    match nearest(&word.to_string_lossy(), known).first() {
        Some(name) => format!(": is it {dashes}{name}?"),
        None => String::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::super::option::{HELP, option};
    use super::*;

    #[test]
    fn a_program_is_looked_for_where_it_would_be() {
        let directory = tempfile::tempdir().unwrap();
        let bin = directory.path().join("bin");
        std::fs::create_dir(&bin).unwrap();
        for (name, mode) in [
            ("frobnicate", 0o755),
            ("frobnicating", 0o755),
            ("no-program", 0o644),
            ("tr", 0o755),
            ("true", 0o755),
        ] {
            std::fs::write(bin.join(name), "").unwrap();
            std::fs::set_permissions(bin.join(name), std::fs::Permissions::from_mode(mode)).unwrap();
        }
        let program =
            |word: &str, path: &str, root: &Path| super::program(word.as_bytes(), OsStr::new(path), root);
        let (here, path) = (Path::new("/"), format!("/nonexistent:{}", bin.display()));
        assert_eq!(program("frobnciate", &path, here), ": is it frobnicate?");
        assert_eq!(program("/bin/frobncate", "", directory.path()), ": is it /bin/frobnicate?");
        assert_eq!(program("tru", &path, here), ": is it true?");
        let whole = bin.join("frobncate").display().to_string();
        assert_eq!(program(&whole, "", here), format!(": is it {}?", bin.join("frobnicate").display()));
        for word in ["no-progrm", "sl", "other", "x/frobnicate", "/", ""] {
            assert_eq!(program(word, &path, here), "", "{word}");
        }
    }

    #[test]
    fn a_slip_of_the_hand_is_seen_and_a_strange_word_is_left_alone() {
        let command = |word: &str| no_command(OsStr::new(word), ["run", "bench"].into_iter());
        assert_eq!(command("bnch"), "no such command: bnch: is it bench?");
        assert_eq!(command("frobnicate"), "no such command: frobnicate");
        assert_eq!(
            (guest(OsStr::new("helo")), guest(OsStr::new("kernel.elf"))),
            (": is it hello?".into(), String::new())
        );
        let options = [option(Some('m'), "memory", Some("SIZE"), ""), HELP];
        let option = |name: &str| complaint(&lexopt::Error::UnexpectedOption(name.into()), &options);
        assert_eq!(option("--memroy"), "invalid option '--memroy': is it --memory?");
        assert_eq!(option("--foo"), "invalid option '--foo'");
        assert_eq!(option("-z"), "invalid option '-z'");
    }
}
