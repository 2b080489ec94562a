//! Properties of vw: its implementations are one codec.

use crate::vw::mended_len;
use crate::{DecodeError, Vw, VwLevel, max_compressed_len};

/// Every implementation that this machine has, the portable one last.
pub fn vw_paths() -> Vec<Vw> {
    Vw::all()
}

/// Implementations that are held to each other's bytes and answers.
pub struct VwPaths(Vec<Vw>);

impl VwPaths {
    /// All of [`vw_paths`].
    pub fn new() -> VwPaths {
        VwPaths(vw_paths())
    }

    /// The stream of `page` at a level, which all write alike and all read.
    pub fn stream(&mut self, level: VwLevel, page: &[u8; 4096]) -> Vec<u8> {
        let bound = max_compressed_len(4096);
        let mut streams = self.0.iter_mut().map(|vw| {
            let mut stream = vec![0xa5; bound + 64];
            let len = vw.compress(level, page, &mut stream[..bound]).expect("the bound always fits");
            assert!(stream[bound..].iter().all(|&byte| byte == 0xa5), "vw wrote past its output");
            stream.truncate(len);
            stream
        });
        let stream = streams.next().expect("one is portable");
        assert!(streams.all(|other| other == stream), "the encoders of {level:?} write different bytes");
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

    /// The decoders' answer to any bytes, which is one, and does not depend on what the output held before.
    pub fn decode(&mut self, src: &[u8]) -> Result<Box<[u8; 4096]>, DecodeError> {
        let mut answers = self.0.iter_mut().zip([0x00, 0xff, 0x5a].into_iter().cycle()).map(|(vw, old)| {
            let mut page = Box::new([old; 4096]);
            let answer = vw.decompress(src, &mut page[..]);
            (answer, page)
        });
        let (answer, page) = answers.next().expect("one is portable");
        for (other, other_page) in answers {
            assert_eq!(answer, other, "the decoders do not agree on {} bytes", src.len());
            assert!(page == other_page, "the decoders make different pages of {} bytes", src.len());
        }
        assert!(answer.is_ok() || page.iter().all(|&byte| byte == 0), "an error left bytes in the page");
        answer.map(|()| page)
    }
}

impl Default for VwPaths {
    fn default() -> VwPaths {
        VwPaths::new()
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
