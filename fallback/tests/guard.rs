//! Nothing is read or written beside the slices given: each ends, and the page begins, where memory ends.

#![allow(clippy::unwrap_used)]

mod data;

use data::{Random, made};
use zfolio_fallback::check::{lz4_paths, mend, vw_paths};
use zfolio_fallback::{Codec, VwLevel, max_compressed_len};

const PAGE: usize = 4096;

/// Two pages of memory with a page that faults on either side.
struct Guarded(*mut u8);

impl Guarded {
    fn new() -> Guarded {
        // SAFETY: a new mapping, of which two pages are opened.
        unsafe {
            let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS;
            let start = libc::mmap(std::ptr::null_mut(), 4 * PAGE, libc::PROT_NONE, flags, -1, 0);
            assert_ne!(start, libc::MAP_FAILED);
            let inside = start.cast::<u8>().add(PAGE);
            let open = libc::mprotect(inside.cast(), 2 * PAGE, libc::PROT_READ | libc::PROT_WRITE);
            assert_eq!(open, 0);
            Guarded(inside)
        }
    }

    /// The last `len` bytes.
    fn end(&mut self, len: usize) -> &mut [u8] {
        assert!(len <= 2 * PAGE);
        // SAFETY: within the two pages, which live as long as `self`, and are borrowed with it.
        unsafe { std::slice::from_raw_parts_mut(self.0.add(2 * PAGE - len), len) }
    }

    /// The first page.
    fn start(&mut self) -> &mut [u8] {
        // SAFETY: as above.
        unsafe { std::slice::from_raw_parts_mut(self.0, PAGE) }
    }
}

impl Drop for Guarded {
    fn drop(&mut self) {
        // SAFETY: the mapping of `new`.
        unsafe { libc::munmap(self.0.sub(PAGE).cast(), 4 * PAGE) };
    }
}

#[test]
fn vw_touches_nothing_beside_page_and_stream() {
    let (mut source, mut stream, mut page) = (Guarded::new(), Guarded::new(), Guarded::new());
    let bound = max_compressed_len(PAGE);
    for mut vw in vw_paths() {
        for seed in 0..3000 {
            let mut random = Random::new(seed);
            let data = made(seed as u32, seed, PAGE);
            let source = if seed % 2 == 0 { source.end(PAGE) } else { source.start() };
            source.copy_from_slice(&data);
            let level = VwLevel::ALL[random.below(3)];
            let len = vw.compress(level, source, stream.end(bound)).unwrap();
            let whole = stream.end(bound)[..len].to_vec();
            stream.end(len).copy_from_slice(&whole);
            let page = if seed % 3 == 0 { page.end(PAGE) } else { page.start() };
            vw.decompress(stream.end(len), page).unwrap();
            assert!(page == data);
            for _ in 0..8 {
                let mut damaged = whole.clone();
                for _ in 0..=random.below(4) {
                    let at = if random.below(2) == 0 { random.below(22) } else { random.below(len) };
                    damaged[at] = random.next() as u8;
                }
                mend(&mut damaged, random.next() as u8);
                let src = stream.end(damaged.len());
                src.copy_from_slice(&damaged);
                let _ = vw.decompress(src, page);
            }
        }
    }
}

#[test]
fn lz4_touches_nothing_beside_page_and_block() {
    let (mut source, mut block, mut page) = (Guarded::new(), Guarded::new(), Guarded::new());
    let bound = max_compressed_len(PAGE);
    for mut codecs in lz4_paths() {
        for seed in 0..3000 {
            let mut random = Random::new(seed);
            let data = made(seed as u32, seed, PAGE);
            let source = if seed % 2 == 0 { source.end(PAGE) } else { source.start() };
            source.copy_from_slice(&data);
            let len = codecs.compress(Codec::Lz4, source, block.end(bound)).unwrap();
            let whole = block.end(bound)[..len].to_vec();
            block.end(len).copy_from_slice(&whole);
            let page = if seed % 3 == 0 { page.end(PAGE) } else { page.start() };
            codecs.decompress(Codec::Lz4, block.end(len), page).unwrap();
            assert!(page == data);
            for _ in 0..16 {
                let cut = if random.below(2) == 0 { 1 + random.below(len) } else { len };
                let src = block.end(cut);
                src.copy_from_slice(&whole[..cut]);
                for _ in 0..random.below(4) {
                    src[random.below(cut)] = random.next() as u8;
                }
                let _ = codecs.decompress(Codec::Lz4, src, page);
            }
        }
    }
}
