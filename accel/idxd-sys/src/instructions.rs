//! The instructions that hand descriptors to a device, and those that wait for its answer.
//!
//! Each is a method of a token that only a CPU with the instruction gives out, so none can be met with an
//! invalid-opcode trap. Operands are in fixed registers, as the encoding of the other drivers has them: RAX names
//! the portal, RDX the descriptor.

use std::arch::asm;
use std::arch::x86_64::{__cpuid, __cpuid_count, _rdtsc};

use crate::Descriptor;

/// Bits of CPUID leaf 7, ECX.
const WAITPKG: u32 = 1 << 5;
const MOVDIR64B: u32 = 1 << 28;
const ENQCMD: u32 = 1 << 29;

fn has(bit: u32) -> bool {
    __cpuid(0).eax >= 7 && __cpuid_count(7, 0).ecx & bit != 0
}

/// Makes all earlier stores visible before any later one. ENQCMD and MOVDIR64B are not ordered after earlier
/// stores of their own accord, so the device could otherwise read memory as it was.
#[inline]
pub fn store_fence() {
    // SAFETY: SFENCE is part of every x86-64 and only orders stores.
    unsafe { asm!("sfence", options(nostack, preserves_flags)) };
}

/// The right to use ENQCMD, which submits to a shared queue and says whether it was accepted.
#[derive(Clone, Copy, Debug)]
pub struct Enqcmd(());

impl Enqcmd {
    /// `None` where the CPU lacks it.
    pub fn detect() -> Option<Enqcmd> {
        has(ENQCMD).then_some(Enqcmd(()))
    }

    /// Submits to a shared queue; false if the queue did not take the descriptor. [`store_fence`] goes before.
    ///
    /// # Safety
    /// `slot` is a 64-byte aligned address within a mapped portal of a shared work queue, and whoever calls
    /// answers for what the device does by the descriptor.
    #[inline]
    pub unsafe fn submit(self, slot: *mut Descriptor, descriptor: &Descriptor) -> bool {
        let refused: u8;
        // SAFETY: the token proves the instruction, the caller the portal; it reads 64 bytes of `descriptor`.
        unsafe {
            asm!(
                "enqcmd rax, [rdx]",
                "setz {refused}",
                refused = out(reg_byte) refused,
                in("rax") slot,
                in("rdx") descriptor,
                options(nostack),
            );
        }
        refused == 0
    }
}

/// The right to use MOVDIR64B, which submits to a dedicated queue and says nothing.
#[derive(Clone, Copy, Debug)]
pub struct Movdir64b(());

impl Movdir64b {
    /// `None` where the CPU lacks it.
    pub fn detect() -> Option<Movdir64b> {
        has(MOVDIR64B).then_some(Movdir64b(()))
    }

    /// Stores the descriptor to `slot` in one piece. [`store_fence`] goes before.
    ///
    /// # Safety
    /// `slot` is 64-byte aligned and either memory of the caller's to write, or within a mapped portal of a
    /// dedicated work queue whose descriptors the caller answers for.
    #[inline]
    pub unsafe fn submit(self, slot: *mut Descriptor, descriptor: &Descriptor) {
        // SAFETY: the token proves the instruction, the caller the 64 bytes at `slot`; it reads 64 bytes of
        // `descriptor`.
        unsafe {
            asm!(
                "movdir64b rax, [rdx]",
                in("rax") slot,
                in("rdx") descriptor,
                options(nostack, preserves_flags),
            );
        }
    }
}

/// The right to use UMONITOR and UMWAIT, which wait for a store to a cache line in a light sleep.
#[derive(Clone, Copy, Debug)]
pub struct Waitpkg(());

impl Waitpkg {
    /// `None` where the CPU lacks them.
    pub fn detect() -> Option<Waitpkg> {
        has(WAITPKG).then_some(Waitpkg(()))
    }

    /// Waits until somebody stores to the line of `status`, at most `cycles` of the time-stamp counter, and not
    /// at all if it is not zero any more.
    #[inline]
    pub fn wait_while_zero(self, status: &std::sync::atomic::AtomicU8, cycles: u64) {
        // SAFETY: the token proves the instruction, which arms the monitor on an address and writes nothing.
        unsafe {
            asm!("umonitor rax", in("rax") status.as_ptr(), options(nostack, preserves_flags));
        }
        // A store between a look and the arming would be slept through; so look after it.
        if status.load(std::sync::atomic::Ordering::Acquire) != 0 {
            return;
        }
        // SAFETY: RDTSC is part of every x86-64 that has UMWAIT.
        let until = unsafe { _rdtsc() }.wrapping_add(cycles);
        // SAFETY: the token proves the instruction. ECX = 1 asks for the state that is quicker to leave (C0.1).
        unsafe {
            asm!(
                "umwait ecx",
                in("ecx") 1,
                in("edx") (until >> 32) as u32,
                in("eax") until as u32,
                options(nostack),
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::AtomicU8;

    /// The machine code of a function, from its start.
    fn code<F: Copy>(function: F) -> Vec<u8> {
        assert_eq!(size_of::<F>(), size_of::<usize>());
        // SAFETY: `F` is a function pointer, as long as an address.
        let start: *const u8 = unsafe { std::mem::transmute_copy(&function) };
        // SAFETY: code is readable, and the functions below are followed by others of this crate.
        unsafe { std::slice::from_raw_parts(start, 128) }.to_vec()
    }

    fn contains(code: &[u8], bytes: &[u8]) -> bool {
        code.windows(bytes.len()).any(|window| window == bytes)
    }

    #[inline(never)]
    fn enqcmd(slot: *mut Descriptor, descriptor: &Descriptor) -> bool {
        // SAFETY: never called.
        unsafe { Enqcmd(()).submit(slot, descriptor) }
    }

    #[inline(never)]
    fn movdir64b(slot: *mut Descriptor, descriptor: &Descriptor) {
        // SAFETY: never called.
        unsafe { Movdir64b(()).submit(slot, descriptor) }
    }

    #[inline(never)]
    fn umwait(status: &AtomicU8) {
        Waitpkg(()).wait_while_zero(status, 1000);
    }

    /// No CPU of ours has all of them, so at least the bytes are checked against the manual.
    #[test]
    fn instructions_are_encoded_as_the_manual_says() {
        let enqcmd = code(enqcmd as fn(*mut Descriptor, &Descriptor) -> bool);
        assert!(contains(&enqcmd, &[0xf2, 0x0f, 0x38, 0xf8, 0x02]), "enqcmd rax, [rdx]: {enqcmd:02x?}");
        let movdir64b = code(movdir64b as fn(*mut Descriptor, &Descriptor));
        assert!(
            contains(&movdir64b, &[0x66, 0x0f, 0x38, 0xf8, 0x02]),
            "movdir64b rax, [rdx]: {movdir64b:02x?}"
        );
        let umwait = code(umwait as fn(&AtomicU8));
        assert!(contains(&umwait, &[0xf3, 0x0f, 0xae, 0xf0]), "umonitor rax: {umwait:02x?}");
        assert!(contains(&umwait, &[0xf2, 0x0f, 0xae, 0xf1]), "umwait ecx: {umwait:02x?}");
    }

    #[test]
    fn movdir64b_moves_the_whole_descriptor() {
        let Some(movdir64b) = Movdir64b::detect() else {
            println!("skipped: this CPU has no MOVDIR64B");
            return;
        };
        let descriptor = Descriptor { src1_addr: 0x1234, elements: 99, ..Descriptor::new(0x43, 0x0c) };
        let mut slot = Descriptor::default();
        store_fence();
        // SAFETY: `slot` is 64 bytes of ours, aligned to 64.
        unsafe { movdir64b.submit(&mut slot, &descriptor) };
        assert_eq!(slot, descriptor);
    }

    #[test]
    fn wait_ends_at_its_time_or_at_once_if_the_status_is_there() {
        let Some(waitpkg) = Waitpkg::detect() else {
            println!("skipped: this CPU has no WAITPKG");
            return;
        };
        waitpkg.wait_while_zero(&AtomicU8::new(1), u64::MAX >> 1);
        waitpkg.wait_while_zero(&AtomicU8::new(0), 1000);
    }
}
