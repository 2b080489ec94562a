//! Loading and invalidating.

use std::cell::Cell;
use std::time::Instant;

use zfolio_accel::{Channel, EngineError, Job, Page, PageBytes, Purpose, crc32};

use crate::claim::{CompressedGuard, Held, SlotGuard};
use crate::counters::Counter;
use crate::error::{InvalidateError, LoadError};
use crate::folio::SwapEntry;
use crate::lru::Leaves;
use crate::park::TimedOut;
use crate::word::{EMPTY, evicted_from};
use crate::zswap::Zswap;

/// Slots that a batch holds at once.
const BATCH: usize = 64;
/// Slots that a small batch holds, which does not pay for the room of a large one.
const SMALL_BATCH: usize = 16;

impl Zswap {
    /// Loads the page of `entry` into `page`. The store does not have it any more then, as with zswap.
    ///
    /// # Errors
    /// See [`LoadError`]. The entry is kept, and the bytes of `page` are undefined.
    pub fn load(&self, entry: SwapEntry, page: &mut PageBytes) -> Result<(), LoadError> {
        let guard = self.lock_for_load(entry, &Cell::new(None))?;
        let compressed = |guard: CompressedGuard<'_>, page: &mut PageBytes| {
            guard.prefetch_neighbours();
            self.decompress(entry, &guard, page)?;
            guard.remove();
            Ok(())
        };
        guard.if_compressed(page, compressed, |guard, page| self.load_simple(entry, guard, page))
    }

    /// Loads the page of `entry` into `page` and keeps it in the store, where it counts as used again.
    ///
    /// # Errors
    /// As [`load`](Zswap::load).
    pub fn read(&self, entry: SwapEntry, page: &mut PageBytes) -> Result<(), LoadError> {
        let guard = self.lock_for_load(entry, &Cell::new(None))?;
        let compressed = |guard: CompressedGuard<'_>, page: &mut PageBytes| {
            self.decompress(entry, &guard, page)?;
            guard.mark_referenced();
            Ok(())
        };
        guard.if_compressed(page, compressed, |guard, page| {
            self.simple(entry, guard.held(), page)?;
            guard.mark_referenced();
            Ok(())
        })
    }

    /// The rest of a load of a page that needs no engine.
    #[inline(never)]
    fn load_simple(
        &self,
        entry: SwapEntry,
        guard: SlotGuard<'_>,
        page: &mut PageBytes,
    ) -> Result<(), LoadError> {
        self.simple(entry, guard.held(), page)?;
        guard.remove(Leaves::Loaded);
        Ok(())
    }

    /// Loads the pages of `entries` into `pages`, many in flight at once, and tells `each` how it went, with the
    /// index of the entry. Every entry is told of once; the order is the store's. Of an entry that is named twice,
    /// one is loaded and the other not found; where the one fails, so does the other.
    ///
    /// `each` runs when the page is in the caller's hands and out of the store, while others of the batch are still
    /// locked. It must not call this store: it could wait for itself, until the deadline. Should it panic, pages that it was
    /// not yet told of are still in the store.
    ///
    /// # Panics
    /// When there are fewer pages than entries.
    pub fn load_batch(
        &self,
        entries: &[SwapEntry],
        pages: &mut [Page],
        mut each: impl FnMut(usize, Result<(), LoadError>),
    ) {
        assert!(pages.len() >= entries.len(), "{} entries, {} pages", entries.len(), pages.len());
        for (batch, (entries, pages)) in entries.chunks(BATCH).zip(pages.chunks_mut(BATCH)).enumerate() {
            let mut each = |index, result| each(batch * BATCH + index, result);
            if entries.len() <= SMALL_BATCH {
                self.load_some::<SMALL_BATCH>(entries, pages, &mut each);
            } else {
                self.load_some::<BATCH>(entries, pages, &mut each);
            }
        }
    }

    /// Loads at most `N` pages.
    fn load_some<const N: usize>(
        &self,
        entries: &[SwapEntry],
        pages: &mut [Page],
        each: &mut dyn FnMut(usize, Result<(), LoadError>),
    ) {
        // What is far comes for all pages at once. Taking a lock waits for all that came before it, so that one page after the
        // other would wait for its slot, and then for its entry.
        entries.iter().for_each(|entry| self.tree.prefetch(*entry));
        for entry in entries {
            if let Some(slot) = self.tree.slot(*entry) {
                self.slab.prefetch(slot.id());
            }
        }
        // Locks are taken in ascending order, each slot's once; so no two batches wait for each other.
        let mut order: [usize; N] = std::array::from_fn(|index| index);
        let order = &mut order[..entries.len()];
        if !entries.is_sorted() {
            order.sort_unstable_by_key(|&index| (entries[index], index));
        }
        let mut guards = [const { None }; N];
        let mut results = [Ok(()); N];
        let mut before = None;
        let started = Cell::new(None);
        for &index in order.iter() {
            if before.replace(entries[index]) == Some(entries[index]) {
                continue;
            }
            match self.lock_for_load(entries[index], &started) {
                Ok(guard) => {
                    guard.prefetch_removal();
                    guards[index] = Some(guard);
                }
                Err(error) => results[index] = Err(error),
            }
        }
        self.decompress_all(entries, pages, &guards, &mut results);
        let mut before: Option<usize> = None;
        for &index in order.iter() {
            match before {
                // The slot's second time: the page is with the first, or the first's error is this one's too.
                Some(first) if entries[first] == entries[index] => {
                    each(index, results[first].and(Err(LoadError::NotFound)));
                    continue;
                }
                _ => before = Some(index),
            }
            if results[index].is_ok()
                && let Some(guard) = guards[index].take()
            {
                guard.remove(Leaves::Loaded);
            }
            each(index, results[index]);
        }
    }

    /// Decompresses the pages of all `guards`; those that are compressed go through a channel together.
    fn decompress_all<const N: usize>(
        &self,
        entries: &[SwapEntry],
        pages: &mut [Page],
        guards: &[Option<SlotGuard<'_>>; N],
        results: &mut [Result<(), LoadError>; N],
    ) {
        let mut jobs: [Option<Job<'_>>; N] = [const { None }; N];
        let mut indices = [0; N];
        let mut count = 0;
        for (index, page) in pages.iter_mut().enumerate().take(entries.len()) {
            let Some(guard) = &guards[index] else { continue };
            match guard.held() {
                Held::Compressed { codec, bytes, crc } => {
                    jobs[count] = Some(Job::new(codec, bytes, crc, page));
                    indices[count] = index;
                    count += 1;
                }
                held => results[index] = self.simple(entries[index], held, page),
            }
        }
        if count == 0 {
            return;
        }
        self.channels.with(Purpose::Load, |channel| channel.decompress(&mut jobs[..count]));
        for (job, &index) in jobs.iter().flatten().zip(&indices) {
            results[index] = self.loaded(entries[index], job.result());
        }
    }

    #[inline(always)]
    fn lock_for_load(
        &self,
        entry: SwapEntry,
        started: &Cell<Option<Instant>>,
    ) -> Result<SlotGuard<'_>, LoadError> {
        if self.fork.is_child() {
            return Err(LoadError::Forked);
        }
        let slot = self.tree.slot(entry).ok_or(LoadError::NotFound)?;
        match SlotGuard::lock_unless_vacant(self, slot, || self.deadline(started)) {
            Ok(Some(guard)) if guard.has_page() => Ok(guard),
            Ok(Some(guard)) => Err(self.not_here(entry, guard.id())),
            Ok(None) => Err(LoadError::NotFound),
            Err(TimedOut) => Err(LoadError::Busy { entry }),
        }
    }

    /// Why there is no page in a slot with this id. One that is on the device now counts as wanted from there.
    #[cold]
    fn not_here(&self, entry: SwapEntry, id: u32) -> LoadError {
        let Some((tenant, node)) = evicted_from(id) else { return LoadError::NotFound };
        self.counters.add(Counter::DiskSwapins, 1);
        if let Some(list) = self.lru.get(tenant, node) {
            list.count_disk_swapin();
        }
        LoadError::WrittenBack { entry }
    }

    #[inline(always)]
    fn decompress(
        &self,
        entry: SwapEntry,
        guard: &CompressedGuard<'_>,
        page: &mut PageBytes,
    ) -> Result<(), LoadError> {
        let (codec, bytes, crc) = (guard.codec(), guard.bytes(), guard.crc());
        let decompress = move |channel: &mut Channel| channel.decompress_one(codec, bytes, crc, page);
        match self.channels.with(Purpose::Load, decompress) {
            Ok(()) => Ok(()),
            Err(error) => self.loaded(entry, Err(error)),
        }
    }

    /// The pages that need no engine.
    #[inline(never)]
    fn simple(&self, entry: SwapEntry, held: Held<'_>, page: &mut PageBytes) -> Result<(), LoadError> {
        let result = match held {
            Held::SameFilled(word) => {
                self.counters.add(Counter::SameFilledIn, 1);
                if word == 0 {
                    page.fill(0);
                } else {
                    page.as_chunks_mut().0.fill(word.to_ne_bytes());
                }
                Ok(())
            }
            // No other length is ever stored raw; an entry that says so was damaged.
            Held::Raw { bytes, .. } if bytes.len() != page.len() => Err(EngineError::CrcMismatch),
            Held::Raw { bytes, crc } => {
                page.copy_from_slice(bytes);
                if crc32(page) == crc { Ok(()) } else { Err(EngineError::CrcMismatch) }
            }
            Held::Nothing | Held::Compressed { .. } => unreachable!("callers deal with these"),
        };
        self.loaded(entry, result)
    }

    #[inline(never)]
    fn loaded(&self, entry: SwapEntry, result: Result<(), EngineError>) -> Result<(), LoadError> {
        match result {
            Ok(()) => Ok(()),
            Err(error) => {
                self.counters.add(Counter::CorruptLoads, 1);
                Err(LoadError::Corrupt { entry, error })
            }
        }
    }

    /// Forgets the page of `entry`, and says whether there was one.
    ///
    /// Waits for a write of it to the swap device that is in flight: the slot's place there may be given to
    /// another page after this.
    ///
    /// # Errors
    /// See [`InvalidateError`].
    pub fn invalidate(&self, entry: SwapEntry) -> Result<bool, InvalidateError> {
        Ok(self.invalidate_range(entry, 1)? != 0)
    }

    /// Forgets the pages of `slots` slots from `first` on, and says how many there were. Slots that do not exist
    /// hold nothing.
    ///
    /// # Errors
    /// See [`InvalidateError`]; slots before the one that it names are done.
    pub fn invalidate_range(&self, first: SwapEntry, slots: u32) -> Result<u64, InvalidateError> {
        if self.fork.is_child() {
            return Err(InvalidateError::Forked);
        }
        let mut pages = 0;
        let mut offset = u64::from(first.offset());
        let end = (offset + u64::from(slots)).min(self.tree.len(first.swap_type()).into());
        while offset < end {
            let at = u32::try_from(offset).expect("an area ends before 2^32");
            let entry = SwapEntry::new(first.swap_type(), at);
            let Some(slot) = self.tree.slot(entry) else {
                // A leaf that is absent is absent as a whole.
                offset = self.tree.after_absent(at);
                continue;
            };
            let started = Cell::new(None);
            let deadline = || self.deadline(&started);
            if !slot.is_vacant() {
                let guard = SlotGuard::lock(self, slot, deadline)
                    .map_err(|TimedOut| InvalidateError::Busy { entry })?;
                pages += u64::from(guard.id() != EMPTY);
                guard.remove(Leaves::Unwanted);
            }
            slot.wait_for_writeback(&self.lot, deadline())
                .map_err(|TimedOut| InvalidateError::WritebackPending { entry })?;
            offset += 1;
        }
        Ok(pages)
    }
}
