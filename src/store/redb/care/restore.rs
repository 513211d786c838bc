//! Restoring: a backup that stands in the store's place becomes a store.
//!
//! It is read into a new file beside it, which takes its place when everything in it has proved to be whole and the store's
//! own. Cut off before that, it begins anew.

use std::{
    io::{self, BufReader, Read},
    ops::Bound,
};

use prost::Message;
use redb::{Database, ReadableTable};
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;

use super::{
    super::{
        budgets,
        file_system::Home,
        open::{self, EPOCH_ROW, OpenError, Opened, Opening},
        revocations::put_revocation,
        sessions::{forget_state, log_damage},
        tables::{Change, OperationError, Outcome, Tables, database, put_session},
    },
    backup,
    beside::{self, Beside, CopyError},
};
use crate::{
    domain::{Moment, RunId, SessionId},
    store::{
        BACKUP_MAGIC, BACKUP_OF_ANY_VERSION, KeyRing,
        record::{
            Codec, SCHEMA_VERSION, read_moment,
            stored::{self, backup_piece::Piece},
        },
    },
};

/// What the new file is called behind the store's name.
pub(super) const KIND: &str = ".restoring";
/// Room that is left alone while it is made, bytes: nobody else writes to the store meanwhile.
const LEFT_ALONE: u64 = 16 << 20;
/// Longest piece that is read, bytes: several times what is written, since one row may be larger than what is aimed at.
const MAX_PIECE: usize = 1 << 20;
/// Bytes of rows in one transaction, and sessions that are ended in one.
const BATCH: u64 = 8 << 20;
const ENDED_AT_ONCE: usize = 4096;

/// Whether a file is a backup, of this version or another.
pub(in crate::store::redb) fn is_backup(home: &Home) -> io::Result<bool> {
    let mut start = Vec::new();
    home.files.read(&home.path)?.take(BACKUP_OF_ANY_VERSION.len() as u64).read_to_end(&mut start)?;
    Ok(start == BACKUP_OF_ANY_VERSION)
}

/// Makes a store of the backup that stands in its place, for a run that begins now.
pub(in crate::store::redb) fn restore(
    home: &Home,
    keys: KeyRing,
    (now, run): (Moment, RunId),
    tell: impl Fn(Opening),
) -> Result<Opened, OpenError> {
    let shown = home.path.display().to_string();
    let io = |error: &dyn ToString| OpenError::Io { path: shown.clone(), what: error.to_string() };
    let bad = |what: &str| OpenError::BadBackup { path: shown.clone(), what: what.to_owned() };
    let explain = |error| match error {
        RestoreError::Bad(what) => bad(&what),
        RestoreError::NewerSchema(found) => OpenError::NewerSchema { path: shown.clone(), found },
        RestoreError::Copy(CopyError::Database(redb::Error::DatabaseAlreadyOpen) | CopyError::Replaced) => {
            OpenError::InUse { path: shown.clone() }
        }
        RestoreError::Copy(CopyError::Database(redb::Error::Io(error)))
            if error.kind() == io::ErrorKind::PermissionDenied =>
        {
            open::explain(&shown, error)
        }
        RestoreError::Copy(error) => io(&error),
    };
    let (backup, _) = home.files.look(&home.path).map_err(|error| io(&error))?;
    let created = Beside::create(home, KIND, LEFT_ALONE);
    let (mut beside, database) = created.map_err(|error| explain(error.into()))?;
    let read = read_all(home, &beside, &database, &tell).map_err(explain)?;
    let mut opened = open::prepare(database, keys, (now, run), &shown, &tell)?;
    let is_ours = backup::hash(&opened.codec, &read.digest).ct_eq(&read.hash);
    if !bool::from(is_ours) {
        return Err(bad("it was changed, or is of another store"));
    }
    let ended = end_sessions(&opened.database, &opened.codec, read.made, (now, run));
    let begun = ended.and_then(|ended| Ok((ended, begin_anew(&opened.database, now)?)));
    let (ended, epoch) = begun.map_err(|error| io(&error))?;
    opened.epoch = epoch;
    opened.file = Some(beside.take_place(Some(backup)).map_err(|error| explain(error.into()))?);
    beside.sync_name().map_err(|error| io(&error))?;
    let made = open::shown(read.made.wall);
    tracing::warn!(
        path = shown,
        made,
        ended,
        "restored a backup: sessions that had not ended in it are INDETERMINATE"
    );
    Ok(opened)
}

enum RestoreError {
    /// It is not what was written.
    Bad(String),
    /// A newer program wrote it.
    NewerSchema(u32),
    /// The new file.
    Copy(CopyError),
}

impl From<CopyError> for RestoreError {
    fn from(error: CopyError) -> Self {
        match error {
            CopyError::Misfit(_) => Self::Bad(format!("it holds {error}")),
            CopyError::NoRoom { .. } | CopyError::Replaced | CopyError::Database(_) => Self::Copy(error),
        }
    }
}

impl From<io::Error> for RestoreError {
    fn from(error: io::Error) -> Self {
        Self::Copy(error.into())
    }
}

fn bad(what: impl Into<String>) -> RestoreError {
    RestoreError::Bad(what.into())
}

/// What a backup says of itself.
struct Said {
    made: Moment,
    /// SHA-256 of everything before the last piece, and what shows whose it is.
    digest: [u8; 32],
    hash: Vec<u8>,
}

/// Reads a backup into the new file: all of it, or an error.
fn read_all(
    home: &Home,
    beside: &Beside,
    database: &Database,
    tell: &impl Fn(Opening),
) -> Result<Said, RestoreError> {
    let (_, size) = home.files.look(&home.path)?;
    let file = home.files.read(&home.path)?;
    let mut reader = Pieces { file: BufReader::new(file), digest: Sha256::new(), read: 0 };
    if reader.bytes(BACKUP_MAGIC.len())? != BACKUP_MAGIC {
        return Err(bad("it is of another version of cairld"));
    }
    let Some(Piece::Begin(begin)) = reader.piece()? else { return Err(bad("it has no beginning")) };
    if begin.schema_version > SCHEMA_VERSION {
        return Err(RestoreError::NewerSchema(begin.schema_version));
    }
    let made = read_moment(begin.made).map_err(|_| bad("it does not say when it was made"))?;
    tell(Opening::Restoring { percent: 0 });
    let (mut batch, mut written, mut rows, mut told) = (Vec::new(), reader.read, 0, 0);
    loop {
        let digest = reader.digest.clone();
        match reader.piece()? {
            Some(Piece::Rows(piece)) => {
                rows += piece.rows.len() as u64;
                batch.push(piece);
                // By what was read, whatever it says: what is in hand is bounded.
                if reader.read - written >= BATCH {
                    write(beside, database, &mut batch)?;
                    written = reader.read;
                    let percent = u8::try_from(reader.read * 100 / size.max(1)).unwrap_or(100);
                    if std::mem::replace(&mut told, percent) < percent {
                        tell(Opening::Restoring { percent });
                    }
                }
            }
            Some(Piece::End(end)) => {
                write(beside, database, &mut batch)?;
                let whole: [u8; 32] = reader.digest.clone().finalize().into();
                if reader.bytes(whole.len())? != whole || reader.is_more()? {
                    return Err(bad("it is not what was written"));
                }
                if rows != begin.rows {
                    return Err(bad("rows are missing"));
                }
                return Ok(Said { made, digest: digest.finalize().into(), hash: end.hash });
            }
            Some(Piece::Begin(_)) | None => return Err(bad("it holds what no backup has")),
        }
    }
}

fn write(beside: &Beside, database: &Database, batch: &mut Vec<stored::BackupRows>) -> Result<(), CopyError> {
    let rows = batch.iter().flat_map(|piece| &piece.rows);
    // Rows come in their order, so that pages are filled one after the other.
    beside.has_room_for(0, rows.map(|row| row.key.len() + row.value.len()).sum())?;
    let transaction = database.begin_write().map_err(redb::Error::from)?;
    for piece in batch.drain(..) {
        let rows = piece.rows.into_iter().map(|row| (row.key, Some(row.value))).collect();
        beside::put(&transaction, &piece.table, &rows)?;
    }
    Ok(transaction.commit().map_err(redb::Error::from)?)
}

/// Reads a backup, and keeps the digest of what it read.
struct Pieces<R> {
    file: BufReader<R>,
    digest: Sha256,
    read: u64,
}

impl<R: Read> Pieces<R> {
    fn bytes(&mut self, count: usize) -> Result<Vec<u8>, RestoreError> {
        let mut bytes = Vec::new();
        self.file.by_ref().take(count as u64).read_to_end(&mut bytes)?;
        if bytes.len() < count {
            return Err(bad("it is cut short"));
        }
        self.digest.update(&bytes);
        self.read += bytes.len() as u64;
        Ok(bytes)
    }

    fn piece(&mut self) -> Result<Option<Piece>, RestoreError> {
        let mut length = Vec::new();
        while length.last().is_none_or(|byte| byte & 0x80 != 0) && length.len() < 10 {
            length.extend(self.bytes(1)?);
        }
        let length = prost::decode_length_delimiter(length.as_slice()).ok();
        let Some(length) = length.filter(|length| *length <= MAX_PIECE) else {
            return Err(bad("it is not what was written"));
        };
        let piece = stored::BackupPiece::decode(self.bytes(length)?.as_slice());
        Ok(piece.map_err(|_| bad("it is not what was written"))?.piece)
    }

    fn is_more(&mut self) -> Result<bool, RestoreError> {
        let mut byte = [0];
        Ok(self.file.read(&mut byte)? > 0)
    }
}

/// Ends what had not ended when the backup was made; answers how many sessions that were.
fn end_sessions(
    store: &Database,
    codec: &Codec,
    made: Moment,
    (now, run): (Moment, RunId),
) -> Result<u64, redb::Error> {
    let (mut all, mut after) = (0, Bound::Unbounded);
    loop {
        let mut transaction = store.begin_write()?;
        transaction.set_quick_repair(true);
        {
            let mut tables = Tables::open(&transaction)?;
            let ((ended, last), changes) = settled(end_some(&tables, codec, made, (now, run), after))?;
            for change in changes {
                tables.apply(change)?;
            }
            tables.finish()?;
            all += ended;
            after = match last {
                Some(last) => Bound::Excluded(last),
                None => Bound::Unbounded,
            };
        }
        transaction.commit()?;
        if after == Bound::Unbounded {
            return Ok(all);
        }
    }
}

/// Some more sessions behind a place: how many of them have ended, and the place of the last; none when all are done.
fn end_some(
    tables: &Tables<'_>,
    codec: &Codec,
    made: Moment,
    (now, run): (Moment, RunId),
    after: Bound<[u8; 16]>,
) -> Outcome<(u64, Option<[u8; 16]>)> {
    let (mut changes, mut ended) = (Vec::new(), 0);
    let range = tables.sessions.range::<[u8; 16]>((after, Bound::Unbounded)).map_err(database)?;
    for (count, row) in range.enumerate() {
        let (id, record) = row.map_err(database)?;
        let id = id.value();
        if let Ok(mut stored) = codec.session(SessionId::from_bytes(id), record.value()).map_err(log_damage) {
            let was_open = stored.session.ended().is_none();
            let (is_changed, revocation) = stored.session.restored(made, now, run);
            if is_changed {
                ended += u64::from(was_open);
                changes.push(put_session(codec, &stored)?);
                changes.extend(forget_state(tables, codec, &stored)?);
            }
            if let Some(revocation) = revocation {
                changes.push(put_revocation(codec, &revocation)?);
            }
        }
        if count + 1 == ENDED_AT_ONCE {
            return Ok(((ended, Some(id)), changes));
        }
    }
    Ok(((ended, None), changes))
}

/// What no operation refuses here but for want of randomness.
fn settled<T>(outcome: Outcome<T>) -> Result<(T, Vec<Change>), redb::Error> {
    outcome.map_err(|error| match error {
        OperationError::Database(error) => error.into(),
        OperationError::Refused(error) => redb::Error::Io(io::Error::other(error)),
    })
}

/// What was done since the backup was made is not known: nothing is sent for as long as that can matter, and places of events
/// that were told since are none. Answers the epoch of those that will be.
fn begin_anew(store: &Database, now: Moment) -> Result<u32, redb::Error> {
    let mut random = [0; 4];
    getrandom::fill(&mut random).map_err(|error| redb::Error::Io(io::Error::other(error)))?;
    let mut transaction = store.begin_write()?;
    transaction.set_quick_repair(true);
    {
        let mut tables = Tables::open(&transaction)?;
        for change in budgets::restored(&tables, now)? {
            tables.apply(change)?;
        }
        tables.apply(Change::PutMeta(EPOCH_ROW, random.to_vec()))?;
    }
    transaction.commit()?;
    Ok(u32::from_be_bytes(random))
}
