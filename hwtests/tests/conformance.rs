//! What every backend must do for the store to lose no page. Each test is a function that takes a backend; the macro
//! at the end stamps all of them for each backend there is to be.
//!
//! To see the skips and their reasons: `cargo test -p zfolio-hwtests -- --nocapture`.

#![allow(clippy::unwrap_used)]

use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};

use zfolio::{
    Backend, Codec, Config, EngineError, Folio, LoadError, NodeId, PAGE_SIZE, Page, PageBytes, StoreError,
    SwapEntry, Zswap,
};
use zfolio_accel::{Channels, ChannelsConfig, Compressed, Job, Method, Purpose, Topology, crc32};

/// A backend with the method that it stores by.
#[derive(Clone, Copy, Debug)]
struct Case {
    backend: &'static str,
    method: Method,
}

const SOFTWARE_LZ4: Case = Case { backend: "software", method: Method::Lz4 };
const SOFTWARE_DEFLATE: Case = Case { backend: "software", method: Method::Deflate };
const SOFTWARE_DEFLATE_DYNAMIC: Case = Case { backend: "software", method: Method::DeflateDynamic };
const SOFTWARE_VW: Case = Case { backend: "software", method: Method::Vw };
const MODEL: Case = Case { backend: "model", method: Method::Deflate };
/// In two steps, as the model is of the first generation.
const MODEL_DYNAMIC: Case = Case { backend: "model", method: Method::DeflateDynamic };
const DIRECT: Case = Case { backend: "direct", method: Method::Deflate };
const DIRECT_DYNAMIC: Case = Case { backend: "direct", method: Method::DeflateDynamic };
const QPL: Case = Case { backend: "qpl", method: Method::Deflate };
const QPL_SOFTWARE: Case = Case { backend: "qpl-software", method: Method::Deflate };

impl Case {
    /// The backend, or the reason to skip it.
    ///
    /// # Panics
    /// When it has to be skipped and must not be.
    fn backend(self) -> Option<Backend> {
        let reason = match self.backend.parse::<Backend>() {
            Ok(backend) => match Channels::new(self.config(backend, 8), &Topology::single_node()) {
                Ok(_) => return Some(backend),
                Err(error) => error.to_string(),
            },
            Err(_) => "not in this version".to_owned(),
        };
        println!("skipped: backend {}: {reason}", self.backend);
        let required = std::env::var("REQUIRE_IAA").is_ok_and(|value| value == "1");
        assert!(!required, "REQUIRE_IAA=1, but backend {} cannot be had: {reason}", self.backend);
        None
    }

    fn config(self, backend: Backend, window: usize) -> ChannelsConfig {
        ChannelsConfig { backend, method: Some(self.method), window, ..ChannelsConfig::default() }
    }

    fn channels(self, window: usize) -> Option<Channels> {
        let backend = self.backend()?;
        Some(Channels::new(self.config(backend, window), &Topology::single_node()).unwrap())
    }

    fn store(self) -> Option<Zswap> {
        let config = Config { backend: self.backend()?, method: Some(self.method), ..Config::default() };
        let zswap = Zswap::new(config).unwrap();
        zswap.swapon(0, 1 << 16).unwrap();
        Some(zswap)
    }
}

fn at(offset: usize) -> SwapEntry {
    SwapEntry::new(0, u32::try_from(offset).unwrap())
}

fn noise(seed: u64) -> PageBytes {
    let mut state = seed << 1 | 1;
    std::array::from_fn(|_| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 56) as u8
    })
}

/// Pages of every kind that memory has, and of every length that they can shrink to.
fn pages() -> Vec<PageBytes> {
    let mut pages = vec![[0; PAGE_SIZE], [0x5a; PAGE_SIZE], noise(1)];
    // Text.
    let text = b"a userspace zswap: pages in, compressed pages kept in memory on the right node, pages out. ";
    pages.push(std::array::from_fn(|i| text[i % text.len()]));
    // Pointers into one heap, and counters beside them.
    let mut pointers = [0; PAGE_SIZE];
    for (k, words) in pointers.as_chunks_mut::<16>().0.iter_mut().enumerate() {
        words[..8]
            .copy_from_slice(&(0x7f3a_1c00_0000u64 + (k as u64 * 2654435761 % 65536) * 16).to_ne_bytes());
        words[8..].copy_from_slice(&(k as u64 % 7).to_ne_bytes());
    }
    pages.push(pointers);
    // Floats, a bitmap, one byte at either end, a repeat that is half a page away.
    pages.push(std::array::from_fn(|i| (((i / 8) as f64).sqrt().to_ne_bytes())[i % 8]));
    pages.push(std::array::from_fn(|i| if i % 97 == 0 { 0x80 } else { 0xff }));
    for place in [0, PAGE_SIZE - 1] {
        let mut page = [0; PAGE_SIZE];
        page[place] = 1;
        pages.push(page);
    }
    let half = noise(2);
    pages.push(std::array::from_fn(|i| half[i % (PAGE_SIZE / 2)]));
    for len in (1..PAGE_SIZE).step_by(61) {
        let random = noise(len as u64);
        pages.push(std::array::from_fn(|i| if i < len { random[i] } else { (len % 251) as u8 }));
    }
    pages
}

/// A page as it was compressed: bytes, codec and CRC; without bytes if it did not shrink.
type Stored = (Option<Vec<u8>>, Codec, u32);

fn compress(channels: &Channels, pages: &[PageBytes]) -> Vec<Stored> {
    let mut stored = Vec::new();
    let mut sink = |index, outcome: Compressed<'_>| {
        assert_eq!(index, stored.len(), "results come in the order of the pages");
        stored.push(match outcome {
            Compressed::Bytes { bytes, codec, crc } => {
                assert!((1..PAGE_SIZE).contains(&bytes.len()), "{} bytes of page {index}", bytes.len());
                (Some(bytes.to_vec()), codec, crc)
            }
            Compressed::Incompressible { crc } => (None, channels.method().codec(), crc),
        });
    };
    channels.with(Purpose::Store, |channel| channel.compress(&mut pages.iter(), &mut sink));
    stored
}

fn decompress(channels: &Channels, codec: Codec, bytes: &[u8], crc: u32) -> Result<PageBytes, EngineError> {
    let mut page = [0xee; PAGE_SIZE];
    let mut jobs = [Some(Job::new(codec, bytes, crc, &mut page))];
    channels.with(Purpose::Load, |channel| channel.decompress(&mut jobs));
    let result = jobs[0].take().expect("the job is still there").result();
    result.map(|()| page)
}

fn every_kind_of_page_comes_back_with_every_window(case: Case) {
    let pages = pages();
    for window in [1, 2, 3, 8, 64, 128] {
        let Some(channels) = case.channels(window) else { return };
        let stored = compress(&channels, &pages);
        assert_eq!(stored.len(), pages.len(), "window {window}");
        for (index, (page, (bytes, codec, crc))) in pages.iter().zip(&stored).enumerate() {
            assert_eq!(*crc, crc32(page), "CRC of page {index}");
            let Some(bytes) = bytes else { continue };
            assert_eq!(*codec, case.method.codec());
            assert!(decompress(&channels, *codec, bytes, *crc) == Ok(*page), "page {index}, window {window}");
        }
        let mut out = Page::zeroed_vec(pages.len());
        let mut jobs: Vec<Option<Job<'_>>> = Vec::new();
        for ((bytes, codec, crc), page) in stored.iter().zip(&mut out) {
            jobs.push(bytes.as_ref().map(|bytes| Job::new(*codec, bytes, *crc, page)));
        }
        channels.with(Purpose::Load, |channel| channel.decompress(&mut jobs));
        let results: Vec<_> = jobs.iter().map(|job| job.as_ref().map(|job| job.result())).collect();
        for (index, result) in results.into_iter().enumerate() {
            let Some(result) = result else { continue };
            assert_eq!(result, Ok(()));
            assert!(*out[index] == pages[index], "page {index} of a batch, window {window}");
        }
    }
}

fn page_that_does_not_shrink_is_said_to_be_incompressible(case: Case) {
    let Some(channels) = case.channels(8) else { return };
    let stored = compress(&channels, &[noise(3), [7; PAGE_SIZE], noise(4)]);
    assert!(stored[0].0.is_none() && stored[1].0.is_some() && stored[2].0.is_none());
}

fn panic_in_the_sink_leaves_the_channel_usable(case: Case) {
    let Some(channels) = case.channels(8) else { return };
    let pages = pages();
    for k in [0, 1, 7, 20] {
        let mut told = 0;
        let caught = catch_unwind(AssertUnwindSafe(|| {
            let mut sink = |index, _: Compressed<'_>| {
                told = index;
                if index == k {
                    resume_unwind(Box::new("the sink panics"));
                }
            };
            channels.with(Purpose::Store, |channel| channel.compress(&mut pages.iter(), &mut sink));
        }));
        assert!(caught.is_err() && told == k);
        for (index, (bytes, codec, crc)) in compress(&channels, &pages).into_iter().enumerate() {
            let Some(bytes) = bytes else { continue };
            assert!(decompress(&channels, codec, &bytes, crc) == Ok(pages[index]), "page {index} afterwards");
        }
    }
}

fn work_ends_where_the_iterator_ends_it(case: Case) {
    let Some(channels) = case.channels(8) else { return };
    assert!(compress(&channels, &[]).is_empty());
    assert_eq!(compress(&channels, &pages()[..3]).len(), 3);
}

/// Of QPL, too, which only these tests drive.
fn pages_under_way_are_counted_once_for_each_descriptor(case: Case) {
    for window in [1, 8] {
        let Some(channels) = case.channels(window) else { return };
        compress(&channels, &pages());
        let (under_way, submitted) = (channels.under_way(), channels.device_counts().submitted);
        assert!(submitted > 0 || case.backend == "software");
        assert_eq!(under_way.iter().sum::<u64>(), submitted, "window {window}: {under_way:?}");
        assert_eq!(under_way[1..=window].iter().sum::<u64>(), submitted, "window {window}: {under_way:?}");
    }
}

fn corrupt_bytes_are_an_error_and_never_a_page(case: Case) {
    let Some(channels) = case.channels(8) else { return };
    let page = pages()[3];
    let (bytes, codec, crc) = compress(&channels, &[page]).remove(0);
    let bytes = bytes.expect("text shrinks");
    for len in 0..bytes.len() {
        assert!(decompress(&channels, codec, &bytes[..len], crc).is_err(), "cut after {len} bytes");
    }
    for bit in 0..bytes.len() * 8 {
        let mut bytes = bytes.clone();
        bytes[bit / 8] ^= 1 << (bit % 8);
        // A bit that means nothing may be turned without harm; another page must not come out.
        let result = decompress(&channels, codec, &bytes, crc);
        assert!(result.is_err() || result == Ok(page), "bit {bit}");
    }
    assert_eq!(decompress(&channels, codec, &bytes, !crc).unwrap_err(), EngineError::CrcMismatch);
}

fn bad_page_of_a_batch_fails_alone(case: Case) {
    for window in [1, 4, 64] {
        let Some(channels) = case.channels(window) else { return };
        let pages = pages();
        let mut stored: Vec<(usize, Vec<u8>, Codec, u32)> = compress(&channels, &pages)
            .into_iter()
            .enumerate()
            .filter_map(|(index, (bytes, codec, crc))| Some((index, bytes?, codec, crc)))
            .collect();
        // Every third is cut, turned about, or another page's, in turn.
        for (k, (_, bytes, _, crc)) in stored.iter_mut().enumerate().filter(|(k, _)| k % 3 == 1) {
            match k / 3 % 3 {
                0 => bytes.truncate(bytes.len() / 2),
                1 => bytes.iter_mut().for_each(|byte| *byte = !*byte),
                _ => *crc ^= 1,
            }
        }
        let mut out = Page::zeroed_vec(stored.len());
        let jobs = stored.iter().zip(&mut out);
        let mut jobs: Vec<_> =
            jobs.map(|((_, bytes, codec, crc), page)| Some(Job::new(*codec, bytes, *crc, page))).collect();
        channels.with(Purpose::Load, |channel| channel.decompress(&mut jobs));
        let results: Vec<_> = jobs.iter().map(|job| job.as_ref().expect("still there").result()).collect();
        for (k, (result, page)) in results.iter().zip(&out).enumerate() {
            if k % 3 == 1 {
                assert!(result.is_err(), "job {k}, window {window}: bad bytes became a page");
            } else {
                assert_eq!(*result, Ok(()), "job {k}, window {window}");
                assert!(**page == pages[stored[k].0], "job {k}, window {window}");
            }
        }
    }
}

/// A child that drove its parent's queue would have the device write to the parent's memory.
fn child_of_fork_is_refused_and_its_parent_goes_on(case: Case) {
    let Some(zswap) = case.store() else { return };
    let pages = pages();
    zswap.store(&Folio::new(at(0), NodeId(0), &pages[..32]).unwrap()).unwrap();
    // SAFETY: the child uses the store and its own stack, and leaves without running the test harness.
    let child = unsafe { libc::fork() };
    assert!(child >= 0, "{}", std::io::Error::last_os_error());
    if child == 0 {
        // SAFETY: sets a timer of the child's.
        unsafe { libc::alarm(60) };
        let refused = catch_unwind(AssertUnwindSafe(|| {
            let mut out = [0; PAGE_SIZE];
            let folio = Folio::new(at(64), NodeId(0), &pages[..1]).unwrap();
            zswap.load(at(3), &mut out) == Err(LoadError::Forked)
                && zswap.store(&folio) == Err(StoreError::Forked)
        }));
        // SAFETY: ends the child at once.
        unsafe { libc::_exit(i32::from(!refused.unwrap_or(false))) };
    }
    let mut status = 0;
    // SAFETY: waits for the child made above; its alarm ends it if it hangs.
    assert_eq!(unsafe { libc::waitpid(child, &mut status, 0) }, child);
    assert!(libc::WIFEXITED(status) && libc::WEXITSTATUS(status) == 0, "the child ended with {status:#x}");
    let mut out = [0; PAGE_SIZE];
    for (offset, page) in pages[..32].iter().enumerate() {
        zswap.load(at(offset), &mut out).unwrap();
        assert!(out == *page, "page {offset}, after the child");
    }
    zswap.store(&Folio::new(at(0), NodeId(0), &pages[..32]).unwrap()).unwrap();
    zswap.check().unwrap();
}

fn store_gives_back_every_page_of_every_folio_size(case: Case) {
    let pages: Vec<PageBytes> = pages().into_iter().cycle().take(512).collect();
    for size in [1, 4, 16, 512] {
        let Some(zswap) = case.store() else { return };
        for (k, chunk) in pages.chunks(size).enumerate() {
            zswap.store(&Folio::new(at(k * size), NodeId(0), chunk).unwrap()).unwrap();
        }
        zswap.check().unwrap();
        let mut page = [0; PAGE_SIZE];
        for (offset, expected) in pages.iter().enumerate() {
            zswap.read(at(offset), &mut page).unwrap();
            assert!(page == *expected, "read of page {offset}, folios of {size}");
            zswap.load(at(offset), &mut page).unwrap();
            assert!(page == *expected, "load of page {offset}, folios of {size}");
            assert_eq!(zswap.load(at(offset), &mut page), Err(LoadError::NotFound));
        }
        zswap.check().unwrap();
        assert_eq!((zswap.stats().stored_pages, zswap.stats().object_bytes), (0, 0));
    }
}

fn batch_gives_each_page_once_though_it_is_asked_for_twice(case: Case) {
    let Some(zswap) = case.store() else { return };
    let pages: Vec<PageBytes> = pages().into_iter().cycle().take(128).collect();
    zswap.store(&Folio::new(at(0), NodeId(0), &pages).unwrap()).unwrap();
    let entries: Vec<SwapEntry> = (0..300).map(|k| at(k * 37 % 150)).collect();
    let mut out = Page::zeroed_vec(entries.len());
    let mut loaded = vec![0; 150];
    let mut results = vec![None; entries.len()];
    zswap.load_batch(&entries, &mut out, |index, result| {
        assert!(results[index].replace(result).is_none(), "told twice of {index}");
    });
    for ((entry, result), page) in entries.iter().zip(results).zip(&out) {
        match result.expect("told of every entry") {
            Ok(()) => {
                let offset = entry.offset() as usize;
                loaded[offset] += 1;
                assert!(**page == pages[offset], "{entry}");
            }
            Err(error) => assert_eq!(error, LoadError::NotFound),
        }
    }
    assert!(loaded[..128].iter().all(|&times| times == 1) && loaded[128..].iter().all(|&times| times == 0));
    zswap.check().unwrap();
}

/// Nothing is decoded by configuration: a store whose default changes still reads all that it holds.
fn page_of_another_codec_is_read_all_the_same(case: Case) {
    let Some(channels) = case.channels(8) else { return };
    let pages = pages();
    for method in Method::ALL {
        let config = ChannelsConfig {
            backend: Backend::Software,
            method: Some(method),
            window: 8,
            ..ChannelsConfig::default()
        };
        let others = Channels::new(config, &Topology::single_node()).unwrap();
        for (index, (bytes, codec, crc)) in compress(&others, &pages).into_iter().enumerate() {
            let Some(bytes) = bytes else { continue };
            assert!(decompress(&channels, codec, &bytes, crc) == Ok(pages[index]), "page {index} in {codec}");
        }
    }
}

macro_rules! stamp {
    ($($module:ident => $case:expr,)*) => {
        $(mod $module {
            use super::*;
            stamp!(@ $case,
                every_kind_of_page_comes_back_with_every_window,
                page_that_does_not_shrink_is_said_to_be_incompressible,
                panic_in_the_sink_leaves_the_channel_usable,
                work_ends_where_the_iterator_ends_it,
                pages_under_way_are_counted_once_for_each_descriptor,
                corrupt_bytes_are_an_error_and_never_a_page,
                bad_page_of_a_batch_fails_alone,
                child_of_fork_is_refused_and_its_parent_goes_on,
                store_gives_back_every_page_of_every_folio_size,
                batch_gives_each_page_once_though_it_is_asked_for_twice,
                page_of_another_codec_is_read_all_the_same,
            );
        })*
    };
    (@ $case:expr, $($test:ident,)*) => {
        $(#[test]
        fn $test() {
            super::$test($case);
        })*
    };
}

stamp! {
    software_lz4 => SOFTWARE_LZ4,
    software_deflate => SOFTWARE_DEFLATE,
    software_deflate_dynamic => SOFTWARE_DEFLATE_DYNAMIC,
    software_vw => SOFTWARE_VW,
    model => MODEL,
    model_dynamic => MODEL_DYNAMIC,
    direct => DIRECT,
    direct_dynamic => DIRECT_DYNAMIC,
    qpl => QPL,
    qpl_software => QPL_SOFTWARE,
}
