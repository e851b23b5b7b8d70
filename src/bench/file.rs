//! Files of the user's that are read as a whole.

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

/// All of a regular file of `most` bytes or fewer. Of a device or a pipe nobody knows where it ends, and whether.
pub fn read(path: &Path, most: u64) -> io::Result<Vec<u8>> {
    // Before it is opened: that of a pipe waits for a writer.
    if !path.metadata()?.is_file() {
        return Err(io::Error::other("it is not a regular file"));
    }
    let mut bytes = Vec::new();
    // What it says of its size need not be so: in /proc, files have none.
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
