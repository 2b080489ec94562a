use libc::{EBUSY, EINVAL, EIO, ENODEV, ENXIO, EPERM};

use super::{Idxd, Node};
use crate::{Mode, ModelConfig, QueueConfig, QueueId, SoftwareError};

fn text(idxd: &Idxd, path: &str) -> String {
    let attributes = idxd.attributes(&|_| 0);
    match attributes.get(path) {
        Some(Node::File { text, .. }) => text.trim_end().to_owned(),
        other => panic!("{path}: {other:?}"),
    }
}

fn cmd_status(idxd: &Idxd) -> String {
    text(idxd, "devices/iax0/cmd_status")
}

/// One queue and one engine in group 0, everything set, nothing enabled.
fn configured() -> Idxd {
    let mut idxd = Idxd::unconfigured(&ModelConfig::spr(1));
    for (attribute, value) in [
        ("wq0.0/group_id", "0\n"),
        ("wq0.0/size", "16"),
        ("wq0.0/mode", "shared"),
        ("wq0.0/threshold", "12"),
        ("wq0.0/priority", "10"),
        ("wq0.0/type", "user"),
        ("wq0.0/name", "app\n"),
        ("wq0.0/driver_name", "user"),
        ("engine0.0/group_id", "0"),
    ] {
        assert_eq!(idxd.store(&format!("devices/iax0/{attribute}"), value.as_bytes()), Ok(()), "{attribute}");
    }
    idxd
}

#[test]
fn software_error_is_kept_by_its_device_as_the_register_has_it() {
    let mut idxd = Idxd::new(&ModelConfig::spr(2));
    let queue = QueueId::new(1, 3);
    assert!(text(&idxd, "devices/iax1/errors").chars().all(|c| c == '0' || c == ','));
    idxd.latch(SoftwareError::NoRecord(queue, 0x10));
    idxd.latch(SoftwareError::CompletionFault(queue, 0x7_0000_1040));
    let shown = "00000000,00000000,00000007,00001040,00000000,00000000,00000000,00031a29";
    assert_eq!(text(&idxd, "devices/iax1/errors"), shown, "the last one");
    assert!(idxd.has_error(QueueId::new(1, 0)) && !idxd.has_error(QueueId::new(0, 3)));
    assert_eq!(Idxd::restore(&idxd.save()), Some(idxd));
}

#[test]
fn profile_is_shown_as_the_driver_shows_it() {
    let idxd = Idxd::new(&ModelConfig::spr(2));
    for (path, expected) in [
        ("devices/iax1/version", "0x100"),
        ("devices/iax1/state", "enabled"),
        ("devices/iax1/gen_cap", "0x71f10901f0105"),
        (
            "devices/iax1/group1.0/engines",
            "engine1.0 engine1.1 engine1.2 engine1.3 engine1.4 engine1.5 engine1.6 engine1.7",
        ),
        ("devices/iax1/group1.0/work_queues", "wq1.0"),
        ("devices/iax1/group1.1/engines", ""),
        ("devices/iax1/wq1.0/size", "128"),
        ("devices/iax1/wq1.0/threshold", "127"),
        ("devices/iax1/wq1.1/state", "disabled"),
        ("devices/iax1/wq1.1/group_id", "-1"),
    ] {
        assert_eq!(text(&idxd, path), expected, "{path}");
    }
    let attributes = idxd.attributes(&|id| usize::from(id == QueueId::new(1, 0)));
    assert_eq!(attributes["devices/iax1/clients"].text(), Some("1\n"));
    assert_eq!(attributes["devices/iax0/clients"].text(), Some("0\n"));
    assert!(!attributes.contains_key("devices/iax0/iaa_cap"), "generation 1 has none");
    assert!(!attributes.contains_key("devices/iax0/wq0.1/cdev_minor"), "a disabled queue has no device");
    let op_cap = attributes["devices/iax0/op_cap"].text().unwrap().to_owned();
    assert_eq!(op_cap.trim_end().split(',').map(str::len).collect::<Vec<_>>(), [8; 8]);
}

#[test]
fn configuring_and_enabling_changes_the_state_at_once() {
    let mut idxd = configured();
    assert_eq!(idxd.store("drivers/user/bind", b"wq0.0"), Err(ENXIO), "the device comes first");
    assert_eq!(idxd.store("drivers/idxd/bind", b"iax0"), Ok(()));
    assert_eq!(idxd.store("drivers/user/bind", b"wq0.0\n"), Ok(()));
    assert_eq!((text(&idxd, "devices/iax0/state"), cmd_status(&idxd)), ("enabled".into(), "0x0".into()));
    assert_eq!(text(&idxd, "devices/iax0/wq0.0/state"), "enabled");
    assert_eq!(idxd.nodes().map(|(name, ..)| name).collect::<Vec<_>>(), ["wq0.0"]);
    let model = idxd.model(&ModelConfig::spr(1));
    let queue = &model.devices[0].queues[0];
    assert_eq!((queue.size, queue.threshold, queue.enabled, queue.name.as_str()), (16, 12, true, "app"));
    assert_eq!(model.devices[0].groups, [1, 0, 0, 0]);
}

#[test]
fn enabling_tells_what_is_missing() {
    let refused = |prepare: &[(&str, &str)], errno, status: &str| {
        let mut idxd = configured();
        for (path, value) in prepare {
            _ = idxd.store(path, value.as_bytes());
        }
        assert_eq!(idxd.store("drivers/user/bind", b"wq0.0"), Err(errno), "{prepare:?}");
        assert_eq!(cmd_status(&idxd), status, "{prepare:?}");
    };
    let device = ("drivers/idxd/bind", "iax0");
    refused(&[device, device, ("drivers/user/bind", "wq0.0")], EBUSY, "0x80000021");
    refused(&[device, ("devices/iax0/wq0.0/group_id", "-1")], ENXIO, "0x80030000");
    refused(&[("devices/iax0/wq0.0/type", "none"), device], ENXIO, "0x80040000");
    refused(
        &[("devices/iax0/wq0.0/mode", "dedicated"), ("devices/iax0/wq0.0/mode", "shared"), device],
        ENXIO,
        "0x80060000",
    );
    refused(&[("devices/iax0/wq0.0/driver_name", "crypto"), device], ENODEV, "0x80200000");
    refused(&[("devices/iax0/wq0.0/priority", "0"), device], ENXIO, "0x23");
}

#[test]
fn device_without_queues_or_engines_is_not_enabled() {
    let mut idxd = Idxd::unconfigured(&ModelConfig::spr(1));
    assert_eq!(idxd.store("drivers/idxd/bind", b"iax0"), Err(ENXIO));
    assert_eq!(cmd_status(&idxd), "0x800d0000");
    let mut idxd = configured();
    assert_eq!(idxd.store("devices/iax0/engine0.0/group_id", b"1"), Ok(()));
    assert_eq!(idxd.store("drivers/idxd/bind", b"iax0"), Err(ENXIO));
    assert_eq!(cmd_status(&idxd), "0x15", "a group with queues and without engines");
    assert_eq!(idxd.store("devices/iax0/cmd_status", b"1"), Ok(()));
    assert_eq!(cmd_status(&idxd), "0x0");
}

#[test]
fn enabled_queue_is_not_reconfigured() {
    let mut idxd = Idxd::new(&ModelConfig::gnr(1));
    for (attribute, value, errno) in [
        ("size", "8", EPERM),
        ("mode", "dedicated", EPERM),
        ("group_id", "1", EPERM),
        ("type", "none", EPERM),
        ("name", "x", EPERM),
        ("priority", "3", EPERM),
        ("threshold", "3", ENXIO),
        ("block_on_fault", "0", ENXIO),
        ("max_transfer_size", "4096", EPERM),
        ("op_config", "0", EPERM),
        ("state", "disabled", EIO),
    ] {
        let path = format!("devices/iax0/wq0.0/{attribute}");
        assert_eq!(idxd.store(&path, value.as_bytes()), Err(errno), "{attribute}");
    }
    assert_eq!(idxd, Idxd::new(&ModelConfig::gnr(1)));
}

#[test]
fn values_out_of_range_are_refused() {
    let mut idxd = configured();
    for (path, value) in [
        ("wq0.0/size", "129"),
        ("wq0.1/size", "113"),
        ("wq0.0/size", "-1"),
        ("wq0.0/size", "18446744073709551615"),
        ("wq0.0/threshold", "17"),
        ("wq0.0/threshold", "0"),
        ("wq0.0/priority", "16"),
        ("wq0.0/group_id", "4"),
        ("wq0.0/mode", "both"),
        ("wq0.0/name", ""),
        ("wq0.0/name", "a name of more than thirty-one characters"),
        ("wq0.0/name", "a\tb"),
        ("wq0.0/max_transfer_size", "0"),
        ("wq0.0/max_transfer_size", "0x100000000"),
        ("wq0.0/op_config", "00000000,ffffffff"),
        ("wq0.0/op_config", "1,2,3,4,5,6,7,8,9"),
        ("engine0.0/group_id", "x"),
        ("group0.0/desc_progress_limit", "4"),
    ] {
        let before = idxd.clone();
        assert_eq!(
            idxd.store(&format!("devices/iax0/{path}"), value.as_bytes()),
            Err(EINVAL),
            "{path} {value}"
        );
        assert_eq!(idxd, before);
    }
    assert_eq!(idxd.store("devices/iax0/wq0.0/size", b"\xff"), Err(EINVAL));
    assert_eq!(idxd.store("devices/iax7/wq7.0/size", b"1"), Err(ENODEV));
    assert_eq!(idxd.store("devices/iax0/wq0.99/size", b"1"), Err(ENODEV));
    assert_eq!(idxd.store("drivers/user/bind", b"iax0"), Err(ENODEV));
    assert_eq!(idxd.store("drivers/user/unbind", b"wq0.0"), Err(ENODEV), "not bound");
    assert_eq!(idxd.store("devices/iax0/state", b"enabled"), Err(EIO));
}

#[test]
fn disabling_forgets_the_configuration() {
    let mut idxd = Idxd::new(&ModelConfig::spr(2));
    assert_eq!(idxd.store("drivers/user/unbind", b"wq0.0"), Ok(()));
    assert_eq!(text(&idxd, "devices/iax0/wq0.0/type"), "none");
    assert_eq!(
        text(&idxd, "devices/iax0/wq0.0/size"),
        "128",
        "size and group stay until the device is disabled"
    );
    assert_eq!(text(&idxd, "devices/iax0/wq0.0/group_id"), "0");
    assert_eq!(idxd.store("drivers/idxd/unbind", b"iax0"), Ok(()));
    assert_eq!(text(&idxd, "devices/iax0/wq0.0/size"), "0");
    assert_eq!(text(&idxd, "devices/iax0/engine0.3/group_id"), "-1");
    assert_eq!(text(&idxd, "devices/iax1/wq1.0/state"), "enabled", "the other device is not touched");
    assert_eq!(idxd.store("drivers/idxd/unbind", b"iax0"), Err(ENODEV));
}

#[test]
fn a_queue_enabled_again_is_another_device_node() {
    let mut idxd = configured();
    let mut minors = Vec::new();
    assert_eq!(idxd.store("drivers/idxd/bind", b"iax0"), Ok(()));
    for _ in 0..2 {
        assert_eq!(idxd.store("drivers/user/bind", b"wq0.0"), Ok(()));
        let (id, minor, mode) = idxd.node("wq0.0").unwrap();
        assert!(idxd.is_current(id, minor) && mode == Mode::Shared);
        minors.push(minor);
        assert_eq!(idxd.store("drivers/user/unbind", b"wq0.0"), Ok(()));
        assert!(!idxd.is_current(id, minor));
        for (attribute, value) in [("type", "user"), ("name", "again"), ("threshold", "1"), ("priority", "1")]
        {
            assert_eq!(idxd.store(&format!("devices/iax0/wq0.0/{attribute}"), value.as_bytes()), Ok(()));
        }
    }
    assert_ne!(minors[0], minors[1]);
}

#[test]
fn saved_state_is_restored_whole() {
    let queues = [QueueConfig::shared(16), QueueConfig::dedicated(8)];
    for idxd in [
        configured(),
        Idxd::new(&ModelConfig::gnr(3).with_queues(queues)),
        Idxd::unconfigured(&ModelConfig::spr(1)),
        Idxd::new(&ModelConfig::spr(0)),
    ] {
        assert_eq!(Idxd::restore(&idxd.save()), Some(idxd));
    }
    assert_eq!(Idxd::restore("queue"), None);
    assert_eq!(Idxd::restore("device 1 2"), None);
}
