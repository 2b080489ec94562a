//! Streams of QPL and streams of ours: each reads the other's, whatever made them and however long they are.
//!
//! QPL is asked directly, one job at a time, because its streams here are not only pages. Where the library is missing,
//! or has no device, that is said and skipped.

#![allow(clippy::unwrap_used)]

use std::alloc::{Layout, alloc_zeroed, dealloc};
use std::time::{Duration, Instant};

use qpl_sys::status::{BEING_PROCESSED, OK, Status};
use qpl_sys::{Library, OP_COMPRESS, OP_DECOMPRESS, PATH_HARDWARE, PATH_SOFTWARE, flag, qpl_job, qpl_path_t};
use zfolio_accel::{Backend, Channels, ChannelsConfig, Job, PAGE_SIZE, Purpose, Topology, crc32};
use zfolio_fallback::{Codec, Codecs, Method, check, max_compressed_len};

/// A job takes microseconds; this is for a machine that has other things to do.
const DEADLINE: Duration = Duration::from_secs(10);

/// One job of QPL, used again and again.
struct Qpl {
    library: Library,
    job: *mut qpl_job,
    layout: Layout,
}

impl Qpl {
    /// A job of this path, or why there is none.
    fn new(library: &Library, path: qpl_path_t) -> Result<Qpl, String> {
        let size = library.job_size(path).map_err(|status| Status(status).to_string())?;
        let layout = Layout::from_size_align(size, 64).unwrap();
        // SAFETY: the size is not zero.
        let job = unsafe { alloc_zeroed(layout) }.cast::<qpl_job>();
        let qpl = Qpl { library: library.clone(), job, layout };
        // SAFETY: zeroed, aligned, large enough, and never moved.
        match unsafe { library.init_job(path, job) } {
            OK => Ok(qpl),
            bad => Err(Status(bad).to_string()),
        }
    }

    /// Runs one job over `input` into at most `max_output` bytes: output and CRC-32.
    fn run(
        &mut self,
        op: u32,
        flags: u32,
        input: &[u8],
        max_output: usize,
    ) -> Result<(Vec<u8>, u32), Status> {
        let mut output = vec![0; max_output];
        // SAFETY: the job was made by `init_job` and is not in flight; input and output outlive it, because this
        // function waits for its end or the test ends here.
        unsafe {
            (*self.job).op = op;
            (*self.job).flags = flag::FIRST | flag::LAST | flags;
            (*self.job).level = qpl_sys::LEVEL_DEFAULT;
            (*self.job).next_in_ptr = input.as_ptr().cast_mut();
            (*self.job).available_in = u32::try_from(input.len()).unwrap();
            (*self.job).next_out_ptr = output.as_mut_ptr();
            (*self.job).available_out = u32::try_from(output.len()).unwrap();
            (*self.job).numa_id = qpl_sys::NUMA_ANY;
            let mut ended = self.library.submit_job(self.job);
            let deadline = Instant::now() + DEADLINE;
            if ended == OK {
                ended = self.library.check_job(self.job);
                while ended == BEING_PROCESSED {
                    if Instant::now() > deadline {
                        std::mem::forget(output);
                        panic!("QPL did not end a job");
                    }
                    ended = self.library.check_job(self.job);
                }
            }
            if ended != OK {
                return Err(Status(ended));
            }
            output.truncate((*self.job).total_out as usize);
            Ok((output, (*self.job).crc))
        }
    }
}

impl Drop for Qpl {
    fn drop(&mut self) {
        // SAFETY: no job is in flight, and the memory is the one of `new`.
        unsafe {
            self.library.fini_job(self.job);
            dealloc(self.job.cast(), self.layout);
        }
    }
}

/// The paths of QPL that there are here, each with its name.
fn paths() -> Vec<(&'static str, Qpl)> {
    let library = match Library::load() {
        Ok(library) => library,
        Err(error) => {
            println!("skipped: {error}");
            return Vec::new();
        }
    };
    let mut paths = vec![("software", Qpl::new(&library, PATH_SOFTWARE).unwrap())];
    // The first use of the hardware can hang; the backend finds out whether it does.
    let config = ChannelsConfig { backend: Backend::Qpl, ..ChannelsConfig::default() };
    match Channels::new(config, &Topology::single_node()) {
        Ok(_) => paths.push(("hardware", Qpl::new(&library, PATH_HARDWARE).unwrap())),
        Err(error) => println!("skipped: QPL's hardware path: {error}"),
    }
    paths
}

/// Data of several kinds, in lengths from one byte to 64 KiB, about pages and about nothing in particular.
fn samples() -> Vec<Vec<u8>> {
    let mut state = 1u64;
    let mut random = move || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        state >> 40
    };
    let mut samples = Vec::new();
    for len in [1, 2, 3, 7, 64, 255, 1000, 4095, 4096, 4097, 8192, 20_000, 65_535, 65_536] {
        samples.push(vec![0; len]);
        samples.push((0..len).map(|_| random() as u8).collect());
        samples.push((0..len).map(|_| b"etaoin shrdlu"[(random() % 13) as usize]).collect());
        // A heap: pointers that share their upper bytes, and small counters.
        let word = |at: usize, random: u64| {
            if at.is_multiple_of(2) { 0x7f00_1234_0000 + random % 4096 * 16 } else { random % 9 }
        };
        let words = (0..len.div_ceil(8)).flat_map(|at| word(at, random()).to_ne_bytes());
        samples.push(words.take(len).collect());
        // What repeats just within and just beyond the window of 4096 bytes.
        for period in [4096, 4097] {
            let unit: Vec<u8> = (0..period).map(|_| random() as u8).collect();
            samples.push(unit.iter().cycle().take(len).copied().collect());
        }
    }
    samples
}

#[test]
fn every_stream_of_qpl_is_read_by_us() {
    let mut codecs = Codecs::new();
    for (name, mut qpl) in paths() {
        for (index, data) in samples().into_iter().enumerate() {
            for flags in [flag::OMIT_VERIFY, flag::OMIT_VERIFY | flag::DYNAMIC_HUFFMAN] {
                let what = format!("{name} path, sample {index} of {} bytes, flags {flags:#x}", data.len());
                let (stream, crc) = qpl
                    .run(OP_COMPRESS, flags, &data, 2 * data.len() + 4096)
                    .unwrap_or_else(|status| panic!("{what}: {status}"));
                assert_eq!(crc, crc32(&data), "{what}");
                let mut back = vec![0; data.len()];
                // zlib-rs, which is what reads DEFLATE in software.
                codecs
                    .decompress(Codec::Deflate, &stream, &mut back)
                    .unwrap_or_else(|error| panic!("{what}: {error}"));
                assert!(back == data, "{what}");
                // An inflater of our own that knows the device's limits: does it find a match beyond 4096 bytes?
                let strict =
                    check::inflate(&stream, data.len()).unwrap_or_else(|error| panic!("{what}: {error}"));
                assert!(strict.bytes == data, "{what}");
            }
        }
    }
}

#[test]
fn every_stream_of_ours_is_read_by_qpl() {
    let mut codecs = Codecs::new();
    for (name, mut qpl) in paths() {
        for (index, data) in samples().into_iter().enumerate() {
            for method in [Method::Deflate, Method::DeflateDynamic] {
                let what = format!("{name} path, sample {index} of {} bytes, {method}", data.len());
                let mut stream = vec![0; max_compressed_len(data.len())];
                let len = codecs.compress(method, &data, &mut stream).unwrap();
                let (back, crc) = qpl
                    .run(OP_DECOMPRESS, 0, &stream[..len], data.len())
                    .unwrap_or_else(|status| panic!("{what}: {status}"));
                assert!(back == data && crc == crc32(&data), "{what}");
            }
        }
    }
}

#[test]
fn pages_of_qpl_are_read_by_the_direct_engine_and_the_other_way_round() {
    let config = ChannelsConfig { backend: Backend::Model, ..ChannelsConfig::default() };
    let model = Channels::new(config, &Topology::single_node()).unwrap();
    for (name, mut qpl) in paths() {
        for (index, data) in samples().into_iter().filter(|data| data.len() == PAGE_SIZE).enumerate() {
            let page: [u8; PAGE_SIZE] = data.as_slice().try_into().unwrap();
            for flags in [flag::OMIT_VERIFY, flag::OMIT_VERIFY | flag::DYNAMIC_HUFFMAN] {
                // Streams longer than a page are never stored.
                let Ok((stream, crc)) = qpl.run(OP_COMPRESS, flags, &page, PAGE_SIZE - 1) else { continue };
                let mut back = [0; PAGE_SIZE];
                let mut jobs = [Some(Job::new(Codec::Deflate, &stream, crc, &mut back))];
                model.with(Purpose::Load, |channel| channel.decompress(&mut jobs));
                assert_eq!(jobs[0].as_ref().unwrap().result(), Ok(()), "{name} path, page {index}");
                assert!(back == page, "{name} path, page {index}");
            }
            model.with(Purpose::Store, |channel| {
                channel.compress(&mut [&page].into_iter(), &mut |_, outcome| {
                    if let zfolio_accel::Compressed::Bytes { bytes, .. } = outcome {
                        let (back, crc) = qpl.run(OP_DECOMPRESS, 0, bytes, PAGE_SIZE).unwrap();
                        assert!(back == page && crc == crc32(&page), "{name} path, page {index}");
                    }
                });
            });
        }
    }
    assert_eq!(model.fallbacks(), zfolio_accel::FallbackCounts::default(), "the model itself did every page");
}
