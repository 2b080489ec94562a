//! Any bytes as a page, and as damage to its LZ4 block; the plain reader of `check` is the oracle.

#![no_main]

use libfuzzer_sys::fuzz_target;
use zfolio_fallback::{Codecs, check};

fuzz_target!(|data: &[u8]| {
    thread_local! {
        static CODECS: std::cell::RefCell<Codecs> = std::cell::RefCell::new(Codecs::new());
    }
    // One pair of codecs for all inputs: what one leaves behind must not show in the next.
    CODECS.with_borrow_mut(|codecs| check::lz4_page(codecs, data));
});
