//! Calls to the kernel that std has not: a mount namespace of one's own, a descriptor of another process.

#![allow(unsafe_code)]

use std::ffi::{CStr, CString};
use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

/// What the child does before it is the command; the number of the step that failed is sent to the parent.
const STEPS: [&str; 7] = [
    "a user and mount namespace (unshare)",
    "the user's name in it (/proc/self/uid_map)",
    "a mount table of its own",
    "/dev/fuse",
    "the FUSE mount",
    "a place for the devices (tmpfs and bind mounts)",
    "the FUSE file system's answer",
];

/// A directory in which something new is to appear: it is covered, what it has is linked to, and the new name is
/// mounted on.
struct Cover {
    dir: CString,
    /// Where the covered one stays reachable.
    behind: CString,
    /// Links to make in the cover, and where they lead.
    links: Vec<(CString, CString)>,
    /// The new directory.
    new: CString,
}

/// All that the child needs, worked out before the fork.
pub(super) struct Namespace {
    maps: [(CString, CString); 3],
    mount_point: CString,
    options: String,
    covers: Vec<Cover>,
    /// What is mounted on what.
    binds: Vec<(CString, CString)>,
}

impl Namespace {
    /// The namespace in which the file system at `root`/fuse appears as /sys/bus/dsa, /sys/module/idxd and /dev/iax.
    /// Makes directories below `root`.
    pub(super) fn prepare(root: &Path) -> io::Result<Namespace> {
        let text = |path: &Path| CString::new(path.as_os_str().as_bytes()).map_err(io::Error::other);
        let fuse = root.join("fuse");
        std::fs::create_dir(&fuse)?;
        let mut covers = Vec::new();
        let mut binds = Vec::new();
        for (source, target) in [("dsa", "/sys/bus/dsa"), ("module", "/sys/module/idxd"), ("iax", "/dev/iax")]
        {
            let target = Path::new(target);
            binds.push((text(&fuse.join(source))?, text(target)?));
            if target.is_dir() {
                continue;
            }
            let dir = target.parent().expect("an absolute path");
            let behind = root.join(format!("behind-{source}"));
            std::fs::create_dir(&behind)?;
            let mut links = Vec::new();
            for entry in std::fs::read_dir(dir)? {
                let name = entry?.file_name();
                links.push((text(&dir.join(&name))?, text(&behind.join(&name))?));
            }
            covers.push(Cover { dir: text(dir)?, behind: text(&behind)?, links, new: text(target)? });
        }
        let (uid, gid) = owner();
        let map = |file: &str, text: String| -> io::Result<(CString, CString)> {
            Ok((CString::new(file)?, CString::new(text)?))
        };
        Ok(Namespace {
            maps: [
                map("/proc/self/setgroups", "deny".to_owned())?,
                map("/proc/self/uid_map", format!("{uid} {uid} 1"))?,
                map("/proc/self/gid_map", format!("{gid} {gid} 1"))?,
            ],
            mount_point: text(&fuse)?,
            options: format!("rootmode=40000,user_id={uid},group_id={gid}"),
            covers,
            binds,
        })
    }

    /// Enters it, in a child between fork and exec: system calls and little else. `parent` is told the descriptor of
    /// /dev/fuse, or which step failed.
    pub(super) fn enter(&self, mut parent: &UnixStream) -> io::Result<()> {
        let mut step = 0;
        let result = self.enter_by_steps(&mut step, parent);
        if result.is_err() {
            _ = parent.write_all(&message(b'-', step.into()));
        }
        result
    }

    fn enter_by_steps(&self, step: &mut u8, mut parent: &UnixStream) -> io::Result<()> {
        // SAFETY: no memory is involved.
        check(unsafe { libc::unshare(libc::CLONE_NEWUSER | libc::CLONE_NEWNS) })?;
        *step = 1;
        for (file, text) in &self.maps {
            put(file, text.to_bytes())?;
        }
        *step = 2;
        mount(c"none", c"/", c"none", libc::MS_REC | libc::MS_PRIVATE, c"")?;
        *step = 3;
        // SAFETY: a C string.
        let device = check(unsafe { libc::open(c"/dev/fuse".as_ptr(), libc::O_RDWR | libc::O_CLOEXEC) })?;
        *step = 4;
        let options = CString::new(format!("fd={device},{}", self.options)).map_err(io::Error::other)?;
        mount(c"zfolio", &self.mount_point, c"fuse", libc::MS_NOSUID | libc::MS_NODEV, &options)?;
        parent.write_all(&message(b'+', device.cast_unsigned()))?;
        *step = 5;
        for cover in &self.covers {
            mount(&cover.dir, &cover.behind, c"none", libc::MS_BIND | libc::MS_REC, c"")?;
            mount(c"none", &cover.dir, c"tmpfs", libc::MS_NOSUID, c"mode=755")?;
            for (link, to) in &cover.links {
                // SAFETY: C strings.
                check(unsafe { libc::symlink(to.as_ptr(), link.as_ptr()) })?;
            }
            // SAFETY: a C string.
            check(unsafe { libc::mkdir(cover.new.as_ptr(), 0o755) })?;
        }
        *step = 6;
        for (source, target) in &self.binds {
            mount(source, target, c"none", libc::MS_BIND, c"")?;
        }
        Ok(())
    }
}

/// Bytes of what the child tells.
const MESSAGE: usize = 9;

/// `+` and a descriptor, or `-` and a step; and who tells it.
fn message(kind: u8, number: u32) -> [u8; MESSAGE] {
    let mut bytes = [kind; MESSAGE];
    bytes[1..5].copy_from_slice(&number.to_le_bytes());
    bytes[5..].copy_from_slice(&std::process::id().to_le_bytes());
    bytes
}

/// What the child tells next: its /dev/fuse, or the step that failed. `None`: no more.
pub(super) fn told(mut child: &UnixStream) -> Option<Result<io::Result<File>, &'static str>> {
    let mut bytes = [0; MESSAGE];
    child.read_exact(&mut bytes).ok()?;
    let [number, pid] = [1, 5].map(|at| u32::from_le_bytes(bytes[at..at + 4].try_into().expect("four")));
    match bytes[0] {
        b'+' => Some(Ok(descriptor_of(pid, number.cast_signed()))),
        _ => Some(Err(STEPS.get(number as usize).copied().unwrap_or("an unknown step"))),
    }
}

fn mount(source: &CStr, target: &CStr, kind: &CStr, flags: libc::c_ulong, data: &CStr) -> io::Result<()> {
    // SAFETY: C strings all.
    check(unsafe {
        libc::mount(source.as_ptr(), target.as_ptr(), kind.as_ptr(), flags, data.as_ptr().cast())
    })?;
    Ok(())
}

fn put(file: &CStr, text: &[u8]) -> io::Result<()> {
    // SAFETY: a C string; `text` is as long as it says.
    unsafe {
        let fd = check(libc::open(file.as_ptr(), libc::O_WRONLY | libc::O_CLOEXEC))?;
        let written = libc::write(fd, text.as_ptr().cast(), text.len());
        let result = if written < 0 { Err(io::Error::last_os_error()) } else { Ok(()) };
        libc::close(fd);
        result
    }
}

fn check(status: i32) -> io::Result<i32> {
    if status < 0 { Err(io::Error::last_os_error()) } else { Ok(status) }
}

/// Has `command` do this after the fork and before it is executed. It may make system calls, and allocate: the C
/// library's allocator is usable in a child.
pub(super) fn before_exec(
    command: &mut Command,
    enter: impl FnMut() -> io::Result<()> + Send + Sync + 'static,
) {
    // SAFETY: the only thing that the child does beyond system calls is to allocate, which glibc and musl allow.
    unsafe { command.pre_exec(enter) };
}

/// The user and group of this process.
pub(super) fn owner() -> (u32, u32) {
    // SAFETY: no arguments, cannot fail.
    unsafe { (libc::geteuid(), libc::getegid()) }
}

/// A copy of descriptor `fd` of the child `pid`.
fn descriptor_of(pid: u32, fd: i32) -> io::Result<File> {
    // SAFETY: numbers only; the descriptors they give are new ones of ours.
    unsafe {
        let process = check(libc::syscall(libc::SYS_pidfd_open, pid, 0) as i32)?;
        let copy = check(libc::syscall(libc::SYS_pidfd_getfd, process, fd, 0) as i32);
        libc::close(process);
        Ok(File::from_raw_fd(copy?))
    }
}

/// Whether `fd` can be read from, now or within `timeout`.
pub(super) fn readable(fd: BorrowedFd, timeout: Duration) -> io::Result<bool> {
    let mut entry = libc::pollfd { fd: fd.as_raw_fd(), events: libc::POLLIN, revents: 0 };
    // SAFETY: one entry.
    match check(unsafe { libc::poll(&mut entry, 1, timeout.as_millis() as i32) }) {
        Err(error) if error.kind() == io::ErrorKind::Interrupted => Ok(false),
        answer => Ok(answer? != 0),
    }
}
