//! Files of the user's that are read as a whole.

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

/// Reads the whole of a regular file of `most` bytes or fewer. A device or a pipe may never end, and is refused.
pub fn read(path: &Path, most: u64) -> io::Result<Vec<u8>> {
    // Checked before it is opened, because opening a pipe waits for a writer.
    if !path.metadata()?.is_file() {
        return Err(io::Error::other("it is not a regular file"));
    }
    let mut bytes = Vec::new();
    // Its size is not to be trusted: files in /proc say 0.
    File::open(path)?.take(most + 1).read_to_end(&mut bytes)?;
    match bytes.len() as u64 > most {
        true => Err(io::Error::other(format!("it is larger than {} MiB", most >> 20))),
        false => Ok(bytes),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_read_up_to_its_limit_and_nothing_else_is_read() {
        let file = tempfile::NamedTempFile::new().unwrap();
        file.as_file().set_len(1 << 20).unwrap();
        assert_eq!(read(file.path(), 1 << 20).unwrap().len(), 1 << 20);
        file.as_file().set_len((1 << 20) + 1).unwrap();
        assert_eq!(read(file.path(), 1 << 20).unwrap_err().to_string(), "it is larger than 1 MiB");
        for path in ["/dev/zero", "/dev/null", "/"] {
            let error = read(Path::new(path), 9).unwrap_err().to_string();
            assert_eq!(error, "it is not a regular file", "{path}");
        }
        assert_eq!(read(Path::new("/nonexistent"), 9).unwrap_err().kind(), io::ErrorKind::NotFound);
    }
}
