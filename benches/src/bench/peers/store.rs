//! The store itself, as one of the peers.

use zfolio::{Folio, SwapEntry};
use zfolio_accel::{NodeId, Page, PageBytes};

use super::peer::{BATCH, Memory, Pass, Peer};
use crate::bench::round::check_empty;
use crate::bench::variant::Variant;
use crate::bench::worker::{Faults, SWAP_TYPE};

/// Pages of a folio of 64 KiB.
const FOLIO_PAGES: usize = 16;

/// A store; its arena stays warm from round to round.
pub(super) struct Store<'v> {
    variant: &'v Variant,
    nid: NodeId,
}

impl<'v> Store<'v> {
    pub(super) fn new(variant: &'v Variant, nid: NodeId) -> Self {
        Self { variant, nid }
    }
}

impl Peer for Store<'_> {
    fn codec(&self) -> &str {
        self.variant.method.name()
    }

    fn backend(&self) -> &str {
        &self.variant.backend
    }

    fn report(&self) -> String {
        self.variant.backend_report.clone()
    }

    fn passes(&self) -> &'static [Pass] {
        &Pass::ALL
    }

    fn begin(&mut self, _: usize) -> Result<(), String> {
        Ok(())
    }

    fn store(&mut self, pass: Pass, slots: &[u32], source: &[PageBytes]) -> Result<(), String> {
        let mut first = slots[0];
        let pages = if pass == Pass::StoreFolios { FOLIO_PAGES } else { 1 };
        let (folios, rest) = source.split_at(source.len() / pages * pages);
        for pages in folios.chunks_exact(pages).chain(rest.chunks_exact(1)) {
            let folio = Folio::new(SwapEntry::new(SWAP_TYPE, first), self.nid, pages)
                .map_err(|error| error.to_string())?;
            self.variant.zswap.store(&folio).map_err(|error| error.to_string())?;
            first += pages.len() as u32;
        }
        Ok(())
    }

    fn load(&mut self, pass: Pass, slots: &[u32], pages: &mut [Page]) -> Result<(), String> {
        let zswap = &self.variant.zswap;
        if pass == Pass::LoadBatch {
            let mut failed = None;
            for (slots, pages) in slots.chunks(BATCH).zip(pages.chunks_mut(BATCH)) {
                let mut entries = [SwapEntry::new(SWAP_TYPE, 0); BATCH];
                for (entry, slot) in entries.iter_mut().zip(slots) {
                    *entry = SwapEntry::new(SWAP_TYPE, *slot);
                }
                zswap.load_batch(&entries[..slots.len()], pages, |_, result| {
                    failed = failed.take().or(result.err());
                });
            }
            return failed.map_or(Ok(()), |error| Err(error.to_string()));
        }
        for (slot, page) in slots.iter().zip(pages) {
            let entry = SwapEntry::new(SWAP_TYPE, *slot);
            let result =
                if pass == Pass::LoadInOrder { zswap.read(entry, page) } else { zswap.load(entry, page) };
            result.map_err(|error| error.to_string())?;
        }
        Ok(())
    }

    fn keeps(&self, pass: Pass) -> bool {
        pass.stores() || pass == Pass::LoadInOrder
    }

    fn memory(&mut self) -> Result<Memory, String> {
        self.variant.zswap.release_warm();
        let stats = self.variant.zswap.stats();
        let arena = self.variant.zswap.resident_arena_bytes().map_err(|error| error.to_string())?;
        Ok(Memory {
            bytes: arena + stats.metadata_bytes,
            metadata_bytes: stats.metadata_bytes,
            compressed_bytes: Some(stats.object_bytes),
        })
    }

    fn end(&mut self, faults: &mut Faults) -> Result<(), String> {
        check_empty(&self.variant.zswap, faults);
        Ok(())
    }
}
