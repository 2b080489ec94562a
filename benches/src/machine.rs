//! What machine this is: the facts that stand beside every number and in every manifest.
//!
//! No host or user name: a capture or a result is meant to be passed on.

use std::fs;
use std::time::{SystemTime, UNIX_EPOCH};

use serde::Serialize;

use crate::os;

/// The machine, as far as it explains a measurement.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Machine {
    pub(crate) cpu_model: String,
    /// CPUs this process may run on.
    pub(crate) cpus: usize,
    pub(crate) kernel: String,
    pub(crate) memory_bytes: u64,
    pub(crate) memory_nodes: usize,
}

impl Machine {
    /// Asks the running kernel; what it does not tell is "unknown" or 0.
    pub(crate) fn read() -> Self {
        let cpuinfo = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
        Self {
            cpu_model: cpu_model(&cpuinfo).unwrap_or(std::env::consts::ARCH).to_owned(),
            cpus: std::thread::available_parallelism().map_or(1, usize::from),
            kernel: os::kernel(),
            memory_bytes: fs::read_to_string("/proc/meminfo")
                .ok()
                .and_then(|t| kib_field(&t, "MemTotal"))
                .unwrap_or(0),
            memory_nodes: memory_nodes(),
        }
    }
}

impl std::fmt::Display for Machine {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { cpu_model, cpus, kernel, memory_bytes, memory_nodes } = self;
        let plural = |n: usize| if n == 1 { "" } else { "s" };
        write!(
            f,
            "{cpu_model}, {cpus} CPU{}, {} memory on {memory_nodes} node{}, {kernel}",
            plural(*cpus),
            crate::quantity::bytes(*memory_bytes as f64),
            plural(*memory_nodes)
        )
    }
}

/// Settings of the kernel that speed depends on; `None` where it does not tell.
#[derive(Clone, Debug)]
pub(crate) struct KernelSettings {
    /// Who chooses the frequency of CPU 0.
    pub(crate) governor: Option<String>,
    /// When anonymous memory gets huge pages: always, madvise or never.
    pub(crate) huge_pages: Option<String>,
}

impl KernelSettings {
    pub(crate) fn read() -> Self {
        let governor = fs::read_to_string("/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor").ok();
        let huge_pages = fs::read_to_string("/sys/kernel/mm/transparent_hugepage/enabled").ok();
        Self {
            governor: governor.map(|text| text.trim().to_owned()),
            huge_pages: huge_pages.as_deref().and_then(chosen).map(str::to_owned),
        }
    }
}

impl std::fmt::Display for KernelSettings {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { governor, huge_pages } = self;
        let told = |setting: &Option<String>| setting.clone().unwrap_or_else(|| "not told".to_owned());
        write!(f, "frequency governor {}, transparent huge pages {}", told(governor), told(huge_pages))
    }
}

/// The word in brackets, as in `always [madvise] never`.
fn chosen(text: &str) -> Option<&str> {
    Some(text.split_once('[')?.1.split_once(']')?.0)
}

/// Nodes that have memory, by the kernel's own list (`0-3,8`); 1 where it has none.
fn memory_nodes() -> usize {
    let list = fs::read_to_string("/sys/devices/system/node/has_memory").unwrap_or_default();
    count_of_list(list.trim()).unwrap_or(1).max(1)
}

/// How many numbers a kernel list such as `0-3,8` names.
fn count_of_list(list: &str) -> Option<usize> {
    let mut count = 0;
    for part in list.split(',') {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        count += last.parse::<usize>().ok()?.checked_sub(first.parse().ok()?)? + 1;
    }
    Some(count)
}

fn cpu_model(cpuinfo: &str) -> Option<&str> {
    let line = cpuinfo.lines().find(|line| line.starts_with("model name"))?;
    Some(line.split_once(':')?.1.trim()).filter(|model| !model.is_empty())
}

/// Bytes of a `Name:   123 kB` line, as /proc/meminfo and /proc/self/status have them.
pub(crate) fn kib_field(text: &str, name: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))?;
    Some(line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()? * 1024)
}

/// The time of day in UTC as RFC 3339 writes it, to the second.
pub(crate) fn now_utc() -> String {
    rfc3339(SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs()))
}

/// Seconds since 1970 as a date; days become a civil date by counting 400-year eras that start in March.
fn rfc3339(seconds: u64) -> String {
    let (days, second) = (seconds / 86_400, seconds % 86_400);
    let day_of_eras = days + 719_468;
    let (era, day) = (day_of_eras / 146_097, day_of_eras % 146_097);
    let year_of_era = (day - day / 1_460 + day / 36_524 - day / 146_096) / 365;
    let day_of_year = day - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let march_month = (5 * day_of_year + 2) / 153;
    let day_of_month = day_of_year - (153 * march_month + 2) / 5 + 1;
    let month = if march_month < 10 { march_month + 3 } else { march_month - 9 };
    let year = era * 400 + year_of_era + u64::from(month <= 2);
    let (hour, minute, second) = (second / 3_600, second / 60 % 60, second % 60);
    format!("{year:04}-{month:02}-{day_of_month:02}T{hour:02}:{minute:02}:{second:02}Z")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_are_right_across_leap_days() {
        for (seconds, date) in [
            (0, "1970-01-01T00:00:00Z"),
            (951_782_399, "2000-02-28T23:59:59Z"),
            (951_782_400, "2000-02-29T00:00:00Z"),
            (1_709_251_200, "2024-03-01T00:00:00Z"),
            (1_767_225_599, "2025-12-31T23:59:59Z"),
        ] {
            assert_eq!(rfc3339(seconds), date);
        }
    }

    #[test]
    fn chosen_setting_is_the_one_in_brackets() {
        assert_eq!(chosen("always [madvise] never\n"), Some("madvise"));
        assert_eq!(chosen("never"), None);
    }

    #[test]
    fn lists_of_nodes_are_counted() {
        for (list, count) in [("0", Some(1)), ("0-3,8", Some(5)), ("", None), ("3-1", None)] {
            assert_eq!(count_of_list(list), count, "{list}");
        }
    }

    #[test]
    fn cpu_model_and_memory_are_found_in_their_lines() {
        assert_eq!(cpu_model("processor\t: 0\nmodel name\t: Some CPU @ 2 GHz\n"), Some("Some CPU @ 2 GHz"));
        assert_eq!(cpu_model("processor\t: 0\n"), None);
        assert_eq!(kib_field("RssAnonX: 1 kB\nRssAnon:\t     12 kB\n", "RssAnon"), Some(12 * 1024));
        assert_eq!(kib_field("RssAnon:\t garbage\n", "RssAnon"), None);
    }
}
