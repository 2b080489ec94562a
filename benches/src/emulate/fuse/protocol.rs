//! The kernel's FUSE protocol (version 7.31): requests taken apart, answers put together. Only what a file system
//! without writable files needs; numbers and layouts are those of the UAPI header `linux/fuse.h`.

/// What is understood, and offered.
pub(super) const VERSION: (u32, u32) = (7, 31);
/// Bytes of one write that the kernel hands over at once.
pub(super) const MAX_WRITE: usize = 1 << 20;
/// A request with the longest write.
pub(super) const MAX_REQUEST: usize = MAX_WRITE + 4096;
const HEADER: usize = 40;

/// `open` answers with it: no page cache, so no mapping, and every read and write comes here.
pub(super) const FOPEN_DIRECT_IO: u32 = 1;
const INIT_ATOMIC_O_TRUNC: u32 = 1 << 3;
const INIT_BIG_WRITES: u32 = 1 << 5;
const INIT_MAX_PAGES: u32 = 1 << 22;

/// Opcodes.
#[allow(missing_docs, reason = "the names say it")]
pub(super) mod op {
    pub(in super::super) const LOOKUP: u32 = 1;
    pub(in super::super) const FORGET: u32 = 2;
    pub(in super::super) const GETATTR: u32 = 3;
    pub(in super::super) const SETATTR: u32 = 4;
    pub(in super::super) const READLINK: u32 = 5;
    pub(in super::super) const OPEN: u32 = 14;
    pub(in super::super) const READ: u32 = 15;
    pub(in super::super) const WRITE: u32 = 16;
    pub(in super::super) const STATFS: u32 = 17;
    pub(in super::super) const RELEASE: u32 = 18;
    pub(in super::super) const INIT: u32 = 26;
    pub(in super::super) const OPENDIR: u32 = 27;
    pub(in super::super) const READDIR: u32 = 28;
    pub(in super::super) const RELEASEDIR: u32 = 29;
    pub(in super::super) const CREATE: u32 = 35;
    pub(in super::super) const INTERRUPT: u32 = 36;
    pub(in super::super) const POLL: u32 = 40;
    pub(in super::super) const BATCH_FORGET: u32 = 42;
}

/// A request.
pub(super) struct Request<'a> {
    pub(super) opcode: u32,
    pub(super) unique: u64,
    pub(super) node: u64,
    /// The thread that asks.
    pub(super) tid: u32,
    pub(super) body: &'a [u8],
}

impl<'a> Request<'a> {
    /// The request in `bytes`; `None` if they are too few for what it says it is.
    pub(super) fn parse(bytes: &'a [u8]) -> Option<Request<'a>> {
        let len = usize::try_from(u32_at(bytes, 0)?).ok()?;
        Some(Request {
            opcode: u32_at(bytes, 4)?,
            unique: u64_at(bytes, 8)?,
            node: u64_at(bytes, 16)?,
            tid: u32_at(bytes, 32)?,
            body: bytes.get(HEADER..len)?,
        })
    }

    /// The name in a lookup.
    pub(super) fn name(&self) -> Option<&'a str> {
        let end = self.body.iter().position(|&byte| byte == 0)?;
        std::str::from_utf8(&self.body[..end]).ok()
    }

    /// The handle in all requests about an open file but `open`.
    pub(super) fn handle(&self) -> u64 {
        u64_at(self.body, 0).unwrap_or(0)
    }

    /// Flags of `open`.
    pub(super) fn open_flags(&self) -> i32 {
        u32_at(self.body, 0).unwrap_or(0).cast_signed()
    }

    /// Offset and size of a read.
    pub(super) fn range(&self) -> (usize, usize) {
        let offset = u64_at(self.body, 8).and_then(|offset| usize::try_from(offset).ok());
        (offset.unwrap_or(usize::MAX), u32_at(self.body, 16).unwrap_or(0) as usize)
    }

    /// What is written.
    pub(super) fn data(&self) -> &'a [u8] {
        let (_, size) = self.range();
        self.body.get(HEADER..HEADER + size).unwrap_or_default()
    }
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_le_bytes(bytes.get(at..at + 4)?.try_into().ok()?))
}

fn u64_at(bytes: &[u8], at: usize) -> Option<u64> {
    Some(u64::from_le_bytes(bytes.get(at..at + 8)?.try_into().ok()?))
}

/// What kind of thing a node is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Directory,
    File {
        writable: bool,
    },
    Link,
    /// A queue; it has no fixed size, and is only its owner's.
    Queue,
}

impl Kind {
    fn mode(self) -> u32 {
        match self {
            Kind::Directory => libc::S_IFDIR | 0o755,
            Kind::File { writable: true } => libc::S_IFREG | 0o644,
            Kind::File { writable: false } => libc::S_IFREG | 0o444,
            Kind::Link => libc::S_IFLNK | 0o777,
            Kind::Queue => libc::S_IFREG | 0o600,
        }
    }

    /// The type in a directory entry.
    pub(super) fn entry_type(self) -> u32 {
        self.mode() >> 12
    }
}

/// An answer under way.
pub(super) struct Answer(Vec<u8>);

impl Answer {
    pub(super) fn new() -> Answer {
        Answer(vec![0; 16])
    }

    pub(super) fn u32(mut self, value: u32) -> Answer {
        self.0.extend(value.to_le_bytes());
        self
    }

    pub(super) fn u64(mut self, value: u64) -> Answer {
        self.0.extend(value.to_le_bytes());
        self
    }

    pub(super) fn bytes(mut self, bytes: &[u8]) -> Answer {
        self.0.extend(bytes);
        self
    }

    /// Attributes of a node.
    pub(super) fn attributes(self, node: u64, kind: Kind, owner: (u32, u32)) -> Answer {
        let size = if matches!(kind, Kind::File { .. }) { 4096 } else { 0 };
        // Inode, size, blocks, three times and their nanoseconds.
        let answer = [node, size, 0, 0, 0, 0].into_iter().fold(self, Answer::u64);
        let answer = answer.u32(0).u32(0).u32(0).u32(kind.mode()).u32(1).u32(owner.0).u32(owner.1);
        // Device, block size, flags.
        answer.u32(0).u32(4096).u32(0)
    }

    /// The answer to `init`.
    pub(super) fn init(self) -> Answer {
        let flags = INIT_ATOMIC_O_TRUNC | INIT_BIG_WRITES | INIT_MAX_PAGES;
        let answer = self.u32(VERSION.0).u32(VERSION.1).u32(0).u32(flags);
        // 16 requests in the background, congested at 12.
        let answer = answer.u32(12 << 16 | 16).u32(MAX_WRITE as u32).u32(1);
        let answer = answer.u32((MAX_WRITE / 4096) as u32).u32(0);
        answer.bytes(&[0; 28])
    }

    /// An entry of a directory.
    pub(super) fn entry(mut self, node: u64, next: u64, name: &str, kind: Kind) -> Answer {
        self = self.u64(node).u64(next).u32(name.len() as u32).u32(kind.entry_type()).bytes(name.as_bytes());
        self.0.resize(self.0.len().next_multiple_of(8), 0);
        self
    }

    /// Bytes of the body so far.
    pub(super) fn len(&self) -> usize {
        self.0.len() - 16
    }

    /// The whole answer to the request numbered `unique`.
    pub(super) fn finish(mut self, unique: u64) -> Vec<u8> {
        let len = self.0.len() as u32;
        self.0[..4].copy_from_slice(&len.to_le_bytes());
        self.0[8..16].copy_from_slice(&unique.to_le_bytes());
        self.0
    }

    /// The answer that something failed.
    pub(super) fn error(errno: i32, unique: u64) -> Vec<u8> {
        let mut bytes = Answer::new().finish(unique);
        bytes[4..8].copy_from_slice(&(-errno).to_le_bytes());
        bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_that_are_cut_short_are_no_requests() {
        let mut bytes = vec![0; 64];
        bytes[..4].copy_from_slice(&64u32.to_le_bytes());
        bytes[4..8].copy_from_slice(&op::LOOKUP.to_le_bytes());
        bytes[40..43].copy_from_slice(b"iax");
        assert_eq!(Request::parse(&bytes).unwrap().name(), Some("iax"));
        for len in 0..64 {
            assert!(Request::parse(&bytes[..len]).is_none(), "{len}");
        }
        bytes[..4].copy_from_slice(&3u32.to_le_bytes());
        assert!(Request::parse(&bytes).is_none(), "shorter than its header");
    }

    #[test]
    fn answers_have_the_lengths_of_the_header_file() {
        let attributes = || Answer::new().attributes(1, Kind::Directory, (0, 0));
        assert_eq!(attributes().len(), 88);
        assert_eq!(Answer::new().init().len(), 64);
        let answer = Answer::new().entry(1, 2, "seven77", Kind::Link).finish(9);
        assert_eq!(answer.len(), 16 + 32);
        assert_eq!(answer[..4], 48u32.to_le_bytes());
        assert_eq!(Answer::error(libc::ENOENT, 9)[4..8], (-2i32).to_le_bytes());
    }
}
