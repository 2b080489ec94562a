//! Writes inputs to start the descriptor fuzzer with: descriptors of each kind, on text and on streams of it.
//!
//! `cargo run --example descriptor_seeds -- DIRECTORY`

use std::path::PathBuf;
use std::process::ExitCode;

use zfolio_fallback::{Codec, Codecs, max_compressed_len};

fn main() -> ExitCode {
    let Some(directory) = std::env::args().nth(1).map(PathBuf::from) else {
        eprintln!("usage: descriptor_seeds DIRECTORY");
        return ExitCode::from(2);
    };
    let text = &include_bytes!("descriptor_seeds.rs")[..1500];
    let mut codecs = Codecs::new();
    let mut stream = vec![0; max_compressed_len(text.len())];
    let len = codecs.compress(Codec::Deflate, text, &mut stream).unwrap_or(0);
    stream.truncate(len);
    // Kind, wild, three bytes of flags, two of the operation's, AECS, destination size, rest; see `check::hostile`.
    let decompress = |flags: u8, op: [u8; 2], size: u16| {
        let [low, high] = size.to_le_bytes();
        [0, 3, 0xc, 0, flags, op[0], op[1], 2, low, high, 0, 1, 0, 0, 0, 0]
    };
    let compress = |flags: u8, op: [u8; 2]| [1, 3, 0xc, 0, flags, op[0], op[1], 1, 0, 16, 0, 1, 0, 0, 0, 0];
    let seeds: [(&str, [u8; 16], &[u8]); 9] = [
        ("decompress", decompress(0, [0x1f, 0], 2000), &stream),
        ("decompress-any-end", decompress(0, [0x0f, 0], 2000), &stream),
        ("decompress-overflow", decompress(8, [0x1f, 0], 1000), &stream),
        ("decompress-suppressed", decompress(0, [0x1f, 2], 0), &stream),
        ("decompress-index", decompress(0, [0x15, 6], 256), &stream),
        ("compress", compress(1, [6, 0]), text),
        ("compress-statistics", compress(0, [1, 0]), text),
        ("compress-one-pass", compress(0, [6, 0x30]), text),
        ("compress-tables", compress(4, [4, 0x70]), text),
    ];
    for (name, head, data) in seeds {
        if let Err(error) = std::fs::write(directory.join(name), [&head[..], data].concat()) {
            eprintln!("{}: {error}", directory.join(name).display());
            return ExitCode::FAILURE;
        }
    }
    ExitCode::SUCCESS
}
