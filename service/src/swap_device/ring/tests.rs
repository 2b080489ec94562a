//! Rings on pipes, which take as much as somebody reads, and on files.

use std::io::{PipeReader, Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::fs::FileExt;
use std::panic::{AssertUnwindSafe, catch_unwind};

use super::*;
use crate::SwapEntry;

/// Bytes that a pipe takes.
const PIPE: usize = 16 * PAGE_SIZE;

fn rings(deadline: Duration) -> Option<Rings> {
    Rings::with_deadline(deadline).inspect_err(|error| eprintln!("skipped: io_uring: {error}")).ok()
}

/// A pipe as file: it takes a little and then nothing, until somebody reads.
fn pipe() -> (PipeReader, File) {
    let (reader, writer) = io::pipe().unwrap();
    // SAFETY: changes the room of a pipe that is ours.
    let room = unsafe { libc::fcntl(writer.as_raw_fd(), libc::F_SETPIPE_SZ, PIPE as libc::c_int) };
    assert_eq!(room, PIPE as libc::c_int);
    (reader, File::from(OwnedFd::from(writer)))
}

fn pages(count: usize) -> Vec<Page> {
    (1..=count).map(|tag| Page::from(&std::array::from_fn(|i| (i / 8 * tag) as u8))).collect()
}

fn bytes(pages: &[Page]) -> Vec<u8> {
    pages.iter().flat_map(|page| page.iter().copied()).collect()
}

fn to(slots: impl IntoIterator<Item = u32>, pages: &[Page]) -> Vec<PageWrite<'_>> {
    slots.into_iter().zip(pages).map(|(slot, page)| PageWrite::new(SwapEntry::new(0, slot), page)).collect()
}

fn read(mut reader: &PipeReader, len: usize) -> Vec<u8> {
    let mut bytes = vec![0; len];
    let mut from = 0;
    while from < len {
        let mut waits = libc::pollfd { fd: reader.as_raw_fd(), events: libc::POLLIN, revents: 0 };
        // SAFETY: reads and writes the one entry that it is given.
        assert_eq!(unsafe { libc::poll(&mut waits, 1, 20_000) }, 1, "nothing comes");
        from += reader.read(&mut bytes[from..]).unwrap();
    }
    bytes
}

fn wait_until(mut is_so: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(20);
    while !is_so() {
        assert!(Instant::now() < deadline, "it never is");
        thread::sleep(PAUSE);
    }
}

#[test]
fn run_that_is_written_by_pieces_comes_whole() {
    let Some(rings) = rings(DEADLINE) else { return };
    let (reader, file) = pipe();
    let pages = pages(MAX_PAGES);
    let mut writes = to(0..MAX_PAGES as u32, &pages);
    thread::scope(|scope| {
        let reads = scope.spawn(|| {
            let mut bytes = Vec::new();
            (&reader).read_to_end(&mut bytes).unwrap();
            bytes
        });
        rings.write(&file, &mut writes);
        drop(file);
        assert!(reads.join().unwrap() == bytes(&pages));
    });
    assert!(writes.into_iter().all(|write| write.into_result().is_ok()));
}

#[test]
fn device_takes_nothing_while_a_write_is_late_and_everything_afterwards() {
    let Some(rings) = rings(Duration::from_millis(50)) else { return };
    let (reader, full) = pipe();
    (&full).write_all(&[7; PIPE]).unwrap();
    let late = pages(2);
    let mut writes = to([5, 9], &late);
    rings.write(&full, &mut writes);
    for write in writes {
        assert_eq!(write.into_result().unwrap_err().kind(), io::ErrorKind::TimedOut);
    }
    let file = tempfile::tempfile().unwrap();
    let others = vec![Page::from(&[0xbd; PAGE_SIZE]); MAX_PAGES];
    for _ in 0..3 {
        let mut writes = to(0..MAX_PAGES as u32, &others);
        rings.write(&file, &mut writes);
        for write in writes {
            assert!(write.into_result().unwrap_err().to_string().contains("takes no writes"));
        }
    }
    // What the kernel reads at last is what it was given at first.
    assert!(read(&reader, PIPE) == [7; PIPE]);
    let mut got = read(&reader, 2 * PAGE_SIZE);
    if got[..PAGE_SIZE] != late[0][..] {
        got.rotate_left(PAGE_SIZE);
    }
    assert!(got == bytes(&late));
    wait_until(|| rings.check().is_ok());
    let mut writes = to(0..MAX_PAGES as u32, &others);
    rings.write(&file, &mut writes);
    assert!(writes.into_iter().all(|write| write.into_result().is_ok()));
    assert_eq!(rings.pool().idle.len(), 1, "the late ring is in use again");
}

#[test]
fn ring_with_a_write_under_way_is_late_when_a_panic_takes_it_down() {
    let Some(rings) = rings(DEADLINE) else { return };
    let (reader, full) = pipe();
    (&full).write_all(&[7; PIPE]).unwrap();
    let page = pages(1);
    let mut writes = to([3], &page);
    let panicked = catch_unwind(AssertUnwindSafe(|| {
        let mut taken = rings.take().unwrap().unwrap();
        let ring = taken.ring.as_mut().unwrap();
        ring.buffers[0].copy_from_slice(&page[0][..]);
        let batch = Batch::new(&mut writes);
        assert!(ring.push(&full, 0, &batch.ops[0], batch.place(0)));
        ring.wait(Duration::from_millis(20)).unwrap();
        panic!("on purpose");
    }));
    assert!(panicked.is_err());
    assert_eq!(rings.check().unwrap_err().kind(), io::ErrorKind::TimedOut);
    assert!(read(&reader, PIPE) == [7; PIPE]);
    assert!(read(&reader, PAGE_SIZE) == page[0][..]);
    wait_until(|| rings.check().is_ok());
}

#[test]
fn what_the_kernel_was_never_told_of_is_not_in_flight() {
    let Some(rings) = rings(DEADLINE) else { return };
    let file = tempfile::tempfile().unwrap();
    let page = pages(1);
    let mut writes = to([3], &page);
    let mut taken = rings.take().unwrap().unwrap();
    let batch = Batch::new(&mut writes);
    assert!(taken.ring.as_mut().unwrap().push(&file, 0, &batch.ops[0], batch.place(0)));
    drop(taken);
    rings.check().unwrap();
    assert!(rings.pool().idle.is_empty(), "that ring would tell it later");
    rings.write(&file, &mut writes);
    assert!(writes.remove(0).into_result().is_ok());
}

#[test]
fn device_with_a_late_write_can_be_dropped_without_waiting() {
    let Some(rings) = rings(Duration::from_millis(20)) else { return };
    let (_reader, full) = pipe();
    (&full).write_all(&[7; PIPE]).unwrap();
    let page = pages(1);
    rings.write(&full, &mut to([3], &page));
    assert!(rings.check().is_err());
    let start = Instant::now();
    drop(rings);
    assert!(start.elapsed() < Duration::from_secs(10));
}

#[test]
fn completions_that_cannot_be_waited_for_are_looked_for() {
    let Some(rings) = rings(DEADLINE) else { return };
    let file = tempfile::tempfile().unwrap();
    let page = pages(1);
    let mut writes = to([3], &page);
    let mut taken = rings.take().unwrap().unwrap();
    let ring = taken.ring.as_mut().unwrap();
    ring.buffers[0].copy_from_slice(&page[0][..]);
    let mut batch = Batch::new(&mut writes);
    assert!(ring.push(&file, 0, &batch.ops[0], batch.place(0)));
    ring.ring.submit().unwrap();
    ring.broken = true;
    wait_until(|| {
        ring.wait(DEADLINE).unwrap();
        ring.reap(|index, result| batch.completed(index, result));
        ring.in_flight == 0
    });
    assert!(writes.remove(0).into_result().is_ok());
    drop(taken);
    assert!(rings.pool().idle.is_empty() && rings.check().is_ok());
}

/// The file ends at 2^44 bytes less a page, on most file systems sooner.
#[test]
fn error_of_one_write_is_its_own() {
    let Some(rings) = rings(DEADLINE) else { return };
    let file = tempfile::tempfile().unwrap();
    if file.write_at(&[0; 512], u64::from(u32::MAX) * PAGE_SIZE as u64).is_ok() {
        return eprintln!("skipped: a file system without bounds");
    }
    let pages = pages(5);
    let slots = [3, 4, u32::MAX, 7, 9];
    let mut writes = to(slots, &pages);
    rings.write(&file, &mut writes);
    for (write, page) in writes.into_iter().zip(&pages) {
        let slot = write.entry().offset();
        let result = write.into_result();
        assert_eq!(result.is_ok(), slot != u32::MAX, "slot {slot}: {result:?}");
        let mut bytes = [0; PAGE_SIZE];
        if slot != u32::MAX {
            file.read_exact_at(&mut bytes, u64::from(slot) * PAGE_SIZE as u64).unwrap();
            assert!(bytes == **page, "slot {slot}");
        }
    }
}

#[test]
fn child_of_fork_neither_uses_a_ring_nor_waits_for_who_has_one() {
    let Some(rings) = rings(DEADLINE) else { return };
    let file = tempfile::tempfile().unwrap();
    let page = pages(1);
    let mut writes = to([3], &page);
    let held = rings.pool();
    // SAFETY: the child asks the rings and ends at once, by itself or by the alarm.
    let child = unsafe { libc::fork() };
    if child == 0 {
        // SAFETY: the signal has no handler.
        unsafe { libc::alarm(20) };
        rings.write(&file, &mut writes);
        let fine = rings.check().is_ok() && rings.refused().is_some() && !writes[0].is_finished();
        // SAFETY: ends the child.
        unsafe { libc::_exit(i32::from(!fine)) };
    }
    let mut status = 0;
    // SAFETY: waits for the child made above.
    assert_eq!(unsafe { libc::waitpid(child, &mut status, 0) }, child);
    drop(held);
    assert_eq!(status, 0, "14 is the alarm");
    rings.write(&file, &mut writes);
    assert!(writes.remove(0).into_result().is_ok());
}
