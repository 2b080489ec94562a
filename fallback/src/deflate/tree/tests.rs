//! Codes against an exhaustive search, headers against the strict reader.

use proptest::prelude::*;

use super::super::bits::BitWriter;
use super::*;
use crate::check;

/// Cost of the best code of these weights, by trying all code lengths up to `limit`.
fn best(weights: &[u32], limit: u32) -> u64 {
    fn search(weights: &[u32], limit: u32, room: u32) -> Option<u64> {
        let Some((&weight, others)) = weights.split_first() else { return Some(0) };
        (1..=limit)
            .filter(|&len| 1 << (limit - len) <= room)
            .filter_map(|len| {
                let rest = search(others, limit, room - (1 << (limit - len)))?;
                Some(rest + u64::from(weight) * u64::from(len))
            })
            .min()
    }
    search(weights, limit, 1 << limit).expect("all symbols have room")
}

fn filled(lengths: &[u8]) -> u64 {
    lengths.iter().filter(|&&len| len > 0).map(|&len| 1 << (LONGEST_CODE - usize::from(len))).sum()
}

/// Counts as pages and as hostile devices have them: few symbols or all, even, steep, or huge.
fn counts<const N: usize>() -> impl Strategy<Value = [u32; N]> {
    let count =
        prop_oneof![Just(0_u32), 0..4_u32, 0..4096_u32, any::<u32>(), (0..32_u32).prop_map(|bit| 1 << bit)];
    let even = prop_oneof![0..3_u32, Just(7)].prop_map(|count| [count; N]);
    let fibonacci = (any::<usize>(), 1..48_usize).prop_map(|(start, used)| {
        let (mut counts, mut pair) = ([0; N], (1, 1_u32));
        for step in 0..used.min(N) {
            counts[start.wrapping_add(step * 7) % N] = pair.0;
            pair = (pair.1, pair.0.saturating_add(pair.1));
        }
        counts
    });
    prop_oneof![
        4 => prop::collection::vec(count.clone(), N).prop_map(|counts| counts.try_into().expect("of that length")),
        2 => prop::collection::vec((0..N, count), 0..4).prop_map(|few| {
            let mut counts = [0; N];
            few.into_iter().for_each(|(symbol, count)| counts[symbol] = count);
            counts
        }),
        1 => even,
        2 => fibonacci,
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1000, ..ProptestConfig::default() })]

    #[test]
    fn no_code_within_the_limit_is_shorter(
        weights in prop::array::uniform6(prop_oneof![1..5_u32, 1..1000_u32, any::<u32>()]), limit in 3..6_usize
    ) {
        let weights = weights.map(|weight| weight.max(1));
        let mut lengths = [0; 6];
        shortest(&weights, limit, &mut lengths);
        prop_assert!(lengths.iter().all(|&len| len > 0 && usize::from(len) <= limit), "{lengths:?}");
        let cost: u64 = weights.iter().zip(lengths).map(|(&w, len)| u64::from(w) * u64::from(len)).sum();
        prop_assert_eq!(cost, best(&weights, limit as u32));
    }

    /// Package-merge and Huffman's algorithm know nothing of each other.
    #[test]
    fn code_that_no_limit_touches_is_huffmans(counts in counts::<60>()) {
        let mut used = sort::by_count(&counts);
        used.ensure_two();
        let weights = used.weights();
        prop_assert!(weights.is_sorted());
        let cost = |of_len: &OfLen| -> u64 {
            let lens = (1..16).rev().flat_map(|len| std::iter::repeat_n(len as u64, of_len[len].into()));
            weights.iter().zip(lens).map(|(&weight, len)| u64::from(weight) * len).sum()
        };
        if let Some(of_len) = huffman(weights) {
            prop_assert_eq!(cost(&of_len), cost(&limit::package_merge(weights, LONGEST_CODE)));
        }
    }

    /// Whatever a device has counted, a reader as strict as a device takes the header, and reads every symbol.
    #[test]
    fn every_symbol_counted_can_be_written_and_read(
        literals in counts::<LITERALS>(), distances in counts::<DISTANCES>(), last: bool
    ) {
        let histogram = Histogram { literals, distances };
        let lengths = Lengths::of(&histogram);
        prop_assert_eq!(filled(lengths.literals()), 1 << LONGEST_CODE);
        prop_assert_eq!(filled(lengths.distances()), 1 << LONGEST_CODE);

        let (codes, header) = (Codes::of(&lengths), Header::of(&lengths, last));
        prop_assert!(header.bits() <= 1654);
        let mut stream = vec![0; 8192];
        let mut out = BitWriter::new(&mut stream);
        let mut put = |bits: usize, len: usize| {
            out.put((bits as u64, len as u32));
            out.flush().expect("there is room");
        };
        let mut left = header.bits() as usize;
        for &byte in header.bytes() {
            put(byte.into(), left.min(8));
            left = left.saturating_sub(8);
        }
        let mut expected = Vec::new();
        let mut symbol = |code: Code| put(code.reversed().into(), code.len.into());
        for byte in (0..=255_u8).filter(|&byte| literals[usize::from(byte)] > 0) {
            expected.push(byte);
            symbol(codes.literals[usize::from(byte)]);
        }
        // Lengths and distances that carry no extra bits.
        for length in (257..265).filter(|&length| literals[length] > 0) {
            for distance in (0..4).filter(|&distance| distances[distance] > 0) {
                if expected.len() > distance {
                    symbol(codes.literals[length]);
                    symbol(codes.distances[distance]);
                    for _ in 0..length - 254 {
                        expected.push(expected[expected.len() - 1 - distance]);
                    }
                }
            }
        }
        symbol(codes.literals[END_OF_BLOCK]);
        if !last {
            // An empty fixed block ends the stream.
            put(0b011, 3);
            put(0, 7);
        }
        let len = out.finish().expect("there is room");
        let read = check::inflate(&stream[..len], 8192);
        prop_assert_eq!(read.map(|read| (read.bytes, read.used)), Ok((expected, len)));
    }
}

#[test]
fn fixed_codes_are_those_of_the_format() {
    let fixed = Codes::fixed();
    let code = |symbol: usize| (fixed.literals[symbol].bits, fixed.literals[symbol].len);
    assert_eq!([code(0), code(143)], [(0x30, 8), (0xbf, 8)]);
    assert_eq!([code(144), code(255)], [(0x190, 9), (0x1ff, 9)]);
    assert_eq!([code(256), code(279), code(280), code(285)], [(0, 7), (0x17, 7), (0xc0, 8), (0xc5, 8)]);
    assert!(
        fixed.distances.iter().enumerate().all(|(at, code)| (usize::from(code.bits), code.len) == (at, 5))
    );
}

#[test]
fn block_that_only_ends_has_complete_codes_all_the_same() {
    let lengths = Lengths::of(&Histogram::default());
    assert_eq!((lengths.literals()[0], lengths.literals()[END_OF_BLOCK]), (1, 1));
    assert_eq!(lengths.distances()[..2], [1, 1]);
    let mut far = Histogram::default();
    far.distances[0] = 5;
    assert_eq!(Lengths::of(&far).distances()[..2], [1, 1]);
}

/// Equal code lengths on both sides of the border are two runs, and the second does not begin with a repeat.
#[test]
fn no_run_of_code_lengths_crosses_into_the_distance_lengths() {
    let lengths = Lengths { literals: [9; LITERALS], distances: [9; DISTANCES] };
    // Not complete, so the whole is not read; but the number of bits tells. Seven lengths of three bits are given;
    // a nine and a repeat have one bit each. One run over the border would save a bit.
    let header = Header::of(&lengths, true);
    let repeats = 285_u32.div_ceil(6) + 29_u32.div_ceil(6);
    assert_eq!(header.bits(), 17 + 3 * 7 + 2 + 3 * repeats);
}

#[test]
fn bits_of_counted_symbols_are_their_code_lengths() {
    let mut counts = Histogram::default();
    counts.literals[7] = 2;
    counts.literals[8] = 1;
    counts.literals[END_OF_BLOCK] = 1;
    counts.distances[3] = 9;
    assert_eq!(Lengths::of(&counts).bits(&counts), 2 + 2 + 2 + 9);
}
