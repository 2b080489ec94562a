//! Any descriptor, AECS and data: a record, and nothing broken.

use proptest::collection::vec;
use proptest::prelude::{any, proptest};
use proptest::test_runner::Config;

proptest! {
    #![proptest_config(Config::with_cases(4000))]

    #[test]
    fn any_descriptor_is_answered(head in any::<[u8; 16]>(), data in vec(any::<u8>(), 0..3000)) {
        iaa_model::check::hostile(&[&head[..], &data].concat());
    }

    #[test]
    fn compressible_data_is_too(
        head in any::<[u8; 16]>(), word in vec(any::<u8>(), 1..40), times in 1_usize..600,
    ) {
        // No patches of the AECS, so that all of it is data.
        let mut head = head;
        head[15] = 0;
        iaa_model::check::hostile(&[&head[..], &word.repeat(times)].concat());
    }
}
