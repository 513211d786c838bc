//! Where a store's file lies, and the files beside it that are to take its place: a host's file system, or in tests one that
//! loses power.

use std::{
    fmt::Debug,
    fs::{self, File, OpenOptions, TryLockError},
    io::{self, Read},
    os::unix::fs::{MetadataExt, OpenOptionsExt},
    path::{Path, PathBuf},
    sync::Arc,
};

use redb::{Builder, Database, DatabaseError, StorageError, backends::FileBackend};

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
    /// The path of the file itself, where links lead to it.
    fn resolve(&self, path: &Path) -> io::Result<PathBuf>;

    /// Which file it is, and how long, bytes.
    fn look(&self, path: &Path) -> io::Result<(FileId, u64)>;

    /// Reads a file from its beginning.
    fn read(&self, path: &Path) -> io::Result<Box<dyn Read>>;

    /// Opens the database in a file; both are made where there is none.
    fn open(&self, path: &Path, builder: &Builder) -> Result<(Database, FileId), DatabaseError>;

    /// Makes a new file with a database in it. What was there goes, unless somebody has it open.
    fn create(&self, path: &Path, builder: &Builder) -> Result<Database, DatabaseError>;

    /// Gives a file another name, at once, and the file that had it none.
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;

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
        path.canonicalize()
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
        let file = private().create(true).truncate(false).open(path).map_err(StorageError::Io)?;
        let id = FileId::from(file.metadata().map_err(StorageError::Io)?);
        Ok((builder.create_with_backend(FileBackend::new(file)?)?, id))
    }

    fn create(&self, path: &Path, builder: &Builder) -> Result<Database, DatabaseError> {
        // Whoever works on it has it locked, as redb locks what it opens.
        if let Ok(left) = File::open(path)
            && let Err(TryLockError::WouldBlock) = left.try_lock()
        {
            return Err(DatabaseError::DatabaseAlreadyOpen);
        }
        self.remove(path).map_err(StorageError::Io)?;
        let file = private().create_new(true).open(path).map_err(StorageError::Io)?;
        builder.create_with_backend(FileBackend::new(file)?)
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        fs::rename(from, to)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        match fs::remove_file(path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            Ok(()) | Err(_) => Ok(()),
        }
    }

    fn sync_names(&self, path: &Path) -> io::Result<()> {
        let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
        File::open(folder.unwrap_or(Path::new(".")))?.sync_all()
    }

    fn free_bytes(&self, path: &Path) -> Option<u64> {
        let system = rustix::fs::statvfs(path).ok()?;
        system.f_bavail.checked_mul(system.f_frsize)
    }
}

/// What is secret in a store is sealed; who uses the daemon, and when, is nobody else's business either.
fn private() -> OpenOptions {
    let mut options = OpenOptions::new();
    options.read(true).write(true).mode(0o600);
    options
}
