//! Everything at once, for as long as one likes: `ci/soak.sh MINUTES`. Each round is a store with settings of its own, whose
//! every byte is verified while shrinkers, compaction, a reclaimer, tenants, swap areas and a moody device do their worst.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use zfolio_accel::{Engine, EngineError, Job, Outcome, Software};

use super::swap::{Moody, work};
use super::*;
use crate::{
    Incompressible, MemoryDevice, Placement, Reclaimer, ReclaimerConfig, Swap, TenantConfig, TenantId,
};

/// Software that fails every few pages and leaves rubbish behind, as a device does.
struct MoodyEngine(Software, u64);

impl MoodyEngine {
    fn fails(&mut self) -> bool {
        self.1 += 1;
        self.1 % 13 == 5
    }
}

impl Engine for MoodyEngine {
    fn name(&self) -> &'static str {
        "moody"
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
            if self.fails() {
                sink(Outcome::Failed { page, error: EngineError::TimedOut });
            } else {
                self.0.compress(&mut std::iter::once(page), sink);
            }
        }
    }

    fn decompress(&mut self, jobs: &mut [Option<Job<'_>>]) {
        self.0.decompress(jobs);
        for job in jobs.iter_mut().flatten() {
            if self.fails() {
                job.page.fill(0xbd);
                job.finish(Err(EngineError::PageFault));
            }
        }
    }
}

fn round(seed: u64) -> u64 {
    let mut random = Random::new(seed);
    let topology = if random.below(2) == 0 { Topology::single_node() } else { machine(&[0, 1]) };
    let config = Config {
        method: Some(Method::ALL[random.below(Method::ALL.len())]),
        max_pool: Limit::Bytes((20 + random.below(2000)) as u64 * PAGE_SIZE as u64),
        accept_threshold_percent: [50, 90, 100][random.below(3)],
        incompressible: [Incompressible::StoreRaw, Incompressible::Refuse][random.below(2)],
        warm_bytes: [0, 1 << 16, 1 << 30][random.below(3)],
        placement: [Placement::Prefer, Placement::Prefer, Placement::Dense][random.below(3)],
        node_limits: match random.below(3) {
            0 => vec![(NodeId(0), Limit::Bytes((10 + random.below(500)) as u64 * PAGE_SIZE as u64))],
            _ => Vec::new(),
        },
        ..Config::default()
    };
    let channels = if random.below(2) == 0 {
        let channels = ChannelsConfig { method: config.method, ..ChannelsConfig::default() };
        Channels::new(channels, &topology).unwrap()
    } else {
        let method = config.method.unwrap();
        Channels::with_engine(method, &topology, "moody", move |_, _| {
            Box::new(MoodyEngine(Software::new(method, 1), seed))
        })
    };
    let zswap = Arc::new(Zswap::with_channels(config, &topology, channels).unwrap());
    let device = Arc::new(Moody(MemoryDevice::new(), AtomicU64::new(0)));
    zswap.swapon_with_device(0, 1 << 16, device.clone()).unwrap();
    let swap = Swap::new(Arc::clone(&zswap));
    let reclaimer = (random.below(2) == 0).then(|| {
        let every = Some(Duration::from_millis(2));
        let config = ReclaimerConfig { compact_every: every, ..ReclaimerConfig::default() };
        Reclaimer::spawn(Arc::clone(&zswap), config).unwrap()
    });
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let (zswap, stop, swap) = (&zswap, &stop, &swap);
        scope.spawn(move || {
            let mut random = Random::new(seed + 1);
            while !stop.load(Ordering::Relaxed) {
                let nid = NodeId(random.below(zswap.nodes.len()) as u16);
                zswap.shrink(nid, random.below(1 << 17) as u64).unwrap();
                zswap.compact(nid, Duration::from_micros(200)).unwrap();
                zswap.repair(nid, Duration::from_micros(200)).unwrap();
                zswap.tick();
                let dense = Method::DeflateDynamic;
                zswap.recompress(nid, dense, 1, Duration::from_micros(300)).unwrap();
                zswap.shrink_tenant(TenantId(1 + random.below(3) as u16), 1 << 12).unwrap();
                zswap.release_warm();
                assert!(zswap.prometheus().len() > 1000);
            }
        });
        // Tenants and a swap area that come and go.
        scope.spawn(move || {
            let mut random = Random::new(seed + 2);
            while !stop.load(Ordering::Relaxed) {
                zswap.swapon_with_device(1, 4096, device.clone()).unwrap();
                let tenant = TenantId(1 + random.below(3) as u16);
                let limit = Some(Limit::Bytes(random.below(1 << 18) as u64));
                let created = zswap.create_tenant(tenant, TenantConfig { limit, ..TenantConfig::default() });
                for k in 0..64 {
                    let pages: Vec<PageBytes> = (0..8).map(|tag| any_page(&mut random, tag)).collect();
                    let first = SwapEntry::new(1, k * 8);
                    let folio = Folio::new(first, NodeId(0), &pages).unwrap().with_tenant(tenant);
                    if zswap.store(&folio).is_ok() && random.below(2) == 0 {
                        let mut page = [0; PAGE_SIZE];
                        if swap.load(first, &mut page).is_ok() {
                            assert!(page == pages[0]);
                        }
                    }
                }
                if created.is_ok() {
                    let config = TenantConfig { limit, writeback: false, ..TenantConfig::default() };
                    zswap.configure_tenant(tenant, config).unwrap();
                    zswap.remove_tenant(tenant).unwrap();
                }
                zswap.swapoff(1).unwrap();
            }
        });
        let threads: Vec<_> = (0..2).map(|thread| scope.spawn(move || work(swap, thread, 10_000))).collect();
        let results: Vec<_> = threads.into_iter().map(|thread| thread.join()).collect();
        stop.store(true, Ordering::Relaxed);
        results.into_iter().for_each(|result| result.unwrap());
    });
    drop(reclaimer);
    let written_back = zswap.stats().written_back_pages;
    // As the threads left it, and once more when it is empty.
    zswap.check().unwrap();
    assert_nothing_is_left(&zswap);
    written_back
}

#[test]
fn everything_at_once() {
    let minutes = std::env::var("ZFOLIO_SOAK_MINUTES").ok().map(|text| text.parse::<f64>().unwrap());
    let seconds = minutes.map_or(1.0, |minutes| 60.0 * minutes);
    let (started, mut rounds, mut written_back) = (Instant::now(), 0, 0);
    while started.elapsed().as_secs_f64() < seconds {
        written_back += round(rounds);
        rounds += 1;
        if rounds % 100 == 0 {
            println!("soak: {rounds} rounds, {written_back} pages written back");
        }
    }
    assert!(written_back > 0);
    println!("soak: {rounds} rounds, {written_back} pages written back, nothing lost");
}
