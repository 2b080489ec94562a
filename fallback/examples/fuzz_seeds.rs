//! Writes the inputs a fuzz target starts from: `fuzz_seeds TARGET FOLDER`.
//!
//! A decoder that starts from noise takes long to see a whole stream. The seeds are this file's text, in some
//! lengths, as streams behind the two bytes of their decoded length; for vw, a page that begins with it, at each
//! level, as a stream alone.

use std::path::Path;

use zfolio_fallback::{Codec, Codecs, Vw, VwLevel, max_compressed_len};

const TEXT: &[u8] = include_bytes!("fuzz_seeds.rs");

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [target, folder] = &arguments[..] else { panic!("usage: fuzz_seeds TARGET FOLDER") };
    let codec = match target.as_str() {
        "lz4_decode" => Some(Codec::Lz4),
        "deflate_decode" => Some(Codec::Deflate),
        "vw_decode" => return vw_seeds(Path::new(folder)),
        _ => None,
    };
    let mut codecs = Codecs::new();
    for len in [0, 1, 5, 40, 300, TEXT.len()] {
        let mut seed = TEXT[..len].to_vec();
        if let Some(codec) = codec {
            let mut stream = vec![0; max_compressed_len(len)];
            let stream_len = codecs.compress(codec, &seed, &mut stream).expect("the bound always fits");
            seed = [&(len as u16).to_le_bytes(), &stream[..stream_len]].concat();
        }
        std::fs::write(Path::new(folder).join(format!("text_{len}")), seed).expect("the folder takes files");
    }
}

/// Pages of this text, whole and in part, with zeroes behind it.
fn vw_seeds(folder: &Path) {
    let mut vw = Vw::new();
    for len in [0, 1, 5, 40, 300, TEXT.len()] {
        let mut page = [0; 4096];
        page.iter_mut().zip(&TEXT[..len]).for_each(|(byte, &from)| *byte = from);
        for level in VwLevel::ALL {
            let mut stream = [0; max_compressed_len(4096)];
            let stream_len = vw.compress(level, &page, &mut stream).expect("the bound always fits");
            let name = format!("text_{len}_{level:?}");
            std::fs::write(folder.join(name), &stream[..stream_len]).expect("the folder takes files");
        }
    }
}
