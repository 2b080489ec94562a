//! Properties of vw: its two implementations are one codec.

use crate::vw::mended_len;
use crate::{DecodeError, Vw, VwLevel, max_compressed_len};

/// The implementation this machine uses, and the portable one.
pub struct VwPair {
    fast: Vw,
    portable: Vw,
}

impl VwPair {
    /// Both; on a machine without a fast path, the portable one twice.
    pub fn new() -> VwPair {
        VwPair { fast: Vw::new(), portable: Vw::portable() }
    }

    /// The stream of `page` at a level, which both write alike and both read.
    pub fn stream(&mut self, level: VwLevel, page: &[u8; 4096]) -> Vec<u8> {
        let bound = max_compressed_len(4096);
        let mut streams = [&mut self.fast, &mut self.portable].map(|vw| {
            let mut stream = vec![0xa5; bound + 64];
            let len = vw.compress(level, page, &mut stream[..bound]).expect("the bound always fits");
            assert!(stream[bound..].iter().all(|&byte| byte == 0xa5), "vw wrote past its output");
            stream.truncate(len);
            stream
        });
        assert!(streams[0] == streams[1], "the encoders of {level:?} write different bytes");
        let stream = std::mem::take(&mut streams[0]);
        let back = self.decode(&stream).expect("what was compressed decodes");
        assert!(back[..] == page[..], "{level:?} returned another page");
        stream
    }

    /// Any bytes as a page: repeated as often as it takes, with its number added to the first byte of each repeat.
    pub fn page_of(&mut self, data: &[u8]) {
        let mut page = [0; 4096];
        for (number, part) in page.chunks_mut(data.len().max(1)).enumerate() {
            part.iter_mut().zip(data).for_each(|(byte, &from)| *byte = from);
            part[0] = part[0].wrapping_add(number as u8);
        }
        for level in VwLevel::ALL {
            self.stream(level, &page);
        }
    }

    /// Any bytes as a stream, as they are and with the length their own numbers ask for.
    pub fn hostile(&mut self, data: &[u8]) {
        let _ = self.decode(data);
        let mut stream = data.to_vec();
        mend(&mut stream, 0x5a);
        let _ = self.decode(&stream);
    }

    /// Both decoders' answer to any bytes, which is one, and does not depend on what the output held before.
    pub fn decode(&mut self, src: &[u8]) -> Result<Box<[u8; 4096]>, DecodeError> {
        let mut answers = [(&mut self.fast, 0x00), (&mut self.portable, 0xff)].map(|(vw, old)| {
            let mut page = Box::new([old; 4096]);
            let answer = vw.decompress(src, &mut page[..]);
            (answer, page)
        });
        assert_eq!(answers[0].0, answers[1].0, "the decoders do not agree on {} bytes", src.len());
        assert!(answers[0].1 == answers[1].1, "the decoders make different pages of {} bytes", src.len());
        if answers[0].0.is_err() {
            assert!(answers[0].1.iter().all(|&byte| byte == 0), "an error left bytes in the page");
        }
        answers[0].0?;
        Ok(std::mem::replace(&mut answers[0].1, Box::new([0; 4096])))
    }
}

impl Default for VwPair {
    fn default() -> VwPair {
        VwPair::new()
    }
}

/// Gives a damaged stream the length that its own numbers ask for, where they ask for one, so that hostile
/// bytes get past the first check; new bytes are `fill`.
pub fn mend(stream: &mut Vec<u8>, fill: u8) {
    // Twice: the length asked for may depend on bytes that were not there.
    for _ in 0..2 {
        if let Some(len) = mended_len(stream) {
            stream.resize(len, fill);
        }
    }
}
