//! What a modelled device can do, as its registers say.

/// Capabilities of one device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Capabilities {
    /// Version register: 0x100 or 0x200.
    pub version: u32,
    /// General capabilities; see [`gen_cap`](idxd_sys::flags::gen_cap).
    pub gen_cap: u64,
    /// IAA capabilities; see [`iaa_cap`](idxd_sys::flags::iaa_cap). Zero in generation 1.
    pub iaa_cap: u64,
    /// Opcodes, a bit each, lowest word first.
    pub op_cap: [u64; 4],
    /// Largest transfer in bytes.
    pub max_transfer_size: u64,
    /// Refuses a code-length repeat across the boundary of literal/length and distance lengths, as the device
    /// does; off for experiments.
    pub strict_headers: bool,
}

impl Capabilities {
    /// Sapphire and Emerald Rapids: generation 1.
    pub const SPR: Capabilities = Capabilities {
        version: 0x100,
        gen_cap: 0x0007_1f10_901f_0105,
        iaa_cap: 0,
        // no-op, drain, decompress, compress, CRC64: what the model knows, so that nothing else is offered
        op_cap: [0b101, 0b1_1100, 0, 0],
        max_transfer_size: 1 << 31,
        strict_headers: true,
    };

    /// Granite Rapids: generation 2, header generation without dictionaries.
    pub const GNR: Capabilities = Capabilities { version: 0x200, iaa_cap: 0x101, ..Capabilities::SPR };

    /// Whether the device has `opcode`.
    pub const fn has(&self, opcode: u8) -> bool {
        self.op_cap[(opcode >> 6) as usize] >> (opcode & 63) & 1 == 1
    }
}
