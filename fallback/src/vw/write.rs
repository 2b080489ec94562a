//! From what each word becomes to the sections of a stream, in safe code.

use super::bits::{Bits, compress, ones};
use super::encode::{FRONT, Window};
use super::format::{BLOCKS, CODED_MIN, GROUP, GROUPS, Header, LANES, PAGE, WORDS};
use super::parse::{Chosen, Found};
use super::planes::PlaneSpace;
use super::sections::Sections;

/// Where the sections grow.
pub(super) struct Lists {
    masks: [u8; 2 * BLOCKS],
    classes: Bits<{ WORDS / 4 + 16 }>,
    literals: [u32; WORDS],
    lows: [u8; WORDS],
    /// Distances less 1.
    fresh: [u16; WORDS],
    near: [u8; WORDS],
    far: [u8; WORDS / 2],
    exact: Bits<{ WORDS / 8 + 16 }>,
    planes: PlaneSpace,
}

impl Lists {
    pub(super) const EMPTY: Lists = Lists {
        masks: [0; 2 * BLOCKS],
        classes: Bits::EMPTY,
        literals: [0; WORDS],
        lows: [0; WORDS],
        fresh: [0; WORDS],
        near: [0; WORDS],
        far: [0; WORDS / 2],
        exact: Bits::EMPTY,
        planes: PlaneSpace::EMPTY,
    };

    /// Writes header and sections; the length of the stream.
    #[inline(always)]
    pub(super) fn write(&mut self, window: &Window, found: &Found, chosen: &Chosen, dst: &mut [u8]) -> usize {
        let mut header = Header { literals: 0, coded: false, lows: 0, fresh: 0, all: 0, none: 0 };
        self.classes.clear();
        self.exact.clear();
        let mut masks = 0;
        let (words, back) = (window[FRONT..FRONT + PAGE].as_chunks::<4>().0, found.back.as_flattened());
        for group in 0..GROUPS {
            let blocks = group * GROUP..(group + 1) * GROUP;
            for (block, &repeats) in blocks.clone().zip(&chosen.repeats[blocks.clone()]) {
                // The mask is written in any case, and kept if the maps do not tell it.
                self.masks[2 * masks..2 * masks + 2].copy_from_slice(&repeats.to_le_bytes());
                let (all, none) = (repeats == u16::MAX, repeats == 0);
                masks += usize::from(!(all | none));
                header.all |= u64::from(all) << block;
                header.none |= u64::from(none) << block;
            }
            // The masks of the group's blocks, one behind the other.
            let of = |masks: &[u16; BLOCKS]| {
                masks[blocks.clone()].iter().rfold(0, |all, &mask| all << LANES | u64::from(mask))
            };
            let (repeats, partial, fresh) = (of(&chosen.repeats), of(&chosen.partial), of(&chosen.fresh));
            let (filled, exact) = (of(&found.filled), of(&found.exact));
            let literal = filled & !(repeats | partial | fresh);
            let others = repeats.count_zeros();
            let [lower, upper] = compress(!repeats, [literal | fresh, partial | fresh]);
            self.classes.push(lower, others);
            self.classes.push(upper, others);
            let first = group * GROUP * LANES;
            for at in ones(literal) {
                self.literals[header.literals] = u32::from_le_bytes(words[first + at]);
                header.literals += 1;
            }
            for at in ones(partial | fresh & !exact) {
                self.lows[header.lows] = words[first + at][0];
                header.lows += 1;
            }
            for at in ones(fresh) {
                self.fresh[header.fresh] = (back[first + at] - 1) as u16;
                self.exact.push(exact >> at & 1, 1);
                header.fresh += 1;
            }
        }
        self.finish(header, masks, dst)
    }

    /// Splits the distances, codes the literals, and puts the sections together.
    #[inline(always)]
    fn finish(&mut self, mut header: Header, masks: usize, dst: &mut [u8]) -> usize {
        let fresh = &self.fresh[..header.fresh];
        self.near.iter_mut().zip(fresh).for_each(|(near, &distance)| *near = distance as u8);
        for (far, pair) in self.far.iter_mut().zip(fresh.chunks(2)) {
            let high = |index| pair.get(index).map_or(0, |distance: &u16| (distance >> 8) as u8);
            *far = high(0) | high(1) << 4;
        }
        let literals = &self.literals[..header.literals];
        let coded = if literals.len() < CODED_MIN { None } else { self.planes.encode(literals) };
        header.coded = coded.is_some();
        let sections = Sections {
            masks: &self.masks[..2 * masks],
            classes: self.classes.whole(),
            lows: &self.lows[..header.lows],
            near: &self.near[..header.fresh],
            far: &self.far[..header.fresh.div_ceil(2)],
            exact: self.exact.whole(),
        };
        sections.assemble(header, dst, |dst| match coded {
            Some(coded) => {
                dst[..coded.len()].copy_from_slice(coded);
                coded.len()
            }
            None => {
                let (dst, _) = dst.as_chunks_mut();
                dst.iter_mut().zip(literals).for_each(|(dst, word)| *dst = word.to_le_bytes());
                4 * literals.len()
            }
        })
    }
}
