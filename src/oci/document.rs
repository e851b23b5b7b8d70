//! JSON files that others wrote: read with limits, changed as a whole, replaced in one step.
//!
//! Nothing that is in one is lost, whether we know it or not. serde_json ends at 128 levels of depth.

use super::error::OciError;
use serde_json::Value;
use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

/// The largest file that is read. Arguments and environment of a process have 2 MiB at most.
const SIZE_MAX: u64 = 8 << 20;

/// A JSON object in a file.
#[derive(Debug)]
pub struct Document {
    path: PathBuf,
    /// What it says.
    pub value: Value,
    seen: Seen,
}

/// What tells a file from another one that took its place, or from itself after a change.
#[derive(Debug, PartialEq, Eq)]
struct Seen {
    file: (u64, u64),
    size: u64,
    changed: (i64, i64),
    mode: u32,
}

impl Seen {
    fn of(metadata: &fs::Metadata) -> Seen {
        Seen {
            file: (metadata.dev(), metadata.ino()),
            size: metadata.len(),
            changed: (metadata.mtime(), metadata.mtime_nsec()),
            mode: metadata.mode(),
        }
    }
}

impl Document {
    /// Reads one.
    ///
    /// # Errors
    /// It is not there, no file, too large, or no JSON object.
    pub fn read(path: &Path) -> Result<Document, OciError> {
        let failed = |source| OciError::Read { path: path.to_owned(), source };
        // Nobody waits for the writer of a pipe.
        let mut options = File::options();
        let file = options.read(true).custom_flags(libc::O_NONBLOCK).open(path).map_err(failed)?;
        let metadata = file.metadata().map_err(failed)?;
        let wrong = |what: String| OciError::Document { path: path.to_owned(), what };
        if !metadata.is_file() {
            return Err(wrong("is not a file".into()));
        }
        let mut bytes = Vec::new();
        file.take(SIZE_MAX + 1).read_to_end(&mut bytes).map_err(failed)?;
        if bytes.len() as u64 > SIZE_MAX {
            return Err(wrong(format!("has more than {} MiB", SIZE_MAX >> 20)));
        }
        let value = Document::of(path, &bytes)?;
        Ok(Document { path: path.to_owned(), value, seen: Seen::of(&metadata) })
    }

    /// What is in a file of that name.
    ///
    /// # Errors
    /// It is no JSON object.
    pub fn of(path: &Path, bytes: &[u8]) -> Result<Value, OciError> {
        let wrong = |what: String| OciError::Document { path: path.to_owned(), what };
        let value: Value =
            serde_json::from_slice(bytes).map_err(|error| wrong(format!("is not JSON: {error}")))?;
        if value.is_object() { Ok(value) } else { Err(wrong("is not a JSON object".into())) }
    }

    /// That something in it is not as it has to be.
    pub fn wrong(&self, what: impl Into<String>) -> OciError {
        OciError::Document { path: self.path.clone(), what: what.into() }
    }

    /// Puts it in the place of the file that was read: whoever opens that name sees the one or the other, and nothing
    /// between.
    ///
    /// # Errors
    /// The file was changed meanwhile, or cannot be written.
    pub fn replace(self) -> Result<(), OciError> {
        let failed = |source| OciError::Write { path: self.path.clone(), source };
        // A link leads to the file that is meant.
        let path = self.path.canonicalize().map_err(failed)?;
        let mut name = path.as_os_str().to_owned();
        name.push(format!(".matchstick-{}", std::process::id()));
        let temporary = PathBuf::from(name);
        let written = self.write(&path, &temporary);
        if written.is_err() {
            let _ = fs::remove_file(&temporary);
        }
        written
    }

    fn write(&self, path: &Path, temporary: &Path) -> Result<(), OciError> {
        let failed = |source| OciError::Write { path: self.path.clone(), source };
        let text = serde_json::to_vec(&self.value).map_err(|error| failed(io::Error::other(error)))?;
        let mut options = File::options();
        let mut file = options.write(true).create_new(true).mode(0o600).open(temporary).map_err(failed)?;
        file.write_all(&text).map_err(failed)?;
        file.set_permissions(fs::Permissions::from_mode(self.seen.mode & 0o777)).map_err(failed)?;
        if Seen::of(&fs::metadata(path).map_err(failed)?) != self.seen {
            return Err(self.wrong("was changed while it was read"));
        }
        fs::rename(temporary, path).map_err(failed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with(text: &[u8]) -> (tempfile::TempDir, PathBuf) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("config.json");
        fs::write(&path, text).unwrap();
        (dir, path)
    }

    #[test]
    fn what_is_not_known_is_kept() {
        let text =
            br#"{"a":{"new":[1,2.5,-3,null,true,18446744073709551615]},"\u00e9":"\u0000\ud83d\ude00"}"#;
        let (dir, path) = with(text);
        let mut document = Document::read(&path).unwrap();
        document.value["b"] = Value::Bool(true);
        document.replace().unwrap();
        let mut after: Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
        assert_eq!(after.as_object_mut().unwrap().remove("b"), Some(Value::Bool(true)));
        assert_eq!(after, serde_json::from_slice::<Value>(text).unwrap());
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1, "nothing is left beside it");
    }

    #[test]
    fn what_is_no_document_is_refused_in_words() {
        let deep = [vec![b'['; 100_000], vec![b']'; 100_000]].concat();
        let huge = [b"{\"a\":\"".to_vec(), vec![b'x'; SIZE_MAX as usize], b"\"}".to_vec()].concat();
        for (text, word) in [
            (&b""[..], "is not JSON"),
            (b"{\"a\":", "is not JSON"),
            (b"[]", "is not a JSON object"),
            (&deep, "recursion limit"),
            (&huge, "has more than 8 MiB"),
        ] {
            let (_dir, path) = with(text);
            let error = Document::read(&path).unwrap_err().to_string();
            assert!(error.contains(word), "{error}");
        }
        let (dir, _) = with(b"");
        assert!(Document::read(dir.path()).unwrap_err().to_string().contains("is not a file"));
        assert!(matches!(Document::read(&dir.path().join("none")), Err(OciError::Read { .. })));
    }

    #[test]
    fn what_was_changed_meanwhile_is_not_overwritten() {
        let (dir, path) = with(b"{}");
        let document = Document::read(&path).unwrap();
        fs::write(&path, b"{\"other\":1}").unwrap();
        let error = document.replace().unwrap_err().to_string();
        assert!(error.contains("was changed while it was read"), "{error}");
        assert_eq!(fs::read(&path).unwrap(), b"{\"other\":1}");
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
    }
}
