//! The proof that a pool's lists, headers and counts agree with each other and with the kernel.

use std::collections::HashMap;

use zfolio_accel::PAGE_SIZE;

use super::{Class, RawObject, ZsPool, list_of, stays, used_pages};
use crate::sync::Ordering;
use crate::zsmalloc::backrefs::{FREE, next_free};
use crate::zsmalloc::class::{CLASSES, SHAPES};
use crate::zsmalloc::zspage::NO_OBJECT;

impl ZsPool {
    /// The entry that an object belongs to; for checks.
    pub(crate) fn owner(&self, raw: RawObject) -> u32 {
        let block = self.arena.header(raw.zspage).backrefs.load(Ordering::Relaxed);
        self.backrefs.word(block, raw.index).load(Ordering::Relaxed)
    }

    /// Proves that lists, headers, counts and the kernel agree, while nobody uses the pool.
    pub(crate) fn check(&self) -> Result<(), String> {
        let free: HashMap<u32, usize> = self.arena.free_slots().into_iter().collect();
        let mut counted: Vec<Vec<Class>> =
            self.nodes.iter().map(|_| (0..CLASSES).map(|_| Class::default()).collect()).collect();
        let mut pages = vec![0u64; self.nodes.len()];
        for slot in self.arena.slots() {
            let header = self.arena.header(slot);
            pages[header.node()] += header.populated() as u64;
            if let Some(&populated) = free.get(&slot) {
                if header.populated() != populated {
                    return Err(format!(
                        "free slot {slot}: {} pages, listed as {populated}",
                        header.populated()
                    ));
                }
                continue;
            }
            let sum = &mut counted[header.node()][header.class()];
            sum.zspages += 1;
            sum.objects += u64::from(header.in_use.load(Ordering::Relaxed));
            sum.populated_pages += header.populated() as u64;
            self.check_zspage(slot)?;
        }
        for (node, classes) in counted.iter().enumerate() {
            let used = self.arena.node_limit(node).used_pages();
            if used != pages[node] {
                return Err(format!("node index {node}: {used} pages charged, {} populated", pages[node]));
            }
            for (class, sum) in classes.iter().enumerate() {
                let state = self.class(node, class).lock();
                let is = (state.zspages, state.objects, state.populated_pages);
                let found = (sum.zspages, sum.objects, sum.populated_pages);
                if is != found {
                    return Err(format!("node index {node}, class {class}: counts {is:?}, found {found:?}"));
                }
                for (number, list) in state.lists.iter().enumerate() {
                    for id in list.iter(|id| self.arena.header(id)) {
                        if list_of(self.arena.header(id)) != number {
                            return Err(format!("zspage {id} is on list {number} of class {class}"));
                        }
                    }
                }
            }
        }
        let charged = self.arena.pool_limit().used_pages();
        // Less is in memory where the kernel has swapped.
        let resident = self.arena.resident_bytes().map_err(|error| format!("mincore: {error}"))?;
        if pages.iter().sum::<u64>() != charged || resident > charged * PAGE_SIZE as u64 {
            return Err(format!(
                "{charged} pages charged to the pool, {resident} bytes resident by the kernel"
            ));
        }
        Ok(())
    }

    fn check_zspage(&self, id: u32) -> Result<(), String> {
        let header = self.arena.header(id);
        let shape = &SHAPES[header.class()];
        let block = header.backrefs.load(Ordering::Relaxed);
        let bump = header.bump.load(Ordering::Relaxed);
        let (mut index, mut free) = (header.free.load(Ordering::Relaxed), 0);
        while index != NO_OBJECT {
            let word = self.backrefs.word(block, index).load(Ordering::Relaxed);
            if index >= bump || free >= bump || word & FREE == 0 {
                return Err(format!(
                    "zspage {id}: free list leads to object {index}, whose word is {word:#x}"
                ));
            }
            (index, free) = (next_free(word), free + 1);
        }
        let in_use = header.in_use.load(Ordering::Relaxed);
        if in_use + free != bump
            || header.populated() < used_pages(header, header.class())
            || header.populated() > shape.pages
        {
            return Err(format!(
                "zspage {id}: {in_use} in use and {free} free of {bump}, {} pages",
                header.populated()
            ));
        }
        let stays = stays(list_of(header), header.capacity.load(Ordering::Relaxed));
        let says = (header.stays_from.load(Ordering::Relaxed), header.stays_to.load(Ordering::Relaxed));
        if says != stays {
            return Err(format!("zspage {id}: stays on its list with {says:?} in use, not {stays:?}"));
        }
        Ok(())
    }
}
