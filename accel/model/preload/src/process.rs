//! What one process has of the emulated machine: its model, and the queues it opened.
//!
//! A child of fork finds its parent's here, and leaves it alone (another thread's locks would stay locked for ever):
//! it makes one of its own. Queues it inherited are refused with EPERM, as the driver refuses an address space that
//! is not the opener's.

use std::cell::UnsafeCell;
use std::collections::HashMap;
use std::fs::{File, OpenOptions};
use std::os::fd::{AsRawFd, IntoRawFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::sync::atomic::{AtomicPtr, AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use std::{ptr, slice, thread};

use iaa_model::sysfs::{Errno, Tree};
use iaa_model::{Memory, OtherProcess, QueueId, Session, Tally};
use idxd_sys::Descriptor;

use crate::guard::{Guard, guarded};
use crate::place::root;

/// Descriptors handed to the model at once.
const CHUNK: usize = 64;
/// How often a late record is looked for.
const TICK: Duration = Duration::from_micros(100);

/// The newest first; never freed.
static PROCESSES: AtomicPtr<Process> = AtomicPtr::new(ptr::null_mut());

/// Held while the tree is used. A lock of the tree belongs to an open file, of which a child of fork has a copy; so
/// fork waits until there is none (see [`around_fork`]).
static TREE: Mutex<()> = Mutex::new(());

/// The lock of `TREE` while the process forks.
static FORKING: Forking = Forking(UnsafeCell::new(None));

struct Forking(UnsafeCell<Option<(MutexGuard<'static, ()>, Option<Guard>)>>);

// SAFETY: used only between the handlers that fork calls before and after, by the thread that has `TREE`.
unsafe impl Sync for Forking {}

/// Has fork wait for the tree to be free.
pub(crate) fn around_fork() {
    extern "C" fn before() {
        // No signal handler on this thread until then: it would wait for ever.
        let guard = Guard::enter();
        let locked = lock(&TREE);
        // SAFETY: this thread has `TREE`.
        unsafe { *FORKING.0.get() = Some((locked, guard)) };
    }
    extern "C" fn after() {
        // SAFETY: the thread that forked has `TREE`, in the parent and in the child.
        let held = unsafe { (*FORKING.0.get()).take() };
        if let Some((locked, guard)) = held {
            drop(locked);
            drop(guard);
        }
    }
    // SAFETY: functions that stay; this library is never unloaded.
    unsafe { libc::pthread_atfork(Some(before), Some(after), Some(after)) };
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Device and inode of the file that stands for an open queue: the same for all copies of its descriptor.
pub(crate) type Identity = (u64, u64);

pub(crate) struct Process {
    pid: libc::pid_t,
    older: *const Process,
    tree: Tree,
    tally: Tally<'static>,
    inner: Mutex<Inner>,
    /// Queues that were ever opened; while it is 0 most hooks have nothing to do.
    opened: AtomicU64,
}

// SAFETY: `older` is an immutable link to a process that is never freed; the rest is Sync by itself.
unsafe impl Sync for Process {}

struct Inner {
    session: Option<Session>,
    /// The state of the tally that the session is of.
    generation: u64,
    queues: HashMap<Identity, Opened>,
    ticking: bool,
}

/// A queue, and which of its lives: one that was disabled and enabled again is another.
#[derive(Clone, Copy)]
struct Opened {
    id: QueueId,
    minor: u32,
}

/// This process's, if it has one already.
pub(crate) fn existing() -> Option<&'static Process> {
    let pid = std::process::id().cast_signed();
    let mut process = PROCESSES.load(Ordering::Acquire).cast_const();
    // SAFETY: pushed once complete (Release pairs with Acquire), never freed.
    while let Some(this) = unsafe { process.as_ref() } {
        if this.pid == pid {
            return Some(this);
        }
        process = this.older;
    }
    None
}

/// This process's; `None` if there is no emulated machine. Only within a guard: it allocates and opens files.
pub(crate) fn process() -> Option<&'static Process> {
    if let Some(process) = existing() {
        return Some(process);
    }
    let root = Path::new(std::ffi::OsStr::from_bytes(root()?));
    let tally = map_tally(&root.join("tally"))?;
    let process = Box::into_raw(Box::new(Process {
        pid: std::process::id().cast_signed(),
        older: ptr::null(),
        tree: Tree::open(root),
        tally,
        inner: Mutex::new(Inner { session: None, generation: 0, queues: HashMap::new(), ticking: false }),
        opened: AtomicU64::new(0),
    }));
    let mut head = PROCESSES.load(Ordering::Acquire);
    loop {
        // SAFETY: not pushed yet, so it is this thread's alone.
        unsafe { (*process).older = head };
        match PROCESSES.compare_exchange(head, process, Ordering::AcqRel, Ordering::Acquire) {
            // SAFETY: never freed from here on.
            Ok(_) => return Some(unsafe { &*process }),
            Err(newer) => head = newer,
        }
        if let Some(other) = existing() {
            // Another thread was first.
            // SAFETY: made above by a box, and not pushed.
            drop(unsafe { Box::from_raw(process) });
            return Some(other);
        }
    }
}

fn map_tally(path: &Path) -> Option<Tally<'static>> {
    let file = OpenOptions::new().read(true).write(true).open(path).ok()?;
    let len = Tally::WORDS * size_of::<AtomicU64>();
    if file.metadata().ok()?.len() < len as u64 {
        return None;
    }
    let (protection, flags) = (libc::PROT_READ | libc::PROT_WRITE, libc::MAP_SHARED);
    // SAFETY: a new mapping, of a file that is long enough and is not truncated while programs run.
    let words = unsafe {
        let at = libc::mmap(ptr::null_mut(), len, protection, flags, file.as_raw_fd(), 0);
        if at == libc::MAP_FAILED {
            return None;
        }
        // Never unmapped; aligned to a page; any bits are an AtomicU64.
        slice::from_raw_parts(at.cast::<AtomicU64>(), Tally::WORDS)
    };
    Tally::new(words)
}

impl Process {
    /// Tells the tally that this process has the model under it.
    pub(crate) fn attach(&self) {
        self.tally.attach();
    }

    pub(crate) fn has_queues(&self) -> bool {
        self.opened.load(Ordering::Relaxed) != 0
    }

    /// Whether the file of this identity stands for a queue that this process opened.
    pub(crate) fn is_queue(&self, identity: Identity) -> bool {
        self.has_queues() && self.lock().queues.contains_key(&identity)
    }

    /// The number of the character device, for queues that this process opened.
    pub(crate) fn minor(&self, identity: Identity) -> Option<u32> {
        self.lock().queues.get(&identity).map(|opened| opened.minor)
    }

    /// Opens a queue as open(2) would; the descriptor.
    pub(crate) fn open_queue(&self, name: &str, flags: i32) -> Result<i32, Errno> {
        let mut inner = self.lock();
        let _tree = lock(&TREE);
        let (file, id, minor, idxd) = self.tree.open_queue(name)?;
        let generation = self.tally.generation();
        if let Some(session) = &mut inner.session {
            session.renew(idxd, self.tally);
        } else {
            let setup = self.tree.setup().map_err(|error| error.errno())?;
            inner.session = Some(Session::new(setup, idxd, OtherProcess::this()));
        }
        inner.generation = generation;
        let identity = identity(&file).ok_or(libc::EIO)?;
        inner.queues.insert(identity, Opened { id, minor });
        self.opened.fetch_add(1, Ordering::Relaxed);
        if flags & libc::O_CLOEXEC == 0 {
            // SAFETY: a descriptor of ours, and a flag.
            unsafe { libc::fcntl(file.as_raw_fd(), libc::F_SETFD, 0) };
        }
        Ok(file.into_raw_fd())
    }

    /// Writes an attribute.
    pub(crate) fn store(&self, attribute: &str, value: &[u8]) -> Result<(), Errno> {
        let _tree = lock(&TREE);
        let stored = self.tree.store(attribute, value);
        self.tally.next_generation();
        stored
    }

    /// Brings the counts of clients in the files up to date.
    pub(crate) fn count_clients(&self) {
        let _tree = lock(&TREE);
        // What cannot be counted keeps its last count.
        _ = self.tree.count_clients();
    }

    /// Submits the descriptors at `addr` in this process, as write(2) on a queue's file does: the bytes taken.
    pub(crate) fn submit(&'static self, identity: Identity, addr: u64, len: usize) -> Result<usize, Errno> {
        let mut guard = self.lock();
        let inner = &mut *guard;
        let opened = *inner.queues.get(&identity).ok_or(libc::EPERM)?;
        let session = inner.session.as_mut().ok_or(libc::ENODEV)?;
        let generation = self.tally.generation();
        if generation != inner.generation {
            let _tree = lock(&TREE);
            session.renew(self.tree.idxd().map_err(|error| error.errno())?, self.tally);
            inner.generation = generation;
        }
        let result = submit_to(session, opened, addr, len / size_of::<Descriptor>());
        session.settle(self.tally);
        self.latch(session);
        if session.is_late() && !inner.ticking {
            let tick = move || {
                guarded((), || {
                    while self.tick() {
                        thread::sleep(TICK);
                    }
                })
            };
            inner.ticking = thread::Builder::new().name("iaa-late".to_owned()).spawn(tick).is_ok();
        }
        result.map(|taken| taken * size_of::<Descriptor>())
    }

    /// Fetches what is late; whether anything is left.
    fn tick(&self) -> bool {
        let inner = &mut *self.lock();
        inner.ticking = inner.session.as_mut().is_some_and(|session| {
            let late = session.tick(self.tally);
            self.latch(session);
            late
        });
        inner.ticking
    }

    /// Shows the software errors that devices had of late.
    fn latch(&self, session: &mut Session) {
        let errors = session.take_errors();
        if !errors.is_empty() {
            let _tree = lock(&TREE);
            // The summary has them too, where they cannot be shown.
            _ = self.tree.latch(&errors);
        }
    }

    /// Whether the device of a queue that this process opened has had a software error.
    pub(crate) fn has_error(&self, identity: Identity) -> bool {
        let Some(opened) = self.lock().queues.get(&identity).copied() else { return false };
        let _tree = lock(&TREE);
        self.tree.idxd().is_ok_and(|idxd| idxd.has_error(opened.id))
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        lock(&self.inner)
    }
}

/// Device and inode of an open file.
pub(crate) fn identity(file: &impl AsRawFd) -> Option<Identity> {
    let mut facts = std::mem::MaybeUninit::<libc::stat>::uninit();
    // SAFETY: `facts` is writable. By number: the function of that name is hooked.
    let status = unsafe { libc::syscall(libc::SYS_fstat, file.as_raw_fd(), facts.as_mut_ptr()) };
    if status != 0 {
        return None;
    }
    // SAFETY: fstat has filled it in.
    let facts = unsafe { facts.assume_init() };
    Some((facts.st_dev, facts.st_ino))
}

/// How many of `count` descriptors at `addr` the queue took. As the driver: each is copied, looked at and submitted
/// before the next.
fn submit_to(session: &mut Session, queue: Opened, addr: u64, count: usize) -> Result<usize, Errno> {
    const SIZE: usize = size_of::<Descriptor>();
    let memory = OtherProcess::this();
    if isize::try_from(count * SIZE).is_err() {
        return Err(libc::EFAULT);
    }
    let mut taken = 0;
    while taken < count {
        let chunk = CHUNK.min(count - taken);
        let mut descriptors = [Descriptor::default(); CHUNK];
        // SAFETY: a descriptor is 64 bytes without padding, and any bits are one.
        let bytes = unsafe { slice::from_raw_parts_mut(descriptors.as_mut_ptr().cast::<u8>(), chunk * SIZE) };
        let from = addr.wrapping_add((taken * SIZE) as u64);
        let mut whole = chunk;
        if memory.read(from, bytes).is_err() {
            // The first of them may be there.
            let mut one = bytes.chunks_exact_mut(SIZE).enumerate();
            let missing = |(k, one): (usize, &mut [u8])| {
                memory.read(from.wrapping_add((k * SIZE) as u64), one).is_err()
            };
            whole = one.position(missing).unwrap_or(chunk);
        }
        let (some, stopped) = session.submit(queue.id, queue.minor, &mut descriptors[..whole]);
        taken += some;
        let fault = if whole < chunk { Some(libc::EFAULT) } else { None };
        match stopped.or(fault) {
            Some(errno) if taken == 0 => return Err(errno),
            Some(_) => break,
            None => {}
        }
    }
    Ok(taken)
}

/// Copies at most a page of what is written to an attribute.
pub(crate) fn copy_in(addr: u64, len: usize) -> Result<Vec<u8>, Errno> {
    let mut bytes = vec![0; len.min(4096)];
    OtherProcess::this().read(addr, &mut bytes).map_err(|_| libc::EFAULT)?;
    Ok(bytes)
}

/// A plain file of the machine, for identities.
pub(crate) struct Borrowed(pub(crate) i32);

impl AsRawFd for Borrowed {
    fn as_raw_fd(&self) -> i32 {
        self.0
    }
}

/// Whether a file may be written by this process, as its mode says: root may write any.
pub(crate) fn may_write(path: &Path) -> bool {
    // SAFETY: no arguments, cannot fail.
    (unsafe { libc::geteuid() }) == 0 || File::options().write(true).open(path).is_ok()
}
