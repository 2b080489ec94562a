//! What a device's `cmd_status` means: the result of the last command that the driver or the administrator gave.
//!
//! Codes with the top bit set are the driver's own (the kernel's `linux/idxd.h`), the others the device's.

use std::borrow::Cow;

/// The meaning of a `cmd_status`.
pub(super) fn meaning(code: u32) -> Cow<'static, str> {
    Cow::Borrowed(match code {
        0 => "success",
        0x8002_0000 => "DMA device setup failed",
        0x8003_0000 => "the work queue is in no group",
        0x8004_0000 => "the work queue has no name",
        0x8005_0000 => "shared virtual memory is not enabled",
        0x8006_0000 => "the shared work queue has no threshold",
        0x8007_0000 => "the portal cannot be mapped",
        0x8008_0000 => "resources cannot be allocated",
        0x8009_0000 => "per-CPU memory cannot be allocated",
        0x800a_0000 => "no dmaengine channel",
        0x800b_0000 => "the character device cannot be made",
        0x800c_0000 => "the platform does not support shared work queues (SVM or ENQCMD is off)",
        0x800d_0000 => "no work queue, engine or group is configured",
        0x800e_0000 => "the work queue has size 0",
        0x800f_0000 => "privileged mode is not available",
        0x8010_0000 => "interrupts cannot be set up",
        0x8011_0000 => "a work queue of type user needs the IOMMU with shared virtual addressing",
        0x8012_0000 => "the event log cannot be set up",
        0x8020_0000 => "the work queue has no driver name",
        code if code & 0x8000_0000 != 0 => return format!("driver error {code:#010x}").into(),
        code => return format!("device error {:#04x} of its last command", code & 0xff).into(),
    })
}

/// The command that mends the cause of a `cmd_status`, if it is the configuration's.
pub(super) fn command(code: u32, device: &str) -> String {
    match code {
        0x8003_0000 | 0x8004_0000 | 0x8006_0000 | 0x800d_0000 | 0x800e_0000 | 0x8020_0000 => {
            "zfolio doctor --config | sudo sh".to_owned()
        }
        0x8005_0000 | 0x800c_0000 | 0x8011_0000 => "cat /proc/cmdline".to_owned(),
        _ => format!("sudo dmesg | grep -E 'idxd|{device}'"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_codes_have_words_and_unknown_ones_their_number() {
        assert!(meaning(0x800c_0000).contains("ENQCMD"));
        assert_eq!(meaning(0x8077_0000), "driver error 0x80770000");
        assert_eq!(meaning(0x0000_0044), "device error 0x44 of its last command");
        assert_eq!(command(0x8006_0000, "iax1"), "zfolio doctor --config | sudo sh");
    }
}
