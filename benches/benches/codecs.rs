//! Micro benches of the codecs, a page at a time.
//!
//! The pages are this program's own file, which every machine has: code, tables, debug information and text.
//! Every page is read back before anything is timed. One iteration is one page, and each takes the next.

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use zfolio_fallback::{Codecs, Method, max_compressed_len};

const PAGE: usize = 4096;
/// As many pages as do not all stay in a first-level cache; spread over the whole file.
const PAGES: usize = 512;

fn corpus() -> Vec<[u8; PAGE]> {
    let program = std::env::current_exe().and_then(std::fs::read).expect("a program can read its own file");
    let pages: Vec<&[u8; PAGE]> =
        program.as_chunks().0.iter().filter(|page: &&[u8; PAGE]| page[8..] != page[..PAGE - 8]).collect();
    let step = (pages.len() / PAGES).max(1);
    pages.into_iter().step_by(step).take(PAGES).copied().collect()
}

fn codecs(criterion: &mut Criterion) {
    let pages = corpus();
    let mut codecs = Codecs::new();
    let mut group = criterion.benchmark_group("codecs");
    group.throughput(Throughput::Bytes(PAGE as u64));
    for method in Method::ALL {
        let mut stream = vec![0; max_compressed_len(PAGE)];
        let mut back = [0; PAGE];
        let mut streams = Vec::new();
        for page in &pages {
            let len = codecs.compress(method, page, &mut stream).expect("the bound always fits");
            codecs
                .decompress(method.codec(), &stream[..len], &mut back)
                .expect("what was compressed decodes");
            assert!(back == *page, "{method} returned another page");
            streams.push(stream[..len].to_vec());
        }

        let mut turn = (0..pages.len()).cycle();
        group.bench_function(format!("{method}/compress"), |bencher| {
            bencher.iter(|| codecs.compress(method, &pages[turn.next().unwrap_or(0)], &mut stream));
        });
        group.bench_function(format!("{method}/decompress"), |bencher| {
            bencher.iter(|| codecs.decompress(method.codec(), &streams[turn.next().unwrap_or(0)], &mut back));
        });
    }
    group.finish();
}

criterion_group!(benches, codecs);
criterion_main!(benches);
