//! The four codecs of Kafka's batches. A broker stores what it gets; only clients, compaction and
//! the inspector look inside.

use std::fmt;
use std::io::{self, Read, Write};
use std::str::FromStr;

/// How a batch's records are compressed: the attributes' lowest three bits.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Compression {
    /// Not at all.
    #[default]
    None,
    /// gzip, RFC 1952.
    Gzip,
    /// Snappy in the framing of snappy-java ("xerial"), which Kafka's clients write.
    Snappy,
    /// The LZ4 frame format, independent blocks.
    Lz4,
    /// Zstandard, RFC 8878.
    Zstd,
}

/// Why records could not be compressed or decompressed.
#[derive(Debug, thiserror::Error)]
pub enum CompressionError {
    /// The attributes name a codec that there is not.
    #[error("unknown compression codec {found}")]
    Unknown {
        /// The lowest three attribute bits.
        found: u8,
    },
    /// The codec found the bytes damaged.
    #[error("{codec}: {source}")]
    Codec {
        /// Which codec.
        codec: Compression,
        /// What it said.
        source: io::Error,
    },
    /// The bytes grow beyond the limit: a bomb, or damage.
    #[error("{codec} data unpacks to more than {limit} bytes")]
    TooLarge {
        /// Which codec.
        codec: Compression,
        /// The limit that was given.
        limit: usize,
    },
}

/// What snappy-java puts before its blocks: magic, version 1, lowest compatible version 1.
const XERIAL_HEADER: [u8; 16] =
    [0x82, b'S', b'N', b'A', b'P', b'P', b'Y', 0, 0, 0, 0, 1, 0, 0, 0, 1];
/// Bytes of plain data in one xerial block; snappy-java's default.
const XERIAL_BLOCK: usize = 32 * 1024;

impl Compression {
    /// The codec that a batch's attributes name.
    pub fn from_attributes(attributes: u16) -> Result<Compression, CompressionError> {
        match attributes & 7 {
            0 => Ok(Compression::None),
            1 => Ok(Compression::Gzip),
            2 => Ok(Compression::Snappy),
            3 => Ok(Compression::Lz4),
            4 => Ok(Compression::Zstd),
            found => Err(CompressionError::Unknown { found: found as u8 }),
        }
    }

    /// The attribute bits that name this codec.
    pub fn attributes(self) -> u16 {
        self as u16
    }

    /// Kafka's name for it.
    pub fn name(self) -> &'static str {
        match self {
            Compression::None => "none",
            Compression::Gzip => "gzip",
            Compression::Snappy => "snappy",
            Compression::Lz4 => "lz4",
            Compression::Zstd => "zstd",
        }
    }

    /// Appends `plain`, compressed, to `out`.
    pub fn compress(self, plain: &[u8], out: &mut Vec<u8>) -> Result<(), CompressionError> {
        self.try_compress(plain, out)
            .map_err(|source| CompressionError::Codec { codec: self, source })
    }

    /// Appends `packed`, decompressed, to `out`, and stops with an error beyond `limit` bytes.
    pub fn decompress(
        self,
        packed: &[u8],
        out: &mut Vec<u8>,
        limit: usize,
    ) -> Result<(), CompressionError> {
        let start = out.len();
        self.try_decompress(packed, out, limit)
            .map_err(|source| CompressionError::Codec { codec: self, source })?;
        if out.len() - start > limit {
            return Err(CompressionError::TooLarge { codec: self, limit });
        }
        Ok(())
    }

    fn try_compress(self, plain: &[u8], out: &mut Vec<u8>) -> io::Result<()> {
        match self {
            Compression::None => out.extend_from_slice(plain),
            Compression::Gzip => {
                let mut gzip = flate2::write::GzEncoder::new(out, flate2::Compression::default());
                gzip.write_all(plain)?;
                gzip.finish()?;
            }
            Compression::Snappy => compress_xerial(plain, out)?,
            Compression::Lz4 => {
                let mut lz4 = lz4_flex::frame::FrameEncoder::new(out);
                lz4.write_all(plain)?;
                lz4.finish().map_err(io::Error::other)?;
            }
            Compression::Zstd => {
                let mut zstd = zstd::stream::write::Encoder::new(out, 0)?;
                zstd.write_all(plain)?;
                zstd.finish()?;
            }
        }
        Ok(())
    }

    fn try_decompress(self, packed: &[u8], out: &mut Vec<u8>, limit: usize) -> io::Result<()> {
        // One byte more than the limit, so that the caller can tell "just fits" from "too large".
        let most = (limit as u64).saturating_add(1);
        match self {
            Compression::None => out.write_all(packed)?,
            Compression::Gzip => {
                flate2::read::MultiGzDecoder::new(packed).take(most).read_to_end(out)?;
            }
            Compression::Snappy => decompress_snappy(packed, out, limit)?,
            Compression::Lz4 => {
                lz4_flex::frame::FrameDecoder::new(packed).take(most).read_to_end(out)?;
            }
            Compression::Zstd => {
                zstd::stream::read::Decoder::new(packed)?.take(most).read_to_end(out)?;
            }
        }
        Ok(())
    }
}

fn compress_xerial(plain: &[u8], out: &mut Vec<u8>) -> io::Result<()> {
    out.extend_from_slice(&XERIAL_HEADER);
    let mut encoder = snap::raw::Encoder::new();
    for block in plain.chunks(XERIAL_BLOCK) {
        let packed = encoder.compress_vec(block).map_err(io::Error::other)?;
        out.extend_from_slice(&(packed.len() as u32).to_be_bytes());
        out.extend_from_slice(&packed);
    }
    Ok(())
}

/// Reads both framings that clients write: xerial's blocks, and one raw block.
fn decompress_snappy(packed: &[u8], out: &mut Vec<u8>, limit: usize) -> io::Result<()> {
    let Some(mut rest) = packed.strip_prefix(&XERIAL_HEADER) else {
        return decompress_block(packed, out, limit);
    };
    let start = out.len();
    while let Some((length, after)) = rest.split_first_chunk::<4>() {
        let length = u32::from_be_bytes(*length) as usize;
        let block = after.get(..length).ok_or(io::ErrorKind::UnexpectedEof)?;
        decompress_block(block, out, limit.saturating_sub(out.len() - start))?;
        rest = &after[length..];
    }
    if rest.is_empty() { Ok(()) } else { Err(io::ErrorKind::UnexpectedEof.into()) }
}

fn decompress_block(block: &[u8], out: &mut Vec<u8>, limit: usize) -> io::Result<()> {
    let length = snap::raw::decompress_len(block).map_err(io::Error::other)?;
    if length > limit {
        return Err(io::Error::other(format!("a block of {length} bytes is above the limit")));
    }
    out.extend(snap::raw::Decoder::new().decompress_vec(block).map_err(io::Error::other)?);
    Ok(())
}

impl fmt::Display for Compression {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Compression {
    type Err = String;

    fn from_str(name: &str) -> Result<Compression, String> {
        let all = [
            Compression::None,
            Compression::Gzip,
            Compression::Snappy,
            Compression::Lz4,
            Compression::Zstd,
        ];
        all.into_iter().find(|codec| codec.name() == name).ok_or_else(|| {
            format!("'{name}' is no codec; there are none, gzip, snappy, lz4 and zstd")
        })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const CODECS: [Compression; 5] = [
        Compression::None,
        Compression::Gzip,
        Compression::Snappy,
        Compression::Lz4,
        Compression::Zstd,
    ];

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn what_goes_in_comes_out(plain in prop::collection::vec(0u8..4, 0..100_000)) {
            for codec in CODECS {
                let (mut packed, mut back) = (Vec::new(), Vec::new());
                codec.compress(&plain, &mut packed).unwrap();
                codec.decompress(&packed, &mut back, plain.len()).unwrap();
                prop_assert_eq!(&back, &plain);
            }
        }

        #[test]
        fn any_bytes_are_survived(bytes: Vec<u8>) {
            for codec in CODECS {
                let _ = codec.decompress(&bytes, &mut Vec::new(), 1 << 20);
            }
        }
    }

    #[test]
    fn a_bomb_is_refused_at_the_limit() {
        let plain = vec![0; 10 << 20];
        for codec in CODECS.into_iter().skip(1) {
            let (mut packed, mut back) = (Vec::new(), Vec::new());
            codec.compress(&plain, &mut packed).unwrap();
            assert!(codec.decompress(&packed, &mut back, 1 << 20).is_err(), "{codec}");
            assert!(back.len() <= (1 << 20) + 1, "{codec} wrote {}", back.len());
        }
    }
}
