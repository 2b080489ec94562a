//! Damaged and made-up streams: an error or exactly the bytes asked for, never a panic, never old bytes.

mod data;

use data::{KINDS, Random, made};
use proptest::prelude::*;
use zfolio_fallback::{Codec, Codecs, DecodeError, Deflate, Method, check, max_compressed_len};

/// What miniz_oxide makes of a stream: its bytes, if it is one whole stream of `len` bytes.
fn miniz(src: &[u8], len: usize) -> Option<Vec<u8>> {
    use miniz_oxide::inflate::core::inflate_flags::TINFL_FLAG_USING_NON_WRAPPING_OUTPUT_BUF;
    use miniz_oxide::inflate::{TINFLStatus, core};
    // One byte of room more tells a stream that is too long from one that just fits.
    let mut bytes = vec![0; len + 1];
    let mut state = core::DecompressorOxide::new();
    let flags = TINFL_FLAG_USING_NON_WRAPPING_OUTPUT_BUF;
    let (status, used, written) = core::decompress(&mut state, src, &mut bytes, 0, flags);
    bytes.truncate(len);
    (status == TINFLStatus::Done && used == src.len() && written == len).then_some(bytes)
}

fn stream_of(method: Method, data: &[u8]) -> Vec<u8> {
    let mut stream = vec![0; max_compressed_len(data.len())];
    let len = Codecs::new().compress(method, data, &mut stream).expect("the bound always fits");
    stream.truncate(len);
    stream
}

/// What is stored of one and the same data by us and by others.
fn deflate_streams(data: &[u8], level: i32) -> Vec<Vec<u8>> {
    let level = libdeflater::CompressionLvl::new(level).expect("levels are 0 to 12");
    let mut packer = libdeflater::Compressor::new(level);
    let mut stream = vec![0; packer.deflate_compress_bound(data.len())];
    let len = packer.deflate_compress(data, &mut stream).expect("the bound always fits");
    stream.truncate(len);
    vec![
        stream_of(Method::Deflate, data),
        stream,
        stream_of(Method::DeflateDynamic, data),
        miniz_oxide::deflate::compress_to_vec(data, 1),
    ]
}

/// The stream with the length to ask for in front, as the hostile properties take it.
fn asking(len: usize, stream: &[u8]) -> Vec<u8> {
    [&(len as u16).to_le_bytes(), stream].concat()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, ..ProptestConfig::default() })]

    #[test]
    fn made_up_bytes_are_read_as_the_oracles_read_them(data in prop::collection::vec(any::<u8>(), 0..200)) {
        let mut codecs = Codecs::new();
        check::hostile_lz4(&mut check::lz4_paths(), &data);
        check::hostile_deflate(&mut codecs, &data, miniz);
    }

    /// A flipped bit in stored memory: the user gets an error, or other bytes that the CRC-32 tells apart.
    #[test]
    fn damaged_streams_are_read_as_the_oracles_read_them(
        kind in 0..KINDS, seed: u64, len in 0_usize..6000, damage in 1_usize..4
    ) {
        let mut codecs = Codecs::new();
        let mut random = Random::new(seed);
        let mut damaged = |stream: &[u8]| {
            let mut bytes = asking(len, stream);
            for _ in 0..damage {
                let at = 2 + random.below(bytes.len() - 2);
                bytes[at] ^= 1 << random.below(8);
            }
            bytes
        };
        let data = made(kind, seed, len);
        check::hostile_lz4(&mut check::lz4_paths(), &damaged(&stream_of(Method::Lz4, &data)));
        for stream in deflate_streams(&data, 6) {
            check::hostile_deflate(&mut codecs, &damaged(&stream), miniz);
        }
    }
}

#[test]
fn stream_cut_off_anywhere_is_an_error() {
    let mut codecs = Codecs::new();
    for (kind, len) in [(2, 4096), (3, 4096), (8, 4096), (0, 300), (1, 4096)] {
        let data = made(kind, 21, len);
        let mut back = vec![0; len];
        let lz4 = stream_of(Method::Lz4, &data);
        for end in 0..lz4.len() {
            assert!(codecs.decompress(Codec::Lz4, &lz4[..end], &mut back).is_err(), "lz4 cut at {end}");
        }
        for stream in deflate_streams(&data, 9) {
            for end in 0..stream.len() {
                let src_len = u32::try_from(end).unwrap();
                let error = DecodeError::Truncated { codec: Codec::Deflate, src_len };
                assert_eq!(codecs.decompress(Codec::Deflate, &stream[..end], &mut back), Err(error));
            }
        }
    }
}

/// Pages that a device or another program has compressed, at any effort, with any window, are readable.
#[test]
fn streams_of_other_encoders_are_read() {
    let mut deflate = Deflate::new();
    for kind in 0..KINDS {
        for len in [0, 1, 4096, 100_000] {
            let data = made(kind, 31, len);
            for level in [0, 1, 6, 12] {
                for stream in deflate_streams(&data, level) {
                    let mut back = vec![0; len];
                    deflate.decompress(&stream, &mut back).unwrap();
                    assert!(back == data);
                }
            }
        }
    }
}

/// The checker of distances must itself see a distance that is too large, or it proves nothing.
#[test]
fn strict_reader_refuses_what_a_device_refuses() {
    let mut data = made(0, 1, 6000);
    data.extend_from_within(..);
    let stream = miniz_oxide::deflate::compress_to_vec(&data, 6);
    let refused = check::inflate(&stream, data.len()).err();
    assert_eq!(refused, Some("match reaches out of the device's window"));
    // libdeflate lets code-length repeats cross into the distance lengths.
    let crossing = (0..2000).any(|seed| {
        let data = made(seed as u32, seed, 700 + seed as usize);
        let stream = &deflate_streams(&data, 6)[1];
        check::inflate(stream, 4096).err().is_some_and(|refused| refused.starts_with("repeat runs from"))
    });
    assert!(crossing, "no stream of libdeflate crosses: the rule is untested");

    // A dynamic block that only ends: literal lengths 1, 2, 254 times 0, 2 and distance lengths 2, 2, 2, 2. The
    // code lengths 1, 2, 16 and 18 have two bits each, and are sent here with their extra bits above them.
    let header = |distances: &[(u64, u32)]| {
        let mut bits = vec![(0b101, 3), (0, 5), (3, 5), (14, 4)];
        let order = [16, 17, 18, 0, 8, 7, 9, 6, 10, 5, 11, 4, 12, 3, 13, 2, 14, 1];
        bits.extend(order.map(|symbol| (if [1, 2, 16, 18].contains(&symbol) { 2 } else { 0 }, 3)));
        bits.extend([(0b00, 2), (0b10, 2), (0b11 | 127 << 2, 9), (0b11 | 105 << 2, 9), (0b10, 2)]);
        bits.extend(distances);
        bits.push((0b11, 2));
        let mut bytes = vec![0_u8; 40];
        let ones = bits.iter().flat_map(|&(value, len)| (0..len).map(move |bit| value >> bit & 1));
        ones.enumerate().for_each(|(at, one)| bytes[at / 8] |= (one as u8) << (at % 8));
        bytes
    };
    assert!(check::inflate(&header(&[(0b10, 2), (0b01, 4)]), 0).is_ok());
    assert_eq!(check::inflate(&header(&[(0b0101, 4)]), 0).err(), Some("first distance length is a repeat"));
    // Others do not mind.
    for distances in [&[(0b10, 2), (0b01, 4)][..], &[(0b0101, 4)]] {
        let used = (0..40).find(|&len| miniz(&header(distances)[..len], 0).is_some());
        assert!(used.is_some(), "not a stream: the rule is untested");
    }
}

/// RUSTSEC-2026-0041: an LZ4 decoder took a bad offset for good and copied a match from bytes that it had not
/// yet written in this call. With a reused output buffer those are the previous page, perhaps another
/// process's: a damaged entry then loads as someone else's secret, and without an error. So a block with an
/// offset of zero, or one from before the output, is an error at every place where a match can stand, and
/// no answer depends on what the output held.
#[test]
fn bad_offset_never_shows_what_the_output_held_before() {
    let mut paths = check::lz4_paths();
    let secret = made(2, 99, 4096);
    for literals in 0..40_usize {
        for matched in [4_usize, 7, 18, 19, 40, 300] {
            for offset in [0, literals + 1, literals + 4, 4096, 65535] {
                let mut block = vec![(literals.min(15) << 4 | (matched - 4).min(15)) as u8];
                if literals >= 15 {
                    block.push((literals - 15) as u8);
                }
                block.extend(vec![b'x'; literals]);
                block.extend((offset as u16).to_le_bytes());
                if matched >= 19 {
                    block.extend(vec![255; (matched - 19) / 255]);
                    block.push(((matched - 19) % 255) as u8);
                }
                // Enough literals at the end for the decoder's fast path to be taken, and not.
                // The last makes it a page, which other code decodes.
                for tail in [15, 60, 4096 - literals - matched] {
                    let mut block = block.clone();
                    block.push(0xf0);
                    block.extend(vec![255; (tail - 15) / 255]);
                    block.push(((tail - 15) % 255) as u8);
                    block.extend(vec![b'y'; tail]);
                    for codecs in &mut paths {
                        let mut dst = secret.clone();
                        let dst = &mut dst[..literals + matched + tail];
                        let answer = codecs.decompress(Codec::Lz4, &block, dst);
                        assert!(
                            matches!(answer, Err(DecodeError::Malformed { codec: Codec::Lz4, .. })),
                            "{answer:?}"
                        );
                    }
                }
            }
        }
    }
}

/// The same story for DEFLATE: its decoder keeps a window of 32 KiB from call to call.
#[test]
fn match_before_the_output_never_reads_the_last_page() {
    let mut deflate = Deflate::new();
    let secret = made(2, 99, 4096);
    let stored = stream_of(Method::Deflate, &secret);
    // A fixed block: the literal A, then a match of three bytes with each distance symbol from distance 2 on.
    for symbol in 1..30_u32 {
        let mut back = vec![0; 4096];
        deflate.decompress(&stored, &mut back).unwrap();
        assert!(back == secret);

        let bits = 0b011_u64 | 0x8e << 3 | 0x40 << 11 | u64::from(symbol.reverse_bits() >> 27) << 18;
        let mut dst = [0; 4];
        let answer = deflate.decompress(&bits.to_le_bytes(), &mut dst);
        assert!(answer.is_err(), "distance symbol {symbol} read from before the output");
        // The literal may be there; from the window nothing is.
        assert!(dst == [0; 4] || dst == [b'A', 0, 0, 0], "{dst:?}");
    }
}

#[test]
fn errors_tell_what_is_wrong_and_what_helps() {
    let mut codecs = Codecs::new();
    let page = made(2, 1, 4096);
    let stream = stream_of(Method::Deflate, &page);
    let mut back = vec![0; 5000];
    let mut says = |src: &[u8], len: usize| {
        codecs.decompress(Codec::Deflate, src, &mut back[..len]).unwrap_err().to_string()
    };
    assert!(says(&stream, 4000).contains("more than the 4000 bytes asked for"));
    assert!(says(&stream, 5000).contains("ends after 4096 of the 5000 bytes"));
    assert!(says(&stream[..100], 4096).contains("does not end within its 100 bytes"));
    assert!(says(&[&stream[..], b"!"].concat(), 4096).contains("pass the length that compress returned"));
    assert!(says(&[0xff], 4096).contains("malformed"));
}
