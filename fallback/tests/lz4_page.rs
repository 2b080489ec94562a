//! LZ4 blocks of pages: everyone's are read, everyone reads ours, and no block is read otherwise than by the plain reader.

#![allow(clippy::unwrap_used)]

mod data;

use data::{KINDS, Random, made};
use zfolio_fallback::{Codec, Lz4, check, max_compressed_len};

const PAGE: usize = 4096;

fn ours(lz4: &mut Lz4, page: &[u8]) -> Vec<u8> {
    let mut block = vec![0; max_compressed_len(PAGE)];
    let len = lz4.compress(page, &mut block).unwrap();
    block.truncate(len);
    block
}

/// The C library's block, from the fastest of its levels to the densest.
fn theirs(page: &[u8], level: i32) -> Vec<u8> {
    let mut block = vec![0; max_compressed_len(PAGE)];
    let (from, to) = (page.as_ptr().cast(), block.as_mut_ptr().cast());
    let (len, room) = (page.len() as i32, block.len() as i32);
    // SAFETY: both buffers have the lengths that are told.
    let len = unsafe {
        if level < 0 {
            lz4_sys::LZ4_compress_fast(from, to, len, room, -level)
        } else {
            lz4_sys::LZ4_compress_HC(from, to, len, room, level)
        }
    };
    block.truncate(len.try_into().unwrap());
    block
}

#[test]
fn every_reader_reads_our_pages_and_we_read_those_of_every_writer() {
    let (mut lz4, mut paths) = (Lz4::new(), check::lz4_paths());
    for seed in 0..400 {
        let page = made(seed as u32 % KINDS, seed, PAGE);
        let mut back = vec![0; PAGE];
        let block = ours(&mut lz4, &page);
        assert!(check::decode_lz4(&block, PAGE).as_ref() == Ok(&page));
        assert_eq!(lz4_flex::block::decompress_into(&block, &mut back).unwrap(), PAGE);
        assert!(back == page);
        back.fill(0);
        // SAFETY: both buffers have the lengths that are told.
        let read = unsafe {
            lz4_sys::LZ4_decompress_safe(
                block.as_ptr().cast(),
                back.as_mut_ptr().cast(),
                block.len() as i32,
                PAGE as i32,
            )
        };
        assert!(read == PAGE as i32 && back == page);
        let mut blocks = vec![block, lz4_flex::block::compress(&page)];
        blocks.extend([-20, -1, 3, 9, 12].map(|level| theirs(&page, level)));
        for block in blocks {
            for codecs in &mut paths {
                back.fill(0xa5);
                codecs.decompress(Codec::Lz4, &block, &mut back).unwrap();
                assert!(back == page);
            }
        }
    }
}

/// Vectors stop before the ends of block and page, and go on byte by byte there: each place and length around
/// those, with every offset that they lay out by table.
#[test]
fn matches_of_every_length_and_offset_are_read_up_to_the_end_of_the_page() {
    let mut paths = check::lz4_paths();
    let data = made(0, 7, PAGE);
    let starts = (1..40).chain(PAGE - 150..PAGE - 8).step_by(3);
    for start in starts {
        for matched in (4..40).step_by(2).chain([19, 33, 63, 64, 65, 66, 96, 129, 272, 273, 274, 275, 530]) {
            let Some(rest) = (PAGE - start).checked_sub(matched) else { continue };
            for offset in (1..72).step_by(if matched < 70 { 1 } else { 7 }).filter(|&offset| offset <= start)
            {
                let mut block = Vec::new();
                literals(&mut block, &data[..start], (matched - 4).min(15));
                block.extend((offset as u16).to_le_bytes());
                if matched >= 19 {
                    number(&mut block, matched - 19);
                }
                literals(&mut block, &data[..rest], 0);
                let right = check::decode_lz4(&block, PAGE).unwrap();
                for codecs in &mut paths {
                    let mut page = vec![0xa5; PAGE];
                    codecs.decompress(Codec::Lz4, &block, &mut page).unwrap();
                    assert!(page == right, "{matched} bytes at {start}, from {offset} before");
                }
            }
        }
    }
}

/// The same of literals between matches: each length around those at which they are copied otherwise, with the end of the
/// page at each distance where it might matter.
#[test]
fn literals_of_every_length_are_read_up_to_the_end_of_the_page() {
    let mut paths = check::lz4_paths();
    let data = made(0, 8, PAGE);
    for between in (0..140).chain([254, 255, 269, 270, 271, 525]) {
        for matched in [4, 18, 19, 33, 70] {
            for rest in (0..80).chain([150, 300]) {
                let start = PAGE - 2 * matched - between - rest;
                let mut block = Vec::new();
                for (from, len) in [(0, start), (start + matched, between)] {
                    literals(&mut block, &data[from..][..len], (matched - 4).min(15));
                    block.extend(31_u16.to_le_bytes());
                    if matched >= 19 {
                        number(&mut block, matched - 19);
                    }
                }
                literals(&mut block, &data[..rest], 0);
                let right = check::decode_lz4(&block, PAGE).unwrap();
                for codecs in &mut paths {
                    let mut page = vec![0xa5; PAGE];
                    codecs.decompress(Codec::Lz4, &block, &mut page).unwrap();
                    assert!(page == right, "{between} literals between matches of {matched}, {rest} after");
                }
            }
        }
    }
}

/// A token with the length of a match, and the literals.
fn literals(block: &mut Vec<u8>, bytes: &[u8], low: usize) {
    block.push((bytes.len().min(15) << 4 | low) as u8);
    if bytes.len() >= 15 {
        number(block, bytes.len() - 15);
    }
    block.extend_from_slice(bytes);
}

fn number(block: &mut Vec<u8>, number: usize) {
    block.extend(vec![255; number / 255]);
    block.push((number % 255) as u8);
}

#[test]
fn damaged_pages_are_read_as_the_plain_reader_reads_them() {
    let (mut lz4, mut paths) = (Lz4::new(), check::lz4_paths());
    for seed in 0..3000 {
        let mut random = Random::new(seed);
        let page = made(random.below(KINDS as usize) as u32, seed, PAGE);
        let whole = if seed % 2 == 0 { ours(&mut lz4, &page) } else { theirs(&page, 9) };
        for _ in 0..8 {
            let mut block = whole.clone();
            for _ in 0..=random.below(3) {
                let at = random.below(block.len());
                block[at] = random.next() as u8;
            }
            let cut = if random.below(4) == 0 { random.below(block.len()) } else { block.len() };
            let oracle = check::decode_lz4(&block[..cut], PAGE);
            for codecs in &mut paths {
                let read = check::decode(codecs, Codec::Lz4, &block[..cut], PAGE);
                assert_eq!(
                    read.is_ok(),
                    oracle.is_ok(),
                    "seed {seed}: we say {read:?}, the plain reader {oracle:?}"
                );
                assert!(read.ok() == oracle.clone().ok(), "seed {seed}: other bytes");
            }
        }
    }
}
