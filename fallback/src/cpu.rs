//! Which CPUs do what was measured to be faster on them only.

use std::arch::x86_64::__cpuid;
use std::sync::OnceLock;

/// Is it one of Intel's from Sapphire Rapids on? They are told by their half-precision floats. Asked once, since a
/// virtual machine takes long to answer.
pub(crate) fn is_sapphire_rapids_or_later() -> bool {
    static IS: OnceLock<bool> = OnceLock::new();
    *IS.get_or_init(|| {
        is_x86_feature_detected!("avx512fp16") && __cpuid(0).ecx == u32::from_le_bytes(*b"ntel")
    })
}
