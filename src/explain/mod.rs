//! Lessons: what a hypervisor is, what a container is, and what this machine shows of both.
//!
//! ```text
//!   docs/explain/TOPIC.md ──live──▶ Markdown with this machine's figures ──▶ markdown::Block, Block, …
//! ```
//!
//! A lesson is a Markdown file of docs/explain, which is also a page of the book; it is part of the program. Between
//! `<!-- live` and `-->` it has a text with places for figures, which are measured when the lesson is read; what
//! follows, up to `<!-- end -->`, is said instead where they cannot be, and in the book. So no figure is ever quoted.

pub mod figures;
pub mod lab;
pub mod live;
pub mod markdown;
mod measure;
#[cfg(feature = "trace")]
mod served;
#[cfg(feature = "race")]
mod starts;
pub mod words;

/// A lesson.
#[derive(Debug, Clone, Copy)]
pub struct Lesson {
    /// The word it is asked for by.
    pub topic: &'static str,
    /// Its Markdown.
    pub text: &'static str,
}

/// All lessons in one language.
#[derive(Debug, Clone, Copy)]
pub struct Language {
    /// By ISO 639-1, as in LANG.
    pub code: &'static str,
    /// In the language itself.
    pub name: &'static str,
    /// In the order in which they are best read.
    pub lessons: &'static [Lesson],
    /// The [labs](lab).
    pub labs: &'static [Lesson],
}

/// The lessons of one directory. All languages have the same topics.
macro_rules! lessons {
    ($directory:literal) => {
        lessons!(
            $directory "/explain/": "hypervisor" "types" "kvm" "ring" "vm-exit" "memory" "serial" "boot" "interrupt" "virtio"
            "snapshot" "container" "namespaces" "cgroups" "image" "docker" "kubernetes" "objects" "vm-vs-container"
            "whose-kernel"
        )
    };
    ($directory:literal $kind:literal: $($topic:literal)*) => {
        &[$(Lesson {
            topic: $topic,
            text: include_str!(concat!("../../", $directory, $kind, $topic, ".md")),
        }),*]
    };
}

/// The labs of one directory.
macro_rules! labs {
    ($directory:literal) => {
        lessons!($directory "/labs/": "lsns" "unshare" "limits" "layers" "network" "drift")
    };
}

/// The first language is the one that the others are translated from.
pub const LANGUAGES: &[Language] = &[
    Language { code: "en", name: "English", lessons: lessons!("docs"), labs: labs!("docs") },
    Language { code: "ko", name: "한국어", lessons: lessons!("docs/ko"), labs: labs!("docs/ko") },
];

impl Language {
    /// The language of that code.
    pub fn find(code: &str) -> Option<&'static Language> {
        LANGUAGES.iter().find(|language| language.code == code)
    }

    /// The lesson on `topic`.
    pub fn lesson(&self, topic: &str) -> Option<&'static Lesson> {
        self.lessons.iter().find(|lesson| lesson.topic == topic)
    }
}

impl Lesson {
    /// Its first heading.
    pub fn title(&self) -> &'static str {
        self.text.lines().find_map(|line| line.strip_prefix("# ")).unwrap_or(self.topic)
    }
}

/// Those of `known` that are most like `word`, the nearest first; none if none is.
pub fn nearest<'a>(word: &str, known: impl IntoIterator<Item = &'a str>) -> Vec<&'a str> {
    let word = word.to_lowercase();
    let rank = |name: &'a str| {
        if word.len().min(name.len()) > 2 && (name.contains(&word) || word.contains(name)) {
            return Some((1, name.len(), name));
        }
        // Of a name of several words, one may be meant. A third of the letters may be wrong, but three at most.
        let slips = |part: &str| word.len().min(part.len()).div_ceil(3).min(3);
        let near = |part: &str| {
            // A word may be as long as a command line. It is not looked at then.
            let is_alike = word.len().abs_diff(part.len()) <= 3;
            is_alike.then(|| distance(&word, part)).filter(|&far| far <= slips(part))
        };
        let nearest = name.split('-').chain([name]).filter_map(near).min()?;
        Some((nearest, name.len(), name))
    };
    let mut found: Vec<(usize, usize, &str)> = known.into_iter().filter_map(rank).collect();
    found.sort();
    found.into_iter().map(|(.., name)| name).take(3).collect()
}

/// The optimal string alignment: how many letters have to be put in, taken out, replaced, or change places with the next.
fn distance(a: &str, b: &str) -> usize {
    let (a, b): (Vec<char>, Vec<char>) = (a.chars().collect(), b.chars().collect());
    // From the first i letters of `a` to the first j of `b`.
    let mut table = vec![vec![0; b.len() + 1]; a.len() + 1];
    for (i, j) in (0..=a.len()).flat_map(|i| (0..=b.len()).map(move |j| (i, j))) {
        table[i][j] = if i == 0 || j == 0 {
            i + j
        } else {
            let replaced = table[i - 1][j - 1] + usize::from(a[i - 1] != b[j - 1]);
            let swapped = i > 1 && j > 1 && a[i - 2..i] == [b[j - 1], b[j - 2]];
            let swapped = if swapped { table[i - 2][j - 2] + 1 } else { replaced };
            replaced.min(swapped).min(table[i - 1][j] + 1).min(table[i][j - 1] + 1)
        };
    }
    table[a.len()][b.len()]
}

#[cfg(test)]
mod tests;
