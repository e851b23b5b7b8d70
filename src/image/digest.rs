//! Digests: what a blob is called, and whether it is what it is called. SHA-256 alone.
//!
//! Sources: the OCI image specification, descriptor.md "Digests" and config.md "Layer ChainID"; FIPS 180-4.

use sha2::{Digest as _, Sha256};
use std::fmt;
use std::io::{self, Read};

/// The digest of some bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Digest([u8; 32]);

impl Digest {
    /// Of these bytes.
    pub fn of(bytes: &[u8]) -> Digest {
        Digest(Sha256::digest(bytes).into())
    }

    /// As it is written: `sha256:` and 64 digits. `None` for another algorithm, too.
    pub fn parse(text: &str) -> Option<Digest> {
        let digits = text.strip_prefix("sha256:")?.as_bytes();
        let digit = |byte: u8| match byte {
            b'0'..=b'9' => Some(byte - b'0'),
            b'a'..=b'f' => Some(byte - b'a' + 10),
            _ => None,
        };
        let mut bytes = [0; 32];
        if digits.len() != 64 {
            return None;
        }
        for (byte, pair) in bytes.iter_mut().zip(digits.chunks(2)) {
            *byte = digit(pair[0])? << 4 | digit(pair[1])?;
        }
        Some(Digest(bytes))
    }

    /// The 64 digits alone: the name of a blob's file.
    pub fn digits(&self) -> String {
        self.0.iter().map(|byte| format!("{byte:02x}")).collect()
    }

    /// What stands for a stack of layers, from the lowest on, by the digests of their uncompressed archives (ChainID).
    pub fn of_chain(layers: &[Digest]) -> Digest {
        let next = |below: Digest, layer: &Digest| Digest::of(format!("{below} {layer}").as_bytes());
        match layers {
            [] => Digest::of(b""),
            [lowest, upper @ ..] => upper.iter().fold(*lowest, next),
        }
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "sha256:{}", self.digits())
    }
}

/// A reader that knows the digest of what went through it.
pub struct Hashed<R> {
    source: R,
    state: Sha256,
}

impl<R: Read> Hashed<R> {
    /// Of what `source` gives from now on.
    pub fn new(source: R) -> Hashed<R> {
        Hashed { source, state: Sha256::new() }
    }

    /// Reads to the end, and returns the digest of all there was.
    pub fn finish(mut self) -> io::Result<Digest> {
        io::copy(&mut self, &mut io::sink())?;
        Ok(Digest(self.state.finalize().into()))
    }
}

impl<R: Read> Read for Hashed<R> {
    fn read(&mut self, bytes: &mut [u8]) -> io::Result<usize> {
        let len = self.source.read(bytes)?;
        self.state.update(&bytes[..len]);
        Ok(len)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ABC: &str = "sha256:ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";

    #[test]
    fn a_digest_is_written_as_it_is_read() {
        let digest = Digest::parse(ABC).unwrap();
        assert_eq!((digest, digest.to_string()), (Digest::of(b"abc"), ABC.to_owned()));
        assert_eq!(Hashed::new(&b"abc"[..]).finish().unwrap(), digest);
        for wrong in ["", "sha256:", "sha512:00", &ABC[..70], &ABC.to_uppercase(), "sha256:../../etc/passwd"]
        {
            assert_eq!(Digest::parse(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn a_chain_of_one_layer_is_that_layer() {
        let [a, b] = [Digest::of(b"a"), Digest::of(b"b")];
        assert_eq!(Digest::of_chain(&[a]), a);
        assert_eq!(Digest::of_chain(&[a, b]), Digest::of(format!("{a} {b}").as_bytes()));
        assert_ne!(Digest::of_chain(&[a, b]), Digest::of_chain(&[b, a]));
    }
}
