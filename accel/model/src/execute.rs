//! A descriptor and memory in, a completion record out.

use idxd_sys::{CompletionRecord, Descriptor, opcode, status};

use crate::{Capabilities, Memory};

/// Executes `descriptor` as a device of these capabilities does, and gives the record that it would write. The
/// record is not written here: when it becomes visible is the business of who keeps the time.
pub fn execute(
    capabilities: &Capabilities,
    descriptor: &Descriptor,
    memory: &dyn Memory,
) -> CompletionRecord {
    let _ = memory;
    let status = match descriptor.opcode() {
        code if !capabilities.has(code) => status::BAD_OPCODE,
        opcode::NOOP => status::SUCCESS,
        _ => status::BAD_OPCODE,
    };
    CompletionRecord { status, ..CompletionRecord::default() }
}
