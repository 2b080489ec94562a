//! Memory of this process as the kernel counts it.

use std::fs;

use crate::machine::kib_field;

/// Resident anonymous memory of this process (`RssAnon` in /proc/self/status), `None` where the kernel does not
/// tell.
///
/// The kernel keeps this sum per CPU and reads it without gathering the last few pages of each: it can be off
/// by some hundred KiB on a large machine.
pub(crate) fn rss_anon_bytes() -> Option<u64> {
    kib_field(&fs::read_to_string("/proc/self/status").ok()?, "RssAnon")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn touched_memory_appears_in_rss_anon() {
        let grows = || {
            let before = rss_anon_bytes().expect("Linux tells RssAnon");
            let touched = std::hint::black_box(vec![1u8; 64 << 20]);
            let after = rss_anon_bytes().expect("Linux tells RssAnon");
            drop(touched);
            after >= before + (56 << 20)
        };
        // Tests beside this one may free as much at the same moment.
        assert!((0..50).any(|_| grows()));
    }
}
