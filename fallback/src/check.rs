//! What must hold for any bytes at all: one function for each property, for property tests and fuzzers alike.
//!
//! Not part of the interface. The functions panic where a property is broken. Their oracles are the two
//! readers below, written for clarity from the format descriptions and sharing nothing with the codecs.

mod strict_inflate;
mod strict_lz4;
mod vw;

pub use strict_inflate::{Stream, inflate};
pub use strict_lz4::decode_lz4;
pub use vw::{VwPaths, mend, vw_paths};

use crate::decode_error::reported;
use crate::{Codec, Codecs, DecodeError, Lz4, MAX_INPUT, Method, max_compressed_len};

/// Longest output that hostile bytes may ask for: some pages, and far above the longest match.
const HOSTILE_MAX: usize = 20_000;

const PAGE: usize = 4096;

/// Compresses `data` by every method and reads it back; a page lost or changed here is a user's page lost.
pub fn round_trip(codecs: &mut Codecs, data: &[u8]) {
    assert!(data.len() <= MAX_INPUT, "inputs of this property are at most MAX_INPUT long");
    let bound = max_compressed_len(data.len());
    for method in Method::ALL.into_iter().filter(|method| method.codec().takes(data.len())) {
        let codec = method.codec();
        let mut stream = vec![0xa5; bound + 16];
        let len = codecs.compress(method, data, &mut stream[..bound]).expect("the bound always fits");
        assert!(stream[bound..].iter().all(|&byte| byte == 0xa5), "{method} wrote past its output");
        stream.truncate(len);

        let mut again = vec![0x5a; bound];
        assert_eq!(codecs.compress(method, data, &mut again), Some(len), "{method} is not repeatable");
        assert!(again[..len] == stream, "{method} is not repeatable");

        let mut back = vec![0xa5; data.len()];
        codecs.decompress(codec, &stream, &mut back).expect("what was compressed decodes");
        assert!(back == data, "{method} returned other bytes");
        wrong_lengths_are_errors(codecs, codec, &stream, data.len());
        match codec {
            Codec::Lz4 => assert!(decode_lz4(&stream, data.len()).as_deref() == Ok(data), "oracle reads LZ4"),
            Codec::Deflate => {
                let read = inflate(&stream, data.len()).expect("a device would read the stream");
                assert!(read.bytes == data && read.used == len, "oracle reads DEFLATE");
                assert!(read.farthest <= 4096, "a match reaches {} bytes back", read.farthest);
                short_output_is_refused(codecs, method, data, &stream);
            }
            // Its oracle is its portable implementation: see `vw`.
            Codec::Vw => {}
            // Who made it reads it.
            #[cfg(feature = "zstd")]
            Codec::Zstd => {}
        }
    }
}

/// A stream asked to decode to one byte more or less, or followed by one byte, is an error.
fn wrong_lengths_are_errors(codecs: &mut Codecs, codec: Codec, stream: &[u8], len: usize) {
    let mut back = vec![0; len + 1];
    let longer = codecs.decompress(codec, stream, &mut back);
    assert_eq!(
        longer,
        Err(DecodeError::TooShort { codec, expected: reported(len + 1), decoded: reported(len) })
    );
    if let Some(shorter) = len.checked_sub(1) {
        let error = codecs.decompress(codec, stream, &mut back[..shorter]);
        assert_eq!(error, Err(DecodeError::TooLong { codec, expected: reported(shorter) }));
    }
    let (used, src_len) = (reported(stream.len()), reported(stream.len() + 1));
    let followed = codecs.decompress(codec, &[stream, &[0]].concat(), &mut back[..len]);
    match codec {
        // An LZ4 block goes on to where its bytes end: a byte more is the start of another sequence.
        // A vw stream tells the lengths of its sections, but not which byte is one too many.
        Codec::Lz4 | Codec::Vw => assert!(followed.is_err(), "{codec} took a trailing byte"),
        _ => assert_eq!(followed, Err(DecodeError::TrailingBytes { codec, used, src_len })),
    }
}

/// DEFLATE fits into exactly the stream's length, gives the same stream there, and does not fit into less.
fn short_output_is_refused(codecs: &mut Codecs, method: Method, data: &[u8], stream: &[u8]) {
    let mut exact = vec![0; stream.len()];
    assert_eq!(codecs.compress(method, data, &mut exact), Some(stream.len()));
    assert!(exact == stream, "the stream depends on the output's length");
    for less in [0, stream.len() / 2, stream.len() - 1] {
        assert_eq!(codecs.compress(method, data, &mut exact[..less]), None);
    }
}

/// Gives hostile bytes to a decoder; the answer, which does not depend on what the output held before.
///
/// A decoder that lets old contents of an output buffer through would here give two different answers.
pub fn decode(codecs: &mut Codecs, codec: Codec, src: &[u8], len: usize) -> Result<Vec<u8>, DecodeError> {
    let mut dst = vec![0x00; len + 16];
    let first = codecs.decompress(codec, src, &mut dst[..len]);
    assert!(dst[len..].iter().all(|&byte| byte == 0x00), "{codec} wrote past its output");
    let mut other = vec![0xff; len];
    let second = codecs.decompress(codec, src, &mut other);
    assert_eq!(first, second, "the answer depends on what the output held before");
    first?;
    dst.truncate(len);
    assert!(dst == other, "old output bytes came through");
    Ok(dst)
}

/// The length that hostile bytes ask for, and the stream: their first two bytes, and the others.
pub fn hostile(data: &[u8]) -> Option<(usize, &[u8])> {
    let (len, src) = data.split_first_chunk()?;
    Some((usize::from(u16::from_le_bytes(*len)) % HOSTILE_MAX, src))
}

/// Codecs with each reader of LZ4 pages that this machine has, the one it would choose first.
pub fn lz4_paths() -> Vec<Codecs> {
    let others = [Lz4::avx512(), Lz4::avx2()].into_iter().flatten().map(Codecs::with_lz4);
    std::iter::once(Codecs::new()).chain(others).collect()
}

/// Any bytes as an LZ4 block, of the length they ask for and of a page, for which there is other code: each decoder and the
/// oracle accept the same ones, and read the same; and the decoders give the same errors.
pub fn hostile_lz4(paths: &mut [Codecs], data: &[u8]) {
    let Some((len, src)) = hostile(data) else { return };
    for len in [len, PAGE] {
        let oracle = decode_lz4(src, len);
        let mut answers = paths.iter_mut().map(|codecs| decode(codecs, Codec::Lz4, src, len));
        let ours = answers.next().expect("there is a decoder");
        for other in answers {
            assert!(ours == other, "the decoders do not agree: {:?}, {:?}", ours.err(), other.err());
        }
        assert_eq!(ours.is_ok(), oracle.is_ok(), "decoder says {ours:?}, oracle says {oracle:?}");
        assert!(ours.ok() == oracle.ok(), "decoder and oracle read different bytes");
    }
}

/// Any bytes as a page, repeated as often as it takes: it comes back, also with its first bytes in other places of the block.
pub fn lz4_page(paths: &mut [Codecs], data: &[u8]) {
    let mut page = [0; PAGE];
    for (number, part) in page.chunks_mut(data.len().max(1)).enumerate() {
        part.iter_mut().zip(data).for_each(|(byte, &from)| *byte = from);
        part[0] = part[0].wrapping_add(number as u8);
    }
    let mut block = vec![0; 2 + max_compressed_len(PAGE)];
    let len = paths[0].compress(Codec::Lz4, &page, &mut block[2..]).expect("the bound always fits");
    block.truncate(2 + len);
    assert!(decode_lz4(&block[2..], PAGE).as_deref() == Ok(&page), "oracle reads LZ4");
    for codecs in &mut *paths {
        assert!(decode(codecs, Codec::Lz4, &block[2..], PAGE).as_deref() == Ok(&page), "the page comes back");
    }
    for change in data.chunks_exact(3).take(16) {
        let at = usize::from(u16::from_le_bytes([change[0], change[1]])) % len;
        block[2 + at] = change[2];
        hostile_lz4(paths, &block);
    }
}

/// Any bytes as a DEFLATE stream. What a strict device reads, the decoder reads, and the same; what it reads
/// beyond that, and only that, `oracle` must read: it gets the stream and its length, and gives the bytes.
pub fn hostile_deflate(codecs: &mut Codecs, data: &[u8], oracle: impl Fn(&[u8], usize) -> Option<Vec<u8>>) {
    let Some((len, src)) = hostile(data) else { return };
    let ours = decode(codecs, Codec::Deflate, src, len);
    if let Ok(read) = inflate(src, len)
        && read.used == src.len()
        && read.bytes.len() == len
    {
        assert!(ours.as_ref() == Ok(&read.bytes), "a device reads this, the decoder says {ours:?}");
    }
    let oracle = oracle(src, len);
    assert_eq!(ours.is_ok(), oracle.is_some(), "decoder says {ours:?}, oracle says {oracle:?}");
    assert!(ours.ok() == oracle, "decoder and oracle read different bytes");
}
