//! The rules of the house (docs/architecture.md), read from the sources.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Each layer may use those before it and, within one row, none of the others.
const LAYERS: &[&[&str]] = &[
    &["text"],
    &["error", "sys", "fields"],
    &["x86", "container", "elf"],
    &["kvm"],
    &["boot", "device", "linux"],
    &["timeline", "sandbox", "virtio"],
    &["machine", "program", "trace", "debugger"],
    &["snapshot"],
    &["console", "guest", "host", "image", "oci"],
    &["bench"],
    &["explain"],
    &["cli"],
];

/// Modules that may contain unsafe code.
const UNSAFE: [&str; 2] = ["kvm", "sys"];

/// Lines of a source file without its tests: more is more than one sitting.
const LINES_MAX: usize = 450;

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// All files below `dir`.
fn files(dir: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() { found.extend(files(&path)) } else { found.push(path) }
    }
    found
}

struct Source {
    /// Its path below src/.
    name: String,
    /// The module of the crate that it belongs to; `lib` and `main` for the two roots.
    module: String,
    text: String,
}

fn sources() -> Vec<Source> {
    let src = root().join("src");
    let source = |path: PathBuf| {
        let name = path.strip_prefix(&src).unwrap().display().to_string();
        let module = name.split(['/', '.']).next().unwrap().to_owned();
        Source { name, module, text: fs::read_to_string(&path).unwrap() }
    };
    let in_rust = |path: &PathBuf| path.extension().is_some_and(|extension| extension == "rs");
    let sources: Vec<Source> = files(&src).into_iter().filter(in_rust).map(source).collect();
    assert!(sources.len() > 20, "where are the sources?");
    sources
}

/// `text` without its line comments.
fn code(text: &str) -> String {
    let code_of = |line: &str| line.split("//").next().unwrap_or("").to_owned();
    text.lines().map(code_of).collect::<Vec<_>>().join("\n")
}

/// The modules of this crate that `code` names after `crate::`, `use crate::{a, b::c}` included.
fn modules_used(code: &str) -> BTreeSet<String> {
    let word =
        |text: &str| -> String { text.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect() };
    let mut used = BTreeSet::new();
    for rest in code.split("crate::").skip(1) {
        let Some(list) = rest.strip_prefix('{') else {
            used.insert(word(rest));
            continue;
        };
        let (mut depth, mut item) = (0, String::new());
        for c in list.chars() {
            match c {
                '{' => depth += 1,
                '}' if depth == 0 => break,
                '}' => depth -= 1,
                ',' if depth == 0 => {
                    used.insert(word(std::mem::take(&mut item).trim()));
                }
                c => item.push(c),
            }
        }
        used.insert(word(item.trim()));
    }
    used
}

#[test]
fn the_search_for_modules_sees_every_spelling() {
    let code = "use crate::a; use crate::{b, c::{x, y}, d::E,\n f}; let x = crate::g::h(crate::i);";
    let used: Vec<String> = modules_used(code).into_iter().collect();
    assert_eq!(used, ["a", "b", "c", "d", "f", "g", "i"]);
}

#[test]
fn lower_layers_never_import_upper_ones() {
    let layer = |module: &str| LAYERS.iter().position(|layer| layer.contains(&module));
    for Source { name, module, text } in sources() {
        if ["lib", "main"].contains(&module.as_str()) {
            continue;
        }
        let own = layer(&module).unwrap_or_else(|| panic!("{name} belongs to no layer"));
        for used in modules_used(&code(&text)) {
            if used == module {
                continue;
            }
            // What is no module is a macro or a name that lib.rs exports.
            let other =
                layer(&used).unwrap_or_else(|| panic!("{name}: crate::{used} is not one of the layers"));
            assert!(other < own, "{name} imports {used}, which does not lie below {module}");
        }
        // From the top of the tree, `super` would be another way to say `crate`.
        let is_top = !name.contains('/') || name.ends_with("/mod.rs");
        for used in LAYERS.concat().into_iter().filter(|_| is_top) {
            assert!(!code(&text).contains(&format!("super::{used}::")), "{name}: say crate::{used}");
        }
    }
}

/// The paths that a `use` of `tree` brings in: `a::{b, c::d as e}` is `a::b` and `a::c::d`.
fn expand(tree: &str) -> Vec<String> {
    let tree = tree.trim();
    let Some((prefix, list)) = tree.split_once('{') else {
        return vec![tree.split(" as ").next().unwrap_or("").trim().to_owned()];
    };
    let list = list.trim_end().strip_suffix('}').unwrap_or(list);
    let (mut depth, mut items) = (0, vec![String::new()]);
    for c in list.chars() {
        match c {
            '{' => depth += 1,
            '}' => depth -= 1,
            ',' if depth == 0 => {
                items.push(String::new());
                continue;
            }
            _ => {}
        }
        items.last_mut().unwrap().push(c);
    }
    let items = items.iter().filter(|item| !item.trim().is_empty()).flat_map(|item| expand(item));
    items.map(|item| format!("{prefix}{item}").trim_end_matches("::self").to_owned()).collect()
}

/// All paths of this crate that `code` names, from `use` and elsewhere, as they are written.
fn paths(code: &str) -> Vec<String> {
    let is_of_path = |c: char| c.is_alphanumeric() || "_:".contains(c);
    let mut found = Vec::new();
    for (at, _) in code.match_indices("use ") {
        if code[..at].ends_with(|c: char| c.is_whitespace() || c == ')') || at == 0 {
            let tree = code[at + 4..].split(';').next().unwrap_or("");
            found.extend(expand(&tree.split_whitespace().collect::<Vec<_>>().join(" ")));
        }
    }
    found.extend(code.split(|c| !is_of_path(c)).map(|path| path.trim_end_matches(':').to_owned()));
    found.retain(|path| path.starts_with("crate::") || path.starts_with("super::"));
    found
}

#[test]
fn the_search_for_paths_sees_every_spelling() {
    let code = "pub use super::a::{self, b as c, d::{E, f}}; fn g() { crate::h::i(super::super::J) }";
    let mut found = paths(code);
    found.sort();
    // As written, and once more where a list begins.
    let expected = [
        "crate::h::i",
        "super::a",
        "super::a",
        "super::a::b",
        "super::a::d::E",
        "super::a::d::f",
        "super::super::J",
    ];
    assert_eq!(found, expected);
}

/// The files of src/ by their modules, `["boot", "linux"]`, and the files that each of them names.
///
/// A file that names only its own parent's module, such as `use super::parent;`, names what that one hands on.
fn arrows() -> BTreeMap<Vec<String>, BTreeSet<Vec<String>>> {
    let module = |name: &str| -> Vec<String> {
        let name = name.trim_end_matches(".rs").trim_end_matches("/mod");
        name.split('/').map(str::to_owned).collect()
    };
    let sources: Vec<Source> = sources()
        .into_iter()
        .filter(|source| !["lib.rs", "main.rs"].contains(&source.name.as_str()))
        .collect();
    let modules: BTreeSet<Vec<String>> = sources.iter().map(|source| module(&source.name)).collect();
    let mut arrows = BTreeMap::new();
    for Source { name, text, .. } in sources {
        let own = module(&name);
        // Tests may use what they like.
        let text = text.split("#[cfg(test)]\nmod tests").next().unwrap_or("");
        let mut named = BTreeSet::new();
        for path in paths(&code(text)) {
            let (mut base, mut rest) = (own.clone(), path.split("::").map(str::to_owned).peekable());
            if rest.next_if(|word| word == "crate").is_some() {
                base.clear();
            }
            while rest.next_if(|word| word == "super").is_some() {
                base.pop();
            }
            let whole: Vec<String> = base.into_iter().chain(rest).collect();
            // The longest beginning that is a file.
            let Some(len) = (1..=whole.len()).rev().find(|&len| modules.contains(&whole[..len])) else {
                continue;
            };
            let file = whole[..len].to_vec();
            let is_own_parent = own.len() > len && own.starts_with(&file) && len == whole.len();
            if file != own && !is_own_parent {
                named.insert(file);
            }
        }
        arrows.insert(own, named);
    }
    arrows
}

#[test]
fn no_file_leads_back_to_itself() {
    let arrows = arrows();
    let reached = |from: &Vec<String>| {
        let (mut reached, mut next) = (BTreeSet::new(), vec![from.clone()]);
        while let Some(file) = next.pop() {
            next.extend(arrows[&file].iter().filter(|file| reached.insert((*file).clone())).cloned());
        }
        reached
    };
    // A circle is a set of files each of which leads to all of them.
    let mut circles = BTreeSet::new();
    for file in arrows.keys() {
        let far = reached(file);
        let back = far.iter().filter(|other| reached(other).contains(file));
        let circle: Vec<String> = back.map(|other| other.join("/")).collect();
        circles.insert(circle);
    }
    circles.remove(&Vec::new());
    assert!(circles.is_empty(), "these files use each other: {circles:#?}");
}

/// Lines of code that can be read in an afternoon.
const AFTERNOON: usize = 1700;

/// The files that docs/architecture.md lists for an afternoon's reading, below src/, in its order.
fn afternoon() -> Vec<String> {
    let page = fs::read_to_string(root().join("docs/architecture.md")).unwrap();
    let (_, section) = page.split_once("## An afternoon's reading\n").expect("the section is there");
    let table =
        section.lines().skip_while(|line| !line.starts_with('|')).take_while(|line| line.starts_with('|'));
    let first_cells = table.filter_map(|line| line.split('|').nth(1));
    first_cells.flat_map(|cell| cell.split('`').skip(1).step_by(2).map(str::to_owned)).collect()
}

/// The file that defines what `path` names, beginning at the root of the crate: a room's mod.rs may only hand it on.
fn defined_in(path: &[String], texts: &BTreeMap<Vec<String>, String>) -> Option<Vec<String>> {
    let len = (1..=path.len()).rev().find(|&len| texts.contains_key(&path[..len]))?;
    let (file, rest) = path.split_at(len);
    let Some(item) = rest.first() else { return Some(file.to_vec()) };
    let handed_on = texts[file].split("pub use ").skip(1).filter_map(|rest| rest.split(';').next());
    let found = handed_on
        .flat_map(|tree| expand(&tree.split_whitespace().collect::<Vec<_>>().join(" ")))
        .find(|path| path.rsplit("::").next() == Some(item) && !path.starts_with("crate::"));
    match found {
        Some(own) => {
            let own = own.split("::").map(str::to_owned);
            defined_in(&file.iter().cloned().chain(own).collect::<Vec<_>>(), texts)
        }
        None => Some(file.to_vec()),
    }
}

#[test]
fn an_afternoon_is_enough_for_the_path_from_error_to_machine_and_it_leads_nowhere_else() {
    let module = |name: &str| -> Vec<String> {
        name.trim_end_matches(".rs").trim_end_matches("/mod").split('/').map(str::to_owned).collect()
    };
    let without_tests = |text: &str| text.split("#[cfg(test)]\nmod tests").next().unwrap_or("").to_owned();
    let texts: BTreeMap<Vec<String>, String> = sources()
        .into_iter()
        .map(|source| (module(&source.name), code(&without_tests(&source.text))))
        .collect();
    let listed: Vec<Vec<String>> = afternoon().iter().map(|name| module(name)).collect();
    assert!(listed.first().is_some_and(|file| file[0] == "error"));
    assert!(listed.last().is_some_and(|file| file[0] == "machine"));
    let mut lines = 0;
    for file in &listed {
        let text = texts.get(file).unwrap_or_else(|| panic!("there is no {file:?}"));
        lines += text.lines().filter(|line| !line.trim().is_empty()).count();
        for path in paths(text) {
            let (mut base, mut rest) = (file.clone(), path.split("::").map(str::to_owned).peekable());
            if rest.next_if(|word| word == "crate").is_some() {
                base.clear();
            }
            while rest.next_if(|word| word == "super").is_some() {
                base.pop();
            }
            let whole: Vec<String> = base.into_iter().chain(rest).collect();
            // A prefix of a list, which is looked at in whole.
            let is_room = texts.keys().any(|other| other.starts_with(&whole)) && whole.len() < 2;
            let Some(used) = defined_in(&whole, &texts).filter(|_| !is_room) else { continue };
            assert!(listed.contains(&used), "{file:?} names {path}, of {used:?}, which is not in the list");
        }
    }
    println!("{lines} lines in {} files", listed.len());
    assert!(lines <= AFTERNOON, "{lines} lines are too many for an afternoon");
}

#[test]
fn paths_are_shown_without_what_a_terminal_obeys() {
    for Source { name, text, .. } in sources() {
        let without_tests = text.split("#[cfg(test)]").next().unwrap_or_default();
        let has_raw = code(without_tests).contains(".display()");
        assert!(!has_raw, "{name}: a path in a message is shown by text::shown");
    }
}

/// "the ELF notes is damaged"
#[test]
fn what_is_damaged_is_one_thing() {
    let mut found = 0;
    for Source { name, text, .. } in sources() {
        let text = code(&text);
        for (at, _) in text.match_indices("Damaged {") {
            // `ElfError::Damaged { what, why }`: said elsewhere.
            let Some((_, rest)) = text[at..].split_once("what: \"").filter(|(head, _)| head.len() < 40)
            else {
                continue;
            };
            let what = rest.split('"').next().unwrap_or_default();
            let head = what.split(" in ").next().unwrap_or_default().split(" of ").next().unwrap_or_default();
            let is_many = head.ends_with('s') && !head.ends_with("ss");
            assert!(!is_many, "{name}: \"{what} is damaged\"");
            found += 1;
        }
    }
    assert!(found > 3, "only {found}");
}

#[test]
fn the_map_shows_every_room_and_the_rows_that_hold() {
    let page = fs::read_to_string(root().join("docs/architecture.md")).unwrap();
    let (_, rows) = page.split_once("**Lower layers never import upper ones**").unwrap();
    let rows = rows.split("```").nth(1).unwrap().strip_prefix("text\n").unwrap();
    let rows: Vec<Vec<&str>> = rows.lines().map(|line| line.split(", ").collect()).collect();
    assert_eq!(rows, LAYERS, "docs/architecture.md, and LAYERS here");
    let (_, map) = page.split_once("## Rooms\n").unwrap();
    let map = map.split("```").nth(1).unwrap();
    for Source { module, .. } in sources() {
        let room = [format!("\n  {module}/ "), format!("\n  {module}.rs ")];
        assert!(room.iter().any(|room| map.contains(room)), "docs/architecture.md does not show {module}");
    }
}

#[test]
fn every_module_has_its_layer() {
    let modules: BTreeSet<String> = sources().into_iter().map(|source| source.module).collect();
    let layers = LAYERS.concat().into_iter().chain(["lib", "main"]).map(str::to_owned).collect();
    assert_eq!(modules, layers);
}

#[test]
fn unsafe_stays_where_it_is_explained() {
    for Source { name, module, text } in sources() {
        if UNSAFE.contains(&module.as_str()) {
            continue;
        }
        let found: Vec<String> = code(&text)
            .lines()
            .map(str::trim)
            .filter(|line| line.contains("unsafe"))
            .map(str::to_owned)
            .collect();
        // The attribute that gives `main` its name, and the permission for it.
        let allowed = if module == "main" { 2 } else { 0 };
        assert_eq!(found.len(), allowed, "{name}: {found:?}");
        assert!(found.iter().all(|line| line.starts_with("#[")), "{name}: {found:?}");
    }
}

#[test]
fn no_file_is_too_long_to_read() {
    for Source { name, text, .. } in sources() {
        if name.ends_with("/tests.rs") {
            continue;
        }
        let lines: Vec<&str> = text.lines().collect();
        let is_tests = |pair: &[&str]| pair[0] == "#[cfg(test)]" && pair[1].starts_with("mod tests");
        let count = lines.windows(2).position(is_tests).unwrap_or(lines.len());
        assert!(count <= LINES_MAX, "{name} has {count} lines");
    }
}

/// A file that no `mod` names is not compiled, and nobody notices that it is still there.
#[test]
fn every_file_of_src_is_a_module_of_the_one_above() {
    let all = sources();
    let text = |name: &str| all.iter().find(|source| source.name == name).map(|source| source.text.as_str());
    for Source { name, .. } in &all {
        let Some(path) = name.strip_suffix(".rs").filter(|path| !["lib", "main"].contains(path)) else {
            continue;
        };
        let path = path.strip_suffix("/mod").unwrap_or(path);
        let (above, module) = path.rsplit_once('/').unwrap_or(("lib", path));
        let declares = |text: &str| text.contains(&format!("mod {module};"));
        let parents = [format!("{above}.rs"), format!("{above}/mod.rs")];
        assert!(parents.iter().any(|parent| text(parent).is_some_and(declares)), "no mod names {name}");
    }
}

#[test]
fn every_file_says_what_it_is() {
    let in_rust = |path: &PathBuf| path.extension().is_some_and(|extension| extension == "rs");
    for dir in ["src", "tests", "benches", "examples", "guest-kernels"] {
        for path in files(&root().join(dir)).into_iter().filter(in_rust) {
            let text = fs::read_to_string(&path).unwrap();
            assert!(text.starts_with("//! "), "{} has no header", path.display());
        }
    }
}

/// What a page of Markdown consists of.
#[derive(Debug, PartialEq)]
enum Part {
    /// A heading, 1 to 6.
    Heading(usize),
    /// With its fences.
    Code(String),
    /// The numbers in each row.
    Table(Vec<String>),
    /// How many items, and the figures in them.
    List(usize, Vec<String>),
    /// Its figures.
    Paragraph(Vec<String>),
}

/// The numbers of two digits and more in `text`, in ascending order: words come in another order in another language.
fn figures(text: &str) -> Vec<String> {
    let is_of_number = |c: char| c.is_ascii_digit() || ",.".contains(c);
    let numbers = text.split(|c| !is_of_number(c)).map(|number| number.trim_matches([',', '.']));
    let mut found: Vec<String> = numbers.filter(|number| number.len() > 1).map(str::to_owned).collect();
    found.sort();
    found
}

/// The parts of `text`, each beside its words.
fn parts(text: &str) -> Vec<(Part, String)> {
    let mut blocks: Vec<String> = vec![String::new()];
    let mut is_code = false;
    for line in text.lines() {
        let is_fence = line.starts_with("```");
        if !is_code && (line.is_empty() || is_fence) {
            blocks.push(String::new());
        }
        *blocks.last_mut().unwrap() += &format!("{line}\n");
        is_code ^= is_fence;
    }
    let part = |block: &str| {
        let starts = |marks: &[&str]| {
            block.lines().filter(|line| marks.iter().any(|mark| line.starts_with(mark))).count()
        };
        let numbers = |line: &str| -> String { line.chars().filter(char::is_ascii_digit).collect() };
        match block.chars().next() {
            Some('#') => Part::Heading(block.chars().take_while(|&c| c == '#').count()),
            Some('`') if block.starts_with("```") => Part::Code(block.to_owned()),
            Some('|') => Part::Table(block.lines().map(numbers).collect()),
            _ if starts(&["- ", "1. "]) > 0 => {
                Part::List(starts(&["- ", "1. ", "2. ", "3. ", "4. ", "5. ", "6. "]), figures(block))
            }
            _ => Part::Paragraph(figures(block)),
        }
    };
    let words = blocks.into_iter().map(|block| block.trim().to_owned()).filter(|block| !block.is_empty());
    words.map(|block| (part(&block), block)).collect()
}

/// Whoever changes the README or the tour changes both: what is code stays as it is, the rest is translated (합니다체).
#[test]
fn the_korean_readme_and_tour_keep_step() {
    for (english, korean) in [("README.md", "README.ko.md"), ("docs/tour.md", "docs/ko/tour.md")] {
        keep_step(english, korean);
    }
}

fn keep_step(english_name: &str, korean_name: &str) {
    let read = |name: &str| fs::read_to_string(root().join(name)).unwrap();
    let (english, korean) = (read(english_name), read(korean_name));
    let (originals, mut translations) = (parts(&english), parts(&korean).into_iter());
    let mut section = String::new();
    for (part, words) in originals {
        if matches!(part, Part::Heading(_)) {
            section.clone_from(&words);
        }
        let (translated, korean) = translations.next().unwrap_or((Part::Heading(0), "its end".into()));
        assert!(
            part == translated,
            "{english_name}, {section:?}, has\n\n{words}\n\nwhere {korean_name} has\n\n{korean}\n\n\
             Put into {korean_name} what is new, and take out what is gone: code as it is, all else in Korean, with the same \
             figures."
        );
    }
    assert_eq!(translations.next(), None, "{korean_name} goes on where {english_name} ends");
    // From the top of the project, without headings; a page in Korean has the same name as the English one.
    let links = |text: &str, name: &str| -> BTreeSet<PathBuf> {
        let links = text.split("](").skip(1).filter_map(|rest| rest.split([')', '#']).next());
        let from_top = |link: &str| {
            let mut path = Path::new(name).parent().unwrap().to_owned();
            for step in link.split('/') {
                if step == ".." { assert!(path.pop(), "{name}: {link}") } else { path.push(step) }
            }
            PathBuf::from(path.to_str().unwrap().replace("docs/ko/", "docs/").replace(".ko.md", ".md"))
        };
        links.map(from_top).collect()
    };
    let missing = &links(&english, english_name) - &links(&korean, korean_name);
    assert!(missing.is_empty(), "{korean_name} lacks links to {missing:?}");
}

/// The quoted words between `begin` and the next `]` of `text`.
fn list(text: &str, begin: &str) -> Vec<String> {
    let (_, rest) = text.split_once(begin).unwrap_or_else(|| panic!("there is no {begin}"));
    let (list, _) = rest.split_once("\n]").unwrap();
    list.split('"').skip(1).step_by(2).map(str::to_owned).collect()
}

#[test]
fn what_we_are_built_from_is_licensed_to_us_and_there_once() {
    let output = Command::new(env!("CARGO"))
        .args(["metadata", "--format-version=1", "--offline", "--filter-platform=x86_64-unknown-linux-gnu"])
        .current_dir(root())
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let metadata: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    let deny = fs::read_to_string(root().join("deny.toml")).unwrap();
    let allowed = list(&deny, "allow = [");
    let twice: BTreeSet<String> = list(&deny, "skip = [").into_iter().step_by(2).collect();
    let (mut names, mut found_twice) = (BTreeSet::new(), BTreeSet::new());
    let mut packages: Vec<_> = metadata["packages"].as_array().unwrap().iter().collect();
    // The newer version of two is the one that may stay.
    packages.sort_by_key(|package| std::cmp::Reverse(package["version"].as_str().unwrap().to_owned()));
    for package in packages {
        let (name, version) = (package["name"].as_str().unwrap(), package["version"].as_str().unwrap());
        let license =
            package["license"].as_str().unwrap_or("none").replace(['(', ')'], "").replace('/', " OR ");
        let is_allowed =
            |part: &str| part.split(" OR ").any(|one| allowed.iter().any(|allowed| allowed == one));
        assert!(license.split(" AND ").all(is_allowed), "{name} {version} is under {license}");
        if !names.insert(name) {
            found_twice.insert(format!("{name}@{version}"));
        }
        let source = package["source"].as_str().unwrap_or("registry+");
        assert!(source.starts_with("registry+"), "{name} {version} comes from {source}");
    }
    assert_eq!(found_twice, twice, "crates with two versions, and those that deny.toml knows of");
}

/// A package that nobody names is compiled for nothing, and claims something that is not so.
#[test]
fn every_dependency_is_used() {
    let manifest = fs::read_to_string(root().join("Cargo.toml")).unwrap();
    let mut all_code = std::collections::BTreeMap::new();
    for (section, dirs) in [
        ("dependencies", &["src"][..]),
        // The build script makes the filters of the rules.
        ("build-dependencies", &["guest-kernels", "src/sandbox"]),
        ("dev-dependencies", &["tests", "benches", "examples"]),
    ] {
        for dir in dirs {
            let text = files(&root().join(dir))
                .into_iter()
                .filter(|path| path.extension().is_some_and(|end| end == "rs"));
            let text =
                text.map(|path| code(&fs::read_to_string(path).unwrap())).collect::<Vec<_>>().join("\n");
            *all_code.entry(section).or_insert_with(String::new) += &text;
        }
        let (_, list) = manifest.split_once(&format!("\n[{section}]\n")).unwrap();
        let lines = list.lines().take_while(|line| !line.starts_with('['));
        let names =
            lines.filter(|line| !line.starts_with('#')).filter_map(|line| Some(line.split_once(" = ")?.0));
        let names: Vec<String> = names.map(|name| name.replace('-', "_")).collect();
        assert!(!names.is_empty(), "{section}");
        for name in names {
            assert!(is_named(&all_code[section], &name), "nothing of ours in {dirs:?} uses {name}");
        }
    }
}

/// Whether `code` has a path that begins with `name`, which a longer word does not.
fn is_named(code: &str, name: &str) -> bool {
    let path = format!("{name}::");
    code.match_indices(&path).any(|(at, _)| {
        let before = code[..at].chars().next_back();
        before.is_none_or(|c| !c.is_alphanumeric() && c != '_' && c != ':')
    })
}

#[test]
fn a_name_within_another_is_no_use_of_it() {
    assert!(is_named("use serde::Serialize;", "serde") && is_named("x(libc::c_int)", "libc"));
    assert!(!is_named("my_serde::x; crate::serde::y; serde_json::z", "serde"));
}

/// Who uses the library as a library does not compile the command, the race, the story and the debugger.
#[test]
fn the_library_alone_needs_few_packages() {
    let tree = |features: &[&str]| {
        let mut cargo = Command::new(env!("CARGO"));
        cargo.args(["tree", "--offline", "--edges=normal", "--prefix=none", "--format={p}"]).args(features);
        let output = cargo.current_dir(root()).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let names = String::from_utf8(output.stdout).unwrap();
        names.lines().filter_map(|line| Some(line.split(' ').next()?.to_owned())).collect::<BTreeSet<_>>()
    };
    let (alone, all) = (tree(&["--no-default-features"]), tree(&[]));
    for name in [
        "comfy-table",
        "flate2",
        "gdbstub",
        "iced-x86",
        "indicatif",
        "lexopt",
        "plotters",
        "serde",
        "sha2",
        "tar",
    ] {
        assert!(all.contains(name) && !alone.contains(name), "{name}: {alone:?}");
    }
    // One of them is ours.
    let figures = format!("{} packages instead of {}", alone.len() - 1, all.len() - 1);
    let readme = fs::read_to_string(root().join("README.md")).unwrap();
    assert!(readme.contains(&figures), "README.md should say {figures}: {alone:?}");
}

#[test]
fn nothing_depends_on_somebodys_machine() {
    // Spelled so that this file is not its own first offence.
    let homes = ["root", "home", "Users"].map(|dir| format!("/{dir}/"));
    let own = |name: &&str| ![".git", "target"].contains(name) && !name.starts_with("target-");
    let top: Vec<String> = fs::read_dir(root())
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    for name in top.iter().map(String::as_str).filter(own) {
        let path = root().join(name);
        let found = if path.is_dir() { files(&path) } else { vec![path] };
        for path in found {
            let text = String::from_utf8_lossy(&fs::read(&path).unwrap()).into_owned();
            for home in &homes {
                assert!(!text.contains(home), "{} names {home}", path.display());
            }
        }
    }
}

/// Each error that a person may read is in the catalogue of src/cli/korean.txt. Those of src/oci are for programs, which look
/// for their words.
#[test]
fn every_error_is_said_in_korean_too() {
    let catalogue = fs::read_to_string(root().join("src/cli/korean.txt")).unwrap();
    let known: BTreeSet<&str> =
        catalogue.lines().filter(|line| !line.is_empty() && !line.starts_with('#')).step_by(2).collect();
    let mut count = 0;
    let mut missing = Vec::new();
    for path in files(&root().join("src")) {
        if path.extension().is_none_or(|extension| extension != "rs")
            || path.starts_with(root().join("src/oci"))
        {
            continue;
        }
        let text = fs::read_to_string(&path).unwrap();
        for rest in text.split("#[error(").skip(1).filter_map(|rest| rest.trim_start().strip_prefix('"')) {
            let template = rest.split("\"").next().unwrap();
            // What is filled in has no name there.
            let mut pieces = template.split('{');
            let mut key = pieces.next().unwrap().to_owned();
            for piece in pieces {
                key += "{}";
                key += piece.split_once('}').map_or("", |(_, after)| after);
            }
            count += 1;
            if key.contains(|c: char| c.is_ascii_alphabetic()) && !known.contains(key.as_str()) {
                missing.push(format!("{}: {key}", path.display()));
            }
        }
    }
    assert!(count > 70, "{count}");
    assert!(missing.is_empty(), "put these into src/cli/korean.txt: {missing:#?}");
}
