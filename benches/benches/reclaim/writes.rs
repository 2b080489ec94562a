//! Batches of writeback to a file, by io_uring and by `pwritev` in turn: whether having them all in flight pays.
//!
//! Two files beside each other, the same pages to the same slots, in batches as the shrinker writes them. What was last written to each slot is
//! read back after each round and compared. Both are written once before, so that the file system has given every slot its place.

use std::io;
use std::path::Path;
use std::time::Instant;

use zfolio::{FileDevice, PAGE_SIZE, Page, PageBytes, PageWrite, SwapDevice, WriteMethod};

use crate::{Options, Random, at, median, pages};

/// Slots of each file.
const SLOTS: usize = 16_384;
/// Pages of a round, and of a batch.
const ROUND: usize = 4096;
const BATCH: usize = 64;

/// Which slots a batch goes to: so many runs of consecutive ones.
const RUNS: [usize; 3] = [1, 8, 64];

/// Seconds of wall and of CPU for a round: pwritev's, io_uring's.
type Round = [(f64, f64); 2];

pub(crate) fn run(options: &Options) -> Result<(), String> {
    let sources = pages(SLOTS, 6);
    for direct in [false, true] {
        let kind = if direct { "O_DIRECT" } else { "page cache" };
        for runs in RUNS {
            match measure(options, &sources, direct, runs) {
                Ok(Some(rounds)) => report(kind, runs, &rounds),
                Ok(None) => return Ok(()),
                Err(error) if direct => println!("skipped: {kind}: {error}"),
                Err(error) => return Err(error.to_string()),
            }
        }
    }
    Ok(())
}

fn measure(
    options: &Options,
    sources: &[PageBytes],
    direct: bool,
    runs: usize,
) -> io::Result<Option<Vec<Round>>> {
    let dir = tempfile::tempdir_in(&options.dir)?;
    let open = |path: &Path, ring| {
        let slots = u32::try_from(SLOTS).expect("few");
        Ok::<FileDevice, io::Error>(FileDevice::open(path, slots, direct)?.with_io_uring(ring))
    };
    let devices = [open(&dir.path().join("pwritev"), false)?, open(&dir.path().join("ring"), true)?];
    if devices[1].write_method() != WriteMethod::IoUring {
        println!("skipped: writes: {}", devices[1].write_method());
        return Ok(None);
    }
    let mut random = Random::new(7);
    // What each slot holds.
    let mut held: Vec<usize> = (0..SLOTS).collect();
    for device in &devices {
        write(device, &held, &held, sources)?;
    }
    let mut rounds = Vec::new();
    for round in 0..=options.rounds {
        let slots: Vec<usize> = (0..ROUND / BATCH).flat_map(|_| batch(&mut random, runs)).collect();
        for &slot in &slots {
            held[slot] = random.below(SLOTS);
        }
        let tags: Vec<usize> = slots.iter().map(|&slot| held[slot]).collect();
        let mut taken = Round::default();
        for turn in 0..2 {
            let device = (round + turn) % 2;
            let (start, cpu) = (Instant::now(), cpu_seconds());
            write(&devices[device], &slots, &tags, sources)?;
            taken[device] = (start.elapsed().as_secs_f64(), cpu_seconds() - cpu);
        }
        let mut page = Page::zeroed();
        for device in &devices {
            for (slot, &tag) in held.iter().enumerate() {
                device.read(at(slot), &mut page)?;
                assert!(*page == sources[tag], "slot {slot} came back changed");
            }
        }
        // The first one warms up.
        if round > 0 {
            rounds.push(taken);
        }
    }
    Ok(Some(rounds))
}

/// The slots of a batch, ascending, no slot twice.
fn batch(random: &mut Random, runs: usize) -> Vec<usize> {
    let (len, stride) = (BATCH / runs, SLOTS / runs);
    (0..runs)
        .flat_map(|run| {
            let first = run * stride + random.below(stride - len);
            first..first + len
        })
        .collect()
}

/// Writes the page of each tag to its slot.
fn write(device: &FileDevice, slots: &[usize], tags: &[usize], sources: &[PageBytes]) -> io::Result<()> {
    // Aligned and copied, as the shrinker's are that it decompresses into.
    let mut buffers = Page::zeroed_vec(BATCH);
    for (slots, tags) in slots.chunks(BATCH).zip(tags.chunks(BATCH)) {
        for (buffer, &tag) in buffers.iter_mut().zip(tags) {
            buffer.copy_from_slice(&sources[tag]);
        }
        let mut writes: Vec<PageWrite<'_>> =
            slots.iter().zip(&buffers).map(|(&slot, page)| PageWrite::new(at(slot), page)).collect();
        device.write_batch(&mut writes);
        for write in writes {
            write.into_result()?;
        }
    }
    Ok(())
}

/// CPU seconds of the process so far, the kernel's workers among its threads included.
fn cpu_seconds() -> f64 {
    // SAFETY: zeros are a valid `rusage`, which the call fills in.
    let usage = unsafe {
        let mut usage: libc::rusage = std::mem::zeroed();
        assert_eq!(libc::getrusage(libc::RUSAGE_SELF, &mut usage), 0);
        usage
    };
    let seconds = |time: libc::timeval| time.tv_sec as f64 + time.tv_usec as f64 / 1e6;
    seconds(usage.ru_utime) + seconds(usage.ru_stime)
}

fn report(kind: &str, runs: usize, rounds: &[Round]) {
    let of = |figure: &dyn Fn(&Round) -> f64| median(&rounds.iter().map(figure).collect::<Vec<_>>());
    println!("batches of {BATCH} pages in {runs} runs of consecutive slots ({kind}):");
    for (device, name) in ["pwritev", "io_uring"].iter().enumerate() {
        let (rate, slow, fast) = of(&|round| ROUND as f64 / round[device].0 / 1000.0);
        let cpu = of(&|round| 1e6 * round[device].1 / ROUND as f64).0;
        println!("  {name:<9}{rate:>8.1} kpages/s [{slow:.1} .. {fast:.1}], {cpu:.2} us of CPU a page");
    }
    let (ratio, low, high) = of(&|round| round[0].0 / round[1].0);
    println!("  io_uring is {ratio:.2} [{low:.2} .. {high:.2}] times as fast; {:.0} MB/s", {
        of(&|round| (ROUND * PAGE_SIZE) as f64 / round[1].0 / 1e6).0
    });
}
