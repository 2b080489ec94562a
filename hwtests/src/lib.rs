//! One conformance suite, stamped for every backend: see `tests/conformance.rs`.
//!
//! A backend that this version or this machine does not have is skipped, and says why. With `REQUIRE_IAA=1` in the
//! environment a skip is a failure, for machines that are there to test the device.
