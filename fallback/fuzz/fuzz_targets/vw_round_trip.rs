//! Any bytes as a page, through vw at each level and back; all encoders must write the same stream.

#![no_main]

use libfuzzer_sys::fuzz_target;
use zfolio_fallback::check::VwPaths;

fuzz_target!(|data: &[u8]| {
    thread_local! {
        static PATHS: std::cell::RefCell<VwPaths> = std::cell::RefCell::new(VwPaths::new());
    }
    // One set for all inputs: what one leaves behind must not show in the next.
    PATHS.with_borrow_mut(|paths| paths.page_of(data));
});
