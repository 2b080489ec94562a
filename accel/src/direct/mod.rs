//! Intel IAA, driven directly: own descriptors, own completion records, no library in between.

#![allow(unsafe_code)]

mod portal;

pub use portal::{Portal, Refusal, Submitted};
