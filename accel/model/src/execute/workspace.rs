//! Buffers that a thread uses for one descriptor after another.

use std::cell::Cell;

use super::access::CHUNK;
use super::inflate::Codes;
use super::matcher::{Matcher, Token};
use super::window;

/// What executing a descriptor needs room for. Nothing in it outlives the descriptor.
pub(crate) struct Workspace {
    pub(crate) chunk: [u8; CHUNK],
    pub(crate) window: window::Buffer,
    pub(crate) codes: Codes,
    pub(crate) matcher: Matcher,
    pub(crate) tokens: Vec<Token>,
}

impl Workspace {
    /// Calls `f` with the thread's workspace; with one of its own if that is in use.
    pub(crate) fn with<T>(f: impl FnOnce(&mut Workspace) -> T) -> T {
        thread_local! {
            static KEPT: Cell<Option<Box<Workspace>>> = const { Cell::new(None) };
        }
        let kept = KEPT.try_with(Cell::take).ok().flatten();
        let mut workspace = kept.unwrap_or_else(|| {
            Box::new(Workspace {
                chunk: [0; CHUNK],
                window: window::EMPTY,
                codes: Codes::EMPTY,
                matcher: Matcher::EMPTY,
                tokens: Vec::new(),
            })
        });
        let answer = f(&mut workspace);
        // At the thread's end there is nowhere to keep it.
        let _ = KEPT.try_with(|kept| kept.set(Some(workspace)));
        answer
    }
}
