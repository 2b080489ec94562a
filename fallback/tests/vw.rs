//! vw: pages of every kind come back, hostile streams do no harm, and all implementations are one codec.

mod data;

use data::{KINDS, Random, made};
use proptest::prelude::*;
use zfolio_fallback::check::{VwPaths, mend};
use zfolio_fallback::{Codec, Codecs, DecodeError, Vw, VwLevel, max_compressed_len};

fn page(kind: u32, seed: u64) -> [u8; 4096] {
    made(kind, seed, 4096).try_into().expect("made of a page's length")
}

/// Words as a heap has them: pointers, small numbers, repeats of records at some stride, and noise.
fn heap_page(seed: u64) -> [u8; 4096] {
    let mut random = Random::new(seed);
    let mut page = [0; 4096];
    let stride = 8 + 4 * random.below(40);
    let shift = random.below(4);
    for at in (0..4096).step_by(4) {
        let word = match random.below(8) {
            0 => random.next() as u32,
            1 => 0,
            2 => random.below(300) as u32,
            3 => 0x7f32_0000 | random.below(256) as u32,
            4 if at >= 256 => {
                // At any byte.
                let from = 4 * random.below((at - 128) / 4) + shift;
                let mut word = [0; 4];
                word.copy_from_slice(&page[from..from + 4]);
                u32::from_le_bytes(word)
            }
            _ if at >= stride => {
                let mut word = [0; 4];
                word.copy_from_slice(&page[at - stride..at - stride + 4]);
                u32::from_le_bytes(word) ^ u32::from(random.below(6) == 0)
            }
            _ => 7,
        };
        page[at..at + 4].copy_from_slice(&word.to_le_bytes());
    }
    page
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]

    #[test]
    fn pages_of_every_kind_come_back_by_all_implementations(kind in 0..KINDS, seed: u64) {
        let mut paths = VwPaths::new();
        for level in VwLevel::ALL {
            // Once for another page first: nothing of it may show in the second.
            paths.stream(level, &page(kind + 1, seed));
            paths.stream(level, &page(kind, seed));
            paths.stream(level, &heap_page(seed));
        }
    }

    #[test]
    fn few_different_words_come_back(words in prop::collection::vec(0_u32..5, 1024), shift in 0_u32..28) {
        let mut paths = VwPaths::new();
        let mut page = [0; 4096];
        for (bytes, word) in page.chunks_exact_mut(4).zip(words) {
            bytes.copy_from_slice(&u32::to_le_bytes(word << shift));
        }
        for level in VwLevel::ALL {
            paths.stream(level, &page);
        }
    }

    #[test]
    fn damaged_streams_have_one_answer(kind in 0..KINDS + 3, seed: u64) {
        let mut random = Random::new(seed);
        let mut paths = VwPaths::new();
        let page = if kind < KINDS { page(kind, seed) } else { heap_page(seed) };
        let level = VwLevel::ALL[random.below(3)];
        let whole = paths.stream(level, &page);
        for _ in 0..40 {
            let mut stream = whole.clone();
            damage(&mut random, &mut stream);
            if random.below(3) > 0 {
                mend(&mut stream, random.next() as u8);
            }
            let _ = paths.decode(&stream);
        }
    }

    #[test]
    fn made_up_streams_have_one_answer(mut data in prop::collection::vec(any::<u8>(), 0..4600), counts: [u8; 6]) {
        let mut paths = VwPaths::new();
        let _ = paths.decode(&data);
        // A header that might be one.
        if data.len() >= 22 {
            for (at, count) in [0, 2, 4].into_iter().zip(counts.as_chunks::<2>().0) {
                data[at] = count[0];
                data[at + 1] = count[1] % 4;
            }
            data[1] |= 0x20 | counts[1] & 8;
            let all = u64::from_le_bytes(data[6..14].try_into().unwrap());
            data[14..22].iter_mut().zip(all.to_le_bytes()).for_each(|(byte, all)| *byte &= !all);
            mend(&mut data, 0x55);
            let _ = paths.decode(&data);
        }
    }
}

/// Planes in every mode, and of every length: the parts of literals that one encoder could write otherwise than another.
#[test]
fn literal_planes_of_every_mode_come_back() {
    let mut paths = VwPaths::new();
    let mut met = [[false; 4]; 4];
    for seed in 0..1500 {
        let mut random = Random::new(seed);
        let symbols: [usize; 4] = std::array::from_fn(|_| [1, 2, 4, 7, 16, 24, 256, 256][random.below(8)]);
        let turn = random.next() as u8 | 1;
        let filled =
            [47, 48, 49, 64, 255, 256, 257, 512, 513, 1024, 48 + random.below(976)][random.below(11)];
        let mut page = [0; 4096];
        for word in page.as_chunks_mut::<4>().0.iter_mut().take(filled) {
            for (byte, symbols) in word.iter_mut().zip(symbols) {
                // Mostly the first few, sometimes any.
                let reach = if random.below(8) == 0 { 256 } else { symbols };
                *byte = (random.below(reach) as u8).wrapping_mul(turn).wrapping_add(turn);
            }
        }
        for level in VwLevel::ALL {
            let stream = paths.stream(level, &page);
            for (plane, met) in met.iter_mut().enumerate() {
                if let Some(modes) = modes_of(&stream) {
                    met[usize::from(modes >> (2 * plane) & 3)] = true;
                }
            }
        }
    }
    assert_eq!(met, [[true; 4]; 4], "a mode of a plane was not met");
}

/// The modes of the planes, if literals are coded.
fn modes_of(stream: &[u8]) -> Option<u8> {
    let map = |at: usize| u64::from_le_bytes(stream[at..at + 8].try_into().expect("eight bytes"));
    let (all, none) = (map(6), map(14));
    let masks = &stream[22..][..2 * (all | none).count_zeros() as usize];
    let repeating = masks.iter().map(|byte| byte.count_ones()).sum::<u32>() + 16 * all.count_ones();
    let at = 22 + masks.len() + (2 * (1024 - repeating as usize)).div_ceil(8);
    (stream[1] & 8 != 0).then(|| stream[at])
}

/// One to six wounds.
fn damage(random: &mut Random, stream: &mut Vec<u8>) {
    for _ in 0..=random.below(6) {
        let at = random.below(stream.len());
        match random.below(8) {
            0..=2 => stream[at] = random.next() as u8,
            3 => stream[at] ^= 1 << random.below(8),
            4 => stream[at] = [0, 255, 0xf0, 0x0f, 1, 0x10][random.below(6)],
            5 => stream.truncate(at.max(1)),
            6 => stream.insert(at, random.next() as u8),
            _ => {
                let at = random.below(stream.len().min(22));
                stream[at] = random.next() as u8;
            }
        }
    }
}

/// Every cut of a stream, and every single byte changed, has one answer; a cut is never a page.
#[test]
fn no_part_of_a_stream_is_a_stream() {
    let mut paths = VwPaths::new();
    for seed in 0..6 {
        let stream = paths.stream(VwLevel::Dense, &heap_page(seed));
        for len in 0..stream.len() {
            assert!(paths.decode(&stream[..len]).is_err(), "{len} of {} bytes", stream.len());
        }
        for at in 0..stream.len() {
            let mut other = stream.clone();
            other[at] ^= 1 << (at % 8);
            let _ = paths.decode(&other);
        }
    }
}

/// A stream that names a source in its own block, or before the page, would show what the page held before.
#[test]
fn sources_outside_of_earlier_blocks_are_refused() {
    let mut paths = VwPaths::new();
    // A page of zeroes but for one fresh distance: block 1, lane `lane`, `distance` bytes back, exact.
    let stream = |block: usize, lane: usize, distance: usize| {
        let mut stream = vec![0, 0x20, 0, 0, 1, 0];
        stream.extend([0; 8]);
        stream.extend([0xff; 8]);
        let (mut classes, bit) = ([0; 256], 128 * (block / 4) + 16 * (block % 4) + lane);
        classes[bit / 8] |= 1 << (bit % 8);
        classes[(bit + 64) / 8] |= 1 << ((bit + 64) % 8);
        stream.extend(classes);
        stream.extend([(distance - 1) as u8, ((distance - 1) >> 8) as u8, 1]);
        stream
    };
    for block in 0..64_usize {
        for lane in 0..16_usize {
            for distance in 1..=4096_usize {
                let position = 64 * block + 4 * lane;
                let earlier = distance <= position && position - distance + 4 <= 64 * block;
                let near_a_border = distance.abs_diff(position) < 3 || distance.abs_diff(4 * lane + 4) < 3;
                if near_a_border || distance % 509 == 0 {
                    let answer = paths.decode(&stream(block, lane, distance));
                    assert_eq!(answer.is_ok(), earlier, "block {block}, lane {lane}, distance {distance}");
                }
            }
        }
    }
}

/// Whoever asks for another length than a page gets the cause, and no stream.
#[test]
fn only_pages_are_taken() {
    let mut vw = Vw::new();
    let mut dst = vec![0; max_compressed_len(8192)];
    for len in [0, 1, 4095, 4097, 8192] {
        assert_eq!(vw.compress(VwLevel::Standard, &vec![7; len], &mut dst), None);
        assert!(!Codec::Vw.takes(len));
    }
    let short = max_compressed_len(4096) - 1;
    assert_eq!(vw.compress(VwLevel::Standard, &[7; 4096], &mut dst[..short]), None);
    let len = vw.compress(VwLevel::Standard, &[7; 4096], &mut dst).unwrap();
    let codec = Codec::Vw;
    let less = vw.decompress(&dst[..len], &mut [0; 4095]);
    assert_eq!(less, Err(DecodeError::TooLong { codec, expected: 4095 }));
    let more = vw.decompress(&dst[..len], &mut [0; 4097]);
    assert_eq!(more, Err(DecodeError::TooShort { codec, expected: 4097, decoded: 4096 }));
    let cut = vw.decompress(&dst[..21], &mut [0; 4096]);
    assert_eq!(cut, Err(DecodeError::Truncated { codec, src_len: 21 }));
}

/// The example of the format document, byte for byte: it changes with the version, or with what the encoder chooses.
#[test]
fn example_of_the_format_document_holds() {
    let mut page = [0; 4096];
    let words: [(usize, u32); 5] =
        [(0, 0x1234_5678), (1, 0x0000_abcd), (16, 0x1234_5678), (17, 0x0000_abce), (67, 0x1234_5699)];
    for (word, value) in words {
        page[4 * word..4 * word + 4].copy_from_slice(&u32::to_le_bytes(value));
    }
    let stream = VwPaths::new().stream(VwLevel::Standard, &page);
    #[rustfmt::skip]
    let expected = [
        0x02, 0x20, 0x02, 0x00, 0x01, 0x00,
        0x68, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff,
        0x01, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00,
        0xfd, 0xff, 0xfc, 0xff, 0xe7, 0xff, 0xbf, 0xff,
        0x03, 0x00, 0x00, 0x00, 0x48, 0x02,
        0x78, 0x56, 0x34, 0x12, 0xcd, 0xab, 0x00, 0x00,
        0xce, 0x99,
        0xcb,
        0x00,
        0x00,
    ];
    assert!(stream == expected, "{stream:02x?}");
}

/// Bytes of noise are longer than a page, and still within the bound.
#[test]
fn noise_fits_the_bound() {
    let mut codecs = Codecs::new();
    let mut dst = vec![0; max_compressed_len(4096)];
    for seed in 0..20 {
        let len = codecs.compress(Codec::Vw, &page(0, seed), &mut dst).unwrap();
        assert!((4096..=4502).contains(&len), "{len}");
    }
}
