//! Which pages to take when there are more than wanted: evenly over all sources, not the head of the first.
//!
//! The pages of all sources stand in one line, in the order of the sources. The line is cut into runs of 16
//! pages (64 KiB, so that neighbours stay neighbours and a folio still is one), and as many whole runs as fit
//! are taken at equal distances. The same sources and the same limit always give the same pages.

use std::ops::Range;

/// Pages to a run. A smaller limit takes one run of that size.
const RUN_PAGES: u64 = 16;

/// The chosen page numbers, as ascending ranges of the line of all pages.
#[derive(Debug)]
pub(crate) struct Spread {
    ranges: Vec<Range<u64>>,
}

impl Spread {
    /// Chooses at most `max` of `pages`.
    pub(crate) fn new(pages: u64, max: u64) -> Self {
        if pages <= max {
            return Self { ranges: Some(0..pages).into_iter().filter(|all| !all.is_empty()).collect() };
        }
        if max == 0 {
            return Self { ranges: Vec::new() };
        }
        let run = RUN_PAGES.min(max);
        let (runs, kept) = (pages.div_ceil(run), max / run);
        // The middle of each of `kept` equal parts of the line.
        let middle =
            |part: u64| ((2 * u128::from(part) + 1) * u128::from(runs) / (2 * u128::from(kept))) as u64;
        let ranges =
            (0..kept).map(|part| middle(part) * run..(middle(part) * run + run).min(pages)).collect();
        Self { ranges }
    }

    /// Chooses exactly `count` of `pages`, one by one at equal distances.
    pub(crate) fn exactly(pages: u64, count: u64) -> Self {
        let place = |part: u64| (u128::from(part) * u128::from(pages) / u128::from(count.max(1))) as u64;
        Self { ranges: (0..count.min(pages)).map(|part| place(part)..place(part) + 1).collect() }
    }

    /// How many pages are chosen.
    pub(crate) fn pages(&self) -> u64 {
        self.ranges.iter().map(|range| range.end - range.start).sum()
    }

    /// The chosen pages of the source that stands at `start..start + pages` in the line, counted from its own
    /// first page.
    pub(crate) fn within(&self, start: u64, pages: u64) -> impl Iterator<Item = Range<u64>> + '_ {
        let end = start + pages;
        let first = self.ranges.partition_point(move |range| range.end <= start);
        self.ranges[first..]
            .iter()
            .take_while(move |range| range.start < end)
            .map(move |range| range.start.max(start) - start..range.end.min(end) - start)
            .filter(|range| !range.is_empty())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn everything_is_taken_when_it_fits() {
        assert_eq!(Spread::new(100, 100).pages(), 100);
        assert_eq!(Spread::new(0, 100).pages(), 0);
        assert_eq!(Spread::new(7, 0).pages(), 0);
    }

    #[test]
    fn chosen_pages_reach_from_the_first_tenth_to_the_last() {
        let spread = Spread::new(100_000, 1_600);
        assert_eq!(spread.pages(), 1_600);
        assert!(spread.ranges[0].start < 10_000);
        assert!(spread.ranges.last().expect("100 runs").end > 90_000);
        assert!(spread.ranges.windows(2).all(|pair| pair[0].end <= pair[1].start));
    }

    #[test]
    fn never_more_than_asked_and_at_most_one_run_less() {
        for pages in [1u64, 2, 15, 16, 17, 100, 1_000, 12_345] {
            for max in [1u64, 3, 16, 31, 32, 99, 1_000] {
                let got = Spread::new(pages, max).pages();
                assert!(got <= max.min(pages), "{got} of {pages}, at most {max}");
                assert!(got + 2 * RUN_PAGES > max.min(pages), "{got} of {pages}, at most {max}");
                assert!(got > 0, "nothing of {pages}, at most {max}");
            }
        }
    }

    #[test]
    fn sources_side_by_side_get_every_chosen_page_once() {
        let sizes = [5u64, 0, 40, 1, 300, 16, 7];
        let spread = Spread::new(sizes.iter().sum(), 100);
        let mut start = 0;
        let mut pages = 0;
        for size in sizes {
            for range in spread.within(start, size) {
                assert!(range.end <= size);
                pages += range.end - range.start;
            }
            start += size;
        }
        assert_eq!(pages, spread.pages());
    }
}
