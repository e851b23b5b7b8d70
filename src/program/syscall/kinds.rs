//! Kinds of arguments: what a program's number stands for, and how it is checked.
//!
//! An address is checked with its length, without overflow, before the kernel sees it; whether memory is mapped there,
//! the kernel finds out, by the same protections as the program. A path is copied once and looked up from the copy. A
//! descriptor that is ours is none to a program: EBADF.

use crate::program::errno::Errno;
use crate::program::files::PATH_MAX;
use crate::program::process::Process;
use crate::sys::program::Argument;
use crate::timeline::Shape;

/// The size of what an address leads to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Size {
    /// So many bytes.
    Bytes(u64),
    /// As many as another argument says, by its place.
    Of(usize),
    /// As many pieces of some bytes as another argument says.
    Times(usize, u64),
    /// What the kernel takes from it is known to nobody else, and never more than lies behind every arena.
    Unknown,
}

/// What an argument is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A number.
    Word,
    /// An open file.
    Descriptor,
    /// A directory from which a path is looked up: an open file, or AT_FDCWD.
    Directory,
    /// A path.
    Path,
    /// Memory, or 0 for none.
    Memory(Size),
    /// A pointer whose meaning the call itself decides: it is checked by who serves it.
    Special,
}

impl Kind {
    /// The same for who watches, with the length of what an address leads to.
    pub fn shape(&self, words: &[u64; 6]) -> Shape {
        match *self {
            Kind::Word | Kind::Special => Shape::Number,
            Kind::Descriptor => Shape::Descriptor,
            Kind::Directory => Shape::Directory,
            Kind::Path => Shape::Path,
            Kind::Memory(Size::Unknown) => Shape::Memory(0),
            Kind::Memory(size) => Shape::Memory(bytes(size, words).unwrap_or(0)),
        }
    }
}

/// The arguments of a call, checked.
pub struct Checked<'a> {
    /// The call's number.
    pub number: i64,
    /// As the program gave them.
    pub words: [u64; 6],
    kinds: &'static [Kind],
    process: &'a Process,
    /// Paths, in their order.
    paths: [Option<Vec<u8>>; 2],
}

/// Checks the arguments of a call by their kinds.
pub fn check<'a>(
    number: i64,
    kinds: &'static [Kind],
    words: [u64; 6],
    process: &'a Process,
) -> Result<Checked<'a>, Errno> {
    let mut paths = [None, None];
    let mut next = paths.iter_mut();
    let mut is_ours = false;
    for (&kind, &word) in kinds.iter().zip(&words) {
        match kind {
            Kind::Word | Kind::Special => {}
            // The kernel takes them as 32 bits, with a sign.
            Kind::Descriptor if word as i32 >= process.files.lowest() => return Err(Errno(libc::EBADF)),
            Kind::Descriptor => {}
            // It counts only if its path, which follows, begins there.
            Kind::Directory => is_ours = word as i32 >= process.files.lowest(),
            Kind::Path => {
                let path = process.arena.read_string(word, PATH_MAX)?.ok_or(Errno(libc::ENAMETOOLONG))?;
                if std::mem::take(&mut is_ours) && !path.starts_with(b"/") {
                    return Err(Errno(libc::EBADF));
                }
                if let Some(place) = next.next() {
                    *place = Some(path);
                }
            }
            Kind::Memory(size) => {
                let len = bytes(size, &words).ok_or(Errno(libc::EFAULT))?;
                // Where nothing is read or written, any address will do.
                if word != 0 && len != 0 {
                    process.arena.place(word, len)?;
                }
            }
        }
    }
    // A path that the call itself reads may begin there.
    match is_ours {
        true => Err(Errno(libc::EBADF)),
        false => Ok(Checked { number, words, kinds, process, paths }),
    }
}

/// How many bytes an address has to have behind it.
fn bytes(size: Size, words: &[u64; 6]) -> Option<u64> {
    Some(match size {
        Size::Bytes(bytes) => bytes,
        Size::Of(at) => words[at],
        Size::Times(at, bytes) => words[at].checked_mul(bytes)?,
        Size::Unknown => 1,
    })
}

impl<'a> Checked<'a> {
    /// For the kernel. Only calls without paths are passed on as they are.
    pub fn arguments(&self) -> [Argument<'a>; 6] {
        std::array::from_fn(|at| match self.kinds.get(at) {
            None => Argument::Word(0),
            Some(Kind::Memory(_)) => self.memory(at),
            Some(_) => Argument::Word(self.words[at]),
        })
    }

    /// The memory that is argument `at`, or 0.
    pub fn memory(&self, at: usize) -> Argument<'a> {
        let Some(Kind::Memory(size)) = self.kinds.get(at) else { return Argument::Word(0) };
        let len = bytes(*size, &self.words).unwrap_or(u64::MAX);
        match self.process.arena.place(self.words[at], len) {
            Ok(place) if self.words[at] != 0 => Argument::Memory(place),
            _ => Argument::Word(0),
        }
    }

    /// A number as the kernel takes most: 32 bits, with a sign.
    pub fn int(&self, at: usize) -> i32 {
        self.words[at] as i32
    }

    /// The first path, or the second.
    pub fn path(&self, which: usize) -> &[u8] {
        self.paths[which].as_deref().unwrap_or_default()
    }
}
