//! What goes in comes out, with every codec, for data of every kind and length; and others can read it.

mod data;

use data::{KINDS, made};
use proptest::prelude::*;
use zfolio_fallback::{Codecs, Deflate, Lz4, MAX_INPUT, Method, check, max_compressed_len};

/// The DEFLATE streams of `data`, after everyone who should read them has read them.
fn read_by_all(codecs: &mut Codecs, data: &[u8]) -> [Vec<u8>; 2] {
    check::round_trip(codecs, data);
    [Method::Deflate, Method::DeflateDynamic].map(|method| {
        let mut stream = vec![0; max_compressed_len(data.len())];
        let len = codecs.compress(method, data, &mut stream).expect("the bound always fits");
        stream.truncate(len);
        let mut back = vec![0; data.len()];
        let read = libdeflater::Decompressor::new()
            .deflate_decompress(&stream, &mut back)
            .expect("libdeflate reads it");
        assert!(read == data.len() && back == data, "libdeflate reads other bytes of {method}");
        let back = miniz_oxide::inflate::decompress_to_vec_with_limit(&stream, data.len())
            .expect("miniz_oxide reads it");
        assert!(back == data, "miniz_oxide reads other bytes of {method}");
        stream
    })
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
    assert_eq!(Deflate::new().compress_dynamic(&data, &mut dst), None);
}

/// A caller who sizes a buffer by the bound would otherwise lose the page that compresses worst.
#[test]
fn bound_holds_for_the_worst_data() {
    let mut codecs = Codecs::new();
    for len in (0..300).chain([4095, 4096, 65_534, 65_535, 65_536, 131_070, 131_071]) {
        for kind in [0, 5] {
            let data = made(kind, 3, len);
            let mut dst = vec![0; max_compressed_len(len)];
            for method in Method::ALL.into_iter().filter(|method| method.codec().takes(len)) {
                let stream = codecs.compress(method, &data, &mut dst);
                assert!(stream.is_some(), "{method} of {len} bytes of noise does not fit its bound");
            }
        }
    }
    // What does not compress is stored: five bytes a block.
    let mut dst = vec![0; max_compressed_len(4096)];
    for method in [Method::Deflate, Method::DeflateDynamic] {
        assert_eq!(codecs.compress(method, &made(0, 5, 4096), &mut dst), Some(4101));
    }
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
        for stream in read_by_all(&mut codecs, &data) {
            let farthest = check::inflate(&stream, data.len()).unwrap().farthest;
            assert_eq!(farthest, if period <= 4096 { period } else { 0 }, "period {period}");
        }
    }
}

/// Table positions are kept modulo 65536; a wrong one must cost a match, never a byte.
#[test]
fn matches_are_found_beyond_65536_bytes() {
    let mut codecs = Codecs::new();
    let mut data = vec![0; 100_000];
    data.extend(made(0, 4, 1000));
    data.extend_from_within(100_000..);
    let streams = read_by_all(&mut codecs, &data);
    let zeroes = read_by_all(&mut codecs, &data[..100_000]);
    let once = read_by_all(&mut codecs, &data[100_000..101_000]);
    for ((stream, zeroes), once) in streams.iter().zip(zeroes).zip(once) {
        // The second thousand is four matches, but for what the hash table forgets of noise.
        let len = stream.len();
        assert!(len < zeroes.len() + once.len() + 150, "{len} bytes: the repeat was missed");
    }
}

#[test]
fn equal_pages_give_equal_streams_whatever_came_before() {
    let page = made(8, 77, 4096);
    for method in Method::ALL {
        let mut fresh = vec![0; max_compressed_len(4096)];
        let len = Codecs::new().compress(method, &page, &mut fresh).unwrap();
        fresh.truncate(len);
        let mut used = Codecs::new();
        for seed in 0..50 {
            let len = 100 * seed as usize + 3000;
            let before = made(seed as u32, seed, if method.codec().takes(len) { len } else { 4096 });
            used.compress(method, &before, &mut vec![0; max_compressed_len(before.len())]).unwrap();
            let mut again = vec![0; max_compressed_len(4096)];
            assert_eq!(used.compress(method, &page, &mut again), Some(fresh.len()));
            assert!(again[..fresh.len()] == fresh);
        }
    }
}

/// A code of its own costs a header; where that does not pay, the fixed code is taken, so that no page is larger
/// than the few bits that the other encoder's luck with matches makes.
#[test]
fn own_codes_are_taken_only_where_they_are_shorter() {
    let mut codecs = Codecs::new();
    let mut dst = vec![0; max_compressed_len(4096)];
    let mut kinds = [0; 2];
    for kind in 0..KINDS {
        let data = made(kind, 51, 4096);
        let fixed = codecs.compress(Method::Deflate, &data, &mut dst).unwrap();
        let len = codecs.compress(Method::DeflateDynamic, &data, &mut dst).unwrap();
        let own = dst[0] & 0b110 == 0b100;
        kinds[usize::from(own)] += 1;
        assert!(len <= fixed + fixed / 16, "kind {kind}: {len} bytes, {fixed} with the fixed code");
    }
    assert!(kinds[0] > 0 && kinds[1] > 0, "both ways are tried: {kinds:?}");
}
