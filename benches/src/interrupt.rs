//! Ctrl-C: long work looks at a flag, stops at the next whole step and gives what it has.
//!
//! The first SIGINT or SIGTERM raises the flag; a second one ends the process at once, for whoever does not
//! want to wait.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use signal_hook::consts::{SIGINT, SIGTERM};

/// Exit code of a run that Ctrl-C ended: 128 + SIGINT, as shells have it.
pub(crate) const EXIT_CODE: u8 = 130;

/// Whether the user has asked to stop. Clones look at the same flag.
#[derive(Clone, Debug, Default)]
pub(crate) struct Interrupt(Arc<AtomicBool>);

impl Interrupt {
    /// Takes SIGINT and SIGTERM over for this process.
    pub(crate) fn install() -> io::Result<Self> {
        let interrupt = Self::default();
        for signal in [SIGINT, SIGTERM] {
            // In this order: the flag is still down when the first signal runs the first action.
            signal_hook::flag::register_conditional_shutdown(signal, EXIT_CODE.into(), interrupt.0.clone())?;
            signal_hook::flag::register(signal, interrupt.0.clone())?;
        }
        Ok(interrupt)
    }

    /// Has the signal come?
    pub(crate) fn raised(&self) -> bool {
        // A lone flag: nothing else is published with it.
        self.0.load(Ordering::Relaxed)
    }
}
