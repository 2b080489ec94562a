//! Where a page's time goes: claim, search, compress, pool, publish; look up, decompress, free.
//!
//! The store has no timers. The phases of a call are told from outside: an engine around the engine looks at the clock when
//! the store comes to it, takes a page from the store, gives a result back and returns; what lies between two looks is one
//! phase. So it costs the store nothing, and a bench that does not ask for phases has no such engine. One call in so many,
//! at random, is timed; what a look at the clock costs is measured in the same thread and taken off.

use std::cell::Cell;
use std::time::Duration;

use iaa_model::thread_time;
use zfolio::PageBytes;
use zfolio_accel::{Channels, Codec, Engine, EngineError, Job, Outcome};

use super::worker::Pass;
use crate::corpus::random::Random;

/// A part of a call. The engine's part of a load and of a store are one number, as no pass has both.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Phase {
    /// From the call to the engine: locks, limits, a channel; of a load the look-up.
    Begin,
    /// Taking the next page from the folio: is it filled by one word?
    Search,
    /// The engine: the codec and CRC-32, or submitting to a device and waiting for it.
    Engine,
    /// A result's way into the pool.
    Pool,
    /// From the engine to the end: publishing; of a load freeing, of a read unlocking.
    End,
    /// The whole of a call that needs no engine.
    Alone,
}

const PHASES: usize = 6;

impl Phase {
    /// Those of a pass with their names in the records and in words, in the order of a call.
    pub(crate) fn of(pass: Pass) -> &'static [(Phase, &'static str, &'static str)] {
        match pass {
            Pass::Store => &[
                (Phase::Begin, "claim", "claim"),
                (Phase::Search, "search", "search for same-filled"),
                (Phase::Engine, "compress", "compress or device wait"),
                (Phase::Pool, "pool", "entry and pool"),
                (Phase::End, "publish", "publish"),
            ],
            Pass::Read => &[
                (Phase::Begin, "look_up", "look up"),
                (Phase::Engine, "decompress", "decompress or device wait"),
                (Phase::End, "unlock", "unlock"),
                (Phase::Alone, "no_engine", "pages without the engine"),
            ],
            Pass::Load => &[
                (Phase::Begin, "look_up", "look up"),
                (Phase::Engine, "decompress", "decompress or device wait"),
                (Phase::End, "free", "free"),
                (Phase::Alone, "no_engine", "pages without the engine"),
            ],
        }
    }
}

/// What timed calls took, by phase.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct PhaseTime {
    /// Pages of the calls that were timed.
    pub(crate) pages: u64,
    ns: [f64; PHASES],
    /// All of it with what the clock cost.
    pub(crate) gross: Duration,
    /// What a look at the clock costs, by the pages that were timed.
    look_ns: f64,
}

impl PhaseTime {
    /// Nanoseconds of a phase, over the pages of all calls that were timed.
    pub(crate) fn ns_per_page(&self, phase: Phase) -> f64 {
        self.ns[phase as usize] / self.pages.max(1) as f64
    }

    /// All phases together.
    pub(crate) fn sum_ns_per_page(&self) -> f64 {
        self.ns.iter().sum::<f64>() / self.pages.max(1) as f64
    }

    /// What a look at the clock costs: the mean over threads.
    pub(crate) fn look_ns(&self) -> f64 {
        self.look_ns / self.pages.max(1) as f64
    }

    pub(crate) fn add(&mut self, other: &Self) {
        self.pages += other.pages;
        self.gross += other.gross;
        self.look_ns += other.look_ns;
        self.ns.iter_mut().zip(other.ns).for_each(|(ns, more)| *ns += more);
    }
}

/// The notes of one thread while a call of its is timed.
struct Notes {
    /// A call is being timed.
    on: Cell<bool>,
    /// The engine was reached in it.
    engine: Cell<bool>,
    last: Cell<Duration>,
    ns: [Cell<u64>; PHASES],
    looks: [Cell<u32>; PHASES],
}

thread_local! {
    static NOTES: Notes = const {
        Notes {
            on: Cell::new(false),
            engine: Cell::new(false),
            last: Cell::new(Duration::ZERO),
            ns: [const { Cell::new(0) }; PHASES],
            looks: [const { Cell::new(0) }; PHASES],
        }
    };
}

impl Notes {
    /// What has passed since the last look was this phase.
    #[inline]
    fn mark(&self, phase: Phase) {
        let now = thread_time();
        let passed = now.saturating_sub(self.last.replace(now));
        let (ns, looks) = (&self.ns[phase as usize], &self.looks[phase as usize]);
        ns.set(ns.get() + passed.as_nanos() as u64);
        looks.set(looks.get() + 1);
    }

    fn clear(&self) {
        self.ns.iter().for_each(|ns| ns.set(0));
        self.looks.iter().for_each(|looks| looks.set(0));
    }
}

/// Times one call in so many of a thread's.
pub(crate) struct Sampler {
    one_in: u32,
    random: Random,
    /// What a look at the clock costs here.
    look_ns: f64,
    time: PhaseTime,
}

impl Sampler {
    pub(crate) fn new(one_in: u32) -> Self {
        Self { one_in, random: Random::new(0x7a5e), look_ns: 0.0, time: PhaseTime::default() }
    }

    /// Begins a pass: what a look costs depends on whether models are about, and on the machine's mood.
    pub(crate) fn prepare(&mut self) {
        const LOOKS: u32 = 1_000;
        let batch = || {
            NOTES.with(|notes| {
                notes.last.set(thread_time());
                notes.clear();
                (0..LOOKS).for_each(|_| notes.mark(Phase::Alone));
                let ns = notes.ns[Phase::Alone as usize].get();
                notes.clear();
                ns as f64 / f64::from(LOOKS)
            })
        };
        // The least: what is more than that, others took.
        self.look_ns = (0..5).map(|_| batch()).fold(f64::INFINITY, f64::min);
        self.time = PhaseTime::default();
    }

    /// Makes a call of so many pages, and times it if it is its turn.
    #[inline]
    pub(crate) fn call(&mut self, pages: u32, call: impl FnOnce()) {
        if self.random.below(self.one_in.into()) != 0 {
            return call();
        }
        NOTES.with(|notes| {
            notes.engine.set(false);
            notes.on.set(true);
            notes.last.set(thread_time());
        });
        call();
        NOTES.with(|notes| {
            notes.mark(if notes.engine.get() { Phase::End } else { Phase::Alone });
            notes.on.set(false);
            let time = &mut self.time;
            time.pages += u64::from(pages);
            time.look_ns += self.look_ns * f64::from(pages);
            for (phase, ns) in time.ns.iter_mut().enumerate() {
                let passed = notes.ns[phase].get();
                time.gross += Duration::from_nanos(passed);
                *ns += passed as f64 - f64::from(notes.looks[phase].get()) * self.look_ns;
            }
            notes.clear();
        });
    }

    /// What the pass's timed calls took.
    pub(crate) fn finish(&mut self) -> PhaseTime {
        std::mem::take(&mut self.time)
    }
}

/// Channels whose engines take notes.
pub(crate) fn timed(channels: Channels) -> Channels {
    channels.wrapped(|engine| Box::new(Timed(engine)))
}

/// An engine that notes when the store comes to it and when it goes.
struct Timed(Box<dyn Engine>);

/// Whether the caller's call is timed; if so, what was before the engine is over.
fn reached() -> bool {
    NOTES.with(|notes| {
        if notes.on.get() {
            notes.engine.set(true);
            notes.mark(Phase::Begin);
        }
        notes.on.get()
    })
}

fn mark(phase: Phase) {
    NOTES.with(|notes| notes.mark(phase));
}

impl Engine for Timed {
    fn name(&self) -> &'static str {
        self.0.name()
    }

    fn window(&self) -> usize {
        self.0.window()
    }

    fn compress<'a>(
        &mut self,
        pages: &mut dyn Iterator<Item = &'a PageBytes>,
        sink: &mut dyn FnMut(Outcome<'a, '_>),
    ) {
        if !reached() {
            return self.0.compress(pages, sink);
        }
        let mut pages = std::iter::from_fn(|| {
            mark(Phase::Engine);
            let page = pages.next();
            mark(Phase::Search);
            page
        });
        self.0.compress(&mut pages, &mut |outcome| {
            mark(Phase::Engine);
            sink(outcome);
            mark(Phase::Pool);
        });
        mark(Phase::Engine);
    }

    fn decompress(&mut self, jobs: &mut [Option<Job<'_>>]) {
        let timed = reached();
        self.0.decompress(jobs);
        if timed {
            mark(Phase::Engine);
        }
    }

    fn decompress_one(
        &mut self,
        codec: Codec,
        bytes: &[u8],
        crc: u32,
        page: &mut PageBytes,
    ) -> Result<(), EngineError> {
        let timed = reached();
        let result = self.0.decompress_one(codec, bytes, crc, page);
        if timed {
            mark(Phase::Engine);
        }
        result
    }
}

#[cfg(test)]
mod tests {
    use std::thread::sleep;

    use zfolio_accel::{Compressed, Purpose, Topology};

    use super::*;

    /// Takes 4 ms for each page, either way.
    struct Slow;

    impl Engine for Slow {
        fn name(&self) -> &'static str {
            "slow"
        }

        fn window(&self) -> usize {
            1
        }

        fn compress<'a>(
            &mut self,
            pages: &mut dyn Iterator<Item = &'a PageBytes>,
            sink: &mut dyn FnMut(Outcome<'a, '_>),
        ) {
            for page in pages {
                sleep(Duration::from_millis(4));
                let bytes = &page[..1];
                sink(Outcome::Done(Compressed::Bytes { bytes, codec: Codec::Lz4, crc: 0 }));
            }
        }

        fn decompress(&mut self, _jobs: &mut [Option<Job<'_>>]) {
            sleep(Duration::from_millis(4));
        }
    }

    #[test]
    fn time_is_told_to_the_phase_in_which_it_passed() {
        let channels =
            timed(Channels::with_engine(Codec::Lz4, &Topology::single_node(), "slow", |_, _| Box::new(Slow)));
        let mut sampler = Sampler::new(1);
        sampler.prepare();
        sampler.call(2, || {
            sleep(Duration::from_millis(8));
            channels.with(Purpose::Store, |channel| {
                let pages = [[0; 4096]; 2];
                let mut pages = pages.iter().inspect(|_| sleep(Duration::from_millis(16)));
                channel.compress(&mut pages, &mut |_, _| sleep(Duration::from_millis(24)));
            });
            sleep(Duration::from_millis(32));
        });
        let time = sampler.finish();
        assert_eq!(time.pages, 2);
        // Each phase has all that was slept in it, and so none has another's.
        for (phase, milliseconds) in
            [(Phase::Begin, 8), (Phase::Search, 32), (Phase::Engine, 8), (Phase::Pool, 48), (Phase::End, 32)]
        {
            let ns = time.ns_per_page(phase) * 2.0 + 10.0 * time.look_ns();
            assert!(ns >= f64::from(milliseconds) * 1e6, "{phase:?} of {time:?}");
        }
        assert_eq!(time.ns[Phase::Alone as usize], 0.0);
        assert!(time.sum_ns_per_page() <= time.gross.as_nanos() as f64 / 2.0);
    }

    #[test]
    fn call_that_needs_no_engine_is_a_phase_of_its_own_and_untimed_calls_leave_no_notes() {
        let mut sampler = Sampler::new(u32::MAX);
        sampler.prepare();
        (0..100).for_each(|_| sampler.call(1, || {}));
        assert_eq!(sampler.finish(), PhaseTime::default());
        let mut sampler = Sampler::new(1);
        sampler.prepare();
        sampler.call(1, || sleep(Duration::from_millis(2)));
        let time = sampler.finish();
        assert!(time.ns[Phase::Alone as usize] >= 1.9e6 && time.ns[Phase::End as usize] == 0.0, "{time:?}");
        assert!((1.0..1e5).contains(&time.look_ns()), "{time:?}");
    }
}
