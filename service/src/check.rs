//! The proof that every counter and list of a store is right.

use std::collections::HashMap;
use std::fmt;

use crate::entry::{Contents, LISTED};
use crate::folio::TenantId;
use crate::word::{EMPTY, ZERO_PAGE, is_on_device};
use crate::zswap::Zswap;

/// What is wrong with a store, in words for its authors.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CheckError(String);

impl fmt::Display for CheckError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the store is inconsistent: {}", self.0)
    }
}

impl std::error::Error for CheckError {}

/// Pages and object bytes of a list.
type Counts = (u64, u64);

/// What the tree holds.
#[derive(Default)]
struct Found {
    entries: u64,
    zero_pages: u64,
    on_device_pages: u64,
    same_filled_pages: u64,
    raw_pages: u64,
    misplaced_pages: u64,
    misplaced_bytes: u64,
    lists: HashMap<(TenantId, usize), Counts>,
}

impl Zswap {
    /// Walks all slots, entries, lists and zspages, asks the kernel what memory there is, and compares. Slow; to be
    /// called while no other thread uses the store, else it may report work under way as damage.
    ///
    /// # Errors
    /// The first thing that is wrong.
    pub fn check(&self) -> Result<(), CheckError> {
        self.checked().map_err(CheckError)
    }

    fn checked(&self) -> Result<(), String> {
        if self.fork.is_child() {
            return Err("it is the store of the process that forked this one".to_owned());
        }
        let found = self.walk_slots()?;
        let stats = self.stats();
        let equal = |what: &str, counted: u64, found: u64| {
            if counted == found { Ok(()) } else { Err(format!("{what}: {counted} counted, {found} found")) }
        };
        equal("entries", self.entries_in_use(), found.entries)?;
        equal("zero_pages", stats.zero_pages, found.zero_pages)?;
        equal("on_device_pages", stats.on_device_pages, found.on_device_pages)?;
        equal("same_filled_pages", stats.same_filled_pages, found.same_filled_pages)?;
        equal("stored_incompressible_pages", stats.stored_incompressible_pages, found.raw_pages)?;
        equal("misplaced_pages", stats.misplaced_pages, found.misplaced_pages)?;
        equal("misplaced_bytes", stats.misplaced_bytes, found.misplaced_bytes)?;
        let listed: u64 = found.lists.values().map(|(pages, _)| pages).sum();
        equal("objects", stats.nodes.iter().map(|node| node.stored_pages).sum(), listed)?;
        equal("object_bytes", stats.object_bytes, found.lists.values().map(|(_, bytes)| bytes).sum())?;
        self.check_lists(&found)?;
        for (tenant, charged) in self.tenants.charged() {
            let within = |other: &TenantId| self.tenants.is_within(*other, tenant);
            let own = found.lists.iter().filter(|((other, _), _)| other.0 != 0 && within(other));
            equal(
                &format!("bytes charged to tenant {}", tenant.0),
                charged,
                own.map(|(_, (_, bytes))| bytes).sum(),
            )?;
        }
        for (index, node) in stats.nodes.iter().enumerate() {
            let here = || found.lists.iter().filter(|((_, on), _)| *on == index).map(|(_, counts)| counts);
            equal("pages of a node", node.stored_pages, here().map(|(pages, _)| pages).sum())?;
            equal("object bytes of a node", node.object_bytes, here().map(|(_, bytes)| bytes).sum())?;
        }
        self.pool.check()
    }

    /// Entries that hold a page; exact while nobody is at work.
    pub(crate) fn entries_in_use(&self) -> u64 {
        let free: u64 = self.lru.lists().map(|(_, _, list)| list.free_entries()).sum();
        self.slab.handed_out() - free
    }

    fn walk_slots(&self) -> Result<Found, String> {
        let mut found = Found::default();
        for (at, slot) in self.tree.slots() {
            if slot.is_locked() || slot.in_writeback() {
                return Err(format!("{at} is locked, or I/O of it is in flight"));
            }
            match slot.id() {
                EMPTY => continue,
                id if is_on_device(id) => {
                    found.on_device_pages += 1;
                    continue;
                }
                ZERO_PAGE => {
                    found.zero_pages += 1;
                    continue;
                }
                id => {
                    let entry = self.slab.at(id);
                    found.entries += 1;
                    if entry.swap_entry() != at {
                        return Err(format!("{at} holds entry {id}, which is of {}", entry.swap_entry()));
                    }
                    let listed = entry.flags.load(crate::sync::Ordering::Relaxed) & LISTED != 0;
                    let Contents::Object { object, codec, .. } = entry.contents() else {
                        found.same_filled_pages += 1;
                        if listed {
                            return Err(format!("same-filled {at} is on an LRU list"));
                        }
                        continue;
                    };
                    if !listed {
                        return Err(format!("{at} is on no LRU list"));
                    }
                    let owner = self.pool.owner(object);
                    if owner != id {
                        return Err(format!("the object of {at} belongs to entry {owner}, not {id}"));
                    }
                    let node = self.pool.node_of(object);
                    found.raw_pages += u64::from(codec.is_none());
                    if node != entry.home() {
                        found.misplaced_pages += 1;
                        found.misplaced_bytes += u64::from(object.len);
                    }
                    if !self.pool.homes().allow(entry.home(), node) {
                        let home = entry.home();
                        return Err(format!("{at} of node index {home} is on {node}, where it may not be"));
                    }
                    let list = found.lists.entry((entry.tenant(), node)).or_default();
                    list.0 += 1;
                    list.1 += u64::from(object.len);
                }
            }
        }
        Ok(found)
    }

    fn check_lists(&self, found: &Found) -> Result<(), String> {
        for (tenant, node, list) in self.lru.lists() {
            let expected = found.lists.get(&(tenant, node)).copied().unwrap_or_default();
            let counts = list.counts();
            let mut stranger = None;
            list.walk(&self.slab, |id| {
                let entry = self.slab.at(id);
                let here = matches!(entry.contents(), Contents::Object { object, .. }
                    if (entry.tenant(), self.pool.node_of(object)) == (tenant, node));
                if !here || self.tree.slot(entry.swap_entry()).map(|slot| slot.id()) != Some(id) {
                    stranger = Some(id);
                }
            })?;
            if let Some(id) = stranger {
                return Err(format!(
                    "entry {id} is on the list of tenant {} and node index {node}",
                    tenant.0
                ));
            }
            if counts != expected {
                return Err(format!(
                    "list of tenant {} and node index {node}: {counts:?} pages and bytes counted, {expected:?} found",
                    tenant.0
                ));
            }
        }
        Ok(())
    }
}
