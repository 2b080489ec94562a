//! A limit on memory, with zswap's hysteresis: once hit, stores are refused until usage has fallen to the accept
//! threshold.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

/// Pages of one pool or node, or bytes of one tenant, against their limit.
#[derive(Debug)]
pub(crate) struct Limit {
    max_pages: AtomicU64,
    accept_pages: AtomicU64,
    used_pages: AtomicU64,
    full: AtomicBool,
    hits: AtomicU64,
}

impl Limit {
    /// A limit of `max_pages`, accepting again at `accept_percent` of it.
    pub(crate) fn new(max_pages: u64, accept_percent: u8) -> Limit {
        let accept = u128::from(max_pages) * u128::from(accept_percent.min(100)) / 100;
        Limit {
            max_pages: AtomicU64::new(max_pages),
            accept_pages: AtomicU64::new(u64::try_from(accept).expect("at most max_pages")),
            used_pages: AtomicU64::new(0),
            full: AtomicBool::new(false),
            hits: AtomicU64::new(0),
        }
    }

    /// Another limit, and another threshold below it.
    pub(crate) fn set(&self, max_pages: u64, accept_pages: u64) {
        self.max_pages.store(max_pages, Ordering::Relaxed);
        self.accept_pages.store(accept_pages, Ordering::Relaxed);
    }

    /// Takes `pages`, exactly or not at all.
    pub(crate) fn charge(&self, pages: u64) -> bool {
        let max = self.max_pages();
        let room = |used: u64| used.checked_add(pages).filter(|&sum| sum <= max);
        self.used_pages.fetch_update(Ordering::Relaxed, Ordering::Relaxed, room).is_ok()
    }

    pub(crate) fn uncharge(&self, pages: u64) {
        self.used_pages.fetch_sub(pages, Ordering::Relaxed);
    }

    /// From now on stores are refused, until usage has fallen to the accept threshold.
    pub(crate) fn hit(&self) {
        self.hits.fetch_add(1, Ordering::Relaxed);
        self.full.store(true, Ordering::Relaxed);
    }

    /// False while full; the way back is taken here.
    #[inline]
    pub(crate) fn accepts(&self) -> bool {
        if !self.full.load(Ordering::Relaxed) {
            return true;
        }
        let accepts = self.used_pages.load(Ordering::Relaxed) <= self.accept_pages();
        if accepts {
            self.full.store(false, Ordering::Relaxed);
        }
        accepts
    }

    pub(crate) fn is_full(&self) -> bool {
        self.full.load(Ordering::Relaxed)
    }

    pub(crate) fn used_pages(&self) -> u64 {
        self.used_pages.load(Ordering::Relaxed)
    }

    pub(crate) fn max_pages(&self) -> u64 {
        self.max_pages.load(Ordering::Relaxed)
    }

    pub(crate) fn accept_pages(&self) -> u64 {
        self.accept_pages.load(Ordering::Relaxed)
    }

    pub(crate) fn hits(&self) -> u64 {
        self.hits.load(Ordering::Relaxed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn full_pool_accepts_again_only_below_the_threshold() {
        let limit = Limit::new(100, 90);
        assert!(limit.charge(100) && !limit.charge(1));
        limit.hit();
        limit.uncharge(9);
        assert!(!limit.accepts(), "91 of 100: one page out must not let one page in, for ever");
        limit.uncharge(1);
        assert!(limit.accepts());
        assert!(limit.charge(10) && limit.accepts(), "the threshold is forgotten until the next hit");
        assert_eq!(limit.hits(), 1);
    }

    #[test]
    fn threads_together_never_pass_the_limit() {
        let limit = Limit::new(1000, 100);
        let taken: u64 = std::thread::scope(|scope| {
            let threads: Vec<_> =
                (0..4).map(|_| scope.spawn(|| (0..500).filter(|_| limit.charge(1)).count())).collect();
            threads.into_iter().map(|thread| thread.join().unwrap() as u64).sum()
        });
        assert_eq!((taken, limit.used_pages()), (1000, 1000));
    }
}
