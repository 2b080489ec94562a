//! How the device reaches memory.

use std::io;
use std::sync::atomic::{AtomicU8, Ordering};

/// An address that is not there, or not to be written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fault {
    /// The first byte that could not be reached.
    pub addr: u64,
    /// Whether it was to be written.
    pub write: bool,
}

/// Memory as a device sees it: addresses of one process.
pub trait Memory {
    /// Fills `into` from `addr` on. On a fault the contents of `into` are undefined.
    fn read(&self, addr: u64, into: &mut [u8]) -> Result<(), Fault>;

    /// Writes `bytes` at `addr`. On a fault any part of them may have been written.
    fn write(&self, addr: u64, bytes: &[u8]) -> Result<(), Fault>;

    /// Writes a completion record whose first byte is its status: all but that byte first, then it, with release
    /// ordering, so that who sees the status sees the rest and all earlier writes too.
    fn write_record(&self, addr: u64, record: &[u8; 64]) -> Result<(), Fault>;

    /// Asks for a page that faulted, as a device does that blocks on faults. True if it may be there now.
    fn request_page(&self, fault: Fault) -> bool {
        let _ = fault;
        false
    }
}

/// The memory of a process, by its id: system calls answer a bad address with an error, never a crash, so it may
/// also be this process.
#[derive(Clone, Copy, Debug)]
pub struct OtherProcess {
    pid: libc::pid_t,
}

impl OtherProcess {
    /// The process of this id.
    pub fn new(pid: libc::pid_t) -> OtherProcess {
        OtherProcess { pid }
    }

    /// This process.
    pub fn this() -> OtherProcess {
        OtherProcess { pid: std::process::id().cast_signed() }
    }

    /// Whether it is this process.
    pub fn is_this(&self) -> bool {
        self.pid == std::process::id().cast_signed()
    }
}

impl Memory for OtherProcess {
    fn read(&self, addr: u64, into: &mut [u8]) -> Result<(), Fault> {
        transfer(addr, into.len(), false, |at, done, len| {
            let local = libc::iovec { iov_base: into[done..].as_mut_ptr().cast(), iov_len: len };
            let remote = libc::iovec { iov_base: at as *mut libc::c_void, iov_len: len };
            // SAFETY: `local` names `len` bytes of `into`, which is borrowed mutably for this call; the kernel checks
            // `remote`.
            #[allow(unsafe_code)]
            unsafe {
                libc::process_vm_readv(self.pid, &local, 1, &remote, 1, 0)
            }
        })
    }

    fn write(&self, addr: u64, bytes: &[u8]) -> Result<(), Fault> {
        transfer(addr, bytes.len(), true, |at, done, len| {
            let local = libc::iovec { iov_base: bytes[done..].as_ptr().cast_mut().cast(), iov_len: len };
            let remote = libc::iovec { iov_base: at as *mut libc::c_void, iov_len: len };
            // SAFETY: `local` names `len` bytes of `bytes`, which the kernel only reads; it checks `remote`. What
            // is written there is what a descriptor's author gave the device to write.
            #[allow(unsafe_code)]
            unsafe {
                libc::process_vm_writev(self.pid, &local, 1, &remote, 1, 0)
            }
        })
    }

    fn write_record(&self, addr: u64, record: &[u8; 64]) -> Result<(), Fault> {
        self.write(addr.wrapping_add(1), &record[1..])?;
        // A system call of its own: the kernel's locks in between order it after the first.
        self.write(addr, &record[..1])
    }
}

/// Moves `len` bytes in as many calls as it takes; `call` is given address, bytes done and bytes left.
fn transfer(
    addr: u64,
    len: usize,
    write: bool,
    mut call: impl FnMut(u64, usize, usize) -> libc::ssize_t,
) -> Result<(), Fault> {
    let mut done = 0;
    while done < len {
        let at = addr.wrapping_add(done as u64);
        match call(at, done, len - done) {
            moved @ 1.. => done += moved.cast_unsigned(),
            _ if io::Error::last_os_error().kind() == io::ErrorKind::Interrupted => {}
            _ => return Err(Fault { addr: at, write }),
        }
    }
    Ok(())
}

/// This process's memory, reached directly: for the replay clock, which reads when a descriptor is submitted.
#[derive(Debug)]
pub struct ThisProcess(());

impl ThisProcess {
    /// Reaches whatever address a descriptor names.
    ///
    /// # Safety
    /// It is given only to a model on the replay clock, and whoever submits descriptors to that model sees to it that
    /// - what a descriptor reads can be read, and is not written, while it is being submitted;
    /// - what it writes, its completion record included, can be written until the record is, or for ever, and no
    ///   reference to it is alive while the model's functions run.
    #[allow(unsafe_code)]
    pub unsafe fn new() -> ThisProcess {
        ThisProcess(())
    }
}

impl Memory for ThisProcess {
    fn read(&self, addr: u64, into: &mut [u8]) -> Result<(), Fault> {
        let from = std::ptr::with_exposed_provenance::<u8>(addr as usize);
        if from.is_null() && !into.is_empty() {
            return Err(Fault { addr, write: false });
        }
        // SAFETY: the descriptor's author says that these bytes can be read (see `new`); `into` is not theirs.
        #[allow(unsafe_code)]
        unsafe {
            std::ptr::copy_nonoverlapping(from, into.as_mut_ptr(), into.len());
        }
        Ok(())
    }

    fn write(&self, addr: u64, bytes: &[u8]) -> Result<(), Fault> {
        let to = std::ptr::with_exposed_provenance_mut::<u8>(addr as usize);
        if to.is_null() && !bytes.is_empty() {
            return Err(Fault { addr, write: true });
        }
        // SAFETY: the descriptor's author says that these bytes can be written, and has no reference to them (see
        // `new`); `bytes` are the model's.
        #[allow(unsafe_code)]
        unsafe {
            std::ptr::copy_nonoverlapping(bytes.as_ptr(), to, bytes.len());
        }
        Ok(())
    }

    fn write_record(&self, addr: u64, record: &[u8; 64]) -> Result<(), Fault> {
        self.write(addr.wrapping_add(1), &record[1..])?;
        let status = std::ptr::with_exposed_provenance_mut::<u8>(addr as usize);
        // SAFETY: as in `write`; a byte is aligned, and who polls it does so by atomic reads.
        #[allow(unsafe_code)]
        let status = unsafe { AtomicU8::from_ptr(status) };
        // Release: who sees the status sees the rest of the record and the output too.
        status.store(record[0], Ordering::Release);
        Ok(())
    }
}
