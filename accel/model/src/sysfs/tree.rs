//! The driver's sysfs as a directory of plain files, which processes share.
//!
//! Below the root: `sys/bus/dsa`, `sys/module/idxd` and `dev/iax` are what programs are shown; `state` is the truth
//! behind it; `lock` is held (flock, so that it ends with its holder) by whoever reads or changes that; `clients`
//! has a file for each open queue, which its opener holds with flock until the last copy of the descriptor is closed,
//! by whatever means. `setup` says what model it is, `tally` what happened so far.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, Read, Seek, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use super::{Attributes, Errno, Idxd, Node};
use crate::{ModelConfig, QueueId, SoftwareError};

/// Longer than anyone holds the lock who is not stopped.
const LOCK_TIMEOUT: Duration = Duration::from_secs(10);

/// What went wrong with the directory.
#[derive(Debug)]
#[non_exhaustive]
pub enum TreeError {
    /// Reading or writing failed.
    Io(io::Error),
    /// Someone else holds the lock, and does not go on.
    Locked,
    /// The state is not what this version writes.
    State,
}

impl TreeError {
    /// The code of errno that says it best.
    pub fn errno(&self) -> Errno {
        match self {
            TreeError::Io(error) => error.raw_os_error().unwrap_or(libc::EIO),
            TreeError::Locked => libc::ETIMEDOUT,
            TreeError::State => libc::EIO,
        }
    }
}

impl std::fmt::Display for TreeError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            TreeError::Io(error) => write!(f, "the emulated sysfs: {error}"),
            TreeError::Locked => write!(f, "the emulated sysfs is locked by a process that does not go on"),
            TreeError::State => write!(f, "the emulated sysfs has a state of another version"),
        }
    }
}

impl std::error::Error for TreeError {}

impl From<io::Error> for TreeError {
    fn from(error: io::Error) -> TreeError {
        TreeError::Io(error)
    }
}

/// The directory. Dropping this leaves it as it is.
#[derive(Clone, Debug)]
pub struct Tree {
    root: PathBuf,
}

/// The state, while nobody else has it.
struct Locked {
    idxd: Idxd,
    state: File,
    /// Released with the file.
    _lock: File,
}

impl Tree {
    /// Writes the tree of `idxd` below `root`, an empty directory.
    ///
    /// # Errors
    /// [`TreeError::Io`].
    pub fn create(root: &Path, idxd: &Idxd) -> Result<Tree, TreeError> {
        let tree = Tree { root: root.to_owned() };
        for dir in ["sys/bus/dsa", "sys/module/idxd/parameters", "dev/iax", "clients"] {
            fs::create_dir_all(root.join(dir))?;
        }
        fs::write(root.join("sys/module/idxd/initstate"), "live\n")?;
        fs::write(root.join("sys/module/idxd/parameters/sva"), "Y\n")?;
        fs::write(root.join("lock"), "")?;
        fs::write(root.join("state"), idxd.save())?;
        tree.show(&Attributes::new(), &idxd.attributes(&|_| 0))?;
        tree.show_nodes(idxd)?;
        Ok(tree)
    }

    /// The tree that is below `root` already.
    pub fn open(root: &Path) -> Tree {
        Tree { root: root.to_owned() }
    }

    /// Where it is.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// The state now.
    ///
    /// # Errors
    /// See [`TreeError`].
    pub fn idxd(&self) -> Result<Idxd, TreeError> {
        Ok(self.lock()?.idxd)
    }

    /// Writes an attribute, and shows what follows from it; see [`Idxd::store`].
    ///
    /// # Errors
    /// The code of errno with which write(2) fails.
    pub fn store(&self, path: &str, value: &[u8]) -> Result<(), Errno> {
        self.change(|idxd| idxd.store(path, value)).map_err(|error| error.errno())?
    }

    /// Takes software errors down, and shows them; see [`Idxd::latch`].
    ///
    /// # Errors
    /// See [`TreeError`].
    pub fn latch(&self, errors: &[SoftwareError]) -> Result<(), TreeError> {
        self.change(|idxd| errors.iter().for_each(|&error| idxd.latch(error)))
    }

    fn change<T>(&self, change: impl FnOnce(&mut Idxd) -> T) -> Result<T, TreeError> {
        let mut locked = self.lock()?;
        let before = locked.idxd.attributes(&|_| 0);
        let changed = change(&mut locked.idxd);
        self.show(&before, &locked.idxd.attributes(&|_| 0))?;
        self.show_nodes(&locked.idxd)?;
        save(&mut locked.state, &locked.idxd)?;
        Ok(changed)
    }

    /// Brings the files up to date that say how many clients there are.
    ///
    /// # Errors
    /// See [`TreeError`].
    pub fn count_clients(&self) -> Result<(), TreeError> {
        let locked = self.lock()?;
        let open = self.clients()?;
        let count = |id| open.iter().filter(|&&(client, _)| client == id).count();
        for (path, node) in locked.idxd.attributes(&count) {
            if let Some(text) = node.text().filter(|_| path.ends_with("/clients")) {
                rewrite(&self.attribute(&path), text)?;
            }
        }
        Ok(())
    }

    /// Opens a queue for a client: the file that stands for it, read-only so that writing to it fails where nobody
    /// intercepts it, the queue, its minor number and the state.
    ///
    /// # Errors
    /// The code of errno with which open(2) fails.
    pub fn open_queue(&self, name: &str) -> Result<(File, QueueId, u32, Idxd), Errno> {
        let locked = self.lock().map_err(|error| error.errno())?;
        let (id, minor, mode) = locked.idxd.node(name).ok_or(libc::ENOENT)?;
        let open = self.clients().map_err(|error| TreeError::from(error).errno())?;
        if mode == crate::Mode::Dedicated
            && open.iter().any(|&(client, number)| client == id && number == minor)
        {
            return Err(libc::EBUSY);
        }
        let file = self.claim_client(id, minor).map_err(|error| TreeError::from(error).errno())?;
        Ok((file, id, minor, locked.idxd))
    }

    /// Where an attribute's file is.
    fn attribute(&self, path: &str) -> PathBuf {
        self.root.join("sys/bus/dsa").join(path)
    }

    /// The open queues, with their minor numbers.
    fn clients(&self) -> io::Result<Vec<(QueueId, u32)>> {
        let mut open = Vec::new();
        for entry in fs::read_dir(self.root.join("clients"))? {
            let mut file = File::open(entry?.path())?;
            if let Err(TryLockError::WouldBlock) = file.try_lock() {
                let mut text = String::new();
                file.read_to_string(&mut text)?;
                open.extend(parse_client(&text));
            }
        }
        Ok(open)
    }

    /// A file in `clients`, held. One that nobody holds any more is used again: their number stays that of the
    /// queues that were open at once, and no inode is ever given back that a program may still have.
    fn claim_client(&self, id: QueueId, minor: u32) -> io::Result<File> {
        let dir = self.root.join("clients");
        for number in 0.. {
            let path = dir.join(number.to_string());
            let mut options = OpenOptions::new();
            let mut file =
                options.read(true).write(true).create(true).truncate(false).mode(0o600).open(&path)?;
            let held = File::open(&path)?;
            match held.try_lock() {
                Ok(()) => {}
                Err(TryLockError::WouldBlock) => continue,
                Err(TryLockError::Error(error)) => return Err(error),
            }
            file.set_len(0)?;
            write!(file, "{} {} {minor}", id.device, id.queue)?;
            return Ok(held);
        }
        unreachable!("there is always a next number")
    }

    fn lock(&self) -> Result<Locked, TreeError> {
        let lock = File::open(self.root.join("lock"))?;
        let start = Instant::now();
        loop {
            match lock.try_lock() {
                Ok(()) => break,
                Err(TryLockError::WouldBlock) if start.elapsed() > LOCK_TIMEOUT => {
                    return Err(TreeError::Locked);
                }
                Err(TryLockError::WouldBlock) => thread::sleep(Duration::from_micros(200)),
                Err(TryLockError::Error(error)) => return Err(error.into()),
            }
        }
        let mut state = OpenOptions::new().read(true).write(true).open(self.root.join("state"))?;
        let mut text = String::new();
        state.read_to_string(&mut text)?;
        let idxd = Idxd::restore(&text).ok_or(TreeError::State)?;
        Ok(Locked { idxd, state, _lock: lock })
    }

    /// Makes the files what `after` says, where it differs from `before`.
    fn show(&self, before: &Attributes, after: &Attributes) -> io::Result<()> {
        for path in before.keys().filter(|&path| !after.contains_key(path)) {
            fs::remove_file(self.attribute(path))?;
        }
        for (path, node) in after.iter().filter(|&(path, node)| before.get(path) != Some(node)) {
            let file = self.attribute(path);
            match node {
                Node::Link(to) => {
                    if before.contains_key(path) {
                        fs::remove_file(&file)?;
                    }
                    fs::create_dir_all(file.parent().expect("a path below the root"))?;
                    symlink(to, &file)?;
                }
                Node::File { text, .. } if before.contains_key(path) => rewrite(&file, text)?,
                Node::File { text, writable } => {
                    fs::create_dir_all(file.parent().expect("a path below the root"))?;
                    fs::write(&file, text)?;
                    let mode = if *writable { 0o644 } else { 0o444 };
                    fs::set_permissions(&file, fs::Permissions::from_mode(mode))?;
                }
            }
        }
        Ok(())
    }

    fn show_nodes(&self, idxd: &Idxd) -> io::Result<()> {
        let dir = self.root.join("dev/iax");
        for entry in fs::read_dir(&dir)? {
            let entry = entry?;
            if entry.file_name().to_str().is_none_or(|name| idxd.node(name).is_none()) {
                fs::remove_file(entry.path())?;
            }
        }
        for (name, ..) in idxd.nodes() {
            OpenOptions::new().write(true).create(true).truncate(false).mode(0o600).open(dir.join(name))?;
        }
        Ok(())
    }

    /// Says what model the tree belongs to; [`Tree::setup`] reads it.
    ///
    /// # Errors
    /// [`TreeError::Io`].
    pub fn write_setup(&self, profile: &str, faults: &str) -> Result<(), TreeError> {
        Ok(fs::write(self.root.join("setup"), format!("{profile}\n{faults}"))?)
    }

    /// The model without its devices: timing, clock and faults.
    ///
    /// # Errors
    /// See [`TreeError`].
    pub fn setup(&self) -> Result<ModelConfig, TreeError> {
        let text = fs::read_to_string(self.root.join("setup"))?;
        let (profile, faults) = text.split_once('\n').ok_or(TreeError::State)?;
        let config = match profile {
            "spr" => ModelConfig::spr(0),
            "gnr" => ModelConfig::gnr(0),
            _ => return Err(TreeError::State),
        };
        Ok(config.with_faults(faults.parse().map_err(|_| TreeError::State)?))
    }
}

fn parse_client(text: &str) -> Option<(QueueId, u32)> {
    let mut words = text.split(' ');
    let id = QueueId::new(words.next()?.parse().ok()?, words.next()?.parse().ok()?);
    Some((id, words.next()?.parse().ok()?))
}

/// Gives a file that may be read-only another text, in place: who has it open reads the new one.
fn rewrite(path: &Path, text: &str) -> io::Result<()> {
    let writable = |path: &Path| OpenOptions::new().write(true).open(path);
    let mut file = writable(path).or_else(|error| {
        if error.kind() != io::ErrorKind::PermissionDenied {
            return Err(error);
        }
        fs::set_permissions(path, fs::Permissions::from_mode(0o644))?;
        let file = writable(path);
        fs::set_permissions(path, fs::Permissions::from_mode(0o444))?;
        file
    })?;
    // Longer first, then the right length: a reader in between sees too much rather than nothing.
    file.write_all(text.as_bytes())?;
    file.set_len(text.len() as u64)
}

fn save(state: &mut File, idxd: &Idxd) -> io::Result<()> {
    let text = idxd.save();
    state.rewind()?;
    state.write_all(text.as_bytes())?;
    state.set_len(text.len() as u64)
}
