//! Codecs alone: a page is compressed to the end of one long buffer, and decompressed from there.
//!
//! What every store does with a page that one word fills is done here too; nothing else is.

use zfolio_accel::{Codec, Method, PAGE_SIZE, Page, PageBytes, repeated_word};
use zfolio_fallback::{Codecs, max_compressed_len};

use super::library::{Lz4, Zstd};
use super::peer::{Memory, Pass, Peer};

/// What the records call the backend of a codec alone.
pub(super) const BACKEND: &str = "codec alone";

/// A codec that compresses into `dst` and says how long it is.
pub(super) enum Bare {
    Own(Method, Box<Codecs>),
    Lz4(Lz4),
    Zstd(Zstd, i32),
}

impl Bare {
    /// The length, and which of our own codecs was taken where the method has several.
    fn compress(&mut self, page: &PageBytes, dst: &mut [u8]) -> (Option<usize>, Codec) {
        match self {
            Self::Own(method, codecs) => {
                let method = method.for_page(page);
                (codecs.compress(method, page, dst), method.codec())
            }
            Self::Lz4(library) => (library.compress(page, dst), Codec::Lz4),
            Self::Zstd(library, level) => (library.compress(page, dst, *level), Codec::Lz4),
        }
    }

    fn decompress(&mut self, codec: Codec, bytes: &[u8], page: &mut PageBytes) -> Result<(), String> {
        match self {
            Self::Own(_, codecs) => codecs.decompress(codec, bytes, page).map_err(|error| error.to_string()),
            Self::Lz4(library) => library.decompress(bytes, page),
            Self::Zstd(library, _) => library.decompress(bytes, page),
        }
    }

    fn name(&self) -> String {
        match self {
            Self::Own(method, _) => method.name().to_owned(),
            Self::Lz4(_) => "liblz4".to_owned(),
            Self::Zstd(_, level) => format!("zstd {level}"),
        }
    }

    fn report(&self) -> String {
        match self {
            Self::Own(..) => concat!("zfolio ", env!("CARGO_PKG_VERSION")).to_owned(),
            Self::Lz4(library) => format!("liblz4 {}", library.version()),
            Self::Zstd(library, _) => format!("libzstd {}", library.version()),
        }
    }
}

/// Where a page's bytes are.
#[derive(Clone, Copy)]
enum Place {
    Filled(u64),
    Raw { start: usize },
    Bytes { start: usize, len: usize, codec: Codec },
}

/// A codec and the pages that it has compressed.
pub(super) struct Alone {
    codec: Bare,
    name: String,
    bytes: Vec<u8>,
    used: usize,
    places: Vec<Place>,
}

impl Alone {
    pub(super) fn new(codec: Bare) -> Self {
        Self { name: codec.name(), codec, bytes: Vec::new(), used: 0, places: Vec::new() }
    }
}

impl Peer for Alone {
    fn codec(&self) -> &str {
        &self.name
    }

    fn backend(&self) -> &str {
        BACKEND
    }

    fn report(&self) -> String {
        self.codec.report()
    }

    fn passes(&self) -> &'static [Pass] {
        &[Pass::Store, Pass::LoadInOrder, Pass::Load]
    }

    fn begin(&mut self, pages: usize) -> Result<(), String> {
        // Touched once: later rounds find it warm, as with a store.
        self.bytes.resize(pages * PAGE_SIZE + max_compressed_len(PAGE_SIZE), 0);
        self.places.clear();
        self.places.reserve_exact(pages);
        self.used = 0;
        Ok(())
    }

    fn store(&mut self, _: Pass, _: &[u32], source: &[PageBytes]) -> Result<(), String> {
        for page in source {
            if let Some(word) = repeated_word(page) {
                self.places.push(Place::Filled(word));
                continue;
            }
            let room = &mut self.bytes[self.used..][..max_compressed_len(PAGE_SIZE)];
            let start = self.used;
            let (place, len) = match self.codec.compress(page, room) {
                (Some(len), codec) if len < PAGE_SIZE => (Place::Bytes { start, len, codec }, len),
                _ => {
                    room[..PAGE_SIZE].copy_from_slice(page);
                    (Place::Raw { start }, PAGE_SIZE)
                }
            };
            self.places.push(place);
            self.used += len;
        }
        Ok(())
    }

    fn load(&mut self, _: Pass, slots: &[u32], pages: &mut [Page]) -> Result<(), String> {
        for (slot, page) in slots.iter().zip(pages) {
            match self.places[*slot as usize] {
                Place::Filled(word) => {
                    let (words, _) = page.as_chunks_mut();
                    words.fill(word.to_ne_bytes());
                }
                Place::Raw { start } => page.copy_from_slice(&self.bytes[start..][..PAGE_SIZE]),
                Place::Bytes { start, len, codec } => {
                    self.codec.decompress(codec, &self.bytes[start..][..len], page)?;
                }
            }
        }
        Ok(())
    }

    fn keeps(&self, _: Pass) -> bool {
        true
    }

    fn memory(&mut self) -> Result<Memory, String> {
        let bytes = self.used as u64;
        Ok(Memory { bytes, metadata_bytes: 0, compressed_bytes: Some(bytes) })
    }
}
