//! Which thread stores which folios: page `n` of the run goes to slot `n`.
//!
//! Folios have the size asked for; a rest that does not fill one goes into smaller folios, each as large as fits.
//! Every thread gets a contiguous range of them, so no two threads touch the same slot.

use std::collections::TryReserveError;
use std::ops::Range;

/// A folio of the run: its first slot, which is aligned to its size, and its pages.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct FolioSpan {
    pub(crate) first: u32,
    pub(crate) pages: u32,
}

impl FolioSpan {
    pub(crate) fn slots(self) -> Range<u32> {
        self.first..self.first + self.pages
    }
}

/// The folios of one thread.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Share {
    pub(crate) folios: Vec<FolioSpan>,
}

impl Share {
    /// All slots of this thread.
    pub(crate) fn slots(&self) -> Range<u32> {
        match (self.folios.first(), self.folios.last()) {
            (Some(first), Some(last)) => first.first..last.slots().end,
            _ => 0..0,
        }
    }
}

/// Cuts `pages` into folios and deals them to `threads`.
///
/// Fewer folios than threads leave threads without any; [`folios`] tells before.
pub(crate) fn deal(pages: u32, folio_pages: u32, threads: usize) -> Result<Vec<Share>, TryReserveError> {
    let folios = cut(pages, folio_pages)?;
    let bound = |thread: usize| thread * folios.len() / threads;
    (0..threads)
        .map(|thread| {
            let part = &folios[bound(thread)..bound(thread + 1)];
            let mut folios = Vec::new();
            folios.try_reserve_exact(part.len())?;
            folios.extend_from_slice(part);
            Ok(Share { folios })
        })
        .collect()
}

/// How many folios `pages` are cut into.
pub(crate) fn folios(pages: u32, folio_pages: u32) -> u32 {
    pages / folio_pages + (pages % folio_pages).count_ones()
}

/// About what the lists of a run over `pages` take: folios twice while they are dealt, and a number a page.
pub(crate) fn list_bytes(pages: u32, folio_pages: u32) -> u64 {
    2 * u64::from(folios(pages, folio_pages)) * size_of::<FolioSpan>() as u64
        + u64::from(pages) * size_of::<u32>() as u64
}

fn cut(pages: u32, folio_pages: u32) -> Result<Vec<FolioSpan>, TryReserveError> {
    let mut folios = Vec::new();
    folios.try_reserve_exact(self::folios(pages, folio_pages) as usize)?;
    let mut first = 0;
    while first < pages {
        let rest = pages - first;
        // Sizes only go down from here, each a multiple of the next: every folio stays aligned.
        let size = if rest >= folio_pages { folio_pages } else { 1 << rest.ilog2() };
        folios.push(FolioSpan { first, pages: size });
        first += size;
    }
    Ok(folios)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rest_goes_into_smaller_aligned_folios() {
        let sizes: Vec<_> =
            cut(16 + 7, 16).expect("memory").iter().map(|folio| (folio.first, folio.pages)).collect();
        assert_eq!(sizes, [(0, 16), (16, 4), (20, 2), (22, 1)]);
        for pages in [1, 2, 511, 512, 513, 1_000] {
            for folio_pages in [1, 4, 16, 512] {
                let folios = cut(pages, folio_pages).expect("memory");
                assert_eq!(folios.len(), super::folios(pages, folio_pages) as usize);
                assert!(
                    folios
                        .iter()
                        .all(|folio| folio.first % folio.pages == 0 && folio.pages.is_power_of_two())
                );
                assert_eq!(folios.iter().map(|folio| folio.pages).sum::<u32>(), pages);
            }
        }
    }

    #[test]
    fn threads_get_disjoint_ranges_that_cover_everything() {
        let shares = deal(1_000, 16, 3).expect("memory");
        let ranges: Vec<_> = shares.iter().map(Share::slots).collect();
        assert_eq!((ranges[0].start, ranges[2].end), (0, 1_000));
        assert_eq!((ranges[0].end, ranges[1].end), (ranges[1].start, ranges[2].start));
    }
}
