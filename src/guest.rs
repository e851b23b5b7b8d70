//! The gallery: guest kernels that are part of this program.
//!
//! Their sources are in `guest-kernels/`; the build script compiles them and writes the table that is
//! included here, from the `//! expect:` and `//! needs:` lines of each source.

use crate::machine::{Config, Image};

/// The memory of a gallery guest that does not say how much it needs. It is the least there is, as the
/// host prepares tables in proportion to it.
const GALLERY_MEMORY: u64 = 2 << 20;

/// A guest kernel of the gallery.
#[derive(Debug, Clone, Copy)]
pub struct Guest {
    /// What `matchstick run` calls it.
    pub name: &'static str,
    /// One line about it.
    pub about: &'static str,
    /// The lines it prints, where `*` stands for figures that differ from run to run.
    pub expect: &'static [&'static str],
    /// The exit status it ends with.
    pub exit: u8,
    /// What a test types, before Ctrl-D.
    pub input: &'static str,
    /// What it may be told on its command line: `N` for a whole number, else that word; empty for nothing.
    pub args: &'static str,
    /// What it needs of a machine (`cpuid`, `apic`, `cpus 4`, `memory 4M`, `input`) and of a host (`iretq`).
    pub needs: &'static [&'static str],
    /// The image.
    pub image: &'static [u8],
}

/// All of them, in the order in which they are best read.
pub static GALLERY: &[Guest] = include!(concat!(env!("OUT_DIR"), "/gallery.rs"));

impl<'a> From<&'a Guest> for Image<'a> {
    fn from(guest: &'a Guest) -> Image<'a> {
        Image { name: guest.name, bytes: guest.image }
    }
}

impl Guest {
    /// The guest of that name.
    pub fn find(name: &str) -> Option<&'static Guest> {
        GALLERY.iter().find(|guest| guest.name == name)
    }

    /// Whether it makes something of `words` on its command line; of none, always.
    pub fn takes<'a>(&self, mut words: impl Iterator<Item = &'a str>) -> bool {
        let is_taken = |word: &str| match self.args {
            "N" => word.parse::<u32>().is_ok() && word.starts_with(|c: char| c.is_ascii_digit()),
            known => !known.is_empty() && word == known,
        };
        words.next().is_none_or(is_taken) && words.next().is_none()
    }

    /// Whether `need` is one of its needs.
    pub fn needs(&self, need: &str) -> bool {
        self.needs.contains(&need)
    }

    /// What follows `word` among its needs: `needs_value("cpus")` is `Some("4")` for `cpus 4`.
    pub fn needs_value(&self, word: &str) -> Option<&'static str> {
        self.needs.iter().find_map(|need| need.strip_prefix(word)?.strip_prefix(' '))
    }

    /// The machine for it: what it says it needs, and nothing else, as what it does not need would cost time.
    pub fn config(&self) -> Config {
        let number =
            |word| self.needs_value(word).and_then(|value| value.trim_end_matches('M').parse::<u64>().ok());
        Config {
            memory: number("memory").map_or(GALLERY_MEMORY, |mib| mib << 20),
            cpus: number("cpus").unwrap_or(1) as u32,
            cpuid: self.needs("cpuid"),
            acpi: false,
            apics: self.needs("apic"),
            ..Config::default()
        }
    }
}
