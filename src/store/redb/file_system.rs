//! Where a store's file lies, and the files beside it that are to take its place: a host's file system, or in tests one that
//! loses power.

use std::{
    fmt::Debug,
    fs::{self, File, OpenOptions, Permissions, TryLockError},
    io::{self, Read},
    os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt},
    path::{Path, PathBuf},
    sync::Arc,
};

use redb::{Builder, Database, DatabaseError, StorageError, backends::FileBackend};
use rustix::{
    fs::{CWD, OFlags, RenameFlags, renameat_with},
    io::Errno,
};

/// What is secret in a store is sealed; who uses the daemon, and when, is nobody else's business either.
const MODE: u32 = 0o600;

/// Where a store lies.
#[derive(Clone, Debug)]
pub(super) struct Home {
    pub(super) files: Arc<dyn FileSystem>,
    /// The store's file.
    pub(super) path: PathBuf,
    /// Memory for cached pages, bytes.
    pub(super) cache_bytes: usize,
}

/// Which file this is, whatever it is called by then.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct FileId(pub(super) u64, pub(super) u64);

impl From<fs::Metadata> for FileId {
    fn from(metadata: fs::Metadata) -> Self {
        Self(metadata.dev(), metadata.ino())
    }
}

/// A file system, as far as a store needs one.
pub(super) trait FileSystem: Debug + Send + Sync {
    /// The path of the file itself, where links lead to it, or would lead to it if it were there.
    fn resolve(&self, path: &Path) -> io::Result<PathBuf>;

    /// Which file it is, and how long, bytes.
    fn look(&self, path: &Path) -> io::Result<(FileId, u64)>;

    /// Reads a file from its beginning.
    fn read(&self, path: &Path) -> io::Result<Box<dyn Read>>;

    /// Opens the database in a file.
    fn open(&self, path: &Path, builder: &Builder) -> Result<(Database, FileId), DatabaseError>;

    /// Makes a database in a new file. What was there goes, unless somebody has it open.
    fn create(&self, path: &Path, builder: &Builder) -> Result<(Database, FileId), DatabaseError>;

    /// Gives a file another name, at once, and the file that had it none; where it `is_free`, a file that has it by then keeps
    /// it, which is an error.
    fn rename(&self, from: &Path, to: &Path, is_free: bool) -> io::Result<()>;

    /// Removes a file, if it is there.
    fn remove(&self, path: &Path) -> io::Result<()>;

    /// Makes the names durable of the files where this one lies: before that, a power failure may bring the old ones back.
    fn sync_names(&self, path: &Path) -> io::Result<()>;

    /// Room that is left where a file lies, bytes, for who is not root; none where that is not known.
    fn free_bytes(&self, path: &Path) -> Option<u64>;
}

/// The host's.
#[derive(Debug)]
pub(super) struct HostFileSystem;

impl FileSystem for HostFileSystem {
    fn resolve(&self, path: &Path) -> io::Result<PathBuf> {
        let not_there = match path.canonicalize() {
            Err(error) if error.kind() == io::ErrorKind::NotFound => error,
            resolved => return resolved,
        };
        match path.read_link() {
            Ok(target) => self.resolve(&folder(path).join(target)),
            Err(_) => Ok(folder(path).canonicalize()?.join(path.file_name().ok_or(not_there)?)),
        }
    }

    fn look(&self, path: &Path) -> io::Result<(FileId, u64)> {
        let metadata = path.metadata()?;
        let length = metadata.len();
        Ok((metadata.into(), length))
    }

    fn read(&self, path: &Path) -> io::Result<Box<dyn Read>> {
        Ok(Box::new(File::open(path)?))
    }

    fn open(&self, path: &Path, builder: &Builder) -> Result<(Database, FileId), DatabaseError> {
        database(private().open(path).map_err(StorageError::Io)?, builder)
    }

    fn create(&self, path: &Path, builder: &Builder) -> Result<(Database, FileId), DatabaseError> {
        let no_link = i32::try_from(OFlags::NOFOLLOW.bits()).unwrap_or_default();
        let file = private().create(true).truncate(false).custom_flags(no_link).open(path);
        let file = file.map_err(StorageError::Io)?;
        match file.try_lock() {
            Ok(()) => {}
            // As redb locks what it opens.
            Err(TryLockError::WouldBlock) => return Err(DatabaseError::DatabaseAlreadyOpen),
            Err(TryLockError::Error(error)) => return Err(StorageError::Io(error).into()),
        }
        // Whoever had it may have given it its other name just now: what it is called is looked at before it is emptied.
        let own = file.metadata().map_err(StorageError::Io)?.into();
        if !self.look(path).is_ok_and(|(id, _)| id == own) {
            return Err(DatabaseError::DatabaseAlreadyOpen);
        }
        file.set_permissions(Permissions::from_mode(MODE)).map_err(StorageError::Io)?;
        file.set_len(0).map_err(StorageError::Io)?;
        database(file, builder)
    }

    fn rename(&self, from: &Path, to: &Path, is_free: bool) -> io::Result<()> {
        if is_free {
            match renameat_with(CWD, from, CWD, to, RenameFlags::NOREPLACE) {
                // Not every file system knows that; who asks has looked just now.
                Err(Errno::INVAL | Errno::NOSYS) => {}
                renamed => return Ok(renamed?),
            }
        }
        fs::rename(from, to)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        match fs::remove_file(path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            Ok(()) | Err(_) => Ok(()),
        }
    }

    fn sync_names(&self, path: &Path) -> io::Result<()> {
        File::open(folder(path))?.sync_all()
    }

    fn free_bytes(&self, path: &Path) -> Option<u64> {
        let system = rustix::fs::statvfs(path).ok()?;
        system.f_bavail.checked_mul(system.f_frsize)
    }
}

/// Where a file lies.
pub(super) fn folder(path: &Path) -> &Path {
    path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

fn database(file: File, builder: &Builder) -> Result<(Database, FileId), DatabaseError> {
    let id = file.metadata().map_err(StorageError::Io)?.into();
    Ok((builder.create_with_backend(FileBackend::new(file)?)?, id))
}

fn private() -> OpenOptions {
    let mut options = OpenOptions::new();
    options.read(true).write(true).mode(MODE);
    options
}
