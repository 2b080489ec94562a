//! Any bytes as a raw DEFLATE stream; the oracle is miniz_oxide, which shares no code with the decoder.

#![no_main]

use libfuzzer_sys::fuzz_target;
use miniz_oxide::inflate::TINFLStatus;
use miniz_oxide::inflate::core::inflate_flags::TINFL_FLAG_USING_NON_WRAPPING_OUTPUT_BUF;
use miniz_oxide::inflate::core::{DecompressorOxide, decompress};
use zfolio_fallback::{Codecs, check};

fuzz_target!(|data: &[u8]| {
    thread_local! {
        static CODECS: std::cell::RefCell<Codecs> = std::cell::RefCell::new(Codecs::new());
    }
    // One pair of codecs for all inputs: what one leaves behind must not show in the next.
    CODECS.with_borrow_mut(|codecs| check::hostile_deflate(codecs, data, miniz));
});

/// What miniz_oxide makes of a stream: its bytes, if it is one whole stream of `len` bytes.
fn miniz(src: &[u8], len: usize) -> Option<Vec<u8>> {
    // One byte of room more tells a stream that is too long from one that just fits.
    let mut bytes = vec![0; len + 1];
    let flags = TINFL_FLAG_USING_NON_WRAPPING_OUTPUT_BUF;
    let (status, used, written) = decompress(&mut DecompressorOxide::new(), src, &mut bytes, 0, flags);
    bytes.truncate(len);
    (status == TINFLStatus::Done && used == src.len() && written == len).then_some(bytes)
}
