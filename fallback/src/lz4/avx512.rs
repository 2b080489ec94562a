//! A page's block by AVX-512: first what each of its bytes would say as a token, then the sequences.
//!
//! Where a sequence begins is known when the one before has been read, and to read one byte after another is what most of
//! a block's time goes into. [`Fields::read`] therefore works out for each byte of the block, 64 at a time, how many
//! literals, how long a match and how far to the next sequence it would mean, counts of one more byte included. Of these
//! answers only those for real tokens are used, one in eight; each sequence costs a few loads that depend on nothing but
//! its place, and no branch by whether its counts go on.
//!
//! Whatever is not as it should be makes [`Avx512::decode`] give up; safe code then reads the block from its beginning and tells
//! what is wrong. Why no block can lead out of the memory:
//!
//! 1. After its `len` bytes the copy of the block holds 128 zeroes at least, and the fields are those of 64 of them too.
//! 2. A sequence begins at most 2 bytes beyond the block: to go on, a sequence needs an offset that is not zero, so its offset
//!    begins within the block, and the next sequence 2 or 3 bytes after it. From there the literals begin after at
//!    most 2 bytes; with less than 64 of them, what is read of the block is at most 64 bytes from their beginning, and the
//!    two of the offset after them: less than 128 beyond it. More literals are counted and compared with what is left of the block first.
//! 3. In the greater part of the page, a sequence begins with 64 bytes of the page left. At most 32 literals
//!    are stored as 32 bytes, so that as many are left for the match's first store.
//! 4. A match's source begins within what is made, before its target, so that as many bytes from there are in the page as from the target.
//! 5. What is beyond the first 32 bytes is copied within the piece's length ([`rest`]), or by masked stores; both pieces are
//!    compared with what is left of the page before.
//! 6. At the end of the page all stores and loads are masked, and the lengths compared with what is left first.

#![allow(unsafe_code)]

use std::arch::x86_64::{
    __m256i, __m512i, _bzhi_u64, _mm256_loadu_si256, _mm256_permutexvar_epi8, _mm256_storeu_si256,
    _mm512_add_epi8, _mm512_and_si512, _mm512_cmpeq_epi8_mask, _mm512_loadu_si512, _mm512_mask_add_epi8,
    _mm512_mask_adds_epu8, _mm512_mask_storeu_epi8, _mm512_maskz_loadu_epi8, _mm512_permutex2var_epi8,
    _mm512_permutexvar_epi8, _mm512_set1_epi8, _mm512_setzero_si512, _mm512_srli_epi16, _mm512_storeu_si512,
};

use super::{MIN_MATCH, PAGE};

/// Bytes of a vector.
const WINDOW: usize = 64;
const HALF: usize = 32;
/// A block that is longer than a page is left to safe code, which copies its literals as soon.
const ROOM: usize = PAGE + 3 * WINDOW;

/// The instructions are there, since one exists only on a CPU that has them; and the memory that they need.
pub(super) struct Avx512(Box<Fields>);

impl Avx512 {
    pub(super) fn new() -> Option<Avx512> {
        (is_x86_feature_detected!("avx512f")
            && is_x86_feature_detected!("avx512bw")
            && is_x86_feature_detected!("avx512vl")
            && is_x86_feature_detected!("avx512vbmi")
            && is_x86_feature_detected!("bmi1")
            && is_x86_feature_detected!("bmi2"))
        .then(|| Avx512(Box::new(Fields::EMPTY)))
    }

    /// Decodes `src` into `page`, if it is one whole block of a page; `false` if it is not, or might not be.
    #[inline]
    pub(super) fn decode(&mut self, src: &[u8], page: &mut [u8; PAGE]) -> bool {
        if src.len() > PAGE {
            return false;
        }
        // SAFETY: there is an `Avx512`, so the CPU has the features.
        unsafe { self.0.decode(src, page) }
    }
}

/// What a sequence would be that began at each byte of the block.
///
/// With up to 60 literals all of it lies within the window in which it begins and the one after. With more, only their
/// number is right; and that the match is no shorter than any match may be.
#[repr(align(64))]
struct Fields {
    /// Literals; 255 for that and more.
    literals: [u8; ROOM],
    /// Bytes before the literals.
    before: [u8; ROOM],
    /// Bytes of the match; 255 for that and more.
    matched: [u8; ROOM],
    /// Bytes to the next sequence.
    next: [u8; ROOM],
    /// The block, and zeroes.
    block: [u8; ROOM],
}

/// One sequence: as many literals from a place in the block, and where the two bytes of its offset are.
struct Sequence {
    literals: usize,
    from: usize,
    matched: usize,
    next: usize,
}

impl Sequence {
    #[inline(always)]
    fn offset_at(&self) -> usize {
        self.from + self.literals
    }
}

impl Fields {
    const EMPTY: Fields = Fields {
        literals: [0; ROOM],
        before: [0; ROOM],
        matched: [0; ROOM],
        next: [0; ROOM],
        block: [0; ROOM],
    };

    #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vbmi,bmi1,bmi2")]
    fn decode(&mut self, src: &[u8], page: &mut [u8; PAGE]) -> bool {
        self.read(src);
        self.sequences(src.len(), page)
    }

    /// Works out all fields of `src`, of at most [`PAGE`] bytes.
    #[inline(never)]
    #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vbmi,bmi1,bmi2")]
    fn read(&mut self, src: &[u8]) {
        // SAFETY: of an array of 64 bytes.
        let places = unsafe { load(&PLACES, 0) };
        let [one, two, four, low] = [1, 2, 4, 15].map(|byte| _mm512_set1_epi8(byte));
        let mut following = load_end(src, 0);
        let end = (src.len() / WINDOW + 2) * WINDOW;
        for at in (0..end).step_by(WINDOW) {
            let bytes = following;
            let shifted;
            if at + 2 * WINDOW <= src.len() {
                // SAFETY: compared just now.
                (following, shifted) = unsafe { (load(src, at + WINDOW), load(src, at + 1)) };
            } else {
                (following, shifted) = (load_end(src, at + WINDOW), load_end(src, at + 1));
            }
            let upper = _mm512_and_si512(_mm512_srli_epi16(bytes, 4), low);
            let lower = _mm512_and_si512(bytes, low);
            let (more, longer) = (_mm512_cmpeq_epi8_mask(upper, low), _mm512_cmpeq_epi8_mask(lower, low));
            let literals = _mm512_mask_adds_epu8(upper, more, upper, shifted);
            let before = _mm512_mask_add_epi8(one, more, one, one);
            let next = _mm512_add_epi8(_mm512_add_epi8(literals, before), two);
            let count = _mm512_permutex2var_epi8(bytes, _mm512_add_epi8(places, next), following);
            let next = _mm512_mask_add_epi8(next, longer, next, one);
            let matched = _mm512_add_epi8(lower, four);
            let matched = _mm512_mask_adds_epu8(matched, longer, matched, count);
            // SAFETY: `end` is at most 64 bytes less than there is room.
            unsafe {
                store(&mut self.literals, at, literals);
                store(&mut self.before, at, before);
                store(&mut self.matched, at, matched);
                store(&mut self.next, at, next);
                store(&mut self.block, at, bytes);
            }
        }
        // SAFETY: as above.
        unsafe { store(&mut self.block, end, _mm512_setzero_si512()) };
    }

    /// What the sequence at `at` is, unless it is long.
    ///
    /// # Safety
    /// `at` lies within the fields.
    #[inline(always)]
    unsafe fn at(&self, at: usize) -> Sequence {
        // SAFETY: the caller's duty.
        let [literals, before, matched, next] = unsafe {
            [&self.literals, &self.before, &self.matched, &self.next]
                .map(|fields| usize::from(byte(fields, at)))
        };
        Sequence { literals, from: at + before, matched, next: at + next }
    }

    /// The sequence at `at`, which has more than 32 literals, and these into the page; `None` if they do not lie within block and page.
    #[inline(never)]
    #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vbmi,bmi1,bmi2")]
    fn long_literals(&self, at: usize, len: usize, page: &mut [u8; PAGE], op: usize) -> Option<Sequence> {
        let block = self.block.get(..len)?;
        let token = *block.get(at)?;
        let mut from = at + 1;
        let literals = 15 + count(block, &mut from)?;
        let after = from + literals;
        if after > len || literals <= HALF || literals > PAGE - op {
            return None;
        }
        // SAFETY: the literals, more than 32, lie within block and page.
        unsafe {
            store_half(page, op, load_half(&self.block, from));
            rest(self.block.as_ptr().add(from), page.as_mut_ptr().add(op), literals);
        }
        let (nibble, more) = (usize::from(token % 16), usize::from(*self.block.get(after + 2)?));
        let longer = nibble == 15;
        let matched = MIN_MATCH + nibble + if longer { more } else { 0 };
        Some(Sequence { literals, from, matched, next: after + 2 + usize::from(longer) })
    }

    /// Decodes the block of which the fields are, and of `len` bytes.
    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vbmi,bmi1,bmi2")]
    fn sequences(&self, len: usize, page: &mut [u8; PAGE]) -> bool {
        let (mut ip, mut op) = (0, 0);
        while op <= PAGE - WINDOW {
            // SAFETY: 2.
            let mut sequence = unsafe { self.at(ip) };
            if sequence.literals <= HALF {
                // SAFETY: 2 and 3.
                unsafe { store_half(page, op, load_half(&self.block, sequence.from)) };
            } else {
                let Some(long) = self.long_literals(ip, len, page, op) else { return false };
                sequence = long;
                let literals = sequence.literals;
                if sequence.offset_at() == len {
                    return op + literals == PAGE;
                }
                if op + literals > PAGE - HALF {
                    // What is left is the end's, which begins with a match.
                    let Some(made) = self.matched_at_end(page, op + literals, &sequence) else {
                        return false;
                    };
                    (ip, op) = (sequence.next, made);
                    break;
                }
            }
            op += sequence.literals;
            // SAFETY: 2.
            let offset = usize::from(unsafe { half_word(&self.block, sequence.offset_at()) });
            let source = op.wrapping_sub(offset);
            // Before the page, or nowhere; a block does not end here.
            if source >= op {
                return false;
            }
            // SAFETY: 3 and 4.
            unsafe { store_half(page, op, load_half(page, source)) };
            let Sequence { mut matched, mut next, .. } = sequence;
            if matched > HALF {
                if matched >= 255 {
                    let Some(exact) = self.long_match(next - 1, len) else { return false };
                    (matched, next) = exact;
                }
                if matched > PAGE - op {
                    return false;
                }
                if offset < WINDOW {
                    // SAFETY: 4 and 5.
                    unsafe { repeat(page, op, offset, matched) };
                } else {
                    // SAFETY: 4 and 5; the source is 64 bytes before.
                    unsafe { rest(page.as_ptr().add(source), page.as_mut_ptr().add(op), matched) };
                }
            } else if matched > offset {
                // SAFETY: 3 and 4.
                unsafe {
                    let bytes = load_half(page, source);
                    store_half(page, op, _mm256_permutexvar_epi8(load_half(&LAYOUTS[offset], 0), bytes));
                }
            }
            (ip, op) = (next, op + matched);
        }
        self.end(len, page, ip, op)
    }

    /// The length of a match of 255 bytes or more, whose count begins at `at`, and where the count ends.
    #[inline(always)]
    fn long_match(&self, mut at: usize, len: usize) -> Option<(usize, usize)> {
        let more = count(self.block.get(..len)?, &mut at)?;
        Some((MIN_MATCH + 15 + more, at))
    }

    /// The sequences from `ip` on, which make the bytes from `op` on, less than 64.
    #[inline(never)]
    #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vbmi,bmi1,bmi2")]
    fn end(&self, len: usize, page: &mut [u8; PAGE], mut ip: usize, mut op: usize) -> bool {
        loop {
            // SAFETY: 2.
            let sequence = unsafe { self.at(ip) };
            if sequence.literals > PAGE - op {
                return false;
            }
            // SAFETY: 2 and 6.
            unsafe { store_some(page, op, sequence.literals, load(&self.block, sequence.from)) };
            op += sequence.literals;
            if sequence.offset_at() == len {
                return op == PAGE;
            }
            // More than 60 literals leave no room for any match.
            let Some(made) = self.matched_at_end(page, op, &sequence) else { return false };
            (ip, op) = (sequence.next, made);
        }
    }

    /// A match less than 64 bytes before the end of the page; where its bytes end.
    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vbmi,bmi1,bmi2")]
    fn matched_at_end(&self, page: &mut [u8; PAGE], op: usize, sequence: &Sequence) -> Option<usize> {
        // SAFETY: 2.
        let offset = usize::from(unsafe { half_word(&self.block, sequence.offset_at()) });
        let source = op.wrapping_sub(offset);
        if source >= op || sequence.matched > PAGE - op {
            return None;
        }
        // SAFETY: 4 and 6.
        unsafe {
            let bytes = load_some(page, source, sequence.matched);
            let bytes = _mm512_permutexvar_epi8(load(&LAYOUTS[offset.min(WINDOW)], 0), bytes);
            store_some(page, op, sequence.matched, bytes);
        }
        Some(op + sequence.matched)
    }
}

/// Copies what is beyond the first 32 bytes of a piece, and nothing beyond its end.
///
/// Chunks end where the piece does, or overlap: each reads only what lies before its own place by 64 bytes or more, or what the
/// first 32 bytes and the chunks before have made, so that pieces that repeat themselves come out right.
///
/// # Safety
/// There are `len` bytes, more than 32, at both places, of which the first 32 are copied already; `to` is at least 64
/// bytes after `from`, or elsewhere.
#[inline]
#[target_feature(enable = "avx512f")]
unsafe fn rest(from: *const u8, to: *mut u8, len: usize) {
    // SAFETY: the caller's duty: each chunk ends at most where the piece does.
    let half = |at: usize| unsafe {
        _mm256_storeu_si256(to.add(at).cast(), _mm256_loadu_si256(from.add(at).cast()));
    };
    if len <= 2 * WINDOW {
        // No branch by whether all are needed.
        half((len - HALF).min(HALF));
        half(len.saturating_sub(WINDOW));
        half(len - HALF);
    } else {
        // By two halves at a time, which are not taken for a call of memcpy.
        for at in (HALF..len - HALF).step_by(2 * HALF) {
            half(at);
            half((at + HALF).min(len - HALF));
        }
        half(len - HALF);
    }
}

/// Repeats the `offset` bytes before `to`, of which there are less than 64, over the next `len` bytes.
///
/// # Safety
/// There are so many bytes before and after `to` in the page.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vbmi,bmi2")]
unsafe fn repeat(page: &mut [u8; PAGE], to: usize, offset: usize, len: usize) {
    // SAFETY: the caller's duty.
    let bytes = unsafe { load_some(page, to - offset, offset) };
    // SAFETY: of an array of 64 bytes.
    let bytes = _mm512_permutexvar_epi8(unsafe { load(&LAYOUTS[offset], 0) }, bytes);
    let step = usize::from(STEPS[offset]);
    let mut done = 0;
    while done < len {
        // SAFETY: the caller's duty; what is masked out is not touched.
        unsafe {
            if to + done + WINDOW <= PAGE {
                store(page, to + done, bytes);
            } else {
                store_some(page, to + done, len - done, bytes);
            }
        }
        done += step;
    }
}

/// For each offset up to 64, where in the bytes from the source on those of a match are.
static LAYOUTS: [[u8; WINDOW]; WINDOW + 1] = {
    let mut layouts = [[0; WINDOW]; WINDOW + 1];
    let mut offset = 1;
    while offset <= WINDOW {
        let mut at = 0;
        while at < WINDOW {
            layouts[offset][at] = (at % offset) as u8;
            at += 1;
        }
        offset += 1;
    }
    layouts
};

/// For each offset below 64, its greatest multiple up to 64.
static STEPS: [u8; WINDOW] = {
    let mut steps = [0; WINDOW];
    let mut offset = 1;
    while offset < WINDOW {
        steps[offset] = (WINDOW - WINDOW % offset) as u8;
        offset += 1;
    }
    steps
};

/// The numbers from 0 on.
static PLACES: [u8; WINDOW] = LAYOUTS[WINDOW];

/// The bytes of a number that goes on while they are full; `None` if the block ends within it.
#[inline(always)]
fn count(block: &[u8], at: &mut usize) -> Option<usize> {
    let mut sum = 0;
    loop {
        let more = *block.get(*at)?;
        *at += 1;
        sum += usize::from(more);
        if more != 255 {
            return Some(sum);
        }
    }
}

/// 64 bytes of `from`, with zeroes for those beyond its end.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,bmi2")]
fn load_end(from: &[u8], at: usize) -> __m512i {
    let left = from.get(at..).unwrap_or_default();
    let mask = _bzhi_u64(u64::MAX, left.len().min(WINDOW) as u32);
    // SAFETY: what is masked out is not touched.
    unsafe { _mm512_maskz_loadu_epi8(mask, left.as_ptr().cast()) }
}

/// # Safety
/// `at` lies within `from`.
#[inline(always)]
unsafe fn byte(from: &[u8], at: usize) -> u8 {
    debug_assert!(at < from.len());
    // SAFETY: the caller's duty.
    unsafe { *from.get_unchecked(at) }
}

/// # Safety
/// Two bytes from `at` on lie within `from`.
#[inline(always)]
unsafe fn half_word(from: &[u8], at: usize) -> u16 {
    debug_assert!(at + 2 <= from.len());
    // SAFETY: the caller's duty; any alignment will do.
    u16::from_le(unsafe { from.as_ptr().add(at).cast::<u16>().read_unaligned() })
}

/// # Safety
/// 32 bytes from `at` on lie within `from`.
#[inline]
#[target_feature(enable = "avx512f")]
unsafe fn load_half(from: &[u8], at: usize) -> __m256i {
    debug_assert!(at + HALF <= from.len());
    // SAFETY: the caller's duty; any alignment will do.
    unsafe { _mm256_loadu_si256(from.as_ptr().add(at).cast()) }
}

/// # Safety
/// 64 bytes from `at` on lie within `from`.
#[inline]
#[target_feature(enable = "avx512f")]
unsafe fn load(from: &[u8], at: usize) -> __m512i {
    debug_assert!(at + WINDOW <= from.len());
    // SAFETY: the caller's duty; any alignment will do.
    unsafe { _mm512_loadu_si512(from.as_ptr().add(at).cast()) }
}

/// At most 64 bytes, and zeroes.
///
/// # Safety
/// `len` bytes from `at` on lie within the page.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,bmi2")]
unsafe fn load_some(page: &[u8; PAGE], at: usize, len: usize) -> __m512i {
    debug_assert!(at + len <= PAGE);
    // SAFETY: the caller's duty; what is masked out is not touched.
    unsafe { _mm512_maskz_loadu_epi8(_bzhi_u64(u64::MAX, len as u32), page.as_ptr().add(at).cast()) }
}

/// # Safety
/// 32 bytes from `at` on lie within the page.
#[inline]
#[target_feature(enable = "avx512f")]
unsafe fn store_half(page: &mut [u8; PAGE], at: usize, value: __m256i) {
    debug_assert!(at + HALF <= PAGE);
    // SAFETY: the caller's duty; any alignment will do.
    unsafe { _mm256_storeu_si256(page.as_mut_ptr().add(at).cast(), value) }
}

/// # Safety
/// 64 bytes from `at` on lie within `to`.
#[inline]
#[target_feature(enable = "avx512f")]
unsafe fn store(to: &mut [u8], at: usize, value: __m512i) {
    debug_assert!(at + WINDOW <= to.len());
    // SAFETY: the caller's duty; any alignment will do.
    unsafe { _mm512_storeu_si512(to.as_mut_ptr().add(at).cast(), value) }
}

/// The first `len` bytes of `value`, at most 64.
///
/// # Safety
/// `len` bytes from `at` on, or 64 if there are so many, lie within the page.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,bmi2")]
unsafe fn store_some(page: &mut [u8; PAGE], at: usize, len: usize, value: __m512i) {
    debug_assert!(at + len.min(WINDOW) <= PAGE);
    // SAFETY: the caller's duty; what is masked out is not touched.
    unsafe {
        _mm512_mask_storeu_epi8(page.as_mut_ptr().add(at).cast(), _bzhi_u64(u64::MAX, len as u32), value)
    }
}
