//! Compress and decompress descriptors on whole streams.

mod space;

use iaa_model::Capabilities;
use idxd_sys::{error_code, status};
use space::{Space, crc32, inflate, pages};

#[test]
fn fixed_block_of_a_page_is_a_whole_stream_that_any_inflater_reads() {
    for page in pages() {
        let space = Space::new(&page, page.len() + page.len() / 4 + 64);
        let (record, stream) = space.run(&Capabilities::SPR, &space.compress_fixed());
        assert_eq!(record.status, status::SUCCESS);
        assert_eq!(record.crc, crc32(&page));
        assert!(inflate(&stream) == page);
    }
}

#[test]
fn compressed_page_comes_back_with_the_same_checksums() {
    for page in pages() {
        let space = Space::new(&page, 2 * page.len() + 64);
        let (compressed, stream) = space.run(&Capabilities::SPR, &space.compress_fixed());
        let space = Space::new(&stream, page.len());
        let (record, back) = space.run(&Capabilities::SPR, &space.decompress());
        assert_eq!(record.status, status::SUCCESS);
        assert!(back == page);
        assert_eq!((record.crc, record.xor_checksum), (compressed.crc, compressed.xor_checksum));
    }
}

#[test]
fn page_that_does_not_fit_is_an_unrecoverable_overflow() {
    let noise = &pages()[4];
    let space = Space::new(noise, 4095);
    let (record, _) = space.run(&Capabilities::SPR, &space.compress_fixed());
    assert_eq!(
        (record.status, record.error_code),
        (status::ANALYTICS_ERROR, error_code::UNRECOVERABLE_OVERFLOW)
    );
}

#[test]
fn device_reads_every_stream_of_the_software_encoder() {
    let mut codecs = zfolio_fallback::Codecs::new();
    for page in pages() {
        let mut stream = vec![0; zfolio_fallback::max_compressed_len(page.len())];
        let len = codecs
            .compress(zfolio_fallback::Codec::Deflate, &page, &mut stream)
            .expect("the bound always fits");
        let space = Space::new(&stream[..len], page.len());
        let (record, back) = space.run(&Capabilities::SPR, &space.decompress());
        assert_eq!((record.status, record.error_code), (status::SUCCESS, 0));
        assert!(back == page);
    }
}
