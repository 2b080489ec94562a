//! The doctor on made-up machines: each has one thing wrong, and the report has to name it.

use std::fs;
use std::path::Path;

use tempfile::TempDir;
use zfolio_accel::discover;

use super::platform::Roots;
use super::report::{Class, Report, Verdict};
use super::{config, examine};

/// A machine whose only fault is that its queue's file is a plain one, which answers nothing.
struct Machine {
    root: TempDir,
}

impl Machine {
    /// A machine without any device.
    fn without_iaa() -> Machine {
        let machine = Machine { root: tempfile::tempdir().unwrap() };
        machine.write("proc/cpuinfo", "model name\t: Some CPU\nflags\t\t: fpu movdir64b enqcmd la57\n");
        machine.write("proc/sys/kernel/osrelease", "6.12.1-generic\n");
        machine.write("proc/cmdline", "quiet intel_iommu=on,sm_on no5lvl\n");
        machine.write("etc/os-release", "ID=debian\n");
        machine
    }

    fn new() -> Machine {
        let machine = Machine::without_iaa();
        machine.write("sys/bus/pci/devices/0000:6a:02.0/vendor", "0x8086\n");
        machine.write("sys/bus/pci/devices/0000:6a:02.0/device", "0x0cfe\n");
        machine.write("sys/bus/dsa/drivers/idxd/bind", "");
        machine.device("state", "enabled");
        machine.device("version", "100");
        machine.device("gen_cap", "0x71f10901f0105");
        machine.device("op_cap", "00000000,00000000,00000000,00000000,00000000,007f331c,00000000,0000000d");
        machine.device("max_work_queues_size", "128");
        machine.device("pasid_enabled", "1");
        machine.device("cmd_status", "0x0");
        machine.device("engine1.0/group_id", "0");
        machine.device("engine1.1/group_id", "0");
        machine.queue("state", "enabled");
        machine.queue("type", "user");
        machine.queue("mode", "shared");
        machine.queue("size", "128");
        machine.queue("threshold", "127");
        machine.queue("group_id", "0");
        machine.queue("block_on_fault", "1");
        machine.queue("max_transfer_size", "2097152");
        machine.write("dev/iax/wq1.0", "");
        machine
    }

    fn write(&self, file: &str, text: &str) {
        let path = self.root.path().join(file);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    fn device(&self, file: &str, text: &str) {
        self.write(&format!("sys/bus/dsa/devices/iax1/{file}"), &format!("{text}\n"));
    }

    fn queue(&self, file: &str, text: &str) {
        self.device(&format!("wq1.0/{file}"), text);
    }

    fn remove(&self, file: &str) {
        let path = self.root.path().join(file);
        if path.is_dir() { fs::remove_dir_all(path).unwrap() } else { fs::remove_file(path).unwrap() }
    }

    fn roots(&self) -> Roots {
        let at = |name: &str| self.root.path().join(name);
        Roots { sys: at("sys"), proc: at("proc"), dev: at("dev"), etc: at("etc") }
    }

    /// The report, of which the finding of this number is bad and says these things.
    fn is_ill(&self, class: Class, number: u8, words: &[&str]) -> Report {
        let report = examine(&self.roots());
        assert_eq!(report.findings.len(), 16, "every check has a finding:\n{report}");
        assert_eq!(report.class, class, "{report}");
        let first_bad = report.findings.iter().find(|finding| finding.verdict == Verdict::Bad).unwrap();
        assert_eq!(first_bad.number, number, "{report}");
        let text = report.to_string();
        for word in words {
            assert!(text.contains(word), "{word:?} is missing:\n{report}");
        }
        report
    }
}

#[test]
fn machine_without_iaa_is_told_so_and_nothing_else_is_examined() {
    let report = Machine::without_iaa().is_ill(Class::Hardware, 2, &["lspci", "there is no device"]);
    let skipped = report.findings.iter().filter(|finding| finding.verdict == Verdict::Skipped).count();
    assert_eq!(skipped, 13, "{report}");
}

#[test]
fn driver_that_is_not_loaded_is_named_with_the_command_that_loads_it() {
    let machine = Machine::new();
    machine.remove("sys/bus/dsa");
    machine.is_ill(Class::Kernel, 3, &["modprobe idxd"]);
}

#[test]
fn kernel_too_old_for_the_devices_generation_is_named() {
    let machine = Machine::new();
    machine.device("version", "200");
    machine.write("proc/sys/kernel/osrelease", "6.1.0-28-amd64\n");
    machine.is_ill(Class::Kernel, 4, &["generation 2 needs 6.3"]);
}

#[test]
fn iommu_that_is_off_is_explained_by_what_the_command_line_lacks() {
    let machine = Machine::new();
    machine.device("pasid_enabled", "0");
    machine.write("proc/cmdline", "quiet intel_iommu=on\n");
    machine.is_ill(Class::Kernel, 5, &["PASID is off for iax1", "sm_on", "update-grub"]);
    machine.write("proc/cmdline", "quiet intel_iommu=on,sm_on\n");
    machine.is_ill(Class::Kernel, 5, &["5-level paging", "no5lvl"]);
    machine.write("etc/os-release", "ID=fedora\n");
    machine.is_ill(Class::Kernel, 5, &["grubby"]);
}

#[test]
fn status_of_the_last_command_is_put_into_words() {
    let machine = Machine::new();
    machine.device("state", "disabled");
    machine.device("cmd_status", "0x800d0000");
    let words = ["0x800d0000", "no work queue, engine or group is configured", "zfolio doctor --config"];
    machine.is_ill(Class::Configuration, 6, &words);
}

#[test]
fn queues_that_the_kernels_crypto_has_claimed_are_told_from_none() {
    let machine = Machine::new();
    machine.queue("type", "kernel");
    machine.is_ill(Class::Configuration, 7, &["no queue of type user", "1 for the kernel"]);
    machine.write("sys/module/iaa_crypto/refcnt", "1\n");
    machine.is_ill(Class::Configuration, 7, &["iaa_crypto", "modprobe -r iaa_crypto"]);
}

#[test]
fn queue_that_takes_nothing_says_what_it_lacks() {
    let machine = Machine::new();
    machine.queue("threshold", "0");
    machine.is_ill(Class::Configuration, 8, &["wq1.0 has threshold 0"]);
    machine.queue("threshold", "1");
    machine.queue("group_id", "1");
    machine.is_ill(Class::Configuration, 8, &["wq1.0 is in a group without engines"]);
}

#[test]
fn missing_file_of_a_queue_is_a_question_of_rights() {
    let machine = Machine::new();
    machine.remove("dev/iax");
    machine.is_ill(Class::Rights, 9, &["wq1.0 does not exist", "ls -l /dev/iax"]);
}

#[test]
fn queue_that_does_not_answer_is_found_out_within_its_deadline() {
    Machine::new().is_ill(Class::Device, 12, &["did not complete in time", "dmesg"]);
}

#[test]
fn configuration_names_only_what_the_device_has() {
    let machine = Machine::new();
    let devices = discover::iaa_devices(Path::new(&machine.roots().sys));
    let script = config::script(&devices);
    let lines: Vec<&str> = script.lines().collect();
    let place = |text: &str| {
        lines.iter().position(|line| line.contains(text)).unwrap_or_else(|| panic!("{text}:\n{script}"))
    };
    assert!(
        place("disable-device iax1") < place("config-engine iax1/engine1.0"),
        "an enabled device refuses changes"
    );
    assert!(place("config-wq iax1/wq1.0") < place("enable-device iax1"));
    assert!(place("enable-device iax1") < place("enable-wq iax1/wq1.0"));
    assert!(script.contains("--threshold=127") && script.contains("--block-on-fault=1"), "{script}");
    for field in ["batch", "read_buffer", "token"] {
        assert!(!script.contains(field), "IAA has no {field}:\n{script}");
    }
    let file = config::load_config(&devices);
    assert_eq!(file[0]["groups"][0]["grouped_workqueues"][0]["dev"], "wq1.0");
    assert_eq!(file[0]["groups"][0]["grouped_engines"].as_array().unwrap().len(), 2);
}
