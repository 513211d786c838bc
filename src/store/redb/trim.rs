//! Trimming inboxes: what is kept long enough goes, oldest first, in bites.

use std::collections::{BTreeMap, BTreeSet};

use redb::{Database, ReadableDatabase, ReadableTable, StorageError, TableError};

use super::{
    super::{
        EventLimits, StoreError, Trimmed,
        record::{Codec, EventRow, Kept, decode_digest},
    },
    consumers,
    inbox::{span, spans},
    sessions::{log_damage, provider_session_key},
    tables::{
        Change, DIGESTS_TABLE, InboxSpan, OperationError, Outcome, Tables, database, event_key,
        session_event_key,
    },
    unreadable,
};
use crate::domain::{CallerName, ClientName, Moment};

/// Most events that one bite removes from an inbox, and most digests that it looks at.
const BITE: u64 = 64;
const DIGESTS_LOOKED_AT: usize = 256;
/// Most rows of unknown age that are passed over to find one whose age is known.
const MOST_PASSED_OVER: usize = 256;

/// Whether any inbox has something to trim, seen from outside the writer. Spares it the question.
pub(super) fn is_due(
    store: &Database,
    codec: &Codec,
    now: Moment,
    limits: &EventLimits,
) -> Result<bool, StoreError> {
    let transaction = store.begin_read().map_err(unreadable)?;
    for (client, (oldest, newest, bytes, _)) in spans(store).map_err(unreadable)? {
        if bytes > limits.bytes {
            return Ok(true);
        }
        if oldest > newest {
            continue;
        }
        let events = transaction.open_table(super::tables::EVENTS_TABLE).map_err(unreadable)?;
        let is_there = events.get(event_key(&client, oldest).as_slice()).map_err(unreadable)?.is_some();
        let age = Age { codec, client: &client, now, limits };
        if !is_there || age.is_over_from(&events, oldest).map_err(unreadable)? {
            return Ok(true);
        }
    }
    Ok(false)
}

/// One bite from each inbox.
pub(super) fn apply(
    tables: &Tables<'_>,
    codec: &Codec,
    now: Moment,
    limits: &EventLimits,
    readers: &BTreeMap<ClientName, BTreeSet<CallerName>>,
) -> Outcome<Trimmed> {
    let (mut trimmed, mut changes) = (Trimmed::default(), Vec::new());
    let mut names = Vec::new();
    for row in tables.inboxes.iter().map_err(database)? {
        let (name, _) = row.map_err(database)?;
        names.extend(std::str::from_utf8(name.value()).ok().and_then(|name| ClientName::parse(name).ok()));
    }
    for client in names {
        let done = consumers::least_done(tables, &client, readers)?;
        let inbox = Inbox { tables, codec, now, limits, client, done };
        changes.extend(inbox.trim(&mut trimmed)?);
    }
    Ok((trimmed, changes))
}

struct Inbox<'a> {
    tables: &'a Tables<'a>,
    codec: &'a Codec,
    now: Moment,
    limits: &'a EventLimits,
    client: ClientName,
    /// Up to where the slowest consumer is done; none where there is no consumer.
    done: Option<u64>,
}

impl Inbox<'_> {
    fn trim(&self, trimmed: &mut Trimmed) -> Result<Vec<Change>, OperationError> {
        let mut changes = Vec::new();
        let before = span(&self.tables.inboxes, &self.client).map_err(database)?;
        let (mut oldest, newest, mut bytes, mut events): InboxSpan = before;
        let age = Age { codec: self.codec, client: &self.client, now: self.now, limits: self.limits };
        for _ in 0..BITE {
            if oldest > newest {
                break;
            }
            let key = event_key(&self.client, oldest);
            let Some(row) = self.tables.events.get(key.as_slice()).map_err(database)? else {
                oldest += 1;
                continue;
            };
            let is_over_size = bytes > self.limits.bytes;
            let row = row.value();
            let parsed = self.codec.event_row(&key, &self.client, oldest, row);
            // What is told anew is unread until it was read there.
            let last_place = match &parsed {
                Ok(EventRow::Kept(kept)) => kept.told_anew_at.max(oldest),
                Ok(EventRow::ToldAnew { .. }) | Err(_) => oldest,
            };
            let is_unread = self.done.is_some_and(|done| done < last_place);
            let is_old = || match age.is_over(&parsed) {
                Some(is_over) => Ok(is_over),
                None => age.is_over_from(&self.tables.events, oldest + 1).map_err(database),
            };
            if !is_over_size && !is_old()? {
                break;
            }
            if is_unread && bytes <= self.limits.unread_bytes {
                break;
            }
            // One that only told another anew is no event; one that does not open was.
            let is_event = !matches!(parsed, Ok(EventRow::ToldAnew { .. }));
            if let Ok(EventRow::Kept(kept)) = parsed.map_err(log_damage) {
                changes.extend(self.belongings(&kept));
            }
            trimmed.removed += u64::from(is_event);
            trimmed.unread += u64::from(is_event && is_unread);
            events -= u64::from(is_event).min(events);
            bytes = bytes.saturating_sub(row.len() as u64);
            changes.push(Change::RemoveEvent(key));
            oldest += 1;
        }
        if oldest != before.0 {
            trimmed.more = true;
            changes.push(Change::PutInbox(self.client.clone(), (oldest, newest, bytes, events)));
        }
        Ok(changes)
    }

    /// The removal of all rows that belong to an event, but for what proves that it was received.
    fn belongings(&self, kept: &Kept) -> Vec<Change> {
        let mut changes: Vec<_> = kept.inner_id.map(Change::RemoveInnerId).into_iter().collect();
        if let Some(provider_session) = &kept.event.provider_session {
            let key = provider_session_key(self.codec, &self.client, provider_session);
            changes.push(Change::RemoveSessionEvent(session_event_key(&key, kept.event.sequence)));
        }
        changes
    }
}

/// Tells whether the retention of a client's events is over.
struct Age<'a> {
    codec: &'a Codec,
    client: &'a ClientName,
    now: Moment,
    limits: &'a EventLimits,
}

impl Age<'_> {
    /// Of a row; none where nobody knows: it does not open, or was received in the future, when a clock was wrong.
    fn is_over(&self, row: &Result<EventRow, StoreError>) -> Option<bool> {
        let since = match row {
            Ok(EventRow::Kept(kept)) => kept.event.received,
            Ok(EventRow::ToldAnew { since, .. }) => *since,
            Err(_) => return None,
        };
        since.age(self.now).ok().map(|age| age >= self.limits.retention)
    }

    /// Of the first row from a place on of which it is known: what came before that one is at least as old.
    fn is_over_from(
        &self,
        events: &impl ReadableTable<&'static [u8], &'static [u8]>,
        sequence: u64,
    ) -> Result<bool, StorageError> {
        let (first, last) = (event_key(self.client, sequence), event_key(self.client, u64::MAX));
        for row in events.range(first.as_slice()..=last.as_slice())?.take(MOST_PASSED_OVER) {
            let (key, row) = row?;
            let sequence = u64::from_be_bytes(key.value().last_chunk().copied().unwrap_or_default());
            let row = self.codec.event_row(key.value(), self.client, sequence, row.value());
            if let Some(is_over) = self.is_over(&row) {
                return Ok(is_over);
            }
        }
        Ok(false)
    }
}

/// Digests behind `progress` that prove nothing any more: no secret is in force that could sign their webhook again, and
/// their retention is over.
pub(super) fn find_digests(
    store: &Database,
    progress: &mut Option<[u8; 32]>,
    now: Moment,
    limits: &EventLimits,
    in_force: &[[u8; 32]],
) -> Result<Vec<[u8; 32]>, StoreError> {
    let transaction = store.begin_read().map_err(unreadable)?;
    let digests = match transaction.open_table(DIGESTS_TABLE) {
        Err(TableError::TableDoesNotExist(_)) => return Ok(Vec::new()),
        opened => opened.map_err(unreadable)?,
    };
    let from = progress.map_or(std::ops::Bound::Unbounded, std::ops::Bound::Excluded);
    let mut found = Vec::new();
    let mut last = None;
    let range = digests.range::<[u8; 32]>((from, std::ops::Bound::Unbounded)).map_err(unreadable)?;
    for row in range.take(DIGESTS_LOOKED_AT) {
        let (key, row) = row.map_err(unreadable)?;
        let key = key.value();
        last = Some(key);
        let is_useless = decode_digest(&key, row.value()).is_ok_and(|digest| {
            let is_old = digest.received.age(now).is_ok_and(|age| age >= limits.retention);
            is_old && !in_force.contains(&digest.secret)
        });
        if is_useless {
            found.push(key);
        }
    }
    *progress = last;
    Ok(found)
}
