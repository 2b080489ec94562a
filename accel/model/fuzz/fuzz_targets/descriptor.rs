//! Any bytes as a descriptor, changes to an AECS, and data.

#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| iaa_model::check::hostile(data));
