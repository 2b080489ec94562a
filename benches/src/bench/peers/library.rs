//! liblz4 and libzstd as the machine has them, loaded at run time: the distribution's own builds, and no C in ours.

#![allow(unsafe_code)]

use std::ffi::{CStr, c_char, c_int, c_void};
use std::ptr::NonNull;

use idxd_sys::dl::{Loaded, string};
use zfolio_accel::{PAGE_SIZE, PageBytes};

/// Looks a function up in a library.
///
/// # Safety
/// `F` is the type that the library's header gives the function of this name.
unsafe fn function<F: Copy>(library: Loaded, name: &CStr) -> Result<F, String> {
    const { assert!(size_of::<F>() == size_of::<NonNull<c_void>>()) };
    let address = library.symbol(name).ok_or_else(|| format!("it has no {}", name.to_string_lossy()))?;
    // SAFETY: a function pointer of the right type, by the caller's word, and of the same size.
    Ok(unsafe { std::mem::transmute_copy::<NonNull<c_void>, F>(&address) })
}

/// liblz4.
pub(super) struct Lz4 {
    compress: unsafe extern "C" fn(*const c_char, *mut c_char, c_int, c_int) -> c_int,
    decompress: unsafe extern "C" fn(*const c_char, *mut c_char, c_int, c_int) -> c_int,
    version: unsafe extern "C" fn() -> *const c_char,
}

impl Lz4 {
    pub(super) fn load() -> Result<Self, String> {
        // SAFETY: liblz4 has no initialisers.
        let library = unsafe { Loaded::open(c"liblz4.so.1")? };
        // SAFETY: the types are those of lz4.h, whose interface has the version in the library's name.
        unsafe {
            Ok(Self {
                compress: function(library, c"LZ4_compress_default")?,
                decompress: function(library, c"LZ4_decompress_safe")?,
                version: function(library, c"LZ4_versionString")?,
            })
        }
    }

    pub(super) fn version(&self) -> String {
        // SAFETY: gives a constant string.
        unsafe { string((self.version)()) }
    }

    pub(super) fn compress(&self, page: &PageBytes, dst: &mut [u8]) -> Option<usize> {
        let room = c_int::try_from(dst.len()).unwrap_or(c_int::MAX);
        // SAFETY: reads the page, whose length it is told, and writes at most `room` bytes of `dst`.
        let len = unsafe {
            (self.compress)(page.as_ptr().cast(), dst.as_mut_ptr().cast(), PAGE_SIZE as c_int, room)
        };
        usize::try_from(len).ok().filter(|len| *len > 0)
    }

    pub(super) fn decompress(&self, bytes: &[u8], page: &mut PageBytes) -> Result<(), String> {
        let len = c_int::try_from(bytes.len()).unwrap_or(0);
        // SAFETY: reads `len` bytes of `bytes`, which are there, and writes at most a page.
        let got = unsafe {
            (self.decompress)(bytes.as_ptr().cast(), page.as_mut_ptr().cast(), len, PAGE_SIZE as c_int)
        };
        if got == PAGE_SIZE as c_int { Ok(()) } else { Err(format!("liblz4 gave {got} bytes")) }
    }
}

/// libzstd with a context for each way, used again for every page. Dropping it frees them.
pub(super) struct Zstd {
    compressor: NonNull<c_void>,
    decompressor: NonNull<c_void>,
    compress: unsafe extern "C" fn(*mut c_void, *mut c_void, usize, *const c_void, usize, c_int) -> usize,
    decompress: unsafe extern "C" fn(*mut c_void, *mut c_void, usize, *const c_void, usize) -> usize,
    is_error: unsafe extern "C" fn(usize) -> u32,
    version: unsafe extern "C" fn() -> *const c_char,
    free: [unsafe extern "C" fn(*mut c_void) -> usize; 2],
}

impl Zstd {
    pub(super) fn load() -> Result<Self, String> {
        // SAFETY: libzstd has no initialisers.
        let library = unsafe { Loaded::open(c"libzstd.so.1")? };
        // SAFETY: the types are those of zstd.h, whose interface has the version in the library's name; a context that could
        // not be made is a null pointer, and is not used.
        unsafe {
            let new: [unsafe extern "C" fn() -> *mut c_void; 2] =
                [function(library, c"ZSTD_createCCtx")?, function(library, c"ZSTD_createDCtx")?];
            let free = [function(library, c"ZSTD_freeCCtx")?, function(library, c"ZSTD_freeDCtx")?];
            let (compress, decompress) =
                (function(library, c"ZSTD_compressCCtx")?, function(library, c"ZSTD_decompressDCtx")?);
            let (is_error, version) =
                (function(library, c"ZSTD_isError")?, function(library, c"ZSTD_versionString")?);
            let no_memory = || "no memory for a context".to_owned();
            let compressor = NonNull::new(new[0]()).ok_or_else(no_memory)?;
            let decompressor = NonNull::new(new[1]()).ok_or_else(no_memory)?;
            Ok(Self { compressor, decompressor, compress, decompress, is_error, version, free })
        }
    }

    pub(super) fn version(&self) -> String {
        // SAFETY: gives a constant string.
        unsafe { string((self.version)()) }
    }

    pub(super) fn compress(&mut self, page: &PageBytes, dst: &mut [u8], level: i32) -> Option<usize> {
        // SAFETY: the context is ours alone; reads the page and writes at most `dst`, whose lengths it is told.
        unsafe {
            let (to, from) = (dst.as_mut_ptr().cast(), page.as_ptr().cast());
            let len = (self.compress)(self.compressor.as_ptr(), to, dst.len(), from, PAGE_SIZE, level);
            ((self.is_error)(len) == 0).then_some(len)
        }
    }

    pub(super) fn decompress(&mut self, bytes: &[u8], page: &mut PageBytes) -> Result<(), String> {
        // SAFETY: the context is ours alone; reads `bytes` and writes at most a page, whose lengths it is told.
        let got = unsafe {
            let (to, from) = (page.as_mut_ptr().cast(), bytes.as_ptr().cast());
            (self.decompress)(self.decompressor.as_ptr(), to, PAGE_SIZE, from, bytes.len())
        };
        if got == PAGE_SIZE { Ok(()) } else { Err(format!("libzstd gave {got}")) }
    }
}

impl Drop for Zstd {
    fn drop(&mut self) {
        // SAFETY: both were made by the functions that these belong to, and are not used again.
        unsafe {
            (self.free[0])(self.compressor.as_ptr());
            (self.free[1])(self.decompressor.as_ptr());
        }
    }
}
