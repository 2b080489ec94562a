//! A work queue's character device: opened once, and mapped or written to.
//!
//! Mapping is tried first. Kernels since 6.9 refuse it without CAP_SYS_RAWIO, and an emulated queue cannot be
//! mapped at all; then descriptors go by `write(2)`, as many as there are in one call.
//!
//! The portal page is not ordinary memory: nothing here makes a reference to it, and only the two instructions
//! reach it. A child of fork does not have it (the kernel maps it so), and must not unmap its address.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::ptr::NonNull;
use std::sync::Arc;
use std::sync::atomic::AtomicU8;
use std::time::Duration;

use idxd_sys::{Descriptor, Enqcmd, Movdir64b, Waitpkg, store_fence};

use super::queue::Attachment;
use super::{Portal, Refusal, Submitted};
use crate::discover::QueueMode;
use crate::{ForkGuard, PAGE_SIZE, thread_index};

/// Descriptors that one page of a portal has room for.
const SLOTS: usize = PAGE_SIZE / size_of::<Descriptor>();

/// Descriptors offered in one `write(2)`.
pub(crate) const WRITE_BATCH: usize = 16;

/// Pauses after which a waiting thread lets others run: a few tens of microseconds, which no op takes.
const PAUSES_BEFORE_YIELD: u32 = 1024;

/// The longest light sleep, in cycles of the time-stamp counter: well below the time of an op.
const WAIT_CYCLES: u64 = 1000;

/// An open queue. Dropping it unmaps and closes it; in a child of fork it only closes.
struct QueueFile {
    file: File,
    portal: Option<NonNull<Descriptor>>,
    guard: Arc<ForkGuard>,
}

// SAFETY: the mapping is reached by instructions that any thread may use at any time.
unsafe impl Send for QueueFile {}
// SAFETY: as above; the device orders what comes from several threads.
unsafe impl Sync for QueueFile {}

impl Drop for QueueFile {
    fn drop(&mut self) {
        if let Some(portal) = self.portal
            && !self.guard.is_child()
        {
            // SAFETY: the mapping is ours, and all portals that use it hold this file.
            unsafe { libc::munmap(portal.as_ptr().cast(), PAGE_SIZE) };
        }
    }
}

/// Opens the queue at `path`.
///
/// # Errors
/// The kernel's, when the file cannot be opened: EBUSY if it is dedicated and another has it, EACCES without rights.
pub(crate) fn open(path: &Path, mode: QueueMode, guard: &Arc<ForkGuard>) -> io::Result<Attachment> {
    let file = OpenOptions::new()
        .read(true)
        .write(true)
        .custom_flags(libc::O_CLOEXEC | libc::O_NONBLOCK)
        .open(path)?;
    let mut queue = QueueFile { file, portal: None, guard: Arc::clone(guard) };
    let instruction = match mode {
        QueueMode::Shared => Enqcmd::detect().map(Instruction::Enqcmd).ok_or("this CPU has no ENQCMD"),
        QueueMode::Dedicated => {
            Movdir64b::detect().map(Instruction::Movdir64b).ok_or("this CPU has no MOVDIR64B")
        }
    };
    // Without the instruction a mapping is of no use, and an emulated device must not be met with it.
    let instruction = instruction.map_err(str::to_owned).and_then(|instruction| {
        queue.map().map(|()| instruction).map_err(|error| match error.raw_os_error() {
            Some(libc::EPERM) => "mapping it takes CAP_SYS_RAWIO on this kernel".to_owned(),
            _ => format!("it cannot be mapped: {error}"),
        })
    });
    let queue = Arc::new(queue);
    Ok(match instruction {
        Ok(instruction) => Attachment::new(instruction.name(), move || {
            Box::new(Mapped {
                queue: Arc::clone(&queue),
                instruction,
                // Threads start at different slots: neighbours would queue up in the same buffer of the bus.
                slot: thread_index() % SLOTS,
                waiting: Waiting::new(),
            })
        }),
        Err(reason) => Attachment::new(&format!("write(2) ({reason})"), move || {
            Box::new(Written { queue: Arc::clone(&queue), waiting: Waiting::new() })
        }),
    })
}

impl QueueFile {
    fn map(&mut self) -> io::Result<()> {
        // SAFETY: maps one page of the queue's file at an address of the kernel's choice: no memory of ours.
        let portal = unsafe {
            libc::mmap(
                std::ptr::null_mut(),
                PAGE_SIZE,
                libc::PROT_WRITE,
                libc::MAP_SHARED | libc::MAP_POPULATE,
                self.file.as_raw_fd(),
                0,
            )
        };
        if portal == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        self.portal = NonNull::new(portal.cast());
        Ok(())
    }
}

#[derive(Clone, Copy)]
enum Instruction {
    Enqcmd(Enqcmd),
    Movdir64b(Movdir64b),
}

impl Instruction {
    const fn name(self) -> &'static str {
        match self {
            Instruction::Enqcmd(_) => "ENQCMD",
            Instruction::Movdir64b(_) => "MOVDIR64B",
        }
    }
}

/// A queue whose portal page is mapped.
struct Mapped {
    queue: Arc<QueueFile>,
    instruction: Instruction,
    /// The place in the page for the next descriptor.
    slot: usize,
    waiting: Waiting,
}

// SAFETY: hands each descriptor to the device as it is, by one instruction; a descriptor that ENQCMD reports as
// not accepted was not enqueued.
unsafe impl Portal for Mapped {
    unsafe fn submit(&mut self, descriptors: &[Descriptor]) -> Submitted {
        let page = self.queue.portal.expect("only a queue that is mapped has this portal");
        store_fence();
        for (accepted, descriptor) in descriptors.iter().enumerate() {
            self.slot = (self.slot + 1) % SLOTS;
            // SAFETY: the slot lies within the page, which stays mapped as long as `queue` is held; the engine has
            // tested that this is no child. What the descriptor does is the caller's word.
            let taken = unsafe {
                let slot = page.as_ptr().add(self.slot);
                match self.instruction {
                    Instruction::Enqcmd(enqcmd) => enqcmd.submit(slot, descriptor),
                    Instruction::Movdir64b(movdir64b) => {
                        movdir64b.submit(slot, descriptor);
                        true
                    }
                }
            };
            if !taken {
                return Submitted { accepted, refusal: Some(Refusal::Full) };
            }
        }
        Submitted { accepted: descriptors.len(), refusal: None }
    }

    fn pause(&mut self, status: &AtomicU8) {
        self.waiting.pause(status);
    }

    fn now(&self) -> Duration {
        monotonic()
    }

    fn batch(&self) -> usize {
        1
    }
}

/// A queue that is written to.
struct Written {
    queue: Arc<QueueFile>,
    waiting: Waiting,
}

// SAFETY: the kernel hands the descriptors on as they are but for the process's own address space id, and says how
// many the device took.
unsafe impl Portal for Written {
    unsafe fn submit(&mut self, descriptors: &[Descriptor]) -> Submitted {
        let len = size_of_val(descriptors);
        let written = loop {
            // SAFETY: the kernel reads `len` bytes of `descriptors`. What they do is the caller's word.
            let written =
                unsafe { libc::write(self.queue.file.as_raw_fd(), descriptors.as_ptr().cast(), len) };
            if written >= 0 || io::Error::last_os_error().kind() != io::ErrorKind::Interrupted {
                break written;
            }
        };
        match usize::try_from(written) {
            Ok(written) => {
                let accepted = written / size_of::<Descriptor>();
                Submitted { accepted, refusal: (accepted < descriptors.len()).then_some(Refusal::Full) }
            }
            Err(_) => Submitted { accepted: 0, refusal: Some(refusal(&io::Error::last_os_error())) },
        }
    }

    fn pause(&mut self, status: &AtomicU8) {
        self.waiting.pause(status);
    }

    fn now(&self) -> Duration {
        monotonic()
    }

    fn batch(&self) -> usize {
        WRITE_BATCH
    }
}

/// What an error of `write(2)` on a queue says.
fn refusal(error: &io::Error) -> Refusal {
    match error.raw_os_error() {
        Some(libc::EAGAIN) => Refusal::Full,
        Some(libc::ENODEV | libc::ENXIO) => Refusal::Disabled,
        Some(libc::EPERM | libc::EACCES) => Refusal::Denied,
        number => Refusal::Failed(number.unwrap_or(0)),
    }
}

/// How a thread waits for a device.
struct Waiting {
    waitpkg: Option<Waitpkg>,
    pauses: u32,
}

impl Waiting {
    fn new() -> Waiting {
        Waiting { waitpkg: Waitpkg::detect(), pauses: 0 }
    }

    #[inline]
    fn pause(&mut self, status: &AtomicU8) {
        self.pauses = self.pauses.wrapping_add(1);
        if self.pauses.is_multiple_of(PAUSES_BEFORE_YIELD) {
            std::thread::yield_now();
        } else if let Some(waitpkg) = self.waitpkg {
            waitpkg.wait_while_zero(status, WAIT_CYCLES);
        } else {
            std::hint::spin_loop();
        }
    }
}

/// The kernel's monotonic clock.
pub(crate) fn monotonic() -> Duration {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: fills the struct. The call cannot fail for this clock.
    unsafe { libc::clock_gettime(libc::CLOCK_MONOTONIC, &mut time) };
    Duration::new(time.tv_sec.unsigned_abs(), u32::try_from(time.tv_nsec).unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::ffi::CString;
    use std::io::Read;
    use std::os::unix::ffi::OsStrExt;

    /// A queue made of a FIFO, which cannot be mapped and takes 64 descriptors.
    fn fifo() -> (tempfile::TempDir, std::path::PathBuf) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("wq0.0");
        let name = CString::new(path.as_os_str().as_bytes()).unwrap();
        // SAFETY: makes a file of a name that is a string.
        assert_eq!(unsafe { libc::mkfifo(name.as_ptr(), 0o600) }, 0);
        (dir, path)
    }

    #[test]
    fn queue_that_cannot_be_mapped_is_written_to_and_says_why() {
        let (_dir, path) = fifo();
        let guard = Arc::new(ForkGuard::new().unwrap());
        let attachment = open(&path, QueueMode::Shared, &guard).unwrap();
        assert!(attachment.how.starts_with("write(2) ("), "{}", attachment.how);

        let mut reader = OpenOptions::new().read(true).write(true).open(&path).unwrap();
        // SAFETY: sets the capacity of a pipe: 64 descriptors.
        assert_eq!(unsafe { libc::fcntl(reader.as_raw_fd(), libc::F_SETPIPE_SZ, 4096) }, 4096);
        let mut portal = (attachment.make)();
        let descriptors: Vec<Descriptor> =
            (0..40).map(|k| Descriptor { elements: k, ..Descriptor::default() }).collect();
        // SAFETY: nobody executes them.
        let first = unsafe { portal.submit(&descriptors) };
        assert_eq!(first, Submitted { accepted: 40, refusal: None });
        // SAFETY: as above.
        let second = unsafe { portal.submit(&descriptors) };
        assert_eq!(second, Submitted { accepted: 0, refusal: Some(Refusal::Full) }, "EAGAIN is not a wait");
        let mut bytes = [0; 40 * 64];
        reader.read_exact(&mut bytes).unwrap();
        assert!((0..40).all(|k| bytes[k * 64 + 0x3c] == k as u8));
    }

    #[test]
    fn errors_of_the_kernel_are_told_apart() {
        let of = |number| refusal(&io::Error::from_raw_os_error(number));
        assert_eq!(of(libc::EAGAIN), Refusal::Full);
        assert_eq!(of(libc::ENODEV), Refusal::Disabled);
        assert_eq!(of(libc::EPERM), Refusal::Denied);
        assert_eq!(of(libc::EINVAL), Refusal::Failed(libc::EINVAL));
    }

    #[test]
    fn queue_that_is_not_there_is_an_error() {
        let guard = Arc::new(ForkGuard::new().unwrap());
        let error = open(Path::new("/nonexistent/wq0.0"), QueueMode::Dedicated, &guard).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::NotFound);
    }

    #[test]
    fn clock_goes_on() {
        let before = monotonic();
        std::thread::sleep(Duration::from_millis(1));
        assert!(monotonic() - before >= Duration::from_millis(1));
    }
}
