//! A backup: the rows of all tables as they were at one moment, and what shows that they are all there and whose they are.
//! `docs/store.md` has the form.

use std::sync::Arc;

use futures_util::stream::BoxStream;
use prost::Message;
use sha2::{Digest, Sha256};

use super::{
    super::{
        current::{Current, Pinned},
        unreadable,
    },
    bites::bites,
    every,
};
use crate::{
    domain::Moment,
    store::{
        BACKUP_MAGIC, BackupPiece, StoreError,
        record::{
            Codec, SCHEMA_VERSION, moment,
            stored::{self, backup_piece::Piece},
        },
        seal::Purpose,
    },
};

/// About how many bytes of rows one piece has. A single row may be larger.
const PIECE_BYTES: usize = 128 * 1024;

/// One backup being made.
pub(super) struct Backup {
    transaction: Pinned,
    codec: Arc<Codec>,
    made: Moment,
    /// Of everything so far.
    digest: Sha256,
    stage: Stage,
    done: u64,
    total: u64,
}

enum Stage {
    Begin,
    /// At this table, behind this key.
    Rows(usize, Option<Vec<u8>>),
    Over,
}

impl Backup {
    pub(super) fn begin(current: &Arc<Current>, codec: Arc<Codec>, now: Moment) -> Result<Self, StoreError> {
        let transaction = current.pin().map_err(unreadable)?;
        let total = every::count(&transaction).map_err(unreadable)?;
        let (digest, stage) = (Sha256::new(), Stage::Begin);
        Ok(Self { transaction, codec, made: now, digest, stage, done: 0, total })
    }

    /// The whole of it.
    pub(super) fn pieces(self) -> BoxStream<'static, Result<BackupPiece, StoreError>> {
        bites(self, Self::next)
    }

    fn next(&mut self) -> Result<Option<BackupPiece>, StoreError> {
        let bytes = match &mut self.stage {
            Stage::Begin => {
                let begin = stored::BackupBegin {
                    made: Some(moment(self.made)),
                    schema_version: SCHEMA_VERSION,
                    rows: self.total,
                };
                self.stage = Stage::Rows(0, None);
                [BACKUP_MAGIC.as_slice(), &encoded(Piece::Begin(begin))].concat()
            }
            Stage::Rows(table, after) => {
                let Some(name) = every::names().get(*table).copied() else {
                    self.stage = Stage::Over;
                    return Ok(Some(self.end()));
                };
                let part = every::read_on(&self.transaction, name, after.as_deref(), PIECE_BYTES);
                let rows = part.map_err(unreadable)?.rows;
                let Some((last, _)) = rows.last() else {
                    self.stage = Stage::Rows(*table + 1, None);
                    return self.next();
                };
                *after = Some(last.clone());
                self.done += rows.len() as u64;
                let rows = rows.into_iter().map(|(key, value)| stored::BackupRow { key, value }).collect();
                encoded(Piece::Rows(stored::BackupRows { table: name.to_owned(), rows }))
            }
            Stage::Over => return Ok(None),
        };
        self.digest.update(&bytes);
        Ok(Some(BackupPiece { bytes, done: self.done, total: self.total }))
    }

    /// The last piece, and the digest of all that anybody can check.
    fn end(&mut self) -> BackupPiece {
        let hash = hash(&self.codec, &self.digest.clone().finalize());
        let mut bytes = encoded(Piece::End(stored::BackupEnd { hash }));
        self.digest.update(&bytes);
        bytes.extend(self.digest.clone().finalize());
        BackupPiece { bytes, done: self.done, total: self.total }
    }
}

/// What shows whose a backup is, of its digest.
pub(super) fn hash(codec: &Codec, digest: &[u8]) -> Vec<u8> {
    codec.index.hash(Purpose::Backup, &[digest]).as_bytes().to_vec()
}

fn encoded(piece: Piece) -> Vec<u8> {
    stored::BackupPiece { piece: Some(piece) }.encode_length_delimited_to_vec()
}
