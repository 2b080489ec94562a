//! Writes of a batch and what the kernel said of each. Called by the ring.
//!
//! A page is finished once, by its own completion.

#![deny(unsafe_code)]

use std::io;

use zfolio_accel::PAGE_SIZE;

use crate::swap_device::PageWrite;
use crate::swap_device::file::{next_run, place_of};

/// Writes of a call, as far as the kernel is to do them.
pub(super) struct Batch<'b, 'p> {
    pub(super) writes: &'b mut [PageWrite<'p>],
    pub(super) ops: Vec<Op>,
    /// Ops to be pushed.
    pub(super) todo: Vec<usize>,
}

/// Consecutive pages on their way to consecutive slots. No page is in two ops that are under way.
pub(super) struct Op {
    /// The first page, in the batch and in the ring.
    pub(super) first: usize,
    pub(super) pages: usize,
    /// Bytes written.
    pub(super) done: usize,
    pub(super) in_flight: bool,
}

impl<'b, 'p> Batch<'b, 'p> {
    pub(super) fn new(writes: &'b mut [PageWrite<'p>]) -> Batch<'b, 'p> {
        let mut ops = Vec::with_capacity(writes.len());
        let mut from = 0;
        while let Some(run) = next_run(writes, from) {
            from = run.end;
            ops.push(Op { first: run.start, pages: run.len(), done: 0, in_flight: false });
        }
        let todo = (0..ops.len()).collect();
        Batch { writes, ops, todo }
    }

    /// Where an op begins in the file.
    pub(super) fn place(&self, index: usize) -> u64 {
        place_of(self.writes[self.ops[index].first].entry())
    }

    /// Takes note of what became of an op. A short write goes on; the pages of a run that failed are tried one by one, so that one bad
    /// place fails the page that is to go there, and no other.
    pub(super) fn completed(&mut self, index: usize, result: i32) {
        let Some(op) = self.ops.get_mut(index) else { return };
        op.in_flight = false;
        let whole = op.first + op.done / PAGE_SIZE;
        let end = op.first + op.pages;
        let error = match usize::try_from(result) {
            Ok(0) => io::Error::from(io::ErrorKind::WriteZero),
            Ok(written) => {
                op.done = (op.done + written).min(op.pages * PAGE_SIZE);
                let now_whole = op.first + op.done / PAGE_SIZE;
                self.writes[whole..now_whole].iter_mut().for_each(|write| write.finish(Ok(())));
                if now_whole < end {
                    self.todo.push(index);
                }
                return;
            }
            Err(_) if matches!(-result, libc::EINTR | libc::EAGAIN) => return self.todo.push(index),
            Err(_) => io::Error::from_raw_os_error(-result),
        };
        if end - whole == 1 {
            return self.writes[whole].finish(Err(error));
        }
        for first in whole..end {
            self.todo.push(self.ops.len());
            self.ops.push(Op { first, pages: 1, done: 0, in_flight: false });
        }
    }

    /// Fails what is still in flight.
    pub(super) fn give_up(self) {
        for op in self.ops.iter().filter(|op| op.in_flight) {
            for write in &mut self.writes[op.first + op.done / PAGE_SIZE..op.first + op.pages] {
                let text = "the swap device did not end this write in time";
                write.finish(Err(io::Error::new(io::ErrorKind::TimedOut, text)));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::mem;

    use zfolio_accel::Page;

    use super::*;
    use crate::SwapEntry;

    /// What the completions say decides, whatever they say.
    #[test]
    fn pages_of_a_run_that_fails_are_tried_one_by_one() {
        let pages = Page::zeroed_vec(8);
        let mut writes: Vec<PageWrite<'_>> =
            (10..).zip(&pages).map(|(slot, page)| PageWrite::new(SwapEntry::new(0, slot), page)).collect();
        let mut batch = Batch::new(&mut writes);
        assert_eq!((batch.ops.len(), mem::take(&mut batch.todo)), (1, vec![0]));
        batch.completed(0, -libc::EINTR);
        assert_eq!(mem::take(&mut batch.todo), [0]);
        batch.completed(0, 2 * PAGE_SIZE as i32 + 512);
        assert_eq!((mem::take(&mut batch.todo), batch.ops[0].done), (vec![0], 2 * PAGE_SIZE + 512));
        assert_eq!(batch.writes.iter().filter(|write| write.is_finished()).count(), 2);
        batch.completed(0, -libc::EIO);
        assert_eq!(mem::take(&mut batch.todo), [1, 2, 3, 4, 5, 6]);
        let places: Vec<u64> = (1..7).map(|index| batch.place(index) / PAGE_SIZE as u64).collect();
        assert_eq!(places, [12, 13, 14, 15, 16, 17]);
        for (index, result) in [(1, 4096), (2, 4096), (3, -libc::EIO), (4, 4096), (5, 0), (99, 4096)] {
            batch.completed(index, result);
        }
        batch.ops[6].in_flight = true;
        assert!(batch.todo.is_empty());
        batch.give_up();
        let results: Vec<_> = writes.into_iter().map(PageWrite::into_result).collect();
        let kinds: Vec<_> = results.iter().map(|result| result.as_ref().err().map(io::Error::kind)).collect();
        assert_eq!(results[4].as_ref().unwrap_err().raw_os_error(), Some(libc::EIO));
        assert!(kinds[..4].iter().all(Option::is_none) && kinds[5].is_none());
        assert_eq!(kinds[6..], [Some(io::ErrorKind::WriteZero), Some(io::ErrorKind::TimedOut)]);
    }
}
