//! The devices as a FUSE file system, for programs that no library can be loaded into.
//!
//! One thread serves it: `dsa` (for /sys/bus/dsa), `module` (for /sys/module/idxd) and `iax` (for /dev/iax), from the
//! same [`Idxd`] and [`Session`]s as the preload library. Descriptors are executed inside the write that brings them,
//! with the memory of the process that writes.

mod protocol;

use std::collections::HashMap;
use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::os::fd::AsFd;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use iaa_model::sysfs::{Attributes, Errno, Idxd, Node};
use iaa_model::{ModelConfig, OtherProcess, QueueId, Session, Tally};
use idxd_sys::Descriptor;
use libc::{EACCES, EBUSY, EINVAL, EIO, EISDIR, ENOENT, ENOSYS, ENOTDIR, EPERM, O_ACCMODE, O_RDONLY};

use self::protocol::{Answer, FOPEN_DIRECT_IO, Kind, MAX_REQUEST, Request, op};
use super::kernel;

/// How often something late is looked for.
const TICK: Duration = Duration::from_millis(1);

/// The file system.
pub(super) struct Server {
    setup: ModelConfig,
    idxd: Idxd,
    tally: Arc<Vec<AtomicU64>>,
    /// Who owns all files.
    owner: (u32, u32),
    /// All that can be read; `None` when it has to be asked for again.
    shown: Option<Attributes>,
    /// Paths by node number, from 1, the root.
    paths: Vec<String>,
    numbers: HashMap<String, u64>,
    queues: HashMap<u64, OpenQueue>,
    next_handle: u64,
    /// Models by process.
    sessions: HashMap<u32, Session>,
}

struct OpenQueue {
    id: QueueId,
    minor: u32,
    process: u32,
    /// Threads known to be that process's.
    threads: Vec<u32>,
}

impl Server {
    /// The devices `idxd` of a model with this timing and these faults, whose deeds go into `tally`.
    pub(super) fn new(
        setup: ModelConfig,
        idxd: Idxd,
        tally: Arc<Vec<AtomicU64>>,
        owner: (u32, u32),
    ) -> Server {
        let mut server = Server {
            setup,
            idxd,
            tally,
            owner,
            shown: None,
            paths: Vec::new(),
            numbers: HashMap::new(),
            queues: HashMap::new(),
            next_handle: 1,
            sessions: HashMap::new(),
        };
        server.number("");
        server
    }

    /// Serves until the file system is unmounted.
    pub(super) fn serve(mut self, device: File) -> io::Result<()> {
        let mut buffer = vec![0; MAX_REQUEST];
        loop {
            if self.sessions.values().any(Session::is_late) && !kernel::readable(device.as_fd(), TICK)? {
                let tally = Tally::new(&self.tally).expect("made of the right length");
                self.sessions.values_mut().for_each(|session| _ = session.tick(tally));
                self.latch();
                continue;
            }
            let len = match (&device).read(&mut buffer) {
                Ok(len) => len,
                // Unmounted.
                Err(error) if error.raw_os_error() == Some(libc::ENODEV) => return Ok(()),
                // A request that was withdrawn while it was being read.
                Err(error) if error.raw_os_error() == Some(ENOENT) => continue,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(error),
            };
            let Some(request) = Request::parse(&buffer[..len]) else { continue };
            if matches!(request.opcode, op::FORGET | op::BATCH_FORGET | op::INTERRUPT) {
                continue;
            }
            let answer = match self.answer(&request) {
                Ok(answer) => answer.finish(request.unique),
                Err(errno) => Answer::error(errno, request.unique),
            };
            match (&device).write(&answer) {
                // Who asked is gone.
                Err(error) if error.raw_os_error() == Some(ENOENT) => {}
                Err(error) if error.raw_os_error() == Some(libc::ENODEV) => return Ok(()),
                Err(error) => return Err(error),
                Ok(_) => {}
            }
        }
    }

    fn answer(&mut self, request: &Request) -> Result<Answer, Errno> {
        let answer = Answer::new();
        if request.opcode == op::INIT {
            return Ok(answer.init());
        }
        let at = usize::try_from(request.node).ok().and_then(|node| self.paths.get(node.checked_sub(1)?));
        let path = at.cloned().ok_or(ENOENT)?;
        match request.opcode {
            op::LOOKUP => {
                let name = request.name().ok_or(EINVAL)?;
                let path = if path.is_empty() { name.to_owned() } else { format!("{path}/{name}") };
                let kind = self.kind(&path)?;
                let node = self.number(&path);
                // Generation, and how long it may be remembered: not at all.
                let answer = answer.u64(node).u64(0).u64(0).u64(0).u32(0).u32(0);
                Ok(answer.attributes(node, kind, self.owner))
            }
            // What SETATTR wants (a file cut short, a time) changes nothing in sysfs either.
            op::GETATTR | op::SETATTR => {
                let kind = self.kind(&path)?;
                Ok(answer.u64(0).u32(0).u32(0).attributes(request.node, kind, self.owner))
            }
            op::READLINK => match self.shown().get(attribute(&path).ok_or(EINVAL)?) {
                Some(Node::Link(to)) => Ok(answer.bytes(to.as_bytes())),
                _ => Err(EINVAL),
            },
            op::OPEN => {
                let handle = self.open(&path, request)?;
                Ok(answer.u64(handle).u32(FOPEN_DIRECT_IO).u32(0))
            }
            op::READ => {
                let text = match self.kind(&path)? {
                    Kind::File { .. } => self.text(&path).ok_or(EIO)?,
                    _ => return Err(EINVAL),
                };
                let (offset, size) = request.range();
                let rest = text.as_bytes().get(offset..).unwrap_or_default();
                Ok(answer.bytes(&rest[..size.min(rest.len())]))
            }
            op::WRITE => {
                let taken = match self.queues.contains_key(&request.handle()) {
                    true => self.submit(request)?,
                    false => self.store(&path, request.data())?,
                };
                Ok(answer.u32(taken as u32).u32(0))
            }
            op::RELEASE => {
                if self.queues.remove(&request.handle()).is_some() {
                    self.shown = None;
                }
                Ok(answer)
            }
            op::OPENDIR => match self.kind(&path)? {
                Kind::Directory => Ok(answer.u64(0).u32(0).u32(0)),
                _ => Err(ENOTDIR),
            },
            op::READDIR => Ok(self.list(&path, request, answer)),
            op::RELEASEDIR => Ok(answer),
            op::STATFS => Ok(answer.bytes(&[0; 80])),
            op::CREATE => Err(EACCES),
            // What comes later is told the next time.
            op::POLL => {
                let queue = self.queues.get(&request.handle());
                let error = queue.is_some_and(|queue| self.idxd.has_error(queue.id));
                let ready = if error { libc::POLLIN | libc::POLLRDNORM } else { 0 };
                Ok(answer.u32(ready as u32).u32(0))
            }
            _ => Err(ENOSYS),
        }
    }

    /// The number of the node at `path`.
    fn number(&mut self, path: &str) -> u64 {
        if let Some(&number) = self.numbers.get(path) {
            return number;
        }
        self.paths.push(path.to_owned());
        let number = self.paths.len() as u64;
        self.numbers.insert(path.to_owned(), number);
        number
    }

    fn shown(&mut self) -> &Attributes {
        let queues = &self.queues;
        let clients = |id| queues.values().filter(|queue| queue.id == id).count();
        self.shown.get_or_insert_with(|| self.idxd.attributes(&clients))
    }

    fn kind(&mut self, path: &str) -> Result<Kind, Errno> {
        if matches!(path, "" | "dsa" | "iax" | "module" | "module/parameters") {
            return Ok(Kind::Directory);
        }
        if let Some(name) = path.strip_prefix("iax/") {
            return self.idxd.node(name).map(|_| Kind::Queue).ok_or(ENOENT);
        }
        if module(path).is_some() {
            return Ok(Kind::File { writable: false });
        }
        let attribute = attribute(path).ok_or(ENOENT)?;
        let below = format!("{attribute}/");
        let shown = self.shown();
        match shown.get(attribute) {
            Some(Node::Link(_)) => Ok(Kind::Link),
            Some(Node::File { writable, .. }) => Ok(Kind::File { writable: *writable }),
            None if shown.range(below.clone()..).next().is_some_and(|(path, _)| path.starts_with(&below)) => {
                Ok(Kind::Directory)
            }
            None => Err(ENOENT),
        }
    }

    fn text(&mut self, path: &str) -> Option<String> {
        if let Some(text) = module(path) {
            return Some(text.to_owned());
        }
        Some(self.shown().get(attribute(path)?)?.text()?.to_owned())
    }

    /// Names in a directory, in order.
    fn names(&mut self, path: &str) -> Vec<String> {
        let below = match path {
            "" => return ["dsa", "iax", "module"].map(str::to_owned).into(),
            "iax" => return self.idxd.nodes().map(|(name, ..)| name).collect(),
            "module" => return ["initstate", "parameters"].map(str::to_owned).into(),
            "module/parameters" => return vec!["sva".to_owned()],
            "dsa" => String::new(),
            _ => format!("{}/", attribute(path).unwrap_or_default()),
        };
        let children = self.shown().keys().filter_map(|path| path.strip_prefix(&below));
        let mut names: Vec<_> =
            children.filter_map(|rest| Some(rest.split('/').next()?.to_owned())).collect();
        names.dedup();
        names
    }

    fn list(&mut self, path: &str, request: &Request, mut answer: Answer) -> Answer {
        let (offset, size) = request.range();
        let names = [".".to_owned(), "..".to_owned()].into_iter().chain(self.names(path));
        for (index, name) in names.enumerate().skip(offset) {
            if answer.len() + 24 + name.len().next_multiple_of(8) > size {
                break;
            }
            let child = if path.is_empty() { name.clone() } else { format!("{path}/{name}") };
            let kind = self.kind(&child).unwrap_or(Kind::Directory);
            let node = if name.starts_with('.') { 1 } else { self.number(&child) };
            answer = answer.entry(node, index as u64 + 1, &name, kind);
        }
        answer
    }

    fn open(&mut self, path: &str, request: &Request) -> Result<u64, Errno> {
        match self.kind(path)? {
            Kind::Directory => Err(EISDIR),
            Kind::Link => Err(libc::ELOOP),
            Kind::File { writable } => {
                let writes = request.open_flags() & O_ACCMODE != O_RDONLY;
                // Root may open, and is refused when it writes.
                if writes && !writable && self.owner.0 != 0 { Err(EACCES) } else { Ok(0) }
            }
            Kind::Queue => {
                let name = path.rsplit('/').next().unwrap_or_default();
                let (id, minor, mode) = self.idxd.node(name).ok_or(ENOENT)?;
                if mode == iaa_model::Mode::Dedicated
                    && self.queues.values().any(|queue| queue.minor == minor)
                {
                    return Err(EBUSY);
                }
                let process = process_of(request.tid).ok_or(EIO)?;
                self.tally().attach();
                let open = OpenQueue { id, minor, process, threads: vec![request.tid] };
                let handle = self.next_handle;
                self.next_handle += 1;
                self.queues.insert(handle, open);
                self.shown = None;
                Ok(handle)
            }
        }
    }

    fn store(&mut self, path: &str, value: &[u8]) -> Result<usize, Errno> {
        let attribute = attribute(path).ok_or(EIO)?;
        let stored = self.idxd.store(attribute, value);
        self.shown = None;
        let tally = Tally::new(&self.tally).expect("made of the right length");
        self.sessions.values_mut().for_each(|session| session.renew(self.idxd.clone(), tally));
        stored.map(|()| value.len())
    }

    /// Executes the descriptors of a write.
    fn submit(&mut self, request: &Request) -> Result<usize, Errno> {
        const SIZE: usize = size_of::<Descriptor>();
        let queue = self.queues.get_mut(&request.handle()).ok_or(EIO)?;
        if !queue.threads.contains(&request.tid) {
            if process_of(request.tid) != Some(queue.process) {
                return Err(EPERM);
            }
            queue.threads.push(request.tid);
        }
        let (id, minor, process) = (queue.id, queue.minor, queue.process);
        let tally = Tally::new(&self.tally).expect("made of the right length");
        let session = self.sessions.entry(process).or_insert_with(|| {
            Session::new(self.setup.clone(), self.idxd.clone(), OtherProcess::new(process.cast_signed()))
        });
        let mut descriptors: Vec<Descriptor> = request
            .data()
            .chunks_exact(SIZE)
            .map(|bytes| Descriptor::from_bytes(bytes.try_into().expect("64")))
            .collect();
        let (taken, stopped) = session.submit(id, minor, &mut descriptors);
        session.settle(tally);
        self.latch();
        match stopped {
            Some(errno) if taken == 0 => Err(errno),
            _ => Ok(taken * SIZE),
        }
    }

    /// Takes down the software errors that devices had of late.
    fn latch(&mut self) {
        for error in self.sessions.values_mut().flat_map(Session::take_errors) {
            self.idxd.latch(error);
            self.shown = None;
        }
    }

    fn tally(&self) -> Tally<'_> {
        Tally::new(&self.tally).expect("made of the right length")
    }
}

/// The path of an attribute below `/sys/bus/dsa`.
fn attribute(path: &str) -> Option<&str> {
    path.strip_prefix("dsa/")
}

/// The text of a file of the module.
fn module(path: &str) -> Option<&'static str> {
    match path {
        "module/initstate" => Some("live\n"),
        "module/parameters/sva" => Some("Y\n"),
        _ => None,
    }
}

/// The process whose thread `tid` is: the kernel names the thread.
fn process_of(tid: u32) -> Option<u32> {
    let status = fs::read_to_string(format!("/proc/{tid}/status")).ok()?;
    status.lines().find_map(|line| line.strip_prefix("Tgid:"))?.trim().parse().ok()
}
