//! Where a page belongs and what is stored at once: swap entries, folios, tenants.

use std::fmt;

use zfolio_accel::{NodeId, PageBytes};

/// The most pages of a folio: 2 MiB.
pub const MAX_FOLIO_PAGES: usize = 512;

/// The place of one page: a swap type and an offset in pages, as zswap has them. The *slot* is the place it names.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SwapEntry {
    swap_type: u8,
    offset: u32,
}

impl SwapEntry {
    /// The slot `offset` (in pages) of swap type `swap_type`.
    pub const fn new(swap_type: u8, offset: u32) -> SwapEntry {
        SwapEntry { swap_type, offset }
    }

    /// The number of the swap area.
    pub const fn swap_type(self) -> u8 {
        self.swap_type
    }

    /// The slot within the area, in pages.
    pub const fn offset(self) -> u32 {
        self.offset
    }

    /// The entry `pages` further on in the same area.
    pub(crate) fn plus(self, pages: usize) -> SwapEntry {
        let pages = u32::try_from(pages).expect("offsets of a folio fit in 32 bits");
        SwapEntry { swap_type: self.swap_type, offset: self.offset + pages }
    }
}

impl fmt::Display for SwapEntry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "swap {}:{}", self.swap_type, self.offset)
    }
}

/// Whose page it is, as zswap's memcg. Tenant 0 is there from the start and needs no thought.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TenantId(pub u16);

/// 2^k consecutive pages that are stored together, all or none.
#[derive(Clone, Copy)]
pub struct Folio<'a> {
    first: SwapEntry,
    nid: NodeId,
    tenant: TenantId,
    pages: &'a [PageBytes],
}

impl<'a> Folio<'a> {
    /// The folio of `pages`, which come from memory of node `nid` and go to the slots from `first` on.
    ///
    /// # Errors
    /// When there are not 1, 2, 4 .. 512 pages, or `first` is not a multiple of their number.
    pub fn new(first: SwapEntry, nid: NodeId, pages: &'a [PageBytes]) -> Result<Folio<'a>, FolioError> {
        if !pages.len().is_power_of_two() || pages.len() > MAX_FOLIO_PAGES {
            return Err(FolioError::Pages(pages.len()));
        }
        if !(first.offset as usize).is_multiple_of(pages.len()) {
            return Err(FolioError::Unaligned { first, pages: pages.len() });
        }
        Ok(Folio { first, nid, tenant: TenantId(0), pages })
    }

    /// The same folio, charged to `tenant`.
    pub fn with_tenant(self, tenant: TenantId) -> Folio<'a> {
        Folio { tenant, ..self }
    }

    /// The first slot.
    pub fn first(&self) -> SwapEntry {
        self.first
    }

    /// The memory node of the pages.
    pub fn nid(&self) -> NodeId {
        self.nid
    }

    /// Whose pages they are.
    pub fn tenant(&self) -> TenantId {
        self.tenant
    }

    /// The pages.
    pub fn pages(&self) -> &'a [PageBytes] {
        self.pages
    }
}

impl fmt::Debug for Folio<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "folio of {} pages at {}, node {}", self.pages.len(), self.first, self.nid)
    }
}

/// Pages that are no folio.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum FolioError {
    /// So many pages are no folio.
    Pages(usize),
    /// The first slot is not a multiple of the number of pages.
    Unaligned {
        /// The first slot.
        first: SwapEntry,
        /// The number of pages.
        pages: usize,
    },
}

impl fmt::Display for FolioError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            FolioError::Pages(pages) => {
                write!(f, "folio of {pages} pages; it must be a power of two, 1 to {MAX_FOLIO_PAGES}")
            }
            FolioError::Unaligned { first, pages } => {
                write!(f, "folio of {pages} pages at {first}; its offset must be a multiple of {pages}")
            }
        }
    }
}

impl std::error::Error for FolioError {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_aligned_powers_of_two_are_folios() {
        let pages = vec![[0; 4096]; 1024];
        let folio = |offset, len| Folio::new(SwapEntry::new(0, offset), NodeId(0), &pages[..len]).map(|_| ());
        assert_eq!(folio(16, 16), Ok(()));
        assert_eq!(folio(512, 512), Ok(()));
        assert_eq!(folio(0, 0), Err(FolioError::Pages(0)));
        assert_eq!(folio(0, 3), Err(FolioError::Pages(3)));
        assert_eq!(folio(0, 1024), Err(FolioError::Pages(1024)));
        assert_eq!(
            folio(8, 16).unwrap_err().to_string(),
            "folio of 16 pages at swap 0:8; its offset must be a multiple of 16"
        );
    }
}
