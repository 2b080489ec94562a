//! What becomes of a store's cold pages before any limit is hit, with the controller of [`cold_age`](crate::ColdAge).
//!
//! Driven by its caller, who says what time it is: a [`Reclaimer`](crate::Reclaimer) if asked to, a loop of the caller's own, or a
//! test on a clock that it makes up.

use std::time::Duration;

use zfolio_accel::Method;

use crate::cold_age::{ColdAge, ColdAgeConfig};
use crate::counters::Counter;
use crate::error::ShrinkError;
use crate::shrink::ShrinkBudget;
use crate::zswap::Zswap;

/// What becomes of pages that are cold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ColdPages {
    /// They are written to their swap device.
    WriteBack,
    /// They are compressed by this method, and stay.
    Recompress(Method),
}

/// How a [`Proactive`] works.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProactiveConfig {
    /// How long a tick is, by which pages age. It calls [`Zswap::tick`], and nobody else should.
    pub tick: Duration,
    /// Ticks between one answer of the controller and the next.
    pub ticks_per_step: u32,
    /// The most time for each node and tick.
    pub budget: Duration,
    /// What becomes of cold pages.
    pub cold_pages: ColdPages,
    /// The controller's. Its pages in use are those of the store and those that are on the device.
    pub cold_age: ColdAgeConfig,
}

impl Default for ProactiveConfig {
    fn default() -> ProactiveConfig {
        ProactiveConfig {
            tick: Duration::from_secs(10),
            ticks_per_step: 6,
            budget: Duration::from_millis(20),
            cold_pages: ColdPages::WriteBack,
            // Two minutes, below which far memory takes no page for cold.
            cold_age: ColdAgeConfig { min_age: 12, ..ColdAgeConfig::default() },
        }
    }
}

/// What it has done since it was made.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct ProactiveStats {
    /// From how many ticks on pages are cold; `None` while nothing is.
    pub threshold: Option<u16>,
    /// Pages written back.
    pub written_back_pages: u64,
    /// Pages that a denser method made shorter.
    pub recompressed_pages: u64,
    /// Loads and reads that found a page on the device. Who wrote it there, and whether it was cold then, is not asked.
    pub promoted_pages: u64,
}

/// See the module.
#[derive(Clone, Debug)]
pub struct Proactive {
    config: ProactiveConfig,
    cold_age: ColdAge,
    next: Duration,
    ticks: u32,
    stepped: Duration,
    /// The store's count when it was last looked at.
    disk_swapins: Option<u64>,
    stats: ProactiveStats,
}

impl Proactive {
    /// One that has done nothing. Times are on the caller's clock, from whatever start; `now` is the first.
    pub fn new(config: ProactiveConfig, now: Duration) -> Proactive {
        let config = ProactiveConfig { tick: config.tick.max(Duration::from_millis(1)), ..config };
        Proactive {
            cold_age: ColdAge::new(config.cold_age),
            next: now.saturating_add(config.tick),
            ticks: 0,
            stepped: now,
            disk_swapins: None,
            stats: ProactiveStats::default(),
            config,
        }
    }

    /// When there is something to do next.
    pub fn next(&self) -> Duration {
        self.next
    }

    /// What it has done.
    pub fn stats(&self) -> ProactiveStats {
        self.stats
    }

    /// Does what is due, if anything is: lets pages age by the ticks that have passed, asks the controller if an interval is
    /// over, and deals with some of the pages that are cold. Always with the same store.
    ///
    /// # Errors
    /// See [`ShrinkError`].
    pub fn run(&mut self, zswap: &Zswap, now: Duration) -> Result<(), ShrinkError> {
        if zswap.fork.is_child() {
            return Err(ShrinkError::Forked);
        }
        if now < self.next {
            return Ok(());
        }
        // Who was kept from running makes up for the time; ages say how long a page was not used, not how often this ran.
        let late = now.saturating_sub(self.next).as_nanos() / self.config.tick.as_nanos();
        let ticks = u16::try_from(late).map_or(u16::MAX, |late| late.saturating_add(1));
        (0..ticks).for_each(|_| zswap.tick());
        let passed = self.config.tick.saturating_mul(u32::from(ticks));
        self.next = self.next.saturating_add(passed).max(now);
        self.ticks = self.ticks.saturating_add(u32::from(ticks));
        self.count_promotions(zswap);
        if self.ticks >= self.config.ticks_per_step {
            self.ticks = 0;
            let stats = zswap.stats();
            self.cold_age.used_by_age(&zswap.ages.take());
            let pages = stats.stored_pages + stats.on_device_pages;
            self.stats.threshold = self.cold_age.step(now.saturating_sub(self.stepped), pages);
            self.stepped = now;
        }
        let Some(min_age) = self.stats.threshold else { return Ok(()) };
        for &nid in zswap.nodes.nids() {
            match self.config.cold_pages {
                ColdPages::WriteBack => {
                    let budget = ShrinkBudget { time: self.config.budget, ..ShrinkBudget::default() };
                    let shrunk = zswap.write_back_cold(nid, min_age, budget)?;
                    self.stats.written_back_pages += shrunk.written_back_pages;
                }
                ColdPages::Recompress(method) => {
                    let recompressed = zswap.recompress(nid, method, min_age, self.config.budget)?;
                    self.stats.recompressed_pages += recompressed.pages;
                }
            }
        }
        Ok(())
    }

    fn count_promotions(&mut self, zswap: &Zswap) {
        let swapins = zswap.counters.get(Counter::DiskSwapins);
        let more = swapins - self.disk_swapins.replace(swapins).unwrap_or(swapins);
        self.cold_age.promoted(more);
        self.stats.promoted_pages += more;
    }
}
