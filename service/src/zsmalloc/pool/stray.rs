//! Memory that the kernel moved to another node after its zspage had got it: it demotes what is cold, and does what
//! `migratepages` and cpusets tell it. It tells nobody, so it has to be asked again.
//!
//! The node of a zspage cannot change while it has objects, for lists and counts rest on it. So a zspage that strayed takes no
//! more objects, its own are moved out by the repair pass, and its memory goes back to the kernel with the last of them.

use super::ZsPool;
use super::compact::belongs;
use crate::zsmalloc::zspage::Closed;

impl ZsPool {
    /// Asks the kernel where the memory of a zspage of this node is now: how many pages are on another one.
    pub(crate) fn ask_again(&self, id: u32, node: usize) -> u64 {
        let pages = self.arena.strayed_pages(id);
        if (pages != 0) != self.arena.header(id).has_strayed() {
            self.set_strayed(id, node, pages != 0);
        }
        pages
    }

    pub(crate) fn set_strayed(&self, id: u32, node: usize, strayed: bool) {
        let header = self.arena.header(id);
        let class = header.class();
        let mut state = self.class(node, class).lock();
        // It may be another zspage's slot by now. If that is one of this class, it is moved for nothing.
        if belongs(header, node, class) {
            header.set_closed(Closed::Strayed, strayed);
            self.relist(&mut state, id, header);
        }
    }
}
