//! Makes tar archives, also such as no tar would make.
//!
//! Nothing is checked here: what is hostile in an archive is put there on purpose. Source: pax(1), "ustar Interchange
//! Format".

/// An archive that grows.
#[derive(Default, Clone)]
pub struct Tar {
    bytes: Vec<u8>,
}

impl Tar {
    /// An entry of any kind: the letter of its type, its name, where it leads, its permissions, contents.
    pub fn entry(mut self, kind: u8, name: &str, target: &str, mode: u32, contents: &[u8]) -> Tar {
        if name.len() > 100 {
            self = self.long(b'L', name);
        }
        if target.len() > 100 {
            self = self.long(b'K', target);
        }
        let mut header = [0; 512];
        let mut put = |at: usize, text: &[u8]| header[at..at + text.len()].copy_from_slice(text);
        put(0, &name.as_bytes()[..name.len().min(100)]);
        put(100, format!("{mode:07o}\0").as_bytes());
        put(108, b"0000000\0");
        put(116, b"0000000\0");
        put(124, format!("{:011o}\0", contents.len()).as_bytes());
        put(136, b"00000000007\0");
        put(148, b"        ");
        put(156, &[kind]);
        put(157, &target.as_bytes()[..target.len().min(100)]);
        put(257, b"ustar\x0000");
        let sum: u32 = header.iter().map(|&byte| u32::from(byte)).sum();
        header[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
        self.bytes.extend_from_slice(&header);
        self.bytes.extend_from_slice(contents);
        self.bytes.resize(self.bytes.len().next_multiple_of(512), 0);
        self
    }

    /// A name that is too long for a header, as GNU tar writes it.
    fn long(self, kind: u8, name: &str) -> Tar {
        self.entry(kind, "././@LongLink", "", 0, format!("{name}\0").as_bytes())
    }

    /// Records about the next entry.
    pub fn pax(self, records: &[(&str, &str)]) -> Tar {
        let mut text = String::new();
        for (key, value) in records {
            // The length counts its own digits.
            let rest = format!(" {key}={value}\n").len();
            let mut len = rest;
            while len != rest + len.to_string().len() {
                len = rest + len.to_string().len();
            }
            text += &format!("{len} {key}={value}\n");
        }
        self.entry(b'x', "pax", "", 0o644, text.as_bytes())
    }

    /// A regular file.
    pub fn file(self, name: &str, contents: &[u8]) -> Tar {
        self.entry(b'0', name, "", 0o644, contents)
    }

    /// A program.
    pub fn program(self, name: &str, contents: &[u8]) -> Tar {
        self.entry(b'0', name, "", 0o755, contents)
    }

    /// A directory.
    pub fn directory(self, name: &str) -> Tar {
        self.entry(b'5', &format!("{name}/"), "", 0o755, b"")
    }

    /// A symbolic link.
    pub fn link(self, name: &str, target: &str) -> Tar {
        self.entry(b'2', name, target, 0o777, b"")
    }

    /// Another name.
    pub fn hard_link(self, name: &str, target: &str) -> Tar {
        self.entry(b'1', name, target, 0o644, b"")
    }

    /// The archive.
    pub fn end(mut self) -> Vec<u8> {
        self.bytes.resize(self.bytes.len() + 1024, 0);
        self.bytes
    }
}
