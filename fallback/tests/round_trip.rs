//! What goes in comes out, with every codec, for data of every kind and length; and others can read it.

mod data;

use data::{KINDS, made};
use proptest::prelude::*;
use zfolio_fallback::{Codec, Codecs, Deflate, Lz4, MAX_INPUT, check, max_compressed_len};

/// The stream of `data`, after everyone who should read it has read it.
fn read_by_all(codecs: &mut Codecs, data: &[u8]) -> Vec<u8> {
    check::round_trip(codecs, data);
    let mut stream = vec![0; max_compressed_len(data.len())];
    let len = codecs.compress(Codec::Deflate, data, &mut stream).expect("the bound always fits");
    stream.truncate(len);
    let mut back = vec![0; data.len()];
    let read =
        libdeflater::Decompressor::new().deflate_decompress(&stream, &mut back).expect("libdeflate reads it");
    assert!(read == data.len() && back == data, "libdeflate reads other bytes");
    let back = miniz_oxide::inflate::decompress_to_vec_with_limit(&stream, data.len())
        .expect("miniz_oxide reads it");
    assert!(back == data, "miniz_oxide reads other bytes");
    stream
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, ..ProptestConfig::default() })]

    /// A user who stores a page of any kind gets that page back, and so would a device that reads it.
    #[test]
    fn data_of_every_kind_comes_back(kind in 0..KINDS, seed: u64, len in 0_usize..70_000) {
        let mut codecs = Codecs::new();
        // Once for another input first: nothing of it may show in the second.
        check::round_trip(&mut codecs, &made(kind + 1, seed, len % 5000));
        read_by_all(&mut codecs, &made(kind, seed, len));
    }

    /// Bytes without any plan, which shrink to the smallest that fail.
    #[test]
    fn any_bytes_come_back(data in prop::collection::vec(any::<u8>(), 0..600)) {
        read_by_all(&mut Codecs::new(), &data);
    }

    /// Few different bytes, where nearly every position begins a match.
    #[test]
    fn few_letters_come_back(data in prop::collection::vec(0_u8..3, 0..6000)) {
        read_by_all(&mut Codecs::new(), &data);
    }
}

#[test]
fn every_length_near_a_border_comes_back() {
    let mut codecs = Codecs::new();
    let borders = [0_usize, 32, 64, 258, 4096, 8192, 65_535, 65_536];
    for border in borders {
        for len in border.saturating_sub(34)..border + 34 {
            // The largest borders have few lengths of interest, and cost most.
            if border < 60_000 || len.abs_diff(border) < 6 {
                read_by_all(&mut codecs, &made(len as u32, len as u64, len));
            }
        }
    }
}

#[test]
fn folios_of_up_to_two_mebibytes_come_back() {
    let mut codecs = Codecs::new();
    for (kind, len) in [(0, MAX_INPUT), (1, MAX_INPUT), (6, 131_072 + 5), (8, MAX_INPUT), (3, 1_000_003)] {
        read_by_all(&mut codecs, &made(kind, 11, len));
    }
}

/// Longer inputs are refused instead of being half done: their lengths have no room in an entry.
#[test]
fn input_over_the_limit_is_refused() {
    let data = vec![0; MAX_INPUT + 1];
    let mut dst = vec![0; max_compressed_len(data.len())];
    assert_eq!(Lz4::new().compress(&data, &mut dst), None);
    assert_eq!(Deflate::new().compress(&data, &mut dst), None);
}

/// A caller who sizes a buffer by the bound would otherwise lose the page that compresses worst.
#[test]
fn bound_holds_for_the_worst_data() {
    let mut codecs = Codecs::new();
    for len in (0..300).chain([4095, 4096, 65_534, 65_535, 65_536, 131_070, 131_071]) {
        for kind in [0, 5] {
            let data = made(kind, 3, len);
            let mut dst = vec![0; max_compressed_len(len)];
            for codec in Codec::ALL {
                let stream = codecs.compress(codec, &data, &mut dst);
                assert!(stream.is_some(), "{codec} of {len} bytes of noise does not fit its bound");
            }
        }
    }
    // What does not compress is stored: five bytes a block.
    let mut dst = vec![0; max_compressed_len(4096)];
    assert_eq!(codecs.compress(Codec::Deflate, &made(0, 5, 4096), &mut dst), Some(4101));
}

/// `None` for a short output, for both codecs, although the data would have compressed.
#[test]
fn lz4_does_not_begin_without_the_bound() {
    let page = [0; 4096];
    let mut dst = vec![0; max_compressed_len(4096)];
    let short = dst.len() - 1;
    assert_eq!(Lz4::new().compress(&page, &mut dst[..short]), None);
    assert!(Lz4::new().compress(&page, &mut dst).is_some());
}

/// The device stops at a match over 4096 bytes back: a folio stored by software would then never load.
#[test]
fn matches_reach_4096_bytes_back_and_no_further() {
    let mut codecs = Codecs::new();
    for period in [4095, 4096, 4097] {
        let mut data = made(0, 9, period);
        data.extend_from_within(..);
        data.extend_from_within(..);
        let stream = read_by_all(&mut codecs, &data);
        let farthest = check::inflate(&stream, data.len()).unwrap().farthest;
        assert_eq!(farthest, if period <= 4096 { period } else { 0 }, "period {period}");
    }
}

/// Table positions are kept modulo 65536; a wrong one must cost a match, never a byte.
#[test]
fn matches_are_found_beyond_65536_bytes() {
    let mut codecs = Codecs::new();
    let mut data = vec![0; 100_000];
    data.extend(made(0, 4, 1000));
    data.extend_from_within(100_000..);
    let stream = read_by_all(&mut codecs, &data);
    let zeroes = read_by_all(&mut codecs, &data[..100_000]).len();
    let once = read_by_all(&mut codecs, &data[100_000..101_000]).len();
    // The second thousand is four matches, but for what the hash table forgets of noise.
    assert!(stream.len() < zeroes + once + 150, "{} bytes: the repeat was missed", stream.len());
}

#[test]
fn equal_pages_give_equal_streams_whatever_came_before() {
    let page = made(8, 77, 4096);
    let mut fresh = vec![0; max_compressed_len(4096)];
    let len = Deflate::new().compress(&page, &mut fresh).unwrap();
    let mut used = Deflate::new();
    for seed in 0..50 {
        let before = made(seed as u32, seed, 100 * seed as usize + 3000);
        used.compress(&before, &mut vec![0; max_compressed_len(before.len())]).unwrap();
        let mut again = vec![0; max_compressed_len(4096)];
        assert_eq!(used.compress(&page, &mut again), Some(len));
        assert!(again[..len] == fresh[..len]);
    }
}
