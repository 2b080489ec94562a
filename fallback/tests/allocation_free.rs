//! Nothing is allocated once the codecs stand: a store under memory pressure must not need memory.

mod data;

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

use data::made;
use zfolio_fallback::{Codecs, MAX_INPUT, Method, max_compressed_len};

/// The system's allocator, counting what the calling thread asks for.
struct Counting;

thread_local! {
    static ASKED: Cell<u64> = const { Cell::new(0) };
    static BYTES: Cell<usize> = const { Cell::new(0) };
}

// SAFETY: every duty is passed on to `System` with the same arguments; counting touches only `Cell`s of the
// thread, which need no memory of their own.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ASKED.set(ASKED.get() + 1);
        BYTES.set(BYTES.get() + layout.size());
        // SAFETY: the caller's duties are `System`'s.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, ptr: *mut u8, layout: Layout) {
        // SAFETY: `ptr` came from `System` with this layout.
        unsafe { System.dealloc(ptr, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

#[test]
fn compressing_and_decoding_allocate_nothing() {
    let before = BYTES.get();
    let mut codecs = Codecs::new();
    assert!(BYTES.get() - before < 240 << 10, "{} bytes a thread", BYTES.get() - before);
    // All made before counting: short and long inputs, those that compress and those that do not.
    let inputs: Vec<Vec<u8>> = [4096, 0, 65_534, 65_536, MAX_INPUT]
        .into_iter()
        .flat_map(|len| [made(0, 1, len), made(3, 1, len)])
        .collect();
    let mut stream = vec![0; max_compressed_len(MAX_INPUT)];
    let mut back = vec![0; MAX_INPUT + 1];

    let before = ASKED.get();
    for data in &inputs {
        for method in Method::ALL.into_iter().filter(|method| method.codec().takes(data.len())) {
            let codec = method.codec();
            let len = codecs.compress(method, data, &mut stream).unwrap();
            codecs.decompress(codec, &stream[..len], &mut back[..data.len()]).unwrap();
            // Failure takes no memory either.
            assert!(codecs.compress(method, data, &mut stream[..len - 1]).is_none() || method == Method::Lz4);
            let _ = codecs.compress(method, data, &mut stream);
            assert!(codecs.decompress(codec, &stream[..len], &mut back[..data.len() + 1]).is_err());
            assert!(codecs.decompress(codec, &stream[..len / 2], &mut back[..data.len()]).is_err());
            stream[len / 2] ^= 0x55;
            let _ = codecs.decompress(codec, &stream[..len], &mut back[..data.len()]);
        }
    }
    assert_eq!(ASKED.get() - before, 0, "allocations after construction");
    // Something must count at all.
    let more = ASKED.get();
    drop(vec![0_u8; 100]);
    assert!(ASKED.get() > more);
}
