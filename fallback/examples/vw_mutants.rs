//! Decodes damaged vw streams with all implementations and compares: `vw_mutants SECONDS [SEED]`.
//!
//! For long runs that a fuzzer's bookkeeping would slow down. Streams of made-up pages, most of them short, are damaged in a
//! few bits, bytes or counts, and every other one then gets the length that its numbers ask for, so that it comes past the
//! first check. All decoders must give one answer and one page, whatever the page held before. Ends at the
//! first difference, with the seed and the stream.

use std::time::{Duration, Instant};

use zfolio_fallback::check::{mend, vw_paths};
use zfolio_fallback::{VwLevel, max_compressed_len};

const PAGE: usize = 4096;
/// Streams that are damaged, made anew every so many mutants.
const STREAMS: usize = 64;
const MUTANTS: u64 = 1 << 16;

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

/// A page of `filled` words of few values in zeroes, some of them near an earlier one.
fn page(random: &mut Random) -> [u8; PAGE] {
    let mut page = [0; PAGE];
    // Mostly little, since a page of zeroes is decoded soonest.
    let filled = [4, 16, 60, 1000][random.below(4).min(random.below(4))];
    let values: [u32; 8] = std::array::from_fn(|_| random.next() as u32);
    for _ in 0..filled {
        let at = random.below(PAGE - 3);
        let at = if random.below(4) == 0 { at } else { at & !3 };
        let noise = if random.below(3) == 0 { random.below(256) as u32 } else { 0 };
        let word = values[random.below(8)] ^ noise;
        page[at..at + 4].copy_from_slice(&word.to_le_bytes());
    }
    page
}

fn damage(random: &mut Random, stream: &mut [u8]) {
    for _ in 0..=random.below(4) {
        // Half of the damage in the header and what follows it, which all else depends on.
        let reach = if random.below(2) == 0 { stream.len().min(40) } else { stream.len() };
        let at = random.below(reach);
        match random.below(4) {
            0 => stream[at] = random.next() as u8,
            1 => stream[at] = [0x00, 0xff, 0x01, 0x80][random.below(4)],
            2 => stream[at] = stream[at].wrapping_add(1),
            _ => stream[at] ^= 1 << random.below(8),
        }
    }
}

fn main() {
    let mut arguments = std::env::args().skip(1);
    let mut number = |default: u64| {
        arguments.next().map_or(default, |word| word.parse().expect("usage: vw_mutants SECONDS [SEED]"))
    };
    let (seconds, seed) = (number(10), number(1));
    let mut paths = vw_paths();
    if paths.len() == 1 {
        println!("skipped: this CPU has no fast path to compare with");
        return;
    }
    let mut random = Random(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1);
    let mut bound = vec![0; max_compressed_len(PAGE)];
    let mut pages: Vec<_> =
        [0x00_u8, 0xff, 0x5a, 0xa5].iter().cycle().take(paths.len()).map(|&old| [old; PAGE]).collect();
    let mut mutant = Vec::new();
    let (start, mut done, mut taken) = (Instant::now(), 0_u64, 0_u64);
    while start.elapsed() < Duration::from_secs(seconds) {
        let streams: [Vec<u8>; STREAMS] = std::array::from_fn(|index| {
            let level = VwLevel::ALL[index % VwLevel::ALL.len()];
            let len =
                paths[0].compress(level, &page(&mut random), &mut bound).expect("the bound always fits");
            bound[..len].to_vec()
        });
        for _ in 0..MUTANTS {
            mutant.clone_from(&streams[random.below(STREAMS)]);
            damage(&mut random, &mut mutant);
            if random.below(2) == 0 {
                mend(&mut mutant, 0x5a);
            }
            let mut answers =
                paths.iter_mut().zip(&mut pages).map(|(vw, page)| (vw.decompress(&mutant, page), page));
            let first = answers.next().expect("one is portable");
            assert!(answers.all(|other| other == first), "seed {seed}: they differ on {mutant:02x?}");
            done += 1;
            taken += u64::from(first.0.is_ok());
        }
    }
    println!(
        "{done} mutants in {seconds} s, {taken} of them valid: {} decoders agree (seed {seed})",
        paths.len()
    );
}
