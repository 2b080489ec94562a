//! Any bytes as a page, and as damage to its LZ4 block; the plain reader of `check` is the oracle.

#![no_main]

use libfuzzer_sys::fuzz_target;
use zfolio_fallback::{Codecs, check};

fuzz_target!(|data: &[u8]| {
    thread_local! {
        static PATHS: std::cell::RefCell<Vec<Codecs>> = std::cell::RefCell::new(check::lz4_paths());
    }
    // The same codecs for all inputs: what one leaves behind must not show in the next.
    PATHS.with_borrow_mut(|paths| check::lz4_page(paths, data));
});
