//! How small the model makes the pages of files: fixed in one descriptor, and dynamic with a generated header.
//!
//! For comparison with what is known of the device, or of Intel's software path on the same pages.
//! `cargo run --release -p iaa-model --example ratio -- FILE...`

use std::process::ExitCode;

use iaa_model::{Capabilities, OtherProcess, execute};
use idxd_sys::aecs::{COMPRESS_SIZE, CompressAecs, Symbols};
use idxd_sys::flags::{compress, op};
use idxd_sys::{Descriptor, error_code, opcode, status};
use zfolio_fallback::tree::{Code, Codes};

const PAGE: usize = 4096;

#[repr(C, align(64))]
struct Aligned<T>(T);

fn main() -> ExitCode {
    let files: Vec<String> = std::env::args().skip(1).collect();
    if files.is_empty() {
        eprintln!("usage: ratio FILE...");
        return ExitCode::from(2);
    }
    for file in &files {
        let data = match std::fs::read(file) {
            Ok(data) => data,
            Err(error) => {
                eprintln!("{file}: {error}");
                return ExitCode::FAILURE;
            }
        };
        let (pages, _) = data.as_chunks::<PAGE>();
        for (name, dynamic) in [("fixed", false), ("dynamic", true)] {
            let bytes: usize = pages.iter().map(|page| compressed(page, dynamic)).sum();
            let all = pages.len() * PAGE;
            println!("{file} {name}: {all} to {bytes} bytes, ratio {:.4}", all as f64 / bytes.max(1) as f64);
        }
    }
    ExitCode::SUCCESS
}

/// The length of a page's stream; of one that does not fit, a page.
fn compressed(page: &[u8; PAGE], dynamic: bool) -> usize {
    let word = |code: Code| u32::from(code.len) << 15 | u32::from(code.bits);
    let codes = Codes::fixed();
    let mut accumulator = [0; 256];
    accumulator[0] = 3;
    let aecs = Aligned(CompressAecs {
        crc: 0,
        xor_checksum: 0,
        reserved0: [0; 5],
        accumulator_bits: 3,
        accumulator,
        codes: Symbols {
            literals: codes.literals.map(word),
            reserved0: [0; 2],
            distances: codes.distances.map(word),
            reserved1: [0; 2],
        },
    });
    let mut dst = [0_u8; PAGE];
    let end = compress::FLUSH_OUTPUT | compress::END_EOB;
    let mut descriptor = Descriptor {
        src1_addr: page.as_ptr().addr() as u64,
        src1_size: PAGE as u32,
        dst_addr: dst.as_mut_ptr().addr() as u64,
        max_dst_size: PAGE as u32,
        op_flags: end | if dynamic { compress::HEADER_ONE_PASS_FINAL } else { 0 },
        ..Descriptor::new(opcode::COMPRESS, if dynamic { 0 } else { op::READ_SRC2_AECS })
    };
    if !dynamic {
        descriptor.src2_addr = (&raw const aecs.0).addr() as u64;
        descriptor.src2_size = COMPRESS_SIZE;
    }
    let record = execute(&Capabilities::GNR, &descriptor, &OtherProcess::this());
    match (record.status, record.error_code) {
        (status::SUCCESS, _) => record.output_size as usize,
        (status::ANALYTICS_ERROR, error_code::UNRECOVERABLE_OVERFLOW) => PAGE,
        (status, code) => panic!("compressing a page ended with status {status:#x}, error {code}"),
    }
}
