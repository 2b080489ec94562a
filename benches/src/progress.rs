//! One line on standard error that says what is going on, when a person is looking.
//!
//! Nothing is printed unless standard error is a terminal, so logs and pipes stay clean.

use std::io::{IsTerminal, Write};
use std::time::{Duration, Instant};

/// How often the line changes.
pub(crate) const TICK: Duration = Duration::from_millis(100);

/// `[####------] 12 of 96, 3 min left`: how many of all are done, and what is left of the time, if `new` of them were done in
/// `elapsed` and say anything about it.
pub(crate) fn bar(done: usize, all: usize, new: usize, elapsed: Duration) -> String {
    const WIDTH: usize = 12;
    let full = (done * WIDTH).checked_div(all).unwrap_or(WIDTH).min(WIDTH);
    let bar = "#".repeat(full) + &"-".repeat(WIDTH - full);
    if new == 0 {
        return format!("[{bar}] {done} of {all}");
    }
    let seconds = elapsed.as_secs_f64() / new as f64 * all.saturating_sub(done) as f64;
    let left = match seconds as u64 {
        0..=99 => format!("{seconds:.0} s"),
        100..=5_999 => format!("{:.0} min", seconds / 60.0),
        _ => format!("{:.1} h", seconds / 3_600.0),
    };
    format!("[{bar}] {done} of {all}, {left} left")
}

/// The line. Dropping it wipes it.
pub(crate) struct Progress {
    terminal: bool,
    shown: Option<Instant>,
}

impl Progress {
    pub(crate) fn new() -> Self {
        Self { terminal: std::io::stderr().is_terminal(), shown: None }
    }

    /// Is anybody looking?
    pub(crate) fn visible(&self) -> bool {
        self.terminal
    }

    /// Shows what `text` gives, unless the line is younger than a [`TICK`].
    pub(crate) fn tick(&mut self, text: impl FnOnce() -> String) {
        if self.terminal && self.shown.is_none_or(|shown| shown.elapsed() >= TICK) {
            self.show(&text());
        }
    }

    /// Shows `text` now.
    pub(crate) fn show(&mut self, text: &str) {
        if self.terminal {
            // Longer than a narrow terminal would wrap, and a wrapped line cannot be wiped.
            let line: String = text.chars().take(79).collect();
            // A terminal that went away is no reason to stop measuring.
            let _ = write!(std::io::stderr(), "\r\x1b[K{line}");
            self.shown = Some(Instant::now());
        }
    }

    /// Wipes the line, before something lasting is printed.
    pub(crate) fn clear(&mut self) {
        if self.shown.take().is_some() {
            let _ = write!(std::io::stderr(), "\r\x1b[K");
        }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bar_tells_what_is_done_and_how_long_the_rest_takes() {
        let minute = Duration::from_secs(60);
        assert_eq!(bar(0, 96, 0, minute), "[------------] 0 of 96");
        assert_eq!(bar(48, 96, 6, minute), "[######------] 48 of 96, 8 min left");
        assert_eq!(bar(95, 96, 95, minute), "[###########-] 95 of 96, 1 s left");
        assert_eq!(bar(96, 96, 2, minute), "[############] 96 of 96, 0 s left");
        assert_eq!(bar(0, 0, 0, minute), "[############] 0 of 0");
        assert_eq!(bar(1, 1000, 1, minute), "[------------] 1 of 1000, 16.6 h left");
    }
}
