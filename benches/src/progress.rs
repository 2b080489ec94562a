//! One line on standard error that says what is going on, when a person is looking.
//!
//! Nothing is printed unless standard error is a terminal, so logs and pipes stay clean.

use std::io::{IsTerminal, Write};
use std::time::{Duration, Instant};

/// How often the line changes.
pub(crate) const TICK: Duration = Duration::from_millis(100);

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
