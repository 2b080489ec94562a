//! Puts the model of Intel IAA under an unmodified program: a library for LD_PRELOAD.
//!
//! `zfolio emulate` starts programs with it. Paths below `/sys/bus/dsa`, `/sys/module/idxd` and `/dev/iax` lead to the
//! directory that `ZFOLIO_EMULATE` names (see `iaa_model::sysfs::Tree`). An opened queue or attribute is a real file,
//! open for reading only: so a write to it fails with EBADF in the kernel, and only then this library looks whether
//! it was one of its own. Other writes cost nothing, and copies of descriptors (dup, fork, exec, sockets) need no
//! bookkeeping.
//!
//! What is not seen: system calls that do not go through the C library's functions, and the C library's own (stdio on
//! a descriptor that the program opened with open(2)). `zfolio emulate --fuse` serves those.
//!
//! This must not be linked into a program: the hooks would become that program's own functions.

#![cfg(all(target_os = "linux", target_arch = "x86_64"))]

mod files;
mod guard;
mod paths;
mod place;
mod process;
mod queues;
mod real;
mod stat;
mod streams;

use guard::guarded;

#[used]
#[unsafe(link_section = ".init_array")]
static ATTACH: extern "C" fn() = attach;

/// Runs when the library is loaded.
extern "C" fn attach() {
    process::around_fork();
    guarded((), || {
        if let Some(process) = process::process() {
            process.attach();
        }
    });
}
