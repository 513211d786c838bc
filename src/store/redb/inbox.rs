//! Reading inboxes.

use std::sync::{Arc, PoisonError};

use async_trait::async_trait;
use redb::{Database, ReadableDatabase, ReadableTable, TableError};
use tokio::sync::watch;

use super::{
    super::{
        Consumer, ConsumerStatus, Event, EventFilter, EventPage, Inbox, Ingested, NewEvent, StoreError,
        TrimTerms, Trimmed,
        record::{Codec, EventRow, Kept},
    },
    RedbStore, consumers, events,
    sessions::log_damage,
    tables::{Change, EMPTY_INBOX, EVENTS_TABLE, INBOXES_TABLE, InboxSpan, event_key},
    trim, unreadable,
    watches::Subject,
};
use crate::domain::{ClientName, Moment, Viewer};

/// Most rows that one page looks at, and bytes of them after which it ends: reading one holds up its thread.
const MOST_LOOKED_AT: usize = 1024;
const PAGE_BYTES: usize = 512 * 1024;

/// How a page is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Reading {
    /// Each event at its own place.
    Looking,
    /// As a consumer reads on: an event that found its session late comes where it did, to those who could not see it before.
    GoingOn,
}

/// At most `most` events behind a place that are wanted and that the viewer may see.
pub(super) fn page(
    store: &Database,
    codec: &Codec,
    viewer: &Viewer,
    filter: &EventFilter,
    (after, most): (u64, usize),
    reading: Reading,
) -> Result<EventPage, StoreError> {
    let transaction = store.begin_read().map_err(unreadable)?;
    let events = match transaction.open_table(EVENTS_TABLE) {
        Err(TableError::TableDoesNotExist(_)) => {
            return Ok(EventPage { events: Vec::new(), reached: after, more: false });
        }
        opened => opened.map_err(unreadable)?,
    };
    let client = &filter.client;
    let mut page = EventPage { events: Vec::new(), reached: after, more: false };
    let mut bytes = 0;
    let (first, last) = (event_key(client, after.saturating_add(1)), event_key(client, u64::MAX));
    for (count, row) in events.range(first.as_slice()..=last.as_slice()).map_err(unreadable)?.enumerate() {
        if count == MOST_LOOKED_AT || page.events.len() >= most || bytes >= PAGE_BYTES {
            page.more = true;
            break;
        }
        let (key, row) = row.map_err(unreadable)?;
        bytes += row.value().len();
        let key = key.value();
        let sequence = u64::from_be_bytes(key.last_chunk().copied().unwrap_or_default());
        page.reached = sequence;
        let found = match readable(codec.event_row(key, client, sequence, row.value())) {
            Some(EventRow::Kept(kept)) if is_told_here(viewer, &kept, sequence, reading) => {
                Some((key.to_vec(), kept))
            }
            Some(EventRow::ToldAnew { of, .. }) if reading == Reading::GoingOn => {
                let key = event_key(client, of);
                let row = events.get(key.as_slice()).map_err(unreadable)?;
                match row.and_then(|row| readable(codec.event_row(&key, client, of, row.value()))) {
                    Some(EventRow::Kept(kept)) if is_told_here(viewer, &kept, sequence, reading) => {
                        Some((key, kept))
                    }
                    Some(_) | None => None,
                }
            }
            Some(_) | None => None,
        };
        let Some((key, kept)) = found.filter(|(_, kept)| is_wanted(filter, &kept.event)) else { continue };
        if let Some(event) = readable(codec.opened(&key, *kept)) {
            page.events.push(Event { sequence, ..event });
        }
    }
    Ok(page)
}

/// Whether an event is told at a place to a viewer who may see it: at its own, or where it found its session.
fn is_told_here(viewer: &Viewer, kept: &Kept, sequence: u64, reading: Reading) -> bool {
    // Who could see it while it belonged to no session has been told; not so once it belonged to another's.
    let may_be_late = !viewer.sees_unlinked || kept.is_relinked;
    let goes_by_late_place = reading == Reading::GoingOn && kept.told_anew_at != 0 && may_be_late;
    let place = if goes_by_late_place { kept.told_anew_at } else { kept.event.sequence };
    place == sequence && kept.event.is_seen_by(viewer)
}

fn is_wanted(filter: &EventFilter, event: &Event) -> bool {
    (filter.kinds.is_empty() || filter.kinds.contains(&event.kind))
        && filter.session.is_none_or(|wanted| event.session.as_ref().is_some_and(|(id, _)| *id == wanted))
}

/// A row that does not open is logged and passed over: nobody may be stuck before it.
fn readable<T>(row: Result<T, StoreError>) -> Option<T> {
    row.map_err(log_damage).ok()
}

/// What an inbox holds.
pub(super) fn span(
    inboxes: &impl ReadableTable<&'static [u8], InboxSpan>,
    client: &ClientName,
) -> Result<InboxSpan, redb::StorageError> {
    Ok(inboxes.get(client.as_str().as_bytes())?.map_or(EMPTY_INBOX, |span| span.value()))
}

/// What the inboxes of all clients hold.
pub(super) fn spans(store: &Database) -> Result<Vec<(ClientName, InboxSpan)>, redb::Error> {
    let transaction = store.begin_read()?;
    let inboxes = match transaction.open_table(INBOXES_TABLE) {
        Err(TableError::TableDoesNotExist(_)) => return Ok(Vec::new()),
        opened => opened?,
    };
    let mut spans = Vec::new();
    for row in inboxes.iter()? {
        let (name, span) = row?;
        let name = std::str::from_utf8(name.value()).ok().and_then(|name| ClientName::parse(name).ok());
        spans.extend(name.map(|name| (name, span.value())));
    }
    Ok(spans)
}

#[async_trait]
impl Inbox for RedbStore {
    async fn ingest(&self, now: Moment, new: NewEvent) -> Result<Ingested, StoreError> {
        let (codec, latest, run) = (Arc::clone(&self.codec), Arc::clone(&self.latest), self.run);
        self.writer.write(move |tables| events::ingest(tables, &codec, latest.after(now), run, new)).await
    }

    async fn list(
        &self,
        viewer: &Viewer,
        filter: &EventFilter,
        after: u64,
        most: usize,
    ) -> Result<EventPage, StoreError> {
        let place = (after, most);
        self.reading(|database| page(database, &self.codec, viewer, filter, place, Reading::Looking))
    }

    async fn read_on(
        &self,
        viewer: &Viewer,
        filter: &EventFilter,
        after: u64,
        most: usize,
    ) -> Result<EventPage, StoreError> {
        let place = (after, most);
        self.reading(|database| page(database, &self.codec, viewer, filter, place, Reading::GoingOn))
    }

    async fn open_consumer(&self, now: Moment, consumer: &Consumer) -> Result<u64, StoreError> {
        let consumer = consumer.clone();
        self.writer.write(move |tables| consumers::open(tables, now, &consumer)).await
    }

    async fn acknowledge(&self, consumer: &Consumer, sequence: u64) -> Result<(), StoreError> {
        let consumer = consumer.clone();
        self.writer.write(move |tables| consumers::acknowledge(tables, &consumer, sequence)).await
    }

    async fn pass_over(&self, consumer: &Consumer, told: u64, reached: u64) -> Result<bool, StoreError> {
        let consumer = consumer.clone();
        self.writer.write(move |tables| consumers::pass_over(tables, &consumer, told, reached)).await
    }

    async fn consumers(&self, client: &ClientName) -> Result<Vec<ConsumerStatus>, StoreError> {
        self.reading(|database| consumers::status(database, client))
    }

    async fn delete_consumer(&self, consumer: &Consumer) -> Result<(), StoreError> {
        let consumer = consumer.clone();
        self.writer.write(move |tables| consumers::delete(tables, &consumer)).await
    }

    async fn trim(&self, now: Moment, terms: TrimTerms<'_>) -> Result<Trimmed, StoreError> {
        let TrimTerms { limits, in_force, readers } = terms;
        let marks: Vec<_> = in_force.iter().map(|secret| events::mark(&self.codec, secret)).collect();
        let useless = {
            let mut progress = self.digests.lock().unwrap_or_else(PoisonError::into_inner);
            self.reading(|database| trim::find_digests(database, &mut progress, now, &limits, &marks))?
        };
        if !useless.is_empty() {
            let changes = useless.into_iter().map(Change::RemoveDigest).collect();
            self.writer.write_surely(move |_| Ok(((), changes))).await?;
        }
        if !self.reading(|database| trim::is_due(database, &self.codec, now, &limits))? {
            return Ok(Trimmed::default());
        }
        let (codec, readers) = (Arc::clone(&self.codec), readers.clone());
        self.writer.write_surely(move |tables| trim::apply(tables, &codec, now, &limits, &readers)).await
    }

    fn epoch(&self) -> u32 {
        self.epoch
    }

    fn arrivals(&self, client: &ClientName) -> watch::Receiver<()> {
        self.writer.subscribe(Subject::Inbox(client.clone()))
    }
}
