//! Consumers: named readers of an inbox, and how far each has come.

use std::collections::{BTreeMap, BTreeSet};

use redb::{Database, ReadableDatabase, ReadableTable, TableError};

use super::{
    super::{
        Consumer, ConsumerStatus, StoreError,
        record::{decode_consumer, encode_consumer},
    },
    inbox::span,
    sessions::log_damage,
    tables::{
        CONSUMERS_TABLE, Change, INBOXES_TABLE, OperationError, Outcome, Tables, consumer_key, database,
    },
    unreadable,
};
use crate::domain::{CallerName, ClientName, ConsumerName, Moment, Reason};

/// Most consumers that a caller may have.
const MOST_CONSUMERS: usize = 256;

/// A consumer exists from now on; answers up to where it is done.
pub(super) fn open(tables: &Tables<'_>, now: Moment, consumer: &Consumer) -> Outcome<u64> {
    let key = consumer_key(consumer);
    if let Some(row) = tables.consumers.get(key.as_slice()).map_err(database)? {
        return Ok((decode_consumer(&key, row.value())?.0, Vec::new()));
    }
    let prefix = [consumer.caller.as_str().as_bytes(), &[0]].concat();
    let own = tables.consumers.range(prefix.as_slice()..).map_err(database)?;
    let is_full = own
        .take_while(|row| row.as_ref().is_ok_and(|(key, _)| key.value().starts_with(&prefix)))
        .nth(MOST_CONSUMERS - 1)
        .is_some();
    if is_full {
        return Err(Reason::Overloaded.into());
    }
    Ok((0, vec![Change::PutConsumer(key, encode_consumer(0, now))]))
}

/// A consumer is done up to a place.
pub(super) fn acknowledge(tables: &Tables<'_>, consumer: &Consumer, sequence: u64) -> Outcome<()> {
    let key = consumer_key(consumer);
    let row = tables.consumers.get(key.as_slice()).map_err(database)?.ok_or(Reason::CursorInvalid)?;
    let (done, created) = decode_consumer(&key, row.value())?;
    let (_, newest, ..) = span(&tables.inboxes, &consumer.client).map_err(database)?;
    if sequence > newest {
        return Err(Reason::CursorInvalid.into());
    }
    let is_further = sequence > done;
    let change = is_further.then(|| Change::PutConsumer(key.clone(), encode_consumer(sequence, created)));
    Ok(((), change.into_iter().collect()))
}

/// A consumer that is done with `told` is done with everything up to `reached`.
pub(super) fn pass_over(tables: &Tables<'_>, consumer: &Consumer, told: u64, reached: u64) -> Outcome<bool> {
    let key = consumer_key(consumer);
    let Some(row) = tables.consumers.get(key.as_slice()).map_err(database)? else {
        return Ok((false, Vec::new()));
    };
    let (done, created) = decode_consumer(&key, row.value())?;
    let is_further = done >= told && reached > done;
    let change = is_further.then(|| Change::PutConsumer(key.clone(), encode_consumer(reached, created)));
    Ok((done >= told, change.into_iter().collect()))
}

/// A consumer exists no more.
pub(super) fn delete(tables: &Tables<'_>, consumer: &Consumer) -> Outcome<()> {
    let key = consumer_key(consumer);
    let is_there = tables.consumers.get(key.as_slice()).map_err(database)?.is_some();
    Ok(((), is_there.then_some(Change::RemoveConsumer(key)).into_iter().collect()))
}

/// Up to where the slowest of those consumers of a client is done that are waited for; none where there is none.
pub(super) fn least_done(
    tables: &Tables<'_>,
    client: &ClientName,
    readers: &BTreeMap<ClientName, BTreeSet<CallerName>>,
) -> Result<Option<u64>, OperationError> {
    let Some(readers) = readers.get(client) else { return Ok(None) };
    let mut least: Option<u64> = None;
    for row in tables.consumers.iter().map_err(database)? {
        let (key, row) = row.map_err(database)?;
        let consumer = consumer_of(key.value());
        if !consumer.is_some_and(|consumer| consumer.client == *client && readers.contains(&consumer.caller))
        {
            continue;
        }
        // One that does not open counts as done with nothing: rather too much is kept.
        let done = decode_consumer(key.value(), row.value()).map_err(log_damage).map_or(0, |(done, _)| done);
        least = Some(least.map_or(done, |least| least.min(done)));
    }
    Ok(least)
}

/// How far a client's consumers are.
pub(super) fn status(store: &Database, client: &ClientName) -> Result<Vec<ConsumerStatus>, StoreError> {
    let transaction = store.begin_read().map_err(unreadable)?;
    let consumers = match transaction.open_table(CONSUMERS_TABLE) {
        Err(TableError::TableDoesNotExist(_)) => return Ok(Vec::new()),
        opened => opened.map_err(unreadable)?,
    };
    let inboxes = transaction.open_table(INBOXES_TABLE).map_err(unreadable)?;
    let (oldest, newest, ..) = span(&inboxes, client).map_err(unreadable)?;
    let mut found = Vec::new();
    for row in consumers.iter().map_err(unreadable)? {
        let (key, row) = row.map_err(unreadable)?;
        let Some(consumer) = consumer_of(key.value()).filter(|consumer| consumer.client == *client) else {
            continue;
        };
        if let Ok((done, _)) = decode_consumer(key.value(), row.value()).map_err(log_damage) {
            let gone = oldest.saturating_sub(1);
            found.push(ConsumerStatus { consumer, behind: newest.saturating_sub(done.max(gone)) });
        }
    }
    Ok(found)
}

/// The consumer of that key; none for a key that the daemon did not make.
fn consumer_of(key: &[u8]) -> Option<Consumer> {
    let mut names = std::str::from_utf8(key).ok()?.split('\0');
    let consumer = Consumer {
        caller: CallerName::parse(names.next()?).ok()?,
        client: ClientName::parse(names.next()?).ok()?,
        name: ConsumerName::parse(names.next()?).ok()?,
    };
    names.next().is_none().then_some(consumer)
}
