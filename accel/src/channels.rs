//! All channels of a store, found by CPU package and purpose.
//!
//! Loads have channels of their own, so that a load never queues behind a store. A channel is borrowed for the
//! time of a call; a thread that finds all of them taken gets a new one rather than a wait.

use std::fmt;
use std::sync::Arc;

use zfolio_fallback::{Codec, Method};

use crate::direct::{
    Attachment, Counters, DeviceCounts, Direct, QueueInfo, QueueReport, QueueTable, Source, UnderWay,
};
use crate::fallbacks::{FallbackCounts, Fallbacks};
use crate::qpl::{self, QplSource};
use crate::try_lock::{TryLock, TryLockGuard};
use crate::{
    Backend, BackendError, Channel, ChannelsConfig, Engine, ForkGuard, Software, Topology, discover, numa,
    thread_index,
};

/// Kept channels for each package and purpose. A thread starts at its own number and takes the first free one.
const KEPT_CHANNELS: usize = 64;

/// What a channel is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purpose {
    /// Compressing.
    Store,
    /// Decompressing.
    Load,
}

/// Makes the engine of a new channel, for the CPU package and purpose it serves.
type MakeEngine = dyn Fn(u16, Purpose) -> Box<dyn Engine> + Send + Sync;

/// Makes the engines of new channels; `None` where they are software itself.
struct Maker {
    make: Option<Box<MakeEngine>>,
    method: Method,
    window: usize,
}

/// All channels of a store.
pub struct Channels {
    maker: Maker,
    devices: Devices,
    /// The package of each CPU, by CPU number; empty where there is one package.
    package_of_cpu: Box<[u16]>,
    packages: Box<[Package]>,
    fallbacks: Arc<Fallbacks>,
    report: String,
}

/// Whose devices channels use.
enum Devices {
    None,
    Direct(Arc<QueueTable>),
    Qpl(Arc<Counters>, Arc<ForkGuard>),
}

/// Channels, each made when a thread first needs it.
type Kept = [TryLock<Option<Channel>>; KEPT_CHANNELS];

struct Package {
    store: Kept,
    load: Kept,
}

impl Channels {
    /// The channels of `config.backend`. Engines are made when a thread first needs one.
    ///
    /// # Errors
    /// When the backend cannot be had, with the reason.
    pub fn new(config: ChannelsConfig, topology: &Topology) -> Result<Channels, BackendError> {
        if !(1..=crate::MAX_WINDOW).contains(&config.window) {
            return Err(BackendError::Window(config.window));
        }
        let wrong_method = config.method.filter(|method| method.codec() != Codec::Deflate);
        let why = match (config.backend, wrong_method) {
            (Backend::Software, _) => "asked for by name".to_owned(),
            (Backend::Auto, Some(method)) => format!("chosen by auto: no device compresses with {method}"),
            (backend, Some(method)) => return Err(BackendError::Method { backend, method }),
            (backend @ (Backend::Qpl | Backend::QplSoftware), None) => {
                let qpl = Channels::qpl(&config, topology, backend, "asked for by name");
                return qpl.map_err(|reason| BackendError::Unavailable { backend, reason });
            }
            (backend, None) => match QueueTable::new(config.source(), config.direct(), topology) {
                Ok(table) => return Ok(Channels::direct(table, &config, topology, backend)),
                Err(reason) if backend == Backend::Auto => {
                    // QPL would find no more devices than there are.
                    if discover::iaa_devices(&config.sysfs).is_empty() {
                        format!("chosen by auto: {reason}")
                    } else {
                        let why = format!("chosen by auto; direct: {reason}");
                        match Channels::qpl(&config, topology, Backend::Qpl, &why) {
                            Ok(channels) => return Ok(channels),
                            Err(qpl) => format!("{why}; qpl: {qpl}"),
                        }
                    }
                }
                Err(reason) => return Err(BackendError::Unavailable { backend, reason }),
            },
        };
        let method = config.method.unwrap_or_else(|| Method::best().0);
        let maker = Maker { make: None, method, window: config.window };
        Ok(Channels::build(maker, Devices::None, topology, format!("software ({why})")))
    }

    /// Channels that drive these queues directly: for benchmarks and tests of what is around the device.
    ///
    /// # Errors
    /// When none of them can be used, with the reason.
    pub fn with_queues(
        queues: Vec<(QueueInfo, Attachment)>,
        config: &ChannelsConfig,
        topology: &Topology,
    ) -> Result<Channels, BackendError> {
        let backend = Backend::Direct;
        let table = QueueTable::new(Source::Given(queues), config.direct(), topology)
            .map_err(|reason| BackendError::Unavailable { backend, reason })?;
        Ok(Channels::direct(table, config, topology, backend))
    }

    fn direct(table: QueueTable, config: &ChannelsConfig, topology: &Topology, backend: Backend) -> Channels {
        let (window, method) = (config.window, config.method.unwrap_or(Method::Deflate));
        let table = Arc::new(table);
        let name = if backend == Backend::Auto { Backend::Direct } else { backend };
        let why = if backend == Backend::Auto { "chosen by auto" } else { "asked for by name" };
        let report = format!("{name} ({why}): {}", table.describe());
        let devices = Arc::clone(&table);
        let make = move |package, purpose| -> Box<dyn Engine> {
            Box::new(Direct::new(&table, package, purpose, window))
        };
        let maker = Maker { make: Some(Box::new(make)), method, window };
        Channels::build(maker, Devices::Direct(devices), topology, report)
    }

    fn qpl(
        config: &ChannelsConfig,
        topology: &Topology,
        backend: Backend,
        why: &str,
    ) -> Result<Channels, String> {
        let (window, method) = (config.window, config.method.unwrap_or(Method::Deflate));
        let path = if backend == Backend::Qpl { qpl::Path::Hardware } else { qpl::Path::Software };
        let devices = discover::iaa_devices(&config.sysfs);
        let source = QplSource::open(path, window, &config.direct(), &devices, topology)?;
        let report = format!("{backend} ({why}): {}", source.describe());
        let devices = Devices::Qpl(Arc::clone(source.counters()), Arc::clone(source.guard()));
        let make = move |package, _| source.engine(package);
        let maker = Maker { make: Some(Box::new(make)), method, window };
        Ok(Channels::build(maker, devices, topology, report))
    }

    /// Channels of an engine of the caller's own; what it fails is done again in software by `method`.
    pub fn with_engine<F>(method: impl Into<Method>, topology: &Topology, name: &str, make: F) -> Channels
    where
        F: Fn(u16, Purpose) -> Box<dyn Engine> + Send + Sync + 'static,
    {
        let maker = Maker { make: Some(Box::new(make)), method: method.into(), window: 1 };
        Channels::build(maker, Devices::None, topology, format!("{name} (given by the caller)"))
    }

    /// The same with `wrap` around each engine: for whoever wants to see from outside what passes between a store and its
    /// engines, and when; before the first use, as engines that are there stay as they are. Nothing else changes, but that
    /// software, too, is an engine whose failures are done again.
    pub fn wrapped<F>(mut self, wrap: F) -> Channels
    where
        F: Fn(Box<dyn Engine>) -> Box<dyn Engine> + Send + Sync + 'static,
    {
        let Maker { make, method, window } = &mut self.maker;
        let (make, method, window) = (make.take(), *method, *window);
        self.maker.make = Some(Box::new(move |package, purpose| match &make {
            Some(make) => wrap(make(package, purpose)),
            None => wrap(Box::new(Software::new(method, window))),
        }));
        self
    }

    fn build(maker: Maker, devices: Devices, topology: &Topology, report: String) -> Channels {
        let packages = topology.packages().max(1);
        let kept = || std::array::from_fn(|_| TryLock::default());
        Channels {
            maker,
            package_of_cpu: if packages > 1 { topology.package_of_cpu().into() } else { Box::default() },
            packages: (0..packages).map(|_| Package { store: kept(), load: kept() }).collect(),
            fallbacks: Arc::default(),
            devices,
            report,
        }
    }

    /// The backend in use and the reason for it, for people.
    pub fn report(&self) -> &str {
        &self.report
    }

    /// What devices did and failed to do; all zero where channels use none.
    pub fn device_counts(&self) -> DeviceCounts {
        match &self.devices {
            Devices::None => DeviceCounts::default(),
            Devices::Direct(table) => table.counters.snapshot(),
            Devices::Qpl(counters, _) => counters.snapshot(),
        }
    }

    /// How often a descriptor (of QPL: a job) was taken with so many pages under way in its channel; all zero where
    /// channels use no devices.
    pub fn under_way(&self) -> UnderWay {
        match &self.devices {
            Devices::None => [0; crate::MAX_WINDOW + 1],
            Devices::Direct(table) => table.counters.under_way.sum(&table.guard),
            Devices::Qpl(counters, guard) => counters.under_way.sum(guard),
        }
    }

    /// The devices' queues that channels use at present, and what they are good for.
    pub fn queues(&self) -> Vec<QueueReport> {
        match &self.devices {
            Devices::Direct(table) => table.report(),
            Devices::None | Devices::Qpl(..) => Vec::new(),
        }
    }

    /// Looks for devices' queues that came or went; true if any did. Channels do so by themselves when a queue goes
    /// away, but not to find new ones while those that they have work.
    pub fn rescan(&self) -> bool {
        matches!(&self.devices, Devices::Direct(table) if table.rescan())
    }

    /// How new pages are compressed.
    pub fn method(&self) -> Method {
        self.maker.method
    }

    /// How many pages were done in software because the engine failed them, by cause.
    pub fn fallbacks(&self) -> FallbackCounts {
        self.fallbacks.snapshot()
    }

    /// Runs `work` with a channel of the caller's package, which is `work`'s alone meanwhile. Waits for no other thread's work.
    #[inline(always)]
    pub fn with<T>(&self, purpose: Purpose, work: impl FnOnce(&mut Channel) -> T) -> T {
        let package = self.current_package();
        let kept = match purpose {
            Purpose::Store => &self.packages[package].store,
            Purpose::Load => &self.packages[package].load,
        };
        let usual = kept[thread_index() % KEPT_CHANNELS].try_lock().filter(|kept| kept.is_some());
        let Some(mut channel) = usual.or_else(|| self.another(kept, package, purpose)) else {
            return work(&mut self.make(package, purpose));
        };
        work(channel.as_mut().expect("there already, or made by `another`"))
    }

    /// For a thread that finds its usual channel taken, or not made yet: the first free one, if there is one. A panic in
    /// somebody's sink does no harm to it: the engine is as good as new (its rule), and nothing else is in there.
    #[cold]
    fn another<'k>(
        &self,
        kept: &'k Kept,
        package: usize,
        purpose: Purpose,
    ) -> Option<TryLockGuard<'k, Option<Channel>>> {
        let mut kept =
            (0..KEPT_CHANNELS).find_map(|step| kept[(thread_index() + step) % KEPT_CHANNELS].try_lock())?;
        kept.get_or_insert_with(|| self.make(package, purpose));
        Some(kept)
    }

    fn make(&self, package: usize, purpose: Purpose) -> Channel {
        let package = u16::try_from(package).expect("packages are numbered by u16");
        let Maker { make, method, window } = &self.maker;
        match make {
            None => Channel::software(*method, *window, Arc::clone(&self.fallbacks)),
            Some(make) => Channel::new(make(package, purpose), *method, Arc::clone(&self.fallbacks)),
        }
    }

    /// The dense number of the package whose CPU runs the caller.
    fn current_package(&self) -> usize {
        if self.package_of_cpu.is_empty() {
            return 0;
        }
        numa::current_cpu().and_then(|cpu| self.package_of_cpu.get(cpu)).map_or(0, |&package| package.into())
    }
}

impl fmt::Debug for Channels {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Channels").field("report", &self.report).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Codec, Compressed, EngineError, Job, Outcome, PAGE_SIZE, PageBytes};

    /// Fails every n-th page and lies about every n-th CRC.
    struct Flaky {
        software: Software,
        every: usize,
        calls: usize,
    }

    impl Engine for Flaky {
        fn name(&self) -> &'static str {
            "flaky"
        }

        fn window(&self) -> usize {
            4
        }

        fn compress<'a>(
            &mut self,
            pages: &mut dyn Iterator<Item = &'a PageBytes>,
            sink: &mut dyn FnMut(Outcome<'a, '_>),
        ) {
            for page in pages {
                self.calls += 1;
                match self.calls % self.every {
                    0 => sink(Outcome::Failed { page, error: EngineError::BadStatus(0x1f) }),
                    _ => sink(Outcome::Done(self.software.compress_page(page))),
                }
            }
        }

        fn decompress(&mut self, jobs: &mut [Option<Job<'_>>]) {
            for job in jobs.iter_mut().flatten() {
                self.calls += 1;
                self.software.decompress_job(job);
                if self.calls.is_multiple_of(self.every) {
                    job.page[17] ^= 1;
                    job.finish(Ok(crate::crc32(job.page)));
                }
            }
        }
    }

    fn flaky(every: usize) -> Channels {
        Channels::with_engine(Codec::Lz4, &Topology::single_node(), "flaky", move |_, _| {
            Box::new(Flaky { software: Software::new(Codec::Lz4, 1), every, calls: 0 })
        })
    }

    fn pages() -> Vec<PageBytes> {
        (0..12u8).map(|k| std::array::from_fn(|i| k.wrapping_mul(i as u8 / 7) ^ (i as u8 >> 5))).collect()
    }

    #[test]
    fn pages_that_the_engine_fails_come_back_from_software_and_are_counted() {
        let channels = flaky(3);
        let pages = pages();
        let mut stored = Vec::new();
        channels.with(Purpose::Store, |channel| {
            channel.compress(&mut pages.iter(), &mut |index, outcome| {
                assert_eq!(index, stored.len(), "results come in the order of the pages");
                match outcome {
                    Compressed::Bytes { bytes, codec, crc } => stored.push((bytes.to_vec(), codec, crc)),
                    Compressed::Incompressible { .. } => panic!("page {index} shrinks"),
                }
            })
        });
        assert_eq!(stored.len(), pages.len());
        assert_eq!(channels.fallbacks(), FallbackCounts { bad_status: 4, ..Default::default() });

        let mut out = vec![[0u8; PAGE_SIZE]; pages.len()];
        let jobs = stored.iter().zip(&mut out);
        let mut jobs: Vec<_> =
            jobs.map(|((bytes, codec, crc), page)| Some(Job::new(*codec, bytes, *crc, page))).collect();
        channels.with(Purpose::Load, |channel| channel.decompress(&mut jobs));
        assert!(jobs.iter().flatten().all(|job| job.result() == Ok(())));
        assert!(out == pages, "a page whose CRC the engine got wrong would be lost");
        assert_eq!(channels.fallbacks().crc_mismatch, 4);
    }

    #[test]
    fn single_page_that_the_engine_fails_comes_back_from_software_and_is_counted() {
        let channels = flaky(2);
        let page = pages().remove(3);
        let mut software = Software::new(Codec::Lz4, 1);
        let Compressed::Bytes { bytes, codec, crc } = software.compress_page(&page) else {
            panic!("the page shrinks");
        };
        let mut out = [0; PAGE_SIZE];
        channels.with(Purpose::Load, |channel| {
            for _ in 0..4 {
                out.fill(0);
                assert_eq!(channel.decompress_one(codec, bytes, crc, &mut out), Ok(()));
                assert!(out == page);
            }
            let wrong = channel.decompress_one(codec, bytes, !crc, &mut out);
            assert_eq!(wrong, Err(EngineError::CrcMismatch), "software has the last word");
        });
        assert_eq!(channels.fallbacks().crc_mismatch, 3);
    }

    #[test]
    fn panic_in_the_sink_leaves_the_channel_usable() {
        let channels = flaky(5);
        let pages = pages();
        let caught = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            channels.with(Purpose::Store, |channel| {
                channel.compress(&mut pages.iter(), &mut |index, _| {
                    assert!(index < 6, "stop here");
                })
            });
        }));
        assert!(caught.is_err());
        let mut seen = 0;
        channels.with(Purpose::Store, |channel| channel.compress(&mut pages.iter(), &mut |_, _| seen += 1));
        assert_eq!(seen, pages.len());
    }

    #[test]
    fn a_thread_that_finds_every_channel_taken_gets_one_all_the_same() {
        let channels = Channels::new(ChannelsConfig::default(), &Topology::single_node()).unwrap();
        /// Has `left` channels at once.
        fn nested(channels: &Channels, left: usize) -> usize {
            channels.with(Purpose::Load, |_| if left == 1 { 1 } else { 1 + nested(channels, left - 1) })
        }
        assert_eq!(nested(&channels, KEPT_CHANNELS + 2), KEPT_CHANNELS + 2);
    }

    #[test]
    fn corrupt_bytes_are_an_error_and_not_a_page() {
        let channels = Channels::new(ChannelsConfig::default(), &Topology::single_node()).unwrap();
        let mut page = [0u8; PAGE_SIZE];
        let mut jobs = [Some(Job::new(Codec::Lz4, &[0x10, 0, 0, 0], 0, &mut page))];
        channels.with(Purpose::Load, |channel| channel.decompress(&mut jobs));
        let result = jobs[0].as_ref().unwrap().result();
        assert!(matches!(result, Err(EngineError::Decode(_))), "{result:?}");
    }

    #[test]
    fn wrapped_engine_sees_all_work_and_changes_none_of_it() {
        use std::sync::atomic::{AtomicUsize, Ordering};

        struct Counting(Box<dyn Engine>, Arc<AtomicUsize>);

        impl Engine for Counting {
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
                self.1.fetch_add(1, Ordering::Relaxed);
                self.0.compress(pages, sink);
            }

            fn decompress(&mut self, jobs: &mut [Option<Job<'_>>]) {
                self.1.fetch_add(1, Ordering::Relaxed);
                self.0.decompress(jobs);
            }
        }

        let of = |channels: &Channels| {
            let mut stored = Vec::new();
            channels.with(Purpose::Store, |channel| {
                channel.compress(&mut pages().iter(), &mut |_, outcome| match outcome {
                    Compressed::Bytes { bytes, codec, crc } => stored.push((bytes.to_vec(), codec, crc)),
                    Compressed::Incompressible { crc } => stored.push((Vec::new(), Codec::Lz4, crc)),
                })
            });
            stored
        };
        let config = || ChannelsConfig { backend: Backend::Software, ..ChannelsConfig::default() };
        let plain = Channels::new(config(), &Topology::single_node()).unwrap();
        let calls = Arc::new(AtomicUsize::new(0));
        let counted = Arc::clone(&calls);
        let wrapped = Channels::new(config(), &Topology::single_node())
            .unwrap()
            .wrapped(move |engine| Box::new(Counting(engine, Arc::clone(&counted))));
        assert_eq!(of(&wrapped), of(&plain));
        assert_eq!((wrapped.method(), wrapped.report()), (plain.method(), plain.report()));
        let (bytes, codec, crc) = of(&plain).remove(3);
        let mut page = [0u8; PAGE_SIZE];
        let one =
            wrapped.with(Purpose::Load, |channel| channel.decompress_one(codec, &bytes, crc, &mut page));
        assert!(one == Ok(()) && page == pages()[3]);
        assert_eq!(calls.load(Ordering::Relaxed), 2);
    }

    #[test]
    fn window_out_of_range_is_refused_with_the_range() {
        let config = ChannelsConfig { window: 0, ..ChannelsConfig::default() };
        let error = Channels::new(config, &Topology::single_node()).unwrap_err();
        assert_eq!(error.to_string(), "window of 0 pages in flight; it must be 1 to 128");
    }
}
