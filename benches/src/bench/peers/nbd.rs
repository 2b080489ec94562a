//! nbdkit's memory plugin with zstd, asked over a socket by the NBD protocol, one request at a time.
//!
//! A new server for each round: it starts empty. Its CPU time counts too, and its memory is what it has beyond what it had
//! when it started.

use std::fs;
use std::io::{self, Read, Write};
use std::os::unix::net::UnixStream;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use tempfile::TempDir;
use zfolio_accel::{PAGE_SIZE, Page, PageBytes};

use super::peer::{Memory, Pass, Peer};
use crate::bench::worker::Faults;
use crate::machine::kib_field;

/// A server that does not answer for so long will not.
const PATIENCE: Duration = Duration::from_secs(10);

/// It is too slow for more rounds.
const ROUNDS: u32 = 6;

/// Numbers of the protocol: what a server and an option begin with, the option to use the nameless export, and requests.
const SERVER: [u8; 16] = *b"NBDMAGICIHAVEOPT";
const OPTION: [u8; 8] = *b"IHAVEOPT";
const FIXED_NEWSTYLE: u16 = 1;
const NO_ZEROES: u16 = 2;
const EXPORT_NAME: u32 = 1;
const REQUEST: u32 = 0x2560_9513;
const REPLY: u32 = 0x6744_6698;
const READ: u16 = 0;
const WRITE: u16 = 1;

/// A server. Dropping it ends it.
struct Server {
    child: Child,
    socket: UnixStream,
    /// Holds the socket's name.
    _folder: TempDir,
    bytes_at_start: u64,
}

impl Server {
    fn start(pages: usize) -> io::Result<Self> {
        let folder = TempDir::new()?;
        let name = folder.path().join("nbd");
        let mut child = Command::new("nbdkit")
            .args(["--exit-with-parent", "--foreground", "--unix"])
            .arg(&name)
            .args(["memory", &format!("size={}", pages * PAGE_SIZE), "allocator=zstd"])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()?;
        let socket = connect(&name, &mut child).and_then(|mut socket| {
            socket.set_read_timeout(Some(PATIENCE))?;
            socket.set_write_timeout(Some(PATIENCE))?;
            greet(&mut socket, pages)?;
            Ok(socket)
        });
        match socket {
            Ok(socket) => {
                let mut server = Self { child, socket, _folder: folder, bytes_at_start: 0 };
                server.bytes_at_start = anonymous_bytes(server.child.id())?;
                Ok(server)
            }
            Err(error) => {
                end(&mut child);
                Err(error)
            }
        }
    }

    fn ask(&mut self, what: u16, slot: u32) -> io::Result<()> {
        let mut request = [0; 28];
        request[..4].copy_from_slice(&REQUEST.to_be_bytes());
        request[6..8].copy_from_slice(&what.to_be_bytes());
        request[8..16].copy_from_slice(&u64::from(slot).to_be_bytes());
        request[16..24].copy_from_slice(&(u64::from(slot) * PAGE_SIZE as u64).to_be_bytes());
        request[24..].copy_from_slice(&(PAGE_SIZE as u32).to_be_bytes());
        self.socket.write_all(&request)
    }

    fn answer(&mut self, slot: u32) -> io::Result<()> {
        let mut reply = [0; 16];
        self.socket.read_exact(&mut reply)?;
        let mut right = [0; 16];
        right[..4].copy_from_slice(&REPLY.to_be_bytes());
        right[8..].copy_from_slice(&u64::from(slot).to_be_bytes());
        if reply == right { Ok(()) } else { Err(io::Error::other(format!("the answer {reply:02x?}"))) }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        end(&mut self.child);
    }
}

fn end(child: &mut Child) {
    // Both fail only when it has ended already.
    let _ = child.kill();
    let _ = child.wait();
}

/// Waits for the server's socket.
fn connect(name: &std::path::Path, child: &mut Child) -> io::Result<UnixStream> {
    let start = Instant::now();
    loop {
        match UnixStream::connect(name) {
            Ok(socket) => return Ok(socket),
            Err(error) => {
                if let Some(status) = child.try_wait()? {
                    return Err(io::Error::other(format!(
                        "nbdkit ended with {status}; does it have the memory plugin with zstd?"
                    )));
                }
                if start.elapsed() > PATIENCE {
                    return Err(error);
                }
                thread::sleep(Duration::from_millis(5));
            }
        }
    }
}

/// The handshake: asks for the nameless export, and checks that it is large enough.
fn greet(socket: &mut UnixStream, pages: usize) -> io::Result<()> {
    let mut hello = [0; 18];
    socket.read_exact(&mut hello)?;
    let flags = u16::from_be_bytes([hello[16], hello[17]]);
    if hello[..16] != SERVER || flags & FIXED_NEWSTYLE == 0 {
        return Err(io::Error::other("nbdkit's greeting is not understood"));
    }
    let flags = flags & (FIXED_NEWSTYLE | NO_ZEROES);
    let mut ours = Vec::new();
    ours.extend(u32::from(flags).to_be_bytes());
    ours.extend(OPTION);
    ours.extend(EXPORT_NAME.to_be_bytes());
    ours.extend(0u32.to_be_bytes());
    socket.write_all(&ours)?;
    let mut export = [0; 10];
    socket.read_exact(&mut export)?;
    if flags & NO_ZEROES == 0 {
        socket.read_exact(&mut [0; 124])?;
    }
    let mut size = [0; 8];
    size.copy_from_slice(&export[..8]);
    if u64::from_be_bytes(size) < (pages * PAGE_SIZE) as u64 {
        return Err(io::Error::other("nbdkit's export is too small"));
    }
    Ok(())
}

fn anonymous_bytes(pid: u32) -> io::Result<u64> {
    let text = fs::read_to_string(format!("/proc/{pid}/status"))?;
    kib_field(&text, "RssAnon").ok_or_else(|| io::Error::other("no RssAnon of nbdkit"))
}

/// nbdkit, and the server of the round.
pub(super) struct Nbdkit {
    version: String,
    server: Option<Server>,
}

impl Nbdkit {
    /// nbdkit if it is installed and has what is needed.
    pub(super) fn new() -> Result<Self, String> {
        let output = Command::new("nbdkit").arg("--version").stdin(Stdio::null()).output();
        let output = output.map_err(|error| format!("it cannot be run: {error}"))?;
        let version = String::from_utf8_lossy(&output.stdout).trim().to_owned();
        Server::start(1).map_err(|error| error.to_string())?;
        Ok(Self { version, server: None })
    }

    fn server(&mut self) -> Result<&mut Server, String> {
        self.server.as_mut().ok_or_else(|| "nbdkit: no server".to_owned())
    }
}

impl Peer for Nbdkit {
    fn codec(&self) -> &str {
        "zstd"
    }

    fn backend(&self) -> &str {
        "nbdkit"
    }

    fn report(&self) -> String {
        format!(
            "{}, memory plugin, allocator=zstd, one request of 4 KiB at a time; client and server",
            self.version
        )
    }

    fn passes(&self) -> &'static [Pass] {
        &[Pass::Store, Pass::LoadInOrder, Pass::Load]
    }

    fn last_round(&self) -> u32 {
        ROUNDS
    }

    fn begin(&mut self, pages: usize) -> Result<(), String> {
        self.server = None;
        self.server = Some(Server::start(pages).map_err(|error| format!("nbdkit: {error}"))?);
        Ok(())
    }

    fn store(&mut self, _: Pass, slots: &[u32], source: &[PageBytes]) -> Result<(), String> {
        let server = self.server()?;
        let mut store = |slot: u32, page: &PageBytes| {
            server.ask(WRITE, slot)?;
            server.socket.write_all(page)?;
            server.answer(slot)
        };
        let mut pages = slots.iter().zip(source);
        pages
            .try_for_each(|(slot, page)| store(*slot, page))
            .map_err(|error| format!("nbdkit, write: {error}"))
    }

    fn load(&mut self, _: Pass, slots: &[u32], pages: &mut [Page]) -> Result<(), String> {
        let server = self.server()?;
        let mut load = |slot: u32, page: &mut Page| {
            server.ask(READ, slot)?;
            server.answer(slot)?;
            server.socket.read_exact(&mut **page)
        };
        let mut pages = slots.iter().zip(pages);
        pages.try_for_each(|(slot, page)| load(*slot, page)).map_err(|error| format!("nbdkit, read: {error}"))
    }

    fn keeps(&self, _: Pass) -> bool {
        true
    }

    fn memory(&mut self) -> Result<Memory, String> {
        let server = self.server()?;
        let now = anonymous_bytes(server.child.id()).map_err(|error| error.to_string())?;
        let bytes = now.saturating_sub(server.bytes_at_start);
        Ok(Memory { bytes, metadata_bytes: 0, compressed_bytes: None })
    }

    fn others_cpu_time(&self) -> Duration {
        let Some(server) = &self.server else { return Duration::ZERO };
        let threads = fs::read_dir(format!("/proc/{}/task", server.child.id()));
        let times = threads.into_iter().flatten().flatten().filter_map(|thread| {
            let text = fs::read_to_string(thread.path().join("schedstat")).ok()?;
            text.split(' ').next()?.parse::<u64>().ok()
        });
        Duration::from_nanos(times.sum())
    }

    fn end(&mut self, _: &mut Faults) -> Result<(), String> {
        self.server = None;
        Ok(())
    }
}
