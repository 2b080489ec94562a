//! vw streams that no encoder of ours writes, made word by word beside the page that they stand for: words of all kinds, sources at
//! the borders of where they may be and beyond, planes in any mode, up to the longest stream. All decoders make that page.

mod data;

use data::Random;
use zfolio_fallback::check::VwPaths;

const PAGE: usize = 4096;
const BLOCK: usize = 64;
const LONGEST: usize = 4502;

#[derive(Clone, Copy, PartialEq)]
enum Kind {
    Zero = 0,
    Literal = 1,
    Partial = 2,
    Fresh = 3,
    Repeat = 4,
}

/// What a stream is made of.
struct Taste {
    /// How often each kind is wanted, in their order.
    weights: [usize; 5],
    /// Distances are of whole words.
    aligned: bool,
    /// One word in so many may have a source where none may be; none if zero.
    wrong: usize,
    /// Blocks that repeat as a whole or not at all are told by the maps.
    maps: bool,
    /// Bits that literals may have.
    literal: u32,
}

impl Taste {
    fn of(random: &mut Random) -> Taste {
        let weights = [
            [1, 1, 1, 1, 1],
            [0, 1, 0, 0, 0],
            [0, 0, 0, 1, 0],
            [0, 0, 1, 0, 0],
            [0, 0, 0, 0, 1],
            [1, 1, 1, 1, 9],
            [16, 1, 1, 1, 0],
            [0, 0, 1, 1, 0],
            [0, 8, 0, 1, 1],
        ];
        Taste {
            weights: weights[random.below(weights.len())],
            aligned: random.below(2) == 0,
            wrong: [0, 0, 200, 1000][random.below(4)],
            maps: random.below(2) == 0,
            literal: [u32::MAX, 0x0101_0303, 0x0f00_ff07][random.below(3)],
        }
    }

    fn kind(&self, random: &mut Random) -> Kind {
        let mut at = random.below(self.weights.iter().sum());
        for (kind, weight) in
            [Kind::Zero, Kind::Literal, Kind::Partial, Kind::Fresh].into_iter().zip(self.weights)
        {
            if at < weight {
                return kind;
            }
            at -= weight;
        }
        Kind::Repeat
    }

    /// A distance for a word: within what is allowed, often at its ends, or not.
    fn distance(&self, random: &mut Random, at: usize, wrong: bool) -> usize {
        let (least, most) = (at % BLOCK + 4, at.max(at % BLOCK + 4));
        if wrong {
            return [least - 1, at + 1, 1, PAGE, 1 + random.below(PAGE)][random.below(5)].min(PAGE);
        }
        let any = least + random.below(most - least + 1);
        let distance = [least, most, any, any, any.min(least + 2 * BLOCK)][random.below(5)];
        if self.aligned { distance & !3 } else { distance }
    }
}

/// Bits of a section, one after another.
#[derive(Default)]
struct Bits {
    bytes: Vec<u8>,
    len: usize,
}

impl Bits {
    fn push(&mut self, bit: bool) {
        if self.len.is_multiple_of(8) {
            self.bytes.push(0);
        }
        self.bytes[self.len / 8] |= u8::from(bit) << (self.len % 8);
        self.len += 1;
    }

    /// To whole bytes, by bits at which nobody is to look.
    fn filled(mut self, random: &mut Random) -> Vec<u8> {
        while !self.len.is_multiple_of(8) {
            self.push(random.below(2) == 0);
        }
        self.bytes
    }
}

struct Stream {
    /// What the stream stands for, unless a source is where none may be.
    page: [u8; PAGE],
    sound: bool,
    distance: usize,
    maps: [u64; 2],
    masks: Vec<u8>,
    classes: Bits,
    literals: Vec<u32>,
    lows: Vec<u8>,
    fresh: Vec<usize>,
    exact: Bits,
}

impl Stream {
    fn made(random: &mut Random) -> Stream {
        let mut stream = Stream {
            page: [0; PAGE],
            sound: true,
            distance: 0,
            maps: [0; 2],
            masks: Vec::new(),
            classes: Bits::default(),
            literals: Vec::new(),
            lows: Vec::new(),
            fresh: Vec::new(),
            exact: Bits::default(),
        };
        let taste = Taste::of(random);
        let mut classes = Vec::new();
        for block in 0..PAGE / BLOCK {
            if block % 16 == 0 {
                stream.distance = BLOCK;
            }
            let mut mask = 0;
            for lane in 0..16 {
                match stream.word(random, &taste, BLOCK * block + 4 * lane) {
                    Kind::Repeat => mask |= 1 << lane,
                    other => classes.push(other as u8),
                }
            }
            stream.mask(block, mask, taste.maps);
            if block % 4 == 3 {
                classes.iter().for_each(|class| stream.classes.push(class & 1 != 0));
                classes.drain(..).for_each(|class| stream.classes.push(class & 2 != 0));
            }
        }
        stream
    }

    fn source(&self, at: usize) -> Option<usize> {
        at.checked_sub(self.distance).filter(|from| from + 4 <= at / BLOCK * BLOCK)
    }

    /// Makes the word at a byte of the page; what it has become.
    fn word(&mut self, random: &mut Random, taste: &Taste, at: usize) -> Kind {
        let wrong = taste.wrong > 0 && random.below(taste.wrong) == 0;
        let kind = match taste.kind(random) {
            Kind::Repeat | Kind::Partial if self.source(at).is_none() && !wrong => Kind::Fresh,
            kind => kind,
        };
        let kind = if kind == Kind::Fresh && at < BLOCK && !wrong { Kind::Zero } else { kind };
        match kind {
            Kind::Zero => return kind,
            Kind::Literal => {
                let word = random.next() as u32 & taste.literal;
                self.page[at..at + 4].copy_from_slice(&word.to_le_bytes());
                self.literals.push(word);
                return kind;
            }
            Kind::Partial | Kind::Fresh | Kind::Repeat => {}
        }
        let mut whole = kind == Kind::Repeat;
        if kind == Kind::Fresh {
            self.distance = taste.distance(random, at, wrong);
            self.fresh.push(self.distance);
            whole = random.below(2) == 0;
            self.exact.push(whole);
        }
        match self.source(at) {
            Some(from) => self.page.copy_within(from..from + 4, at),
            None => self.sound = false,
        }
        if !whole {
            self.page[at] = random.next() as u8;
            self.lows.push(self.page[at]);
        }
        kind
    }

    fn mask(&mut self, block: usize, mask: u16, maps: bool) {
        match mask {
            u16::MAX if maps => self.maps[0] |= 1 << block,
            0 if maps => self.maps[1] |= 1 << block,
            _ => self.masks.extend(mask.to_le_bytes()),
        }
    }

    fn bytes(self, random: &mut Random) -> Vec<u8> {
        let coded = !self.literals.is_empty() && random.below(2) == 0;
        let first = self.literals.len() | usize::from(coded) << 11 | 2 << 12;
        let mut bytes = Vec::new();
        for number in [first, self.lows.len(), self.fresh.len()] {
            bytes.extend((number as u16).to_le_bytes());
        }
        bytes.extend(self.maps.into_iter().flat_map(u64::to_le_bytes));
        bytes.extend(self.masks);
        bytes.extend(self.classes.filled(random));
        if coded {
            bytes.extend(planes(random, &self.literals));
        } else {
            bytes.extend(self.literals.into_iter().flat_map(u32::to_le_bytes));
        }
        bytes.extend(self.lows);
        bytes.extend(self.fresh.iter().map(|distance| (distance - 1) as u8));
        let mut high = Bits::default();
        for distance in self.fresh {
            (8..12).for_each(|bit| high.push((distance - 1) >> bit & 1 != 0));
        }
        bytes.extend(high.filled(random));
        bytes.extend(self.exact.filled(random));
        bytes
    }
}

/// Literals coded in any way that the format allows.
fn planes(random: &mut Random, literals: &[u32]) -> Vec<u8> {
    let modes = random.next() as u8;
    let mut coded = vec![modes];
    for plane in 0..4 {
        let bytes: Vec<u8> = literals.iter().map(|word| word.to_le_bytes()[plane]).collect();
        let (count, width) = [(0, 0), (16, 4), (4, 2), (1, 0)][usize::from(modes >> (2 * plane) & 3)];
        if count == 0 {
            coded.extend(bytes);
            continue;
        }
        let symbols: Vec<u8> = (0..count).map(|_| bytes[random.below(bytes.len())]).collect();
        let (mut mask, mut codes, mut raw) = (Bits::default(), Bits::default(), Vec::new());
        for byte in bytes {
            // One that has a code may also stand as it is.
            let code = symbols.iter().position(|&symbol| symbol == byte).filter(|_| random.below(9) > 0);
            mask.push(code.is_some());
            match code {
                Some(code) => (0..width).for_each(|bit| codes.push(code >> bit & 1 != 0)),
                None => raw.push(byte),
            }
        }
        coded.extend(symbols);
        coded.extend(mask.filled(random));
        coded.extend(codes.filled(random));
        coded.extend(raw);
    }
    coded
}

#[test]
fn streams_of_any_making_are_the_page_they_stand_for() {
    let mut paths = VwPaths::new();
    let (mut sound, mut unsound, mut longest) = (0, 0, 0);
    for seed in 0..4000 {
        let mut random = Random::new(seed);
        let stream = Stream::made(&mut random);
        let expected = stream.sound.then_some(stream.page);
        let bytes = stream.bytes(&mut random);
        let expected = expected.filter(|_| bytes.len() <= LONGEST);
        let answer = paths.decode(&bytes).ok();
        assert!(answer.as_deref() == expected.as_ref(), "seed {seed}, {} bytes", bytes.len());
        if answer.is_some() {
            (sound, longest) = (sound + 1, longest.max(bytes.len()));
        } else {
            unsound += 1;
        }
    }
    assert!(sound > 1000 && unsound > 500, "{sound} sound, {unsound} unsound");
    assert_eq!(longest, LONGEST);
}
