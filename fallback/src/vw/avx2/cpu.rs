//! Which CPUs have `pext` and `pdep`, but slower than what they are to replace.

use std::arch::x86_64::__cpuid;
use std::sync::OnceLock;

/// Are `pext` and `pdep` programs of many steps on this CPU? Asked once, since a virtual machine takes long to answer.
pub(super) fn has_slow_pext() -> bool {
    static SLOW: OnceLock<bool> = OnceLock::new();
    *SLOW.get_or_init(|| {
        let vendor = __cpuid(0);
        is_slow([vendor.ebx, vendor.edx, vendor.ecx], __cpuid(1).eax)
    })
}

/// So they are on AMD's CPUs before Zen 3, and Hygon's Zen 1, which take some steps for each bit of the mask: families up to 17, and
/// 18, hexadecimal.
fn is_slow(vendor: [u32; 3], signature: u32) -> bool {
    let vendor = vendor.map(u32::to_le_bytes);
    let base = signature >> 8 & 15;
    let family = if base == 15 { base + (signature >> 20 & 255) } else { base };
    match vendor.as_flattened() {
        b"AuthenticAMD" => family <= 0x17,
        b"HygonGenuine" => family == 0x18,
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn vendor(name: &[u8; 12]) -> [u32; 3] {
        [0, 4, 8].map(|at| u32::from_le_bytes([name[at], name[at + 1], name[at + 2], name[at + 3]]))
    }

    #[test]
    fn zen_before_the_third_is_slow_and_others_are_not() {
        let (amd, hygon, intel) = (b"AuthenticAMD", b"HygonGenuine", b"GenuineIntel");
        for (name, signature, slow) in [
            (amd, 0x0066_0f51, true),    // Excavator, Bristol Ridge
            (amd, 0x0080_0f12, true),    // Zen 1, Naples
            (amd, 0x0083_0f10, true),    // Zen 2, Rome
            (amd, 0x00a0_0f11, false),   // Zen 3, Milan
            (amd, 0x00a1_0f11, false),   // Zen 4, Genoa
            (amd, 0x00b0_0f21, false),   // Zen 5, Turin
            (hygon, 0x0090_0f02, true),  // Dhyana
            (intel, 0x0003_06c3, false), // Haswell
            (intel, 0x000c_06f2, false), // Emerald Rapids
        ] {
            assert_eq!(is_slow(vendor(name), signature), slow, "{signature:#x}");
        }
    }
}
