//! Which paths are ours, and where they lead: `/sys/bus/dsa`, `/sys/module/idxd`, `/dev/iax` and `/dev/dsa`, to the
//! directory that the environment names.
//!
//! Nothing here allocates, so that a hook may run at any time.

use std::ffi::{CStr, c_char};
use std::sync::atomic::{AtomicU8, Ordering};

use crate::guard::inside;

/// Names the directory of the emulated machine; see `iaa_model::sysfs::Tree`.
const VARIABLE: &CStr = c"ZFOLIO_EMULATE";
/// What programs ask for, and is looked up in the directory instead.
const OURS: [&[u8]; 4] = [b"/sys/bus/dsa", b"/sys/module/idxd", b"/dev/iax", b"/dev/dsa"];
const ROOT_LEN: usize = 512;

static STATE: AtomicU8 = AtomicU8::new(UNKNOWN);
const UNKNOWN: u8 = 0;
const LOOKING: u8 = 1;
const NONE: u8 = 2;
const KNOWN: u8 = 3;
static ROOT: Root = Root(std::cell::UnsafeCell::new(([0; ROOT_LEN], 0)));

struct Root(std::cell::UnsafeCell<([u8; ROOT_LEN], usize)>);

// SAFETY: written once, by the thread that moved `STATE` to `LOOKING`; read only after `STATE` is `KNOWN`.
unsafe impl Sync for Root {}

/// The directory, if there is one.
pub(crate) fn root() -> Option<&'static [u8]> {
    match STATE.load(Ordering::Acquire) {
        KNOWN => {}
        UNKNOWN => look(),
        _ => return None,
    }
    if STATE.load(Ordering::Acquire) != KNOWN {
        return None;
    }
    // SAFETY: `STATE` is `KNOWN`, so it is written no more.
    let (bytes, len) = unsafe { &*ROOT.0.get() };
    Some(&bytes[..*len])
}

fn look() {
    let exchange = STATE.compare_exchange(UNKNOWN, LOOKING, Ordering::Acquire, Ordering::Acquire);
    if exchange.is_err() {
        // Another thread looks: for a moment nothing is ours. Programs have one thread that early.
        return;
    }
    // SAFETY: a C string; the answer is one too, and lives until someone changes the environment.
    let value = unsafe {
        let value = libc::getenv(VARIABLE.as_ptr());
        if value.is_null() { &[][..] } else { CStr::from_ptr(value).to_bytes() }
    };
    if value.first() != Some(&b'/') || value.len() > ROOT_LEN {
        return STATE.store(NONE, Ordering::Release);
    }
    // SAFETY: only the thread that moved `STATE` to `LOOKING` is here, and nobody reads before it is `KNOWN`.
    let (bytes, len) = unsafe { &mut *ROOT.0.get() };
    bytes[..value.len()].copy_from_slice(value);
    *len = value.len();
    STATE.store(KNOWN, Ordering::Release);
}

/// A path of ours: an absolute one in the directory, ending in NUL.
pub(crate) struct Place {
    bytes: [u8; Place::LEN],
    /// Without the NUL.
    len: usize,
    root_len: usize,
}

impl Place {
    const LEN: usize = libc::PATH_MAX as usize + ROOT_LEN;

    /// Where `path` leads if it is ours and absolute.
    ///
    /// # Safety
    /// `path` is null or a C string.
    pub(crate) unsafe fn of(path: *const c_char) -> Option<Place> {
        if path.is_null() || inside() {
            return None;
        }
        // SAFETY: a C string, by contract.
        let path = unsafe { CStr::from_ptr(path) }.to_bytes();
        // Nearly all paths of nearly all programs end here.
        if path.first() != Some(&b'/') {
            return None;
        }
        let root = root()?;
        if let Some(rest) = path.strip_prefix(root) {
            return Place::join(root, &[rest]);
        }
        let trimmed = path.iter().position(|&byte| byte != b'/').unwrap_or(path.len());
        if !path[trimmed..].starts_with(b"sys/") && !path[trimmed..].starts_with(b"dev/") {
            return None;
        }
        let place = Place::join(root, &[path])?;
        let shown = place.shown();
        let ours = |prefix: &&[u8]| {
            shown.strip_prefix(*prefix).is_some_and(|rest| rest.is_empty() || rest[0] == b'/')
        };
        OURS.iter().any(ours).then_some(place)
    }

    /// Where `path` leads from the open directory `dirfd` (or the working directory), if that is ours and `path` is
    /// relative.
    ///
    /// # Safety
    /// `path` is null or a C string.
    pub(crate) unsafe fn below(dirfd: i32, path: *const c_char) -> Option<Place> {
        if path.is_null() || inside() {
            return None;
        }
        // SAFETY: a C string, by contract.
        let path = unsafe { CStr::from_ptr(path) }.to_bytes();
        if path.first() == Some(&b'/') {
            return None;
        }
        let dir =
            if dirfd == libc::AT_FDCWD { Place::link(c"/proc/self/cwd")? } else { Place::of_fd(dirfd)? };
        let root = root()?;
        Place::join(root, &[dir.shown(), b"/", path])
    }

    /// The place of an open file, if it is ours.
    pub(crate) fn of_fd(fd: i32) -> Option<Place> {
        let mut name = [0u8; 32];
        name[..14].copy_from_slice(b"/proc/self/fd/");
        let mut digits = [0u8; 12];
        let mut at = digits.len();
        let mut rest = u32::try_from(fd).ok()?;
        loop {
            at -= 1;
            digits[at] = b'0' + (rest % 10) as u8;
            rest /= 10;
            if rest == 0 {
                break;
            }
        }
        name[14..14 + digits.len() - at].copy_from_slice(&digits[at..]);
        Place::link(CStr::from_bytes_until_nul(&name).ok()?)
    }

    fn link(link: &CStr) -> Option<Place> {
        let root = root()?;
        let mut target = [0u8; Place::LEN];
        let to = target.as_mut_ptr();
        // SAFETY: `to` has room for as many bytes. By number: the function of that name is hooked.
        let len = unsafe { libc::syscall(libc::SYS_readlink, link.as_ptr(), to, Place::LEN) };
        let target = &target[..usize::try_from(len).ok()?];
        let rest = target.strip_prefix(root)?;
        if !rest.is_empty() && rest[0] != b'/' {
            return None;
        }
        Place::join(root, &[rest])
    }

    /// `root` and the parts, without empty and dot components, and `..` taken at its word.
    fn join(root: &[u8], parts: &[&[u8]]) -> Option<Place> {
        let mut place = Place { bytes: [0; Place::LEN], len: root.len(), root_len: root.len() };
        place.bytes[..root.len()].copy_from_slice(root);
        for component in parts.iter().flat_map(|part| part.split(|&byte| byte == b'/')) {
            match component {
                b"" | b"." => {}
                b".." => {
                    let shown = place.shown();
                    let parent = shown.iter().rposition(|&byte| byte == b'/').unwrap_or(0);
                    place.len = place.root_len + parent;
                }
                _ => {
                    let end = place.len + 1 + component.len();
                    if end >= Place::LEN {
                        return None;
                    }
                    place.bytes[place.len] = b'/';
                    place.bytes[place.len + 1..end].copy_from_slice(component);
                    place.len = end;
                }
            }
        }
        place.bytes[place.len] = 0;
        Some(place)
    }

    /// As programs know it: `/sys/bus/dsa/...`.
    pub(crate) fn shown(&self) -> &[u8] {
        &self.bytes[self.root_len..self.len]
    }

    /// The attribute it is: its path below `/sys/bus/dsa`.
    pub(crate) fn attribute(&self) -> Option<&str> {
        std::str::from_utf8(self.shown().strip_prefix(b"/sys/bus/dsa/")?).ok()
    }

    /// The queue whose character device it is: `wq0.0`.
    pub(crate) fn node(&self) -> Option<&str> {
        let name = self.shown().strip_prefix(b"/dev/iax/")?;
        std::str::from_utf8(name).ok().filter(|name| name.starts_with("wq") && !name.contains('/'))
    }

    /// Whether it is the file that stands for an open queue.
    pub(crate) fn is_client(&self) -> bool {
        self.shown().starts_with(b"/clients/")
    }

    /// Whether it says how many clients there are.
    pub(crate) fn counts_clients(&self) -> bool {
        self.attribute().is_some_and(|path| path.ends_with("/clients"))
    }

    /// The whole path.
    pub(crate) fn full(&self) -> &[u8] {
        &self.bytes[..self.len]
    }

    pub(crate) fn as_ptr(&self) -> *const c_char {
        self.bytes.as_ptr().cast()
    }
}

/// How many bytes to cut from the front of `path` so that it is as programs know it: those of the directory, if what
/// follows is ours.
pub(crate) fn hidden_prefix(path: &[u8]) -> usize {
    let Some(root) = root().filter(|_| !inside()) else { return 0 };
    match path.strip_prefix(root) {
        Some(rest) if OURS.iter().any(|ours| rest.starts_with(ours)) => root.len(),
        _ => 0,
    }
}
