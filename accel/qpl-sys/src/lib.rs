//! Intel QPL, the vendor's library for IAA: its job, its statuses in words, and its functions.
//!
//! The library is [loaded](Library::load) at run time, so that what uses this crate runs without it, and never unloaded:
//! it keeps devices open and cannot be taken down. With the feature `link` it is linked instead, as pkg-config finds it.
//!
//! `bindings.rs` is made by bindgen from Debian's header of version 1.9.0; `ci/bindings.sh` makes it again and compares.
//!
//! Linux only; elsewhere the crate is empty. There is no such library for other CPUs, which loading it says.

#![cfg(target_os = "linux")]

#[allow(
    dead_code,
    non_camel_case_types,
    non_upper_case_globals,
    missing_docs,
    missing_debug_implementations,
    unreachable_pub,
    reason = "made by bindgen"
)]
mod bindings;
mod library;
pub mod status;

pub use bindings::{qpl_job, qpl_operation, qpl_path_t, qpl_status};
pub use library::{Library, LoadError, Version};

/// Where a job runs: the device.
pub const PATH_HARDWARE: qpl_path_t = bindings::qpl_path_hardware;
/// Where a job runs: the library's own software.
pub const PATH_SOFTWARE: qpl_path_t = bindings::qpl_path_software;

/// Decompresses.
pub const OP_DECOMPRESS: qpl_operation = bindings::qpl_op_decompress;
/// Compresses.
pub const OP_COMPRESS: qpl_operation = bindings::qpl_op_compress;

/// The compression level that the device has.
pub const LEVEL_DEFAULT: u32 = bindings::qpl_default_level;

/// Flags of a job.
pub mod flag {
    use super::bindings;

    /// The first piece of a stream.
    pub const FIRST: u32 = bindings::QPL_FLAG_FIRST;
    /// The last piece of a stream.
    pub const LAST: u32 = bindings::QPL_FLAG_LAST;
    /// Huffman codes of the data's own, instead of the fixed ones.
    pub const DYNAMIC_HUFFMAN: u32 = bindings::QPL_FLAG_DYNAMIC_HUFFMAN;
    /// Does not decompress what was compressed to compare.
    pub const OMIT_VERIFY: u32 = bindings::QPL_FLAG_OMIT_VERIFY;
}

/// Any device of the machine, as a job's `numa_id`.
pub const NUMA_ANY: i32 = -3;

const _: () = {
    use std::mem::{align_of, offset_of, size_of};
    assert!(size_of::<qpl_job>() == 240 && align_of::<qpl_job>() == 8);
    assert!(offset_of!(qpl_job, available_in) == 8);
    assert!(offset_of!(qpl_job, next_out_ptr) == 16);
    assert!(offset_of!(qpl_job, available_out) == 24);
    assert!(offset_of!(qpl_job, total_out) == 28);
    assert!(offset_of!(qpl_job, op) == 32);
    assert!(offset_of!(qpl_job, flags) == 36);
    assert!(offset_of!(qpl_job, crc) == 40);
    assert!(offset_of!(qpl_job, level) == 52);
    assert!(offset_of!(qpl_job, huffman_table) == 64);
    assert!(offset_of!(qpl_job, crc64) == 120);
    assert!(offset_of!(qpl_job, numa_id) == 188);
    assert!(offset_of!(qpl_job, data_ptr) == 192);
};
