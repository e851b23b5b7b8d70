//! How the archive of a layer is compressed, by its first bytes: gzip, Zstandard, or not at all.
//!
//! The media type of a layer is not asked: what is written there and what is in the file have been two things before.
//! Sources: RFC 1952; RFC 8878, sections 3.1.1 and 3.1.2.

use flate2::bufread::MultiGzDecoder;
use ruzstd::decoding::errors::{FrameDecoderError, ReadFrameHeaderError};
use ruzstd::decoding::{BlockDecodingStrategy, FrameDecoder};
use std::io::{self, BufRead, BufReader, Read};

/// Bytes that are decoded before some are handed out.
const AT_ONCE: usize = 128 << 10;

/// What comes out of a compressed file.
pub enum Decompressed<R: Read> {
    /// It was not compressed.
    Plain(BufReader<R>),
    /// gzip.
    Gzip(Box<MultiGzDecoder<BufReader<R>>>),
    /// Zstandard.
    Zstandard(Box<Frames<BufReader<R>>>),
}

impl<R: Read> Decompressed<R> {
    /// Looks at the first bytes of `source`.
    ///
    /// # Errors
    /// They cannot be read.
    pub fn new(source: R) -> io::Result<Decompressed<R>> {
        let mut source = BufReader::with_capacity(AT_ONCE, source);
        let magic = source.fill_buf()?;
        Ok(match magic {
            [0x1f, 0x8b, ..] => Decompressed::Gzip(Box::new(MultiGzDecoder::new(source))),
            // A frame, or one that is to be skipped (RFC 8878, 3.1.2).
            [0x28, 0xb5, 0x2f, 0xfd, ..] | [0x50..=0x5f, 0x2a, 0x4d, 0x18, ..] => {
                Decompressed::Zstandard(Box::new(Frames {
                    source,
                    decoder: FrameDecoder::new(),
                    is_open: false,
                }))
            }
            _ => Decompressed::Plain(source),
        })
    }
}

impl<R: Read> Read for Decompressed<R> {
    fn read(&mut self, bytes: &mut [u8]) -> io::Result<usize> {
        match self {
            Decompressed::Plain(source) => source.read(bytes),
            Decompressed::Gzip(source) => source.read(bytes),
            Decompressed::Zstandard(source) => source.read(bytes),
        }
    }
}

/// Zstandard's frames, one after the other.
pub struct Frames<R> {
    source: R,
    decoder: FrameDecoder,
    is_open: bool,
}

impl<R: BufRead> Read for Frames<R> {
    fn read(&mut self, bytes: &mut [u8]) -> io::Result<usize> {
        if bytes.is_empty() {
            return Ok(0);
        }
        loop {
            if !self.is_open {
                if self.source.fill_buf()?.is_empty() {
                    return Ok(0);
                }
                match self.decoder.reset(&mut self.source) {
                    Ok(()) => self.is_open = true,
                    Err(FrameDecoderError::ReadFrameHeaderError(ReadFrameHeaderError::SkipFrame {
                        length,
                        ..
                    })) => {
                        let length = u64::from(length);
                        let skipped = io::copy(&mut (&mut self.source).take(length), &mut io::sink())?;
                        if skipped != length {
                            return Err(io::ErrorKind::UnexpectedEof.into());
                        }
                    }
                    Err(error) => return Err(io::Error::new(io::ErrorKind::InvalidData, error.to_string())),
                }
                continue;
            }
            while self.decoder.can_collect() == 0 && !self.decoder.is_finished() {
                let decoded =
                    self.decoder.decode_blocks(&mut self.source, BlockDecodingStrategy::UptoBytes(AT_ONCE));
                decoded.map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error.to_string()))?;
            }
            match self.decoder.read(bytes)? {
                0 => self.is_open = false,
                len => return Ok(len),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    fn decompressed(bytes: &[u8]) -> io::Result<Vec<u8>> {
        let mut out = Vec::new();
        Decompressed::new(bytes)?.read_to_end(&mut out)?;
        Ok(out)
    }

    #[test]
    fn each_form_gives_the_same_and_a_cut_one_an_error() {
        let text = b"a layer ".repeat(60_000);
        let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        gzip.write_all(&text).unwrap();
        let gzip = gzip.finish().unwrap();
        let frame = ruzstd::encoding::compress_to_vec(&text[..], ruzstd::encoding::CompressionLevel::Fastest);
        let skipped = [&[0x50, 0x2a, 0x4d, 0x18, 3, 0, 0, 0, 1, 2, 3][..], &frame, &frame].concat();
        assert!(decompressed(&text).unwrap() == text);
        assert!(decompressed(&gzip).unwrap() == text);
        assert!(decompressed(&skipped).unwrap() == text.repeat(2));
        for whole in [&gzip, &frame] {
            assert!(decompressed(&whole[..whole.len() - 20]).is_err());
        }
    }
}
