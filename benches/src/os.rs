//! The questions to the kernel that std cannot ask. The only unsafe code of the command line.

#![allow(unsafe_code)]

use std::io;
use std::mem::{MaybeUninit, size_of};
use std::time::Duration;

/// CPU time the calling thread has used so far.
pub(crate) fn thread_cpu_time() -> Duration {
    let mut time = MaybeUninit::<libc::timespec>::uninit();
    // SAFETY: `time` is writable memory of the right type, and outlives the call.
    let status = unsafe { libc::clock_gettime(libc::CLOCK_THREAD_CPUTIME_ID, time.as_mut_ptr()) };
    assert_eq!(status, 0, "every Linux thread has a CPU clock");
    // SAFETY: clock_gettime returned 0, so it has filled `time` in.
    let time = unsafe { time.assume_init() };
    // The kernel gives non-negative seconds and nanoseconds below 10^9.
    Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
}

/// What the kernel counts of a thread beside its time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct ThreadUsage {
    /// Page faults that needed no reading, and those that did.
    pub(crate) minor_faults: u64,
    pub(crate) major_faults: u64,
    /// Times it gave its CPU up, and times it was made to.
    pub(crate) voluntary_switches: u64,
    pub(crate) involuntary_switches: u64,
}

impl ThreadUsage {
    /// Of the calling thread, since it began.
    pub(crate) fn now() -> Self {
        let mut usage = MaybeUninit::<libc::rusage>::uninit();
        // SAFETY: `usage` is writable memory of the right type, and outlives the call.
        let status = unsafe { libc::getrusage(libc::RUSAGE_THREAD, usage.as_mut_ptr()) };
        assert_eq!(status, 0, "every Linux thread's usage is counted");
        // SAFETY: getrusage returned 0, so it has filled `usage` in.
        let usage = unsafe { usage.assume_init() };
        Self {
            minor_faults: usage.ru_minflt as u64,
            major_faults: usage.ru_majflt as u64,
            voluntary_switches: usage.ru_nvcsw as u64,
            involuntary_switches: usage.ru_nivcsw as u64,
        }
    }

    /// Its counts with the names that records have for them.
    pub(crate) fn named(self) -> [(&'static str, u64); 4] {
        let Self { minor_faults, major_faults, voluntary_switches, involuntary_switches } = self;
        [
            ("minor_faults", minor_faults),
            ("major_faults", major_faults),
            ("voluntary_switches", voluntary_switches),
            ("involuntary_switches", involuntary_switches),
        ]
    }

    /// What has been added since `earlier`.
    pub(crate) fn since(self, earlier: Self) -> Self {
        Self {
            minor_faults: self.minor_faults - earlier.minor_faults,
            major_faults: self.major_faults - earlier.major_faults,
            voluntary_switches: self.voluntary_switches - earlier.voluntary_switches,
            involuntary_switches: self.involuntary_switches - earlier.involuntary_switches,
        }
    }

    pub(crate) fn add(&mut self, other: Self) {
        self.minor_faults += other.minor_faults;
        self.major_faults += other.major_faults;
        self.voluntary_switches += other.voluntary_switches;
        self.involuntary_switches += other.involuntary_switches;
    }
}

/// CPUs that the kernel's masks are read and written for.
const MASK_CPUS: usize = 8 * size_of::<libc::cpu_set_t>();

/// The CPUs that the calling thread may run on, in order.
pub(crate) fn allowed_cpus() -> io::Result<Vec<usize>> {
    // SAFETY: a mask is an array of integers, for which zeros are a value.
    let mut mask: libc::cpu_set_t = unsafe { MaybeUninit::zeroed().assume_init() };
    // SAFETY: writes the mask, whose length it is told.
    if unsafe { libc::sched_getaffinity(0, size_of::<libc::cpu_set_t>(), &mut mask) } != 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the number of the CPU is below that of the mask's bits.
    Ok((0..MASK_CPUS).filter(|&cpu| unsafe { libc::CPU_ISSET(cpu, &mask) }).collect())
}

/// Lets the calling thread, and those it starts from now on, run on these CPUs only.
pub(crate) fn run_on(cpus: &[usize]) -> io::Result<()> {
    // SAFETY: a mask is an array of integers, for which zeros are a value.
    let mut mask: libc::cpu_set_t = unsafe { MaybeUninit::zeroed().assume_init() };
    for &cpu in cpus.iter().filter(|&&cpu| cpu < MASK_CPUS) {
        // SAFETY: the number of the CPU is below that of the mask's bits.
        unsafe { libc::CPU_SET(cpu, &mut mask) };
    }
    // SAFETY: reads the mask, whose length it is told.
    match unsafe { libc::sched_setaffinity(0, size_of::<libc::cpu_set_t>(), &mask) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

/// Switches the randomisation of addresses off for the programs that this thread executes from now on.
pub(crate) fn fix_addresses() -> io::Result<()> {
    let personality = personality(None)? | libc::ADDR_NO_RANDOMIZE as libc::c_ulong;
    self::personality(Some(personality)).map(|_| ())
}

/// Whether the kernel chose this process's addresses at random; not told where it may not be asked.
pub(crate) fn addresses_are_random() -> Option<bool> {
    personality(None).ok().map(|personality| personality & libc::ADDR_NO_RANDOMIZE as libc::c_ulong == 0)
}

/// The execution domain as it is, after which it is `wanted` if anything is.
fn personality(wanted: Option<libc::c_ulong>) -> io::Result<libc::c_ulong> {
    // This value asks only.
    let wanted = wanted.unwrap_or(0xffff_ffff);
    // SAFETY: takes one integer and touches no memory of ours; of a program that runs, these flags change nothing.
    match unsafe { libc::personality(wanted) } {
        -1 => Err(io::Error::last_os_error()),
        personality => Ok(personality as libc::c_ulong),
    }
}

/// Asks the kernel to kill this process when the thread that started it ends, however it ends.
///
/// A parent that has ended before this call is not noticed; the caller has another sign for that (end of its
/// standard input).
pub(crate) fn die_with_parent() {
    // SAFETY: PR_SET_PDEATHSIG takes one integer and touches no memory of ours. It cannot fail for a valid
    // signal, and if it did the child would still see the end of its standard input.
    unsafe { libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL as libc::c_ulong) };
}

/// The running kernel: name and release, as `uname -sr` prints them.
pub(crate) fn kernel() -> String {
    let mut names = MaybeUninit::<libc::utsname>::uninit();
    // SAFETY: `names` is writable memory of the right type, and outlives the call.
    if unsafe { libc::uname(names.as_mut_ptr()) } != 0 {
        return "unknown kernel".into();
    }
    // SAFETY: uname returned 0, so it has filled `names` in.
    let names = unsafe { names.assume_init() };
    format!("{} {}", text(&names.sysname), text(&names.release))
}

/// The characters before the first NUL.
fn text(field: &[libc::c_char]) -> String {
    field.iter().take_while(|&&c| c != 0).map(|&c| char::from(c as u8)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cpu_time_grows_with_work_and_not_with_sleep() {
        let start = thread_cpu_time();
        std::thread::sleep(Duration::from_millis(30));
        let slept = thread_cpu_time() - start;
        assert!(slept < Duration::from_millis(20), "{slept:?} of CPU time in a sleep");
        let mut sum = 0u64;
        while thread_cpu_time() - start < Duration::from_millis(25) {
            sum = std::hint::black_box(sum + 1);
        }
    }

    #[test]
    fn touched_memory_is_counted_as_page_faults_of_the_thread_that_touched_it() {
        let before = ThreadUsage::now();
        // Too large for memory that the allocator has already.
        std::hint::black_box(vec![1u8; 64 << 20]);
        let usage = ThreadUsage::now().since(before);
        // With huge pages it is one fault for each 512 pages.
        assert!(usage.minor_faults >= 32, "{usage:?}");
        std::thread::sleep(Duration::from_millis(1));
        assert!(ThreadUsage::now().since(before).voluntary_switches > usage.voluntary_switches);
    }

    #[test]
    fn thread_runs_where_it_is_told_to_and_so_do_those_it_starts() {
        let all = allowed_cpus().unwrap();
        let last = *all.last().unwrap();
        std::thread::spawn(move || {
            run_on(&[last]).unwrap();
            let started = std::thread::spawn(|| allowed_cpus().unwrap());
            assert_eq!((allowed_cpus().unwrap(), started.join().unwrap()), (vec![last], vec![last]));
        })
        .join()
        .unwrap();
        assert_eq!(allowed_cpus().unwrap(), all);
    }

    #[test]
    fn kernel_names_linux() {
        assert!(kernel().starts_with("Linux "), "{}", kernel());
    }
}
