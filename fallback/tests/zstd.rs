//! Zstandard: what no frame of a page may do, whatever its bytes are.

#![cfg(feature = "zstd")]

mod data;

use data::{KINDS, made};
use zfolio_fallback::{Codec, Codecs, DecodeError, Method, max_compressed_len};

fn frame(codecs: &mut Codecs, page: &[u8]) -> Vec<u8> {
    let mut frame = vec![0; max_compressed_len(4096)];
    let len = codecs.compress(Method::Zstd, page, &mut frame).expect("the bound always fits");
    frame.truncate(len);
    frame
}

#[test]
fn damaged_frames_are_errors_or_pages_without_old_bytes() {
    let mut codecs = Codecs::new();
    for kind in 0..KINDS {
        let frame = frame(&mut codecs, &made(kind, 5, 4096));
        for at in 0..frame.len() {
            let (mut one, mut other) = (vec![0x11; 4096], vec![0xee; 4096]);
            assert!(
                codecs.decompress(Codec::Zstd, &frame[..at], &mut one).is_err(),
                "{at} bytes are no frame"
            );
            let mut damaged = frame.clone();
            damaged[at] ^= 1 << (at % 8);
            one.fill(0x11);
            let results = [&mut one, &mut other].map(|page| codecs.decompress(Codec::Zstd, &damaged, page));
            assert_eq!(results[0].is_ok(), results[1].is_ok());
            assert!(results[0].is_err() || one == other, "kind {kind}, byte {at}: old bytes show");
        }
    }
}

#[test]
fn one_frame_of_one_page_is_read_and_nothing_else() {
    let mut codecs = Codecs::new();
    let mut page = vec![0; 4096];
    let one = frame(&mut codecs, &made(3, 9, 4096));
    assert_eq!(codecs.decompress(Codec::Zstd, &one, &mut page), Ok(()));
    // Two frames, of which the library would make one page of twice the length.
    let two = [&one[..], &one[..]].concat();
    let (codec, src_len) = (Codec::Zstd, two.len() as u32);
    let trailing = Err(DecodeError::TrailingBytes { codec, used: one.len() as u32, src_len });
    assert_eq!(codecs.decompress(Codec::Zstd, &two, &mut vec![0; 8192]), trailing);
    // A frame that is to be skipped, alone and before another.
    let skippable = [&[0x50, 0x2a, 0x4d, 0x18, 4, 0, 0, 0][..], &[7; 4]].concat();
    assert!(codecs.decompress(Codec::Zstd, &skippable, &mut page).is_err());
    assert!(codecs.decompress(Codec::Zstd, &[&skippable[..], &one[..]].concat(), &mut page).is_err());
    for len in [0, 4095, 4097, 8192] {
        assert_eq!(codecs.compress(Method::Zstd, &vec![1; len], &mut vec![0; 10_000]), None);
    }
    assert_eq!("zstd".parse(), Ok(Codec::Zstd));
    assert_eq!(Codec::from_number(4), Some(Codec::Zstd));
}

/// On text of a single page deflate-dynamic comes close, and is sometimes ahead.
#[test]
fn pages_are_denser_than_by_fast_methods() {
    let mut codecs = Codecs::new();
    let text = include_bytes!("../FORMAT-VW.md");
    let len = |codecs: &mut Codecs, method| -> usize {
        let pages = text.as_chunks::<4096>().0.iter();
        pages
            .map(|page| codecs.compress(method, page, &mut vec![0; max_compressed_len(4096)]).unwrap_or(4096))
            .sum()
    };
    let zstd = len(&mut codecs, Method::Zstd);
    assert!(zstd > 0);
    for method in [Method::Lz4, Method::Deflate, Method::VwFast, Method::Vw, Method::VwDense] {
        assert!(zstd < len(&mut codecs, method), "{method} is denser");
    }
}
