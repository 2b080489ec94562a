//! Completion status, the first byte of a completion record. Codes of the kernel's UAPI header for IAA.

/// Bit 7 of the status: the fault was a write.
pub const WRITE_FAULT: u8 = 0x80;
/// What remains of the status without [`WRITE_FAULT`].
pub const MASK: u8 = 0x7f;

/// The descriptor still runs.
pub const RUNNING: u8 = 0x00;
/// Success.
pub const SUCCESS: u8 = 0x01;
/// A page was not there, and nothing usable was done.
pub const PAGE_FAULT: u8 = 0x03;
/// The page request was answered invalidly.
pub const PAGE_REQUEST_INVALID: u8 = 0x04;
/// See the [error code](crate::error_code).
pub const ANALYTICS_ERROR: u8 = 0x0a;
/// The destination is full; the state is in the AECS, and the next descriptor goes on.
pub const OUTPUT_OVERFLOW: u8 = 0x0b;
/// Bad opcode, also one that the device or the queue does not allow.
pub const BAD_OPCODE: u8 = 0x10;
/// Bad operation flag.
pub const BAD_OP_FLAG: u8 = 0x11;
/// A reserved field is not zero.
pub const NONZERO_RESERVED: u8 = 0x12;
/// Transfer size of zero or above the limit.
pub const BAD_TRANSFER_SIZE: u8 = 0x13;
/// Two buffers overlap.
pub const OVERLAP: u8 = 0x16;
/// Bad interrupt handle.
pub const BAD_INTERRUPT_HANDLE: u8 = 0x19;
/// The completion record's address could not be translated.
pub const COMPLETION_TRANSLATION: u8 = 0x1a;
/// The completion record is not 64-byte aligned.
pub const COMPLETION_ALIGNMENT: u8 = 0x1b;
/// AECS misaligned or of a wrong size.
pub const BAD_AECS: u8 = 0x1c;
/// Privilege.
pub const BAD_PRIVILEGE: u8 = 0x1d;
/// Traffic class.
pub const BAD_TRAFFIC_CLASS: u8 = 0x1e;
/// First of the drain, hardware and time-out errors, up to [`WATCHDOG`].
pub const HARDWARE_FIRST: u8 = 0x1f;
/// A page request timed out.
pub const PAGE_REQUEST_TIMEOUT: u8 = 0x23;
/// The watchdog ended the operation.
pub const WATCHDOG: u8 = 0x24;
/// Bad compression or decompression flag.
pub const BAD_COMPRESSION_FLAG: u8 = 0x30;
/// Bad filter flag.
pub const BAD_FILTER_FLAG: u8 = 0x31;
/// Bad input size.
pub const BAD_INPUT_SIZE: u8 = 0x32;
/// Number of elements is zero.
pub const ZERO_ELEMENTS: u8 = 0x33;
/// Bad width of source 1.
pub const BAD_SRC1_WIDTH: u8 = 0x34;
/// Output inversion not allowed.
pub const BAD_INVERT_OUTPUT: u8 = 0x35;
