//! A look at everything that is kept: whether each row opens, and whether what belongs together agrees.
//!
//! Each bite is looked at as it is at one moment, so that no fact that comes about meanwhile can look like damage: a fact is
//! there as a whole, or not at all. Only what is counted has to be held against all sessions at once.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use futures_util::stream::BoxStream;
use redb::{ReadTransaction, ReadableDatabase, ReadableTable, Value};

use super::{
    super::{
        counts::rows_of,
        current::Current,
        sound::{is_damage, soundly},
        tables::{InboxSpan, SESSIONS_TABLE, event_key, read_event_key},
        unreadable,
    },
    bites::bites,
    every::{self, Part},
};
use crate::{
    domain::{ClientName, Moment, SESSION_LIFE, Session, SessionId, Timestamp, millis},
    store::{
        Checked, StoreError,
        record::{
            BUDGETS, CODES, CONSUMERS, Codec, DIGESTS, EVENTS, EventRow, INBOX_SPANS, PROVIDER_SESSIONS,
            REQUESTS, REVOCATIONS, SESSION_COUNTS, SESSIONS, decode_budget, decode_consumer, decode_digest,
            decode_link, gist,
        },
    },
};

/// Bytes of rows that are looked at at a time.
const BITE_BYTES: usize = 256 * 1024;
/// Most problems that are told one by one: a file that is damaged all over has millions.
const MOST_TOLD: usize = 1000;
/// How much older a session may be than what is swept: the sweep comes round, and clocks differ.
const SPARE: Duration = Duration::from_secs(600);

/// One look at everything.
pub(super) struct Check {
    current: Arc<Current>,
    codec: Arc<Codec>,
    /// The table that it is at, and the key behind which to go on; none once the end was told.
    place: Option<(usize, Option<Vec<u8>>)>,
    checked: u64,
    total: u64,
    told: usize,
    /// Whether it was told that there is more than is told.
    is_cut: bool,
    /// Sessions of before then are swept, whether all that belonged to them is or not.
    swept: Timestamp,
}

/// What a bite is looked at in.
struct Look<'a> {
    transaction: &'a ReadTransaction,
    codec: &'a Codec,
    swept: Timestamp,
}

impl Check {
    pub(super) fn begin(
        current: &Arc<Current>,
        codec: Arc<Codec>,
        now: Moment,
        retention: Duration,
    ) -> Result<Self, StoreError> {
        let database = current.get();
        let total = every::count(&database.begin_read().map_err(unreadable)?).map_err(unreadable)?;
        let kept = millis(SESSION_LIFE + retention + SPARE);
        Ok(Self {
            current: Arc::clone(current),
            codec,
            place: Some((0, None)),
            checked: 0,
            total,
            told: 0,
            is_cut: false,
            swept: Timestamp::from_millis(now.wall.as_millis().saturating_sub(kept)),
        })
    }

    /// The whole of it, a part at a time.
    pub(super) fn parts(self) -> BoxStream<'static, Result<Checked, StoreError>> {
        bites(self, Self::next)
    }

    fn next(&mut self) -> Result<Option<Checked>, StoreError> {
        let Some((table, after)) = self.place.take() else { return Ok(None) };
        let Some(name) = every::names().get(table).copied() else {
            let pinned = self.current.pin().map_err(unreadable)?;
            let problems = match soundly(|| miscounted(&pinned)) {
                Ok(Err(StoreError::Corrupt(what))) | Err(what) => {
                    vec![format!("{SESSION_COUNTS}: {what}; what they count cannot be read")]
                }
                Ok(problems) => problems?,
            };
            // Rows have come and gone meanwhile.
            self.total = self.checked;
            return Ok(Some(self.tell(problems)));
        };
        let database = self.current.get();
        let transaction = database.begin_read().map_err(unreadable)?;
        let mut problems = Vec::new();
        let read = soundly(|| every::read_on(&transaction, name, after.as_deref(), BITE_BYTES));
        let Part { rows, is_last } = match read.unwrap_or_else(|what| Err(redb::Error::Corrupted(what))) {
            Ok(part) => part,
            Err(error) if is_damage(&error) => {
                problems.push(format!("{name}: {error}; the rest of the table cannot be read"));
                Part { rows: Vec::new(), is_last: true }
            }
            Err(error) => return Err(unreadable(error)),
        };
        let look = Look { transaction: &transaction, codec: &self.codec, swept: self.swept };
        for (key, value) in &rows {
            self.checked += 1;
            // What it looks up beside the row may be damaged, too.
            match soundly(|| look.at(name, key, value)) {
                Ok(Ok(Ok(()))) => {}
                Ok(Ok(Err(problem))) => problems.push(problem),
                Ok(Err(StoreError::Corrupt(what))) | Err(what) => {
                    problems.push(format!("{name} {}: {what}", hex(key)));
                }
                Ok(Err(error)) => return Err(error),
            }
        }
        self.total = self.total.max(self.checked);
        self.place = Some(match rows.into_iter().last().filter(|_| !is_last) {
            Some((last, _)) => (table, Some(last)),
            None => (table + 1, None),
        });
        Ok(Some(self.tell(problems)))
    }

    fn tell(&mut self, mut problems: Vec<String>) -> Checked {
        let untold = problems.len().saturating_sub(MOST_TOLD.saturating_sub(self.told));
        problems.truncate(problems.len() - untold);
        self.told += problems.len();
        if untold > 0 && !std::mem::replace(&mut self.is_cut, true) {
            problems.push("and more: the first thousand are told".to_owned());
        }
        Checked { checked: self.checked, total: self.total, problems }
    }
}

impl Look<'_> {
    /// What is wrong with a row, if anything.
    fn at(&self, table: &str, key: &[u8], value: &[u8]) -> Result<Result<(), String>, StoreError> {
        let opened = match table {
            SESSIONS => return self.session(key, value),
            CODES => return self.belongs(table, key, value),
            REQUESTS => sized(table, key, |key| self.codec.request(key, value)).map(|row| Some(row.session)),
            PROVIDER_SESSIONS => {
                sized(table, key, |key| decode_link(key, value)).map(|row| Some(row.session))
            }
            REVOCATIONS => sized(table, key, |key| self.codec.revocation(SessionId::from_bytes(*key), value))
                .map(|_| None),
            BUDGETS => sized(table, key, |key| decode_budget(key, value)).map(|_| None),
            DIGESTS => sized(table, key, |key| decode_digest(key, value)).map(|_| None),
            CONSUMERS => decode_consumer(key, value).map(|_| None),
            EVENTS => self.event(key, value).map(|()| None),
            INBOX_SPANS => return self.inbox(key, value),
            _ => Ok(None),
        };
        match opened {
            Ok(Some(session)) => self.belongs(table, key, session.as_bytes()),
            Ok(None) => Ok(Ok(())),
            Err(error) => Ok(Err(words(error))),
        }
    }

    fn session(&self, key: &[u8], value: &[u8]) -> Result<Result<(), String>, StoreError> {
        let opened = sized(SESSIONS, key, |key| self.codec.session(SessionId::from_bytes(*key), value));
        let Session { spent, .. } = match opened {
            Ok(stored) => stored.session,
            Err(error) => return Ok(Err(words(error))),
        };
        let Some(spent) = spent.filter(|spent| !spent.is_error) else { return Ok(Ok(())) };
        let marker = self.row(CODES, spent.callback.as_bytes())?;
        Ok(if marker.as_deref() == Some(key) {
            Ok(())
        } else {
            Err(format!("{SESSIONS} {}: its code is not marked as used", hex(key)))
        })
    }

    /// What belongs to a session goes with it, but for one that did not open when it was swept: what is left of that is of no
    /// use, and no harm.
    fn belongs(&self, table: &str, key: &[u8], session: &[u8]) -> Result<Result<(), String>, StoreError> {
        let started = session.try_into().map(|id| SessionId::from_bytes(id).time());
        let is_left_over = started.is_ok_and(|started| started < self.swept);
        Ok(match self.row(SESSIONS, session)? {
            Some(_) => Ok(()),
            None if is_left_over => Ok(()),
            None => Err(format!("{table} {}: its session {} is not there", hex(key), hex(session))),
        })
    }

    fn event(&self, key: &[u8], value: &[u8]) -> Result<(), StoreError> {
        let Some((client, sequence)) = read_event_key(key) else {
            return Err(StoreError::Corrupt(format!("{EVENTS} {}: not the key of an event", hex(key))));
        };
        match self.codec.event_row(key, &client, sequence, value)? {
            EventRow::Kept(kept) => self.codec.opened(key, *kept).map(drop),
            EventRow::ToldAnew { .. } => Ok(()),
        }
    }

    /// The first and the last place of an inbox are there, unless it is empty.
    fn inbox(&self, key: &[u8], value: &[u8]) -> Result<Result<(), String>, StoreError> {
        let name = String::from_utf8_lossy(key).into_owned();
        let (oldest, newest, ..) = <InboxSpan as Value>::from_bytes(value);
        let Ok(client) = ClientName::parse(&name) else {
            return Ok(Err(format!("{INBOX_SPANS} {}: not the name of a client", hex(key))));
        };
        for sequence in [oldest, newest].into_iter().filter(|_| oldest <= newest) {
            if self.row(EVENTS, &event_key(&client, sequence))?.is_none() {
                return Ok(Err(format!("{INBOX_SPANS} {name}: event {sequence} is not there")));
            }
        }
        Ok(Ok(()))
    }

    fn row(&self, table: &str, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError> {
        every::get(self.transaction, table, key).map_err(look_error)
    }
}

/// What is counted of sessions, beside what there is: each counts as it was when it was written, whether it opens or not.
fn miscounted(transaction: &ReadTransaction) -> Result<Vec<String>, StoreError> {
    let mut there: BTreeMap<Vec<u8>, u64> = BTreeMap::new();
    let sessions = transaction.open_table(SESSIONS_TABLE).map_err(look_error)?;
    for row in sessions.iter().map_err(look_error)? {
        let (_, record) = row.map_err(look_error)?;
        for row in gist(record.value()).iter().flat_map(|(caller, status)| rows_of(caller, *status)) {
            *there.entry(row.into_bytes()).or_default() += 1;
        }
    }
    let counted = every::read_on(transaction, SESSION_COUNTS, None, usize::MAX).map_err(look_error)?;
    let counted: BTreeMap<_, _> =
        counted.rows.into_iter().map(|(row, count)| (row, <u64 as Value>::from_bytes(&count))).collect();
    let rows = there.keys().chain(counted.keys().filter(|row| !there.contains_key(*row)));
    let wrong = rows.filter_map(|row| {
        let of = |counts: &BTreeMap<Vec<u8>, u64>| counts.get(row).copied().unwrap_or_default();
        let (there, counted) = (of(&there), of(&counted));
        let name = String::from_utf8_lossy(row).replace('\0', "");
        let what = if name.is_empty() { "open".to_owned() } else { name };
        (there != counted).then(|| format!("{SESSION_COUNTS} {what}: {counted} counted, {there} there"))
    });
    Ok(wrong.collect())
}

/// Reads a row whose key is of a fixed size.
fn sized<const N: usize, T>(
    table: &str,
    key: &[u8],
    read: impl FnOnce(&[u8; N]) -> Result<T, StoreError>,
) -> Result<T, StoreError> {
    match key.try_into() {
        Ok(key) => read(key),
        Err(_) => Err(StoreError::Corrupt(format!("{table} {}: a key of the wrong length", hex(key)))),
    }
}

/// What a look comes upon: damage is what it looks for.
fn look_error(error: impl Into<redb::Error>) -> StoreError {
    let error = error.into();
    if is_damage(&error) { StoreError::Corrupt(error.to_string()) } else { unreadable(error) }
}

fn hex(key: &[u8]) -> String {
    data_encoding::HEXLOWER.encode(key)
}

/// A damaged record's own words name it, without the error's.
fn words(error: StoreError) -> String {
    match error {
        StoreError::Corrupt(what) => what,
        StoreError::Refused(_)
        | StoreError::BudgetSpent(_)
        | StoreError::Overloaded
        | StoreError::Unavailable(_) => error.to_string(),
    }
}
