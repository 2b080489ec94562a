//! A file as swap device where its file system, its limits, its kernel or its process fail it. By `pwritev` and by io_uring alike: with the
//! feature `io-uring` and a kernel that has it the tests' `ring` is one, else it is the fallback.

#![allow(clippy::unwrap_used)]

mod child;

use std::ffi::CString;
use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::fd::AsRawFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use child::in_child;
use zfolio::{
    Config, FileDevice, Folio, NodeId, PAGE_SIZE, Page, PageBytes, PageWrite, SwapDevice, SwapEntry,
    WriteMethod, Zswap,
};

/// Page cache and O_DIRECT, each by `pwritev` and by a ring.
const WAYS: [(bool, bool); 4] = [(false, false), (false, true), (true, false), (true, true)];

fn open(path: &Path, slots: u32, (direct, ring): (bool, bool)) -> Option<FileDevice> {
    match FileDevice::open(path, slots, direct) {
        Ok(device) => Some(device.with_io_uring(ring)),
        Err(error) if direct => {
            println!("skipped: O_DIRECT: {error}");
            None
        }
        Err(error) => panic!("{error}"),
    }
}

/// The page that a slot holds in its `generation`.
fn page_of(slot: u32, generation: u32) -> PageBytes {
    let mut page = [0; PAGE_SIZE];
    let mut state = u64::from(slot) << 32 | u64::from(generation);
    for (index, word) in page.as_chunks_mut::<8>().0.iter_mut().enumerate() {
        // The first word is its name; half of the rest compresses.
        *word = state.to_ne_bytes();
        if index % 2 == 0 {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        }
    }
    page
}

fn name_of(page: &PageBytes) -> (u32, u32) {
    let name = u64::from_ne_bytes(page[..8].try_into().unwrap());
    ((name >> 32) as u32, name as u32)
}

/// Writes the pages of `generation` to these slots, in one batch.
fn write(device: &FileDevice, slots: &[u32], generation: u32) -> Vec<io::Result<()>> {
    let pages: Vec<Page> = slots.iter().map(|&slot| Page::from(&page_of(slot, generation))).collect();
    let mut writes: Vec<PageWrite<'_>> =
        slots.iter().zip(&pages).map(|(&slot, page)| PageWrite::new(SwapEntry::new(0, slot), page)).collect();
    device.write_batch(&mut writes);
    writes.into_iter().map(PageWrite::into_result).collect()
}

fn holds(device: &FileDevice, slot: u32, generation: u32) -> bool {
    let mut page = Page::zeroed();
    device.read(SwapEntry::new(0, slot), &mut page).unwrap();
    *page == page_of(slot, generation)
}

/// A limit in the middle of a page: the write across it comes short, and what is behind it fails.
#[test]
fn pages_before_the_limit_of_file_size_are_written_and_the_others_told() {
    let dir = tempfile::tempdir().unwrap();
    for way in WAYS {
        let child = in_child(|| {
            let Some(device) = open(&dir.path().join(format!("{way:?}")), 128, way) else { return true };
            let limit = (10 * PAGE_SIZE + PAGE_SIZE / 2) as libc::rlim_t;
            let limit = libc::rlimit { rlim_cur: limit, rlim_max: limit };
            // SAFETY: the child has no handlers that a signal could find, and the limit is read only.
            unsafe {
                libc::signal(libc::SIGXFSZ, libc::SIG_IGN);
                assert_eq!(libc::setrlimit(libc::RLIMIT_FSIZE, &limit), 0);
            }
            let slots: Vec<u32> = (0..40).chain([50, 51, 60]).collect();
            for (result, &slot) in write(&device, &slots, 1).iter().zip(&slots) {
                match result {
                    Ok(()) => assert!(slot < 10 && holds(&device, slot, 1), "slot {slot}, {way:?}"),
                    Err(error) => {
                        assert_eq!((slot >= 10, error.raw_os_error()), (true, Some(libc::EFBIG)), "{slot}");
                    }
                }
            }
            write(&device, &[2, 3, 5], 2).iter().all(Result::is_ok) && holds(&device, 5, 2)
        });
        assert_eq!(child, Ok(()), "{way:?}");
    }
}

/// A file system that is full but for a hole in the middle of the file, which somebody made after it was opened.
#[test]
fn place_without_room_fails_its_own_page_and_no_other_of_the_run() {
    let dir = tempfile::tempdir().unwrap();
    for way in WAYS {
        let child = in_child(|| {
            if let Err(error) = mount_small(dir.path()) {
                println!("skipped: a full file system: {error}");
                return true;
            }
            let path = dir.path().join("swap");
            let Some(device) = open(&path, 64, way) else { return true };
            let first: Vec<u32> = (0..64).collect();
            assert!(write(&device, &first, 1).iter().all(Result::is_ok));
            let file = OpenOptions::new().write(true).open(&path).unwrap();
            let mode = libc::FALLOC_FL_PUNCH_HOLE | libc::FALLOC_FL_KEEP_SIZE;
            for hole in [20i64, 41] {
                let (start, len) = (hole * PAGE_SIZE as i64, PAGE_SIZE as i64);
                // SAFETY: changes a file and no memory.
                assert_eq!(unsafe { libc::fallocate(file.as_raw_fd(), mode, start, len) }, 0);
            }
            let mut rest = File::create(dir.path().join("rest")).unwrap();
            while rest.write_all(&[1; PAGE_SIZE]).is_ok() {}
            let results = write(&device, &first, 2);
            for (slot, result) in first.iter().zip(results) {
                let full = [20, 41].contains(slot);
                match result {
                    Ok(()) => assert!(!full && holds(&device, *slot, 2), "slot {slot}"),
                    Err(error) => {
                        assert_eq!((full, error.raw_os_error()), (true, Some(libc::ENOSPC)), "{slot}")
                    }
                }
            }
            rest.set_len(0).unwrap();
            write(&device, &[20, 41], 3).iter().all(Result::is_ok) && holds(&device, 41, 3)
        });
        assert_eq!(child, Ok(()), "{way:?}");
    }
}

/// Mounts a file system of a megabyte that this process alone sees.
fn mount_small(path: &Path) -> io::Result<()> {
    let path = CString::new(path.as_os_str().as_bytes()).unwrap();
    let done = |result| if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) };
    let (none, slash) = (c"none".as_ptr(), c"/".as_ptr());
    // SAFETY: the names end with a null, and the mounts are those of a child with one thread.
    unsafe {
        if libc::unshare(libc::CLONE_NEWNS) != 0 {
            done(libc::unshare(libc::CLONE_NEWUSER | libc::CLONE_NEWNS))?;
        }
        done(libc::mount(none, slash, std::ptr::null(), libc::MS_REC | libc::MS_PRIVATE, std::ptr::null()))?;
        done(libc::mount(none, path.as_ptr(), c"tmpfs".as_ptr(), 0, c"size=1m".as_ptr().cast()))
    }
}

/// Claims of a child that is killed, in memory that it shares with its parent.
struct Claims {
    /// Of each slot: the generation last begun, and the one last said to be written.
    generations: *const [(AtomicU32, AtomicU32); SLOTS],
}

const SLOTS: usize = 1024;

// SAFETY: points to atomics that are there for ever.
unsafe impl Send for Claims {}
// SAFETY: as above.
unsafe impl Sync for Claims {}

impl Claims {
    fn new() -> Claims {
        let len = size_of::<[(AtomicU32, AtomicU32); SLOTS]>();
        let (rights, flags) = (libc::PROT_READ | libc::PROT_WRITE, libc::MAP_SHARED | libc::MAP_ANONYMOUS);
        // SAFETY: a mapping of its own at an address of the kernel's choice.
        let address = unsafe { libc::mmap(std::ptr::null_mut(), len, rights, flags, -1, 0) };
        assert_ne!(address, libc::MAP_FAILED);
        Claims { generations: address.cast_const().cast() }
    }

    fn of(&self, slot: u32) -> &(AtomicU32, AtomicU32) {
        // SAFETY: mapped above, zeros are atomics, and nobody unmaps it.
        unsafe { &(*self.generations)[slot as usize] }
    }
}

/// Says what it begins and what was written.
struct Claiming {
    file: FileDevice,
    claims: Claims,
}

impl SwapDevice for Claiming {
    fn write(&self, _: SwapEntry, _: &PageBytes) -> io::Result<()> {
        unreachable!("the shrinker writes batches")
    }

    fn write_batch(&self, writes: &mut [PageWrite<'_>]) {
        let mut inner: Vec<PageWrite<'_>> = Vec::new();
        for write in writes.iter() {
            let (slot, generation) = name_of(write.page());
            assert_eq!(slot, write.entry().offset());
            self.claims.of(slot).0.store(generation, Ordering::SeqCst);
            inner.push(PageWrite::new(write.entry(), write.page()));
        }
        self.file.write_batch(&mut inner);
        for (write, inner) in writes.iter_mut().zip(inner) {
            let (slot, generation) = name_of(write.page());
            let result = inner.into_result();
            if result.is_ok() {
                self.claims.of(slot).1.store(generation, Ordering::SeqCst);
            }
            write.finish(result);
        }
    }

    fn read(&self, entry: SwapEntry, page: &mut PageBytes) -> io::Result<()> {
        self.file.read(entry, page)
    }
}

/// Stores every slot again and again, every second one first, and has all of it written back.
fn store_for_ever(device: Claiming) -> ! {
    let zswap = Zswap::new(Config::default()).unwrap();
    zswap.swapon_with_device(0, SLOTS as u32, Arc::new(device)).unwrap();
    for generation in 1.. {
        for odd in [0, 1] {
            for slot in (odd..SLOTS as u32).step_by(2) {
                let page = [page_of(slot, generation)];
                zswap.store(&Folio::new(SwapEntry::new(0, slot), NodeId(0), &page).unwrap()).unwrap();
            }
            while zswap.shrink(NodeId(0), u64::MAX).unwrap().written_back_pages > 0 {}
        }
    }
    unreachable!("generations outlast the test")
}

#[test]
fn process_that_is_killed_in_a_batch_has_claimed_nothing_that_is_not_there() {
    let dir = tempfile::tempdir().unwrap();
    let (mut checked, mut under_way) = (0, 0);
    for (round, way) in WAYS.iter().cycle().take(12).enumerate() {
        // A file of its own shows whether this way is there: one that was open here might still be, to its child, in a child
        // that another test has forked meanwhile. That was so once, and the device busy.
        if open(&dir.path().join(format!("tried{round}")), SLOTS as u32, *way).is_none() {
            continue;
        }
        let path = dir.path().join(format!("swap{round}"));
        let claims = Claims::new();
        // SAFETY: the child has one thread and its own store, and ends by being killed, or by a panic that is caught.
        let child = unsafe { libc::fork() };
        if child == 0 {
            let _ = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
                let file = open(&path, SLOTS as u32, *way).unwrap();
                store_for_ever(Claiming { file, claims: Claims { generations: claims.generations } })
            }));
            // SAFETY: ends the child at once.
            unsafe { libc::_exit(1) };
        }
        let deadline = Instant::now() + Duration::from_secs(20);
        while claims.of(SLOTS as u32 - 1).1.load(Ordering::SeqCst) == 0 {
            assert!(Instant::now() < deadline, "the child writes nothing");
            std::thread::yield_now();
        }
        std::thread::sleep(Duration::from_micros(1777 * round as u64));
        let mut status = 0;
        // SAFETY: the child is ours, and not waited for before.
        unsafe {
            libc::kill(child, libc::SIGKILL);
            assert_eq!(libc::waitpid(child, &mut status, 0), child);
        }
        assert!(libc::WIFSIGNALED(status), "the child ended by itself: status {status}");
        let file = File::open(&path).unwrap();
        for slot in 0..SLOTS as u32 {
            let (begun, written) = claims.of(slot);
            let (begun, written) = (begun.load(Ordering::SeqCst), written.load(Ordering::SeqCst));
            if begun != written {
                under_way += 1;
                continue;
            }
            let mut page = [0; PAGE_SIZE];
            file.read_exact_at(&mut page, u64::from(slot) * PAGE_SIZE as u64).unwrap();
            assert!(page == page_of(slot, written), "slot {slot} does not hold {written}; {way:?}");
            checked += 1;
        }
    }
    println!("{checked} claims are true, {under_way} pages were under way");
    assert!(checked > 0);
}

#[test]
fn child_of_fork_leaves_the_ring_to_its_parent() {
    let dir = tempfile::tempdir().unwrap();
    for way in WAYS {
        let Some(device) = open(&dir.path().join(format!("{way:?}")), 256, way) else { continue };
        let slots: Vec<u32> = (0..256).step_by(2).collect();
        let all_written = |device: &FileDevice, generation| {
            write(device, &slots, generation).iter().all(Result::is_ok)
                && slots.iter().all(|&slot| holds(device, slot, generation))
        };
        assert!(all_written(&device, 1));
        let method = device.write_method();
        let mut device = Some(device);
        for generation in 2..6 {
            let child = in_child(|| {
                let device = device.take().unwrap();
                assert_ne!(device.write_method(), WriteMethod::IoUring);
                // It is dropped there, too.
                all_written(&device, 10 * generation)
            });
            assert_eq!(child, Ok(()), "{way:?}");
            let device = device.as_ref().unwrap();
            assert!(all_written(device, generation), "{way:?}");
            assert_eq!(device.write_method(), method);
        }
    }
}

#[cfg(feature = "io-uring")]
mod refused {
    use super::*;

    /// Has the kernel refuse a system call to this thread, from now on.
    fn refuse(call: libc::c_long, error: i32) {
        let code = |code: u32| u16::try_from(code).unwrap();
        let line = |c, jt, jf, k| libc::sock_filter { code: code(c), jt, jf, k };
        let mut lines = [
            line(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, 0, 0, 0),
            line(libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K, 0, 1, u32::try_from(call).unwrap()),
            line(libc::BPF_RET | libc::BPF_K, 0, 0, libc::SECCOMP_RET_ERRNO | error as u32),
            line(libc::BPF_RET | libc::BPF_K, 0, 0, libc::SECCOMP_RET_ALLOW),
        ];
        let program = libc::sock_fprog { len: 4, filter: lines.as_mut_ptr() };
        // SAFETY: the kernel copies the program, which is as long as it says.
        unsafe {
            assert_eq!(libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), 0);
            let set = libc::prctl(libc::PR_SET_SECCOMP, libc::SECCOMP_MODE_FILTER, &program);
            assert_eq!(set, 0, "{}", io::Error::last_os_error());
        }
    }

    fn works_without(device: &FileDevice, generation: u32, why: &str) {
        let slots: Vec<u32> = (0..64).step_by(2).chain(64..128).collect();
        assert!(write(device, &slots, generation).iter().all(Result::is_ok));
        assert!(slots.iter().all(|&slot| holds(device, slot, generation)));
        let method = device.write_method();
        assert!(matches!(method, WriteMethod::IoUringRefused { .. }), "{method}");
        assert!(method.to_string().contains(why), "{method}");
    }

    #[test]
    fn device_of_a_process_that_may_not_use_io_uring_writes_without_and_says_so() {
        let dir = tempfile::tempdir().unwrap();
        for direct in [false, true] {
            for (error, why) in [(libc::EPERM, "not permitted"), (libc::ENOSYS, "not implemented")] {
                let path = dir.path().join(format!("{direct}{error}"));
                std::thread::scope(|scope| {
                    scope.spawn(|| {
                        refuse(libc::SYS_io_uring_setup, error);
                        let Some(device) = open(&path, 128, (direct, true)) else { return };
                        works_without(&device, 1, why);
                    });
                });
            }
        }
    }

    #[test]
    fn device_whose_ring_is_taken_away_goes_on_without_and_says_so() {
        let dir = tempfile::tempdir().unwrap();
        for way in [(false, true), (true, true)] {
            let Some(device) = open(&dir.path().join(format!("{way:?}")), 128, way) else { continue };
            if device.write_method() != WriteMethod::IoUring {
                println!("skipped: {}", device.write_method());
                continue;
            }
            assert!(write(&device, &[3, 4, 9], 1).iter().all(Result::is_ok));
            std::thread::scope(|scope| {
                scope.spawn(|| {
                    refuse(libc::SYS_io_uring_enter, libc::EPERM);
                    works_without(&device, 2, "io_uring_enter");
                });
            });
            works_without(&device, 3, "io_uring_enter");
        }
    }
}

#[cfg(not(feature = "io-uring"))]
#[test]
fn io_uring_that_was_not_built_in_is_told() {
    let dir = tempfile::tempdir().unwrap();
    let device = open(&dir.path().join("swap"), 8, (false, true)).unwrap();
    assert!(device.write_method().to_string().contains("feature `io-uring`"), "{}", device.write_method());
    assert_eq!(device.with_io_uring(false).write_method(), WriteMethod::Pwritev);
}
