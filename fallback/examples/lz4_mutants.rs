//! Decodes damaged LZ4 blocks of pages by every decoder, and compares with the plain reader: `lz4_mutants SECONDS [SEED [FILE.pages]]`.
//!
//! For long runs that a fuzzer's bookkeeping would slow down. Pages are the file's, or made up of short runs, near copies and
//! noise. Each mutant is decoded over two different contents of the output. Ends at the first difference, with the seed
//! and the block.

use std::time::{Duration, Instant};

use zfolio_fallback::check::{decode_lz4, lz4_paths};
use zfolio_fallback::{Codec, max_compressed_len};

const PAGE: usize = 4096;
/// Mutants of each page's block.
const MUTANTS: usize = 64;

/// xorshift64*.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    fn below(&mut self, limit: usize) -> usize {
        (((self.next() >> 32) * limit as u64) >> 32) as usize
    }
}

/// A page of pieces: noise, runs, and copies of what is shortly or long before.
fn page(random: &mut Random) -> [u8; PAGE] {
    let mut page = [0; PAGE];
    let mut at = 0;
    while at < PAGE {
        let longest = [6, 20, 100, 2000][random.below(4)];
        let end = PAGE.min(at + 1 + random.below(longest));
        let kind = random.below(4);
        let back = 1 + if kind < 2 { random.below(at.clamp(1, 40)) } else { random.below(at.max(1)) };
        while at < end {
            page[at] = if kind == 3 || back > at { random.next() as u8 } else { page[at - back] };
            at += 1;
        }
    }
    page
}

fn main() {
    let mut arguments = std::env::args().skip(1);
    let mut number = |default: u64| {
        arguments
            .next()
            .map_or(default, |word| word.parse().expect("usage: lz4_mutants SECONDS [SEED [FILE.pages]]"))
    };
    let (seconds, seed) = (number(10), number(1));
    let file = arguments.next().map(|file| std::fs::read(file).expect("a file of pages can be read"));
    let pages = file.as_deref().map(|bytes| bytes.as_chunks::<PAGE>().0).unwrap_or_default();
    let mut random = Random(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1);
    let mut paths = lz4_paths();
    let mut bound = vec![0; max_compressed_len(PAGE)];
    let mut outputs = [[0x00_u8; PAGE], [0xff; PAGE]];
    let (start, mut done, mut taken) = (Instant::now(), 0_u64, 0_u64);
    while start.elapsed() < Duration::from_secs(seconds) {
        let source = if pages.is_empty() { page(&mut random) } else { pages[random.below(pages.len())] };
        let len = paths[0].compress(Codec::Lz4, &source, &mut bound).expect("the bound always fits");
        for _ in 0..MUTANTS {
            let cut = if random.below(8) == 0 { random.below(len + 1) } else { len };
            let mut mutant = bound[..cut].to_vec();
            for _ in 0..random.below(4).min(cut) {
                let at = random.below(cut);
                // Where sequences are short, a block's end is soon reached.
                let at =
                    if random.below(4) == 0 { cut - 1 - at.min(random.below(64)).min(cut - 1) } else { at };
                mutant[at] = match random.below(3) {
                    0 => random.next() as u8,
                    1 => [0x00, 0xff, 0x0f, 0xf0][random.below(4)],
                    _ => mutant[at] ^ 1 << random.below(8),
                };
            }
            let oracle = decode_lz4(&mutant, PAGE);
            let mut first = None;
            for codecs in &mut paths {
                let answers = outputs.each_mut().map(|output| codecs.decompress(Codec::Lz4, &mutant, output));
                let same = answers[0] == answers[1] && answers[0] == *first.get_or_insert(answers[0]);
                let right = match &oracle {
                    Ok(page) => answers[0].is_ok() && outputs.iter().all(|output| output[..] == page[..]),
                    Err(_) => answers[0].is_err(),
                };
                assert!(
                    same && right,
                    "seed {seed}: {answers:?}, the plain reader {:?}: {mutant:02x?}",
                    oracle.err()
                );
            }
            done += 1;
            taken += u64::from(oracle.is_ok());
        }
    }
    println!(
        "{done} mutants in {seconds} s, {taken} of them valid: {} decoders and the plain reader agree (seed {seed})",
        paths.len()
    );
}
