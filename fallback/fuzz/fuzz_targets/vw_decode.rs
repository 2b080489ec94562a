//! Any bytes as a vw stream; both decoders must give one answer.

#![no_main]

use libfuzzer_sys::fuzz_target;
use zfolio_fallback::check::VwPair;

fuzz_target!(|data: &[u8]| {
    thread_local! {
        static PAIR: std::cell::RefCell<VwPair> = std::cell::RefCell::new(VwPair::new());
    }
    // One pair for all inputs: what one leaves behind must not show in the next.
    PAIR.with_borrow_mut(|pair| pair.hostile(data));
});
