//! Names of local sockets: a program reaches those that it has made itself, or what it has started has made, and no
//! others. A socket of another process that lies where the program may write files stays out of reach.
//!
//! Who binds a name notes the file that came of it, in a table that a program has in common with its children. A
//! connection is made only to a file in that table. As names are looked up below the program's root, and bound in the
//! directory that was found, the kernel knows a socket by another spelling than the program; the table has both.
//!
//! Sources: unix(7), statx(2).

use super::files::Handle;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime};

/// The longest path of a socket, without a zero at its end.
pub const LONGEST: usize = 107;
/// Names that are known at a time; then the oldest is forgotten.
const NAMES: usize = 512;
/// What is noted of each: the file, and twice a length and 14 words of text.
const WORDS: usize = 1 + 2 * TEXT;
const TEXT: usize = 15;
/// Where the spelling stands.
const SPELLED: usize = 1 + TEXT;
/// A file system's clock is behind by a tick at most.
const TICK: Duration = Duration::from_millis(20);
/// Slashes that tell spellings of the same descriptor and name apart.
const SLASHES: usize = 32;

/// The names of a program and its children.
#[derive(Default)]
pub struct Names(OnceLock<&'static [AtomicU64]>);

impl Names {
    /// Makes the table. What is forked before does not have it.
    pub fn table(&self) -> io::Result<&'static [AtomicU64]> {
        if let Some(table) = self.0.get() {
            return Ok(table);
        }
        let table = crate::sys::program::shared_words(1 + NAMES * WORDS)?;
        Ok(self.0.get_or_init(|| table))
    }

    fn entries(&self) -> impl Iterator<Item = &'static [AtomicU64]> {
        self.0.get().into_iter().flat_map(|table| table[1..].chunks_exact(WORDS))
    }

    /// A path for the kernel that means `name` in the directory `parent` and is nobody else's; `None` if it is too long.
    pub fn spelling(&self, parent: &Handle, name: &[u8]) -> Option<Vec<u8>> {
        let spelled = |slashes| [parent.link().as_bytes(), &vec![b'/'; slashes], name].concat();
        let is_new = |path: &Vec<u8>| self.entries().all(|entry| text(&entry[SPELLED..]) != *path);
        (1..=SLASHES).map(spelled).take_while(|path| path.len() <= LONGEST).find(is_new)
    }

    /// Notes that the program's `given` was bound as `spelled` since `before`, and that `file` came of it. A file that is
    /// older is another one, which somebody has moved there.
    pub fn add(&self, file: &Handle, before: SystemTime, given: &[u8], spelled: &[u8]) -> io::Result<()> {
        let table = self.table()?;
        let Some(identity) = identity(file, Some(before)) else { return Ok(()) };
        let at = table[0].fetch_add(1, Ordering::Relaxed) as usize % NAMES;
        let entry = &table[1 + at * WORDS..][..WORDS];
        entry[0].store(0, Ordering::Release);
        set_text(&entry[1..], given);
        set_text(&entry[SPELLED..], spelled);
        entry[0].store(identity, Ordering::Release);
        Ok(())
    }

    /// Whether `file` is a socket that is known.
    pub fn knows(&self, file: &Handle) -> bool {
        identity(file, None)
            .is_some_and(|identity| self.entries().any(|entry| entry[0].load(Ordering::Acquire) == identity))
    }

    /// What the program has called the socket that the kernel knows as `spelled`.
    pub fn given(&self, spelled: &[u8]) -> Option<Vec<u8>> {
        if !spelled.starts_with(b"/proc/self/fd/") {
            return None;
        }
        self.entries().find(|entry| text(&entry[SPELLED..]) == spelled).map(|entry| text(&entry[1..]))
    }
}

/// What tells a file from all others, those that had its number before included. `None` where the file system does not
/// know when a file was made, and for one that was made before `since`.
fn identity(file: &Handle, since: Option<SystemTime>) -> Option<u64> {
    let metadata = std::fs::metadata(file.link()).ok()?;
    let made = metadata.created().ok()?;
    if since.is_some_and(|since| made + TICK < since) {
        return None;
    }
    let mut hasher = DefaultHasher::new();
    (metadata.dev(), metadata.ino(), made).hash(&mut hasher);
    // 0 is an entry without a name.
    Some(hasher.finish().max(1))
}

fn text(words: &[AtomicU64]) -> Vec<u8> {
    let mut bytes: Vec<u8> =
        words[1..TEXT].iter().flat_map(|word| word.load(Ordering::Relaxed).to_le_bytes()).collect();
    bytes.truncate(words[0].load(Ordering::Relaxed) as usize);
    bytes
}

fn set_text(words: &[AtomicU64], bytes: &[u8]) {
    let bytes = &bytes[..bytes.len().min((TEXT - 1) * 8)];
    words[0].store(bytes.len() as u64, Ordering::Relaxed);
    for (word, chunk) in words[1..TEXT].iter().zip(bytes.chunks(8)) {
        let mut whole = [0; 8];
        whole[..chunk.len()].copy_from_slice(chunk);
        word.store(u64::from_le_bytes(whole), Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::net::UnixListener;

    const LOWEST: i32 = 512;

    fn handle(path: &std::path::Path) -> Handle {
        let path = std::ffi::CString::new(path.to_str().unwrap()).unwrap();
        Handle::find(libc::AT_FDCWD, &path, false, false, LOWEST).unwrap()
    }

    #[test]
    fn a_socket_is_known_by_its_file_and_by_no_name() {
        let directory = tempfile::tempdir().unwrap();
        let (ours, foreign) = (directory.path().join("ours"), directory.path().join("foreign"));
        let _foreign = UnixListener::bind(&foreign).unwrap();
        std::thread::sleep(2 * TICK);
        let before = SystemTime::now();
        let _ours = UnixListener::bind(&ours).unwrap();
        let names = Names::default();
        assert!(!names.knows(&handle(&ours)));
        names.add(&handle(&ours), before, b"ours", b"/proc/self/fd/7/ours").unwrap();
        assert!(names.knows(&handle(&ours)));
        assert!(!names.knows(&handle(&foreign)));
        // One that was there before is not what came of it, whatever its name is by now.
        names.add(&handle(&foreign), before, b"x", b"/proc/self/fd/7/x").unwrap();
        assert!(!names.knows(&handle(&foreign)));
        std::fs::rename(&foreign, &ours).unwrap();
        assert!(!names.knows(&handle(&ours)));
    }

    #[test]
    fn the_program_s_own_spelling_comes_back_and_no_two_are_the_same() {
        let directory = tempfile::tempdir().unwrap();
        let names = Names::default();
        let parent = handle(directory.path());
        let mut spellings = Vec::new();
        for given in [&b"a"[..], b"./a", &[b'x'; LONGEST]] {
            let spelled = names.spelling(&parent, b"a").unwrap();
            let path = directory.path().join(spellings.len().to_string());
            let before = SystemTime::now();
            let _socket = UnixListener::bind(&path).unwrap();
            names.add(&handle(&path), before, given, &spelled).unwrap();
            assert_eq!(names.given(&spelled).as_deref(), Some(given));
            assert!(!spellings.contains(&spelled));
            spellings.push(spelled);
        }
        assert_eq!(names.given(b"a"), None);
        assert_eq!(names.spelling(&parent, &[b'n'; LONGEST]), None);
    }

    /// More names than there is room for: the oldest goes.
    #[test]
    fn a_full_table_forgets_the_oldest() {
        let directory = tempfile::tempdir().unwrap();
        let names = Names::default();
        let path = directory.path().join("s");
        let before = SystemTime::now();
        let _socket = UnixListener::bind(&path).unwrap();
        for number in 0..=NAMES {
            let spelled = format!("/proc/self/fd/{number}/s");
            names.add(&handle(&path), before, b"s", spelled.as_bytes()).unwrap();
        }
        assert_eq!(names.given(b"/proc/self/fd/0/s"), None);
        assert_eq!(names.given(b"/proc/self/fd/1/s").as_deref(), Some(&b"s"[..]));
    }
}
