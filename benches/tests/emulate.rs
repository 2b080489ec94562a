//! `zfolio emulate`, from the outside: accel-config and a client in C that know nothing of it.
//!
//! What the machine lacks (accel-config, a C compiler, /dev/fuse, another user) is named and skipped.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on ends there")]

mod support;

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::OnceLock;

use serde_json::{Value, json};
use support::{Ran, command, end, signal, start, wait_until, zfolio};

/// The client, built once; `None` without a C compiler.
fn client() -> Option<&'static Path> {
    static CLIENT: OnceLock<Option<PathBuf>> = OnceLock::new();
    CLIENT.get_or_init(|| compile("client", &[])).as_deref()
}

fn compile(name: &str, more: &[&str]) -> Option<PathBuf> {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/emulate/client.c");
    let program = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
    let cc = std::env::var("CC").unwrap_or_else(|_| "cc".to_owned());
    let mut cc = Command::new(cc);
    cc.args(["-O1", "-Wall", "-Wextra", "-Werror", "-pthread", "-o"]).arg(&program).arg(source).args(more);
    match cc.output() {
        Ok(output) if output.status.success() => Some(program),
        Ok(output) if more.is_empty() => panic!("{}", String::from_utf8_lossy(&output.stderr)),
        _ => {
            eprintln!("skipped: no C compiler for {name}");
            None
        }
    }
}

/// Runs parts of the client under emulation with these options; all have to pass.
fn parts(options: &[&str], parts: &[&str]) {
    let Some(client) = client() else { return };
    for part in parts {
        let ran = emulate(options, &[client.to_str().unwrap(), part]);
        assert_eq!(ran.code, Some(0), "{options:?} {part}: {}", ran.stderr);
    }
}

fn emulate(options: &[&str], what: &[&str]) -> Ran {
    let mut args = vec!["emulate"];
    args.extend(options);
    args.push("--");
    args.extend(what);
    zfolio(&args)
}

/// A shell script under emulation.
fn script(options: &[&str], script: &str) -> Ran {
    emulate(options, &["sh", "-c", script])
}

fn has(program: &str) -> bool {
    let found =
        Command::new("sh").args(["-c", &format!("command -v {program}")]).stdout(Stdio::null()).status();
    if found.is_ok_and(|status| status.success()) {
        return true;
    }
    eprintln!("skipped: no {program}");
    false
}

fn has_fuse() -> bool {
    let ran = emulate(&["--fuse"], &["true"]);
    if ran.code == Some(0) {
        return true;
    }
    assert!(ran.stderr.contains("--fuse cannot be had here"), "{}", ran.stderr);
    eprintln!("skipped: {}", ran.stderr.trim());
    false
}

/// What `accel-config list` prints.
fn listed(ran: &Ran) -> Value {
    assert_eq!(ran.code, Some(0), "{}", ran.stderr);
    serde_json::from_str(&ran.stdout).unwrap_or_else(|error| panic!("{error}: {}", ran.stdout))
}

/// A configuration of one device: a shared queue of two engines, a dedicated one of another. As text, for it is
/// written to the driver in this order, and the driver forgets a queue's name when its type changes.
const CONFIGURATION: &str = r#"[{"dev":"iax0","groups":[
    {"dev":"group0.0",
     "grouped_workqueues":[{"dev":"wq0.0","mode":"shared","size":16,"group_id":0,"priority":10,"block_on_fault":1,
         "type":"user","driver_name":"user","name":"app","threshold":15}],
     "grouped_engines":[{"dev":"engine0.0","group_id":0},{"dev":"engine0.1","group_id":0}]},
    {"dev":"group0.1",
     "grouped_workqueues":[{"dev":"wq0.1","mode":"dedicated","size":16,"group_id":1,"priority":5,"block_on_fault":0,
         "type":"user","driver_name":"user","name":"other"}],
     "grouped_engines":[{"dev":"engine0.2","group_id":1}]}]}]"#;

fn accel_config_configures(options: &[&str]) {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("accel.conf");
    fs::write(&file, CONFIGURATION).unwrap();
    let steps = format!(
        "accel-config load-config -c {} && accel-config enable-device iax0 && accel-config enable-wq iax0/wq0.0 iax0/wq0.1",
        file.display()
    );
    let options = [options, &["--unconfigured"]].concat();
    let list = listed(&script(&options, &format!("({steps}) >/dev/null && accel-config list")));
    let device = &list[0];
    assert_eq!(device["state"], "enabled");
    let queue = &device["groups"][0]["grouped_workqueues"][0];
    for (key, value) in [("size", json!(16)), ("threshold", json!(15)), ("mode", json!("shared"))] {
        assert_eq!(queue[key], value, "{key}");
    }
    assert_eq!((&queue["state"], &queue["name"]), (&json!("enabled"), &json!("app")));
    assert_eq!(device["groups"][1]["grouped_workqueues"][0]["mode"], "dedicated");
    assert_eq!(device["groups"][0]["grouped_engines"].as_array().unwrap().len(), 2);

    // What was saved can be loaded again, and gives the same. Without what IAA has not: the tool saves the error number
    // of a missing attribute, and stumbles over it.
    let saved = dir.path().join("saved");
    let again = format!(
        "({steps}) >/dev/null; accel-config save-config -s {saved}; \
         sed -i /max_batch_size/d {saved}; accel-config disable-device iax0 >&2; \
         test -z \"$(ls /dev/iax)\" || exit 9; cat /sys/bus/dsa/devices/iax0/wq0.0/size >&2; \
         accel-config load-config -c {saved} && accel-config enable-device iax0 >&2; \
         accel-config enable-wq iax0/wq0.0 iax0/wq0.1 >&2; accel-config list",
        saved = saved.display()
    );
    let ran = script(&options, &again);
    assert!(ran.stderr.contains("disabled 1 device(s) out of 1\n0\n"), "all is forgotten: {}", ran.stderr);
    let mut relisted = listed(&ran);
    for (group, queue) in [(0, 0), (1, 0)] {
        // A queue that is enabled again has another character device.
        let path = format!("/0/groups/{group}/grouped_workqueues/{queue}/cdev_minor");
        *relisted.pointer_mut(&path).unwrap() = list.pointer(&path).unwrap().clone();
    }
    assert_eq!(relisted, list);
}

fn accel_config_is_refused(options: &[&str]) {
    // A client is there: the library asks before it disables.
    let ran = script(
        options,
        "exec 9<>/dev/iax/wq0.0; accel-config disable-wq iax0/wq0.0; accel-config disable-device iax0",
    );
    assert!(
        ran.stderr.contains("wq has clients") && ran.stderr.contains("evice has clients"),
        "{}",
        ran.stderr
    );
    // And one that is gone is no client.
    let ran =
        script(options, "sh -c 'exec 9<>/dev/iax/wq0.0; kill -9 $$'; accel-config disable-wq iax0/wq0.0");
    assert!(ran.stderr.contains("disabled 1 wq(s) out of 1"), "{}", ran.stderr);
    // What is missing is told by the driver's own code.
    let steps = "accel-config config-wq iax0/wq0.0 -g 0 -s 8 -m shared -p 5 -y user -n app -d user -t 8;
                 accel-config config-engine iax0/engine0.0 -g 0; accel-config enable-device iax0;
                 printf 0 >/sys/bus/dsa/devices/iax0/wq0.0/priority;
                 accel-config enable-wq iax0/wq0.0; cat /sys/bus/dsa/devices/iax0/cmd_status";
    let ran = script(&[options, &["--unconfigured"]].concat(), steps);
    assert!(ran.stdout.ends_with("0x23\n"), "{} {}", ran.stdout, ran.stderr);
    let ran = script(&[options, &["--unconfigured"]].concat(), "accel-config enable-device iax0");
    assert!(ran.stderr.contains("enabled 0 device(s) out of 1"), "{}", ran.stderr);
}

#[test]
fn devices_are_on_the_nodes_that_were_asked_for() {
    let ran = script(
        &["--devices", "3", "--nodes", "0,1", "-q"],
        "cat /sys/bus/dsa/devices/iax0/numa_node /sys/bus/dsa/devices/iax1/numa_node /sys/bus/dsa/devices/iax2/numa_node",
    );
    assert_eq!((ran.code, &*ran.stdout), (Some(0), "0\n1\n0\n"), "{}", ran.stderr);
}

#[test]
fn accel_config_lists_the_devices() {
    if !has("accel-config") {
        return;
    }
    let list = listed(&emulate(&["--devices", "3", "--profile", "gnr"], &["accel-config", "list"]));
    let names: Vec<_> =
        list.as_array().unwrap().iter().map(|device| device["dev"].as_str().unwrap()).collect();
    assert_eq!(names, ["iax0", "iax1", "iax2"]);
    for device in list.as_array().unwrap() {
        assert_eq!((&device["version"], &device["state"]), (&json!("0x200"), &json!("enabled")));
        assert_eq!(device["groups"][0]["grouped_workqueues"][0]["size"], 128);
        assert_eq!(device["groups"][0]["grouped_engines"].as_array().unwrap().len(), 8);
    }
    let list = listed(&emulate(&["--devices", "0"], &["accel-config", "list"]));
    assert_eq!(list, json!([]));
}

#[test]
fn accel_config_configures_as_on_a_real_driver() {
    if has("accel-config") {
        accel_config_configures(&[]);
    }
}

#[test]
fn accel_config_is_refused_as_by_a_real_driver() {
    if has("accel-config") {
        accel_config_is_refused(&[]);
    }
}

#[test]
fn accel_config_configures_through_fuse() {
    if has("accel-config") && has_fuse() {
        accel_config_configures(&["--fuse"]);
        accel_config_is_refused(&["--fuse"]);
    }
}

#[test]
fn client_submits_and_reads_completions() {
    parts(&[], &["submission", "shared", "attributes"]);
}

#[test]
fn hostile_writes_hurt_nobody() {
    parts(&[], &["hostile"]);
}

#[test]
fn forks_and_threads_are_safe() {
    parts(&[], &["forks", "threads", "inherited"]);
}

#[test]
fn dedicated_queue_has_one_client() {
    let Some(client) = client().filter(|_| has("accel-config")) else { return };
    let steps = format!(
        "(accel-config config-wq iax0/wq0.0 -g 0 -s 8 -m dedicated -p 5 -y user -n app -d user &&
         accel-config config-engine iax0/engine0.0 -g 0 && accel-config enable-device iax0 &&
         accel-config enable-wq iax0/wq0.0) >&2 && exec {} dedicated",
        client.display()
    );
    let mut options = vec!["--unconfigured"];
    assert_eq!(script(&options, &steps).code, Some(0));
    if has_fuse() {
        options.push("--fuse");
        assert_eq!(script(&options, &steps).code, Some(0));
    }
}

#[test]
fn late_record_comes_by_itself() {
    parts(&["--faults", "late:50ms nth=2"], &["late"]);
}

#[test]
fn fuse_serves_the_same_client() {
    if has_fuse() {
        parts(
            &["--fuse"],
            &["submission", "shared", "attributes", "hostile", "forks", "threads", "inherited"],
        );
        parts(&["--fuse", "--faults", "late:50ms nth=2"], &["late"]);
    }
}

#[test]
fn statically_linked_program_is_told_and_served_by_fuse() {
    let Some(client) = compile("client-static", &["-static"]) else { return };
    let client = client.to_str().unwrap();
    let ran = emulate(&[], &[client, "submission"]);
    assert_eq!(ran.code, Some(127));
    assert!(ran.stderr.contains("statically linked") && ran.stderr.contains("--fuse"), "{}", ran.stderr);
    if has_fuse() {
        let ran = emulate(&["--fuse"], &[client, "submission"]);
        assert_eq!(ran.code, Some(0), "{}", ran.stderr);
        assert!(ran.stderr.contains("descriptors taken"), "{}", ran.stderr);
    }
}

#[test]
fn setuid_program_is_told_that_it_cannot_be_emulated() {
    let dir = tempfile::tempdir().unwrap();
    let program = dir.path().join("program");
    fs::copy("/bin/true", &program).unwrap();
    fs::set_permissions(&program, fs::Permissions::from_mode(0o4755)).unwrap();
    let ran = emulate(&[], &[program.to_str().unwrap()]);
    assert_eq!(ran.code, Some(127));
    assert!(ran.stderr.contains("setuid"), "{}", ran.stderr);
}

#[test]
fn exit_code_of_the_command_is_passed_on() {
    for code in [0, 1, 77, 255] {
        assert_eq!(script(&[], &format!("exit {code}")).code, Some(code));
    }
    assert_eq!(script(&[], "kill -9 $$").code, Some(128 + 9));
    assert_eq!(emulate(&[], &["no-such-command-of-any-kind"]).code, Some(127));
    assert_eq!(emulate(&[], &["/etc/passwd"]).code, Some(127));
}

#[test]
fn signals_are_passed_on() {
    let dir = tempfile::tempdir().unwrap();
    let ready = dir.path().join("ready");
    let script = format!("trap 'exit 42' TERM; touch {}; while :; do sleep 0.01; done", ready.display());
    let running = start(&["emulate", "--", "sh", "-c", &script]);
    assert!(wait_until(|| ready.exists()));
    signal("TERM", running.id());
    assert_eq!(end(running).code, Some(42));
}

#[test]
fn summary_counts_over_processes_and_faults() {
    let Some(client) = client() else { return };
    let client = client.to_str().unwrap();
    let run = format!("{client} submission; {client} submission & wait; {client} submission; true");
    let ran = script(&[], &run);
    // Each: 1 + 256 + 3 + 1.
    assert!(ran.stderr.contains("emulate: 783 descriptors taken"), "{}", ran.stderr);
    assert!(ran.stderr.contains("no-op (opcode 0x00), status 0x01: 783"), "{}", ran.stderr);
    let ran = script(&["--faults", "seed=3; full nth=2; wrong-crc nth=1"], &run);
    for line in ["full nth=2: 3", "wrong-crc nth=1: 3", "3 queue-full answers"] {
        assert!(ran.stderr.contains(line), "{line}: {}", ran.stderr);
    }
    let quiet = script(&["--quiet"], "true");
    assert_eq!((quiet.code, quiet.stderr.as_str()), (Some(0), ""));
}

#[test]
fn nothing_is_left_behind() {
    let dir = tempfile::tempdir().unwrap();
    let output =
        command(&["emulate", "--quiet", "--", "accel-config", "list"]).env("TMPDIR", dir.path()).output();
    assert!(output.is_ok());
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
}

#[test]
fn ordinary_user_needs_no_privilege() {
    // Programs have to be where that user can reach them.
    let Some(client) = client().filter(|_| has("setpriv")) else { return };
    let dir = tempfile::tempdir().unwrap();
    fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o777)).unwrap();
    let copy = |from: &Path, name: &str| {
        let to = dir.path().join(name);
        fs::copy(from, &to).unwrap();
        fs::set_permissions(&to, fs::Permissions::from_mode(0o755)).unwrap();
        to
    };
    let zfolio = copy(Path::new(env!("CARGO_BIN_EXE_zfolio")), "zfolio");
    let client = copy(client, "client");
    let ordinary = |more: &[&str]| {
        let mut command = Command::new("setpriv");
        command
            .args(["--reuid=65534", "--regid=65534", "--clear-groups"])
            .arg(&zfolio)
            .arg("emulate")
            .args(more);
        command.args(["--", client.to_str().unwrap()]).env("TMPDIR", dir.path());
        command
    };
    let able = Command::new("setpriv").args(["--reuid=65534", "--clear-groups", "true"]).output();
    if !able.is_ok_and(|output| output.status.success()) {
        eprintln!("skipped: only root can become another user");
        return;
    }
    for part in ["submission", "attributes", "hostile", "forks"] {
        let output = ordinary(&[]).arg(part).output().unwrap();
        assert!(output.status.success(), "{part}: {}", String::from_utf8_lossy(&output.stderr));
    }
    let output = ordinary(&["--fuse"]).arg("submission").output().unwrap();
    let message = String::from_utf8_lossy(&output.stderr);
    let refused = message.contains("--fuse cannot be had here");
    assert!(output.status.success() || refused, "{message}");
    if refused {
        eprintln!("skipped: {}", message.trim());
    }
}

#[test]
fn configuration_of_the_doctor_makes_unconfigured_devices_usable() {
    if !has("accel-config") {
        return;
    }
    let zfolio = env!("CARGO_BIN_EXE_zfolio");
    let unconfigured = ["--unconfigured", "--devices", "2", "-q"];
    // Before: a device that nobody has configured, and the doctor's code for it.
    let ran = script(&unconfigured, &format!("{zfolio} doctor"));
    assert_eq!(ran.code, Some(5), "{}", ran.stdout);
    assert!(ran.stdout.contains("zfolio doctor --config | sudo sh"), "{}", ran.stdout);

    let ran = script(&unconfigured, &format!("{zfolio} doctor --config | sh >&2 && {zfolio} doctor --json"));
    assert_eq!(ran.code, Some(0), "{}{}", ran.stdout, ran.stderr);
    let report: Value = serde_json::from_str(&ran.stdout).unwrap();
    assert_eq!(report["class"], "ready", "{report}");

    // The same as a file for load-config, which is the script's last part.
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("accel.conf").display().to_string();
    let ran = script(
        &unconfigured,
        &format!(
            "{zfolio} doctor --config | sed -n '/^# \\[/,$ s/^# //p' > {file} && \
             accel-config load-config -e -c {file} >&2 && {zfolio} doctor"
        ),
    );
    assert_eq!(ran.code, Some(0), "{}{}", ran.stdout, ran.stderr);
}
