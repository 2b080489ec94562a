//! Any bytes as a page, through vw at each level and back; both encoders must write the same stream.

#![no_main]

use libfuzzer_sys::fuzz_target;
use zfolio_fallback::check::VwPair;

fuzz_target!(|data: &[u8]| {
    thread_local! {
        static PAIR: std::cell::RefCell<VwPair> = std::cell::RefCell::new(VwPair::new());
    }
    // One pair for all inputs: what one leaves behind must not show in the next.
    PAIR.with_borrow_mut(|pair| pair.page_of(data));
});
