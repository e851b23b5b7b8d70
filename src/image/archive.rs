//! A tar archive, entry by entry, from whoever made it: what it asks to hold in memory is bounded, and nothing of it is
//! trusted.
//!
//! The fields of a header are read by the crate `tar`. The walk is our own, as a name may be as long as an archive says:
//! here a name has at most [`NAME_MAX`] bytes, and an archive as many entries as its reader wants. Nothing is written
//! here; `layer` does that. Sources: pax(1), "ustar Interchange Format" and "pax Header Block"; tar(5), "GNU tar
//! Archives"; the OCI image specification, layer.md.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use tar::{EntryType, Header, PaxExtensions};

/// Bytes of a block.
const BLOCK: u64 = 512;
/// The most bytes of a name, or of the place that a link leads to: those of a path in Linux (PATH_MAX).
pub const NAME_MAX: usize = 4096;
/// The most bytes of a header's extensions, which hold extended attributes as well.
const EXTENSIONS_MAX: u64 = 1 << 20;

/// What an entry makes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A regular file.
    File,
    /// Another name of a file that an earlier entry has made, or an earlier layer.
    HardLink,
    /// A symbolic link.
    Link,
    /// A directory.
    Directory,
    /// A named pipe.
    Pipe,
    /// A device, of characters or blocks.
    Device,
}

/// An entry's header.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// Its name, as it is written.
    pub name: Vec<u8>,
    /// Where a link leads, as it is written.
    pub target: Vec<u8>,
    /// What it makes.
    pub kind: Kind,
    /// Permissions, with those of set-user-ID, set-group-ID and sticky: 12 bits.
    pub mode: u32,
    /// Its owner's number.
    pub user: u32,
    /// Its group's number.
    pub group: u32,
    /// When it was changed last, in seconds since 1970.
    pub time: i64,
    /// Bytes of its contents, which follow.
    pub size: u64,
}

/// Why an archive is not read on.
#[derive(Debug, thiserror::Error)]
pub enum ArchiveError {
    /// It is none, or it is damaged.
    #[error("the archive is damaged: {0}")]
    Damaged(&'static str),
    /// It holds what is not served.
    #[error("{0} is not served")]
    NotServed(&'static str),
    /// It cannot be read.
    #[error("cannot read it")]
    Read(#[source] io::Error),
}

/// What can leave out some bytes.
pub trait Skip: Read {
    /// Goes on behind the next `count` bytes.
    ///
    /// # Errors
    /// There are fewer, or they cannot be read.
    fn skip(&mut self, count: u64) -> io::Result<()>;
}

/// A file is not read for it.
impl Skip for &File {
    fn skip(&mut self, count: u64) -> io::Result<()> {
        let end = self.stream_position()?.checked_add(count);
        match end {
            Some(end) if end <= self.metadata()?.len() => self.seek(SeekFrom::Start(end)).map(drop),
            _ => Err(io::ErrorKind::UnexpectedEof.into()),
        }
    }
}

/// What can only be read, one byte after the other.
pub struct Stream<R>(pub R);

impl<R: Read> Read for Stream<R> {
    fn read(&mut self, bytes: &mut [u8]) -> io::Result<usize> {
        self.0.read(bytes)
    }
}

impl<R: Read> Skip for Stream<R> {
    fn skip(&mut self, count: u64) -> io::Result<()> {
        match io::copy(&mut (&mut self.0).take(count), &mut io::sink())? {
            skipped if skipped == count => Ok(()),
            _ => Err(io::ErrorKind::UnexpectedEof.into()),
        }
    }
}

/// An archive that is read from its beginning to its end.
pub struct Archive<S> {
    source: S,
    /// Bytes of the contents of the last entry that were not read.
    left: u64,
    /// Bytes behind them, to a whole block.
    padding: u64,
    /// How many more headers there may be.
    headers: u64,
}

/// What stands in headers before the one that it is about.
#[derive(Default)]
struct Extensions {
    name: Option<Vec<u8>>,
    target: Option<Vec<u8>>,
    size: Option<u64>,
    user: Option<u64>,
    group: Option<u64>,
    time: Option<i64>,
}

impl<S: Skip> Archive<S> {
    /// An archive of at most `headers` headers.
    pub fn new(source: S, headers: u64) -> Archive<S> {
        Archive { source, left: 0, padding: 0, headers }
    }

    /// The next entry; `None` at the end. What is left of the contents of the one before is passed over.
    ///
    /// # Errors
    /// Of an archive that is damaged, or holds what is not served.
    pub fn next_entry(&mut self) -> Result<Option<Entry>, ArchiveError> {
        let mut extensions = Extensions::default();
        loop {
            let Some(header) = self.header()? else { return Ok(None) };
            let size = header.entry_size().map_err(|_| ArchiveError::Damaged("the size of an entry"))?;
            match header.entry_type() {
                EntryType::GNULongName => extensions.name = Some(self.long_name(size)?),
                EntryType::GNULongLink => extensions.target = Some(self.long_name(size)?),
                EntryType::XHeader => {
                    let bytes = self.extension(size)?;
                    extensions.read(&bytes)?;
                }
                // What is said of all that follows: comments, in practice.
                EntryType::XGlobalHeader => drop(self.extension(size)?),
                _ => return self.entry(&header, extensions).map(Some),
            }
        }
    }

    /// The contents of the entry that came last.
    pub fn contents(&mut self) -> impl Read + '_ {
        Contents { archive: self }
    }

    /// What it is read from.
    pub fn source(&mut self) -> &mut S {
        &mut self.source
    }

    /// The next header, whose sum is right.
    fn header(&mut self) -> Result<Option<Header>, ArchiveError> {
        let rest =
            self.left.checked_add(self.padding).ok_or(ArchiveError::Damaged("the size of an entry"))?;
        (self.left, self.padding) = (0, 0);
        if rest > 0 {
            self.source.skip(rest).map_err(cut)?;
        }
        let mut header = Header::new_old();
        let bytes = header.as_mut_bytes();
        // An archive may end without the empty blocks that are its end.
        match self.source.read(&mut bytes[..1]) {
            Ok(0) => return Ok(None),
            Ok(_) => self.source.read_exact(&mut bytes[1..]).map_err(cut)?,
            Err(error) => return Err(ArchiveError::Read(error)),
        }
        if bytes.iter().all(|&byte| byte == 0) {
            return Ok(None);
        }
        self.headers = self.headers.checked_sub(1).ok_or(ArchiveError::Damaged("it has too many entries"))?;
        // The sum of all bytes, those of the field itself taken as spaces.
        let sum = bytes.iter().map(|&byte| u32::from(byte)).sum::<u32>()
            - bytes[148..156].iter().map(|&byte| u32::from(byte)).sum::<u32>()
            + 8 * u32::from(b' ');
        match header.cksum() {
            Ok(written) if written == sum => Ok(Some(header)),
            _ => Err(ArchiveError::Damaged("the sum of a header")),
        }
    }

    /// The contents of a header that extends the next one.
    fn extension(&mut self, size: u64) -> Result<Vec<u8>, ArchiveError> {
        if size > EXTENSIONS_MAX {
            return Err(ArchiveError::Damaged("a header is too long"));
        }
        let mut bytes = vec![0; size as usize];
        self.source.read_exact(&mut bytes).map_err(cut)?;
        self.padding = padding(size);
        Ok(bytes)
    }

    fn long_name(&mut self, size: u64) -> Result<Vec<u8>, ArchiveError> {
        let mut name = self.extension(size)?;
        name.truncate(name.iter().position(|&byte| byte == 0).unwrap_or(name.len()));
        Ok(name)
    }

    fn entry(&mut self, header: &Header, extensions: Extensions) -> Result<Entry, ArchiveError> {
        let damaged = |what| move |_| ArchiveError::Damaged(what);
        let name = extensions.name.unwrap_or_else(|| header.path_bytes().into_owned());
        let target = extensions.target.or_else(|| header.link_name_bytes().map(|name| name.into_owned()));
        let kind = match header.entry_type() {
            // As tar wrote directories before there was a type for them.
            EntryType::Regular if name.ends_with(b"/") => Kind::Directory,
            EntryType::Regular | EntryType::Continuous => Kind::File,
            EntryType::Link => Kind::HardLink,
            EntryType::Symlink => Kind::Link,
            EntryType::Directory => Kind::Directory,
            EntryType::Fifo => Kind::Pipe,
            EntryType::Char | EntryType::Block => Kind::Device,
            EntryType::GNUSparse => return Err(ArchiveError::NotServed("a sparse file")),
            _ => return Err(ArchiveError::NotServed("an entry of an unknown type")),
        };
        // What is no file has no contents, whatever its header says.
        let size = match kind {
            Kind::File => extensions.size.map_or_else(|| header.entry_size(), Ok),
            _ => Ok(0),
        };
        let size = size.map_err(damaged("the size of an entry"))?;
        let number = |extension: Option<u64>, field: io::Result<u64>| {
            let number = extension.map_or(field, Ok).map_err(damaged("the owner of an entry"))?;
            u32::try_from(number).map_err(|_| ArchiveError::Damaged("the owner of an entry"))
        };
        let time = header.mtime().map_err(damaged("the time of an entry"))?;
        let entry = Entry {
            target: target.unwrap_or_default(),
            kind,
            mode: header.mode().map_err(damaged("the permissions of an entry"))? & 0o7777,
            user: number(extensions.user, header.uid())?,
            group: number(extensions.group, header.gid())?,
            time: extensions.time.unwrap_or(time as i64),
            size,
            name,
        };
        if entry.name.len() > NAME_MAX || entry.target.len() > NAME_MAX {
            return Err(ArchiveError::Damaged("a name is too long"));
        }
        (self.left, self.padding) = (size, padding(size));
        Ok(entry)
    }
}

/// What fills contents of `size` bytes up to a whole block.
fn padding(size: u64) -> u64 {
    size.wrapping_neg() % BLOCK
}

fn cut(error: io::Error) -> ArchiveError {
    match error.kind() {
        io::ErrorKind::UnexpectedEof => ArchiveError::Damaged("it ends too early"),
        _ => ArchiveError::Read(error),
    }
}

impl Extensions {
    /// Takes over the records of a pax header. Those that it does not know are about what is not kept.
    fn read(&mut self, bytes: &[u8]) -> Result<(), ArchiveError> {
        const DAMAGED: ArchiveError = ArchiveError::Damaged("the extensions of a header");
        fn number<T: std::str::FromStr>(text: &[u8]) -> Result<Option<T>, ArchiveError> {
            let text = std::str::from_utf8(text).map_err(|_| DAMAGED)?;
            text.parse().map(Some).map_err(|_| DAMAGED)
        }
        for record in PaxExtensions::new(bytes) {
            let record = record.map_err(|_| DAMAGED)?;
            let value = record.value_bytes();
            match record.key_bytes() {
                b"path" => self.name = Some(value.to_vec()),
                b"linkpath" => self.target = Some(value.to_vec()),
                b"size" => self.size = number(value)?,
                b"uid" => self.user = number(value)?,
                b"gid" => self.group = number(value)?,
                // Parts of a second are not kept.
                b"mtime" => self.time = number(value.split(|&byte| byte == b'.').next().unwrap_or(value))?,
                key if key.starts_with(b"GNU.sparse.") => {
                    return Err(ArchiveError::NotServed("a sparse file"));
                }
                _ => {}
            }
        }
        Ok(())
    }
}

/// Reads the contents of an entry, and no further.
struct Contents<'a, S> {
    archive: &'a mut Archive<S>,
}

impl<S: Skip> Read for Contents<'_, S> {
    fn read(&mut self, bytes: &mut [u8]) -> io::Result<usize> {
        let Archive { source, left, .. } = &mut *self.archive;
        let len = source.take(*left).read(bytes)?;
        if len == 0 && *left > 0 && !bytes.is_empty() {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        *left -= len as u64;
        Ok(len)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::image::tar_maker::Tar;

    /// Names, kinds and sizes of an archive.
    fn names(bytes: &[u8]) -> Result<Vec<(String, Kind, u64)>, String> {
        let mut archive = Archive::new(Stream(bytes), 100);
        let mut found = Vec::new();
        while let Some(entry) = archive.next_entry().map_err(|error| error.to_string())? {
            found.push((String::from_utf8(entry.name).unwrap(), entry.kind, entry.size));
        }
        Ok(found)
    }

    #[test]
    fn entries_come_one_after_the_other_whether_they_are_read_or_not() {
        let tar = Tar::default().directory("d").file("d/a", b"contents").link("d/l", "a").end();
        let expected = [
            ("d/".to_owned(), Kind::Directory, 0),
            ("d/a".to_owned(), Kind::File, 8),
            ("d/l".to_owned(), Kind::Link, 0),
        ];
        assert_eq!(names(&tar).unwrap(), expected);
        let mut archive = Archive::new(Stream(&tar[..]), 100);
        archive.next_entry().unwrap();
        archive.next_entry().unwrap();
        let mut text = String::new();
        archive.contents().read_to_string(&mut text).unwrap();
        assert_eq!(
            (text.as_str(), archive.next_entry().unwrap().unwrap().target),
            ("contents", b"a".to_vec())
        );
        assert_eq!(archive.next_entry().unwrap(), None);
    }

    #[test]
    fn long_names_come_whole() {
        let name = format!("{}/file", "d".repeat(200));
        assert_eq!(names(&Tar::default().file(&name, b"x").end()).unwrap()[0].0, name);
        let pax =
            Tar::default().pax(&[("path", &name), ("size", "3"), ("mtime", "7.25")]).file("short", b"abc");
        let tar = pax.end();
        let entry = Archive::new(Stream(&tar[..]), 100).next_entry().unwrap().unwrap();
        assert_eq!((entry.name, entry.size, entry.time), (name.into_bytes(), 3, 7));
    }

    #[test]
    fn what_is_damaged_or_endless_is_refused() {
        let tar = Tar::default().file("a", &[7; 1000]).end();
        let mut changed = tar.clone();
        changed[0] = b'b';
        assert_eq!(names(&changed).unwrap_err(), "the archive is damaged: the sum of a header");
        assert_eq!(names(&tar[..700]).unwrap_err(), "the archive is damaged: it ends too early");
        assert_eq!(names(&tar[..100]).unwrap_err(), "the archive is damaged: it ends too early");
        let sparse = Tar::default().pax(&[("GNU.sparse.major", "1")]).file("a", b"").end();
        assert_eq!(names(&sparse).unwrap_err(), "a sparse file is not served");
        let long = Tar::default().pax(&[("path", &"x/".repeat(3000))]).file("a", b"").end();
        assert_eq!(names(&long).unwrap_err(), "the archive is damaged: a name is too long");
        let huge = Tar::default().pax(&[("comment", &"x".repeat(2 << 20))]).file("a", b"").end();
        assert_eq!(names(&huge).unwrap_err(), "the archive is damaged: a header is too long");
        let many = (0..101).fold(Tar::default(), |tar, n| tar.file(&n.to_string(), b"")).end();
        assert_eq!(names(&many).unwrap_err(), "the archive is damaged: it has too many entries");
    }
}
