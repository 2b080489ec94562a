//! Size of pages compressed by our DEFLATE encoder: `deflate_ratio FILE.pages...`.
//!
//! Each page of 4096 bytes is a stream of its own. A page that does not shrink counts 4096 bytes; a page that
//! repeats one 8-byte word is left out. Prints "PAGES BYTES", as the ISA-L program of `ci` does.

use zfolio_fallback::{Deflate, max_compressed_len};

const PAGE: usize = 4096;

fn main() {
    let mut deflate = Deflate::new();
    let mut stream = [0; max_compressed_len(PAGE)];
    let (mut pages, mut bytes) = (0_u64, 0_u64);
    for file in std::env::args().skip(1) {
        let content = std::fs::read(&file).unwrap_or_else(|error| panic!("cannot read {file}: {error}"));
        for page in content.as_chunks::<PAGE>().0.iter().filter(|page| page[8..] != page[..PAGE - 8]) {
            let len = deflate.compress(page, &mut stream).expect("the bound always fits");
            let mut back = [0; PAGE];
            deflate.decompress(&stream[..len], &mut back).expect("what was compressed decodes");
            assert!(back == *page, "{file}: a page came back different");
            pages += 1;
            bytes += len.min(PAGE) as u64;
        }
    }
    println!("{pages} {bytes}");
}
