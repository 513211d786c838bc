//! What happens to webhooks inside a write transaction.

use redb::ReadableTable;

use super::{
    super::{
        Event, Ingested, NewEvent, StoreError,
        record::{Codec, StoredSession},
        seal::Purpose,
    },
    sessions::{forget_ended_state, linked, log_damage, provider_session_key},
    tables::{Change, OperationError, Outcome, Tables, database, event_key, put_session},
};
use crate::domain::{Moment, RunId};

/// Keeps a verified webhook once, and moves an open session that it is about.
pub(super) fn ingest(
    tables: &Tables<'_>,
    codec: &Codec,
    now: Moment,
    run: RunId,
    new: NewEvent,
) -> Outcome<Ingested> {
    let NewEvent { id, client, body, envelope } = new;
    let digest = *codec.index.hash(Purpose::Webhook, &[client.as_str().as_bytes(), &body]).as_bytes();
    let known = tables.webhooks.get(&digest).map_err(database)?.map(|sequence| sequence.value());
    if let Some(sequence) = known {
        let key = event_key(&client, sequence);
        let row = tables.events.get(key.as_slice()).map_err(database)?;
        let row = row.ok_or_else(|| StoreError::Corrupt(format!("events {client} {sequence}: missing")))?;
        let event = codec.event(&key, &client, sequence, row.value())?;
        let session = session_of(tables, codec, &event)?.map(|mut stored| {
            stored.session.settle(now, run);
            stored.session
        });
        return Ok((Ingested { event, duplicate: true, session }, Vec::new()));
    }
    let name = client.as_str().as_bytes();
    let sequence = 1 + tables.inboxes.get(name).map_err(database)?.map_or(0, |last| last.value());
    let inner = envelope
        .inner_id
        .map(|inner| *codec.index.hash(Purpose::InnerId, &[name, inner.as_bytes()]).as_bytes());
    let id_reused = match &inner {
        Some(inner) => tables.inner_ids.get(inner).map_err(database)?.is_some(),
        None => false,
    };
    let event = Event {
        id,
        client: client.clone(),
        sequence,
        kind: envelope.kind,
        provider_session: envelope.provider_session,
        received: now.wall,
        parsed: envelope.parsed,
        id_reused,
        body,
    };
    let key = event_key(&client, sequence);
    let row = codec.event_bytes(&key, &event)?;
    let mut changes = vec![
        Change::PutEvent(key, row),
        Change::PutWebhook(digest, sequence),
        Change::PutInbox(client, sequence),
    ];
    if let (Some(inner), false) = (inner, id_reused) {
        changes.push(Change::PutInnerId(inner, sequence));
    }
    let session = match session_of(tables, codec, &event)? {
        Some(mut stored) => {
            stored.session.hear(now, run, &event.kind, envelope.status);
            changes.push(put_session(codec, &stored)?);
            changes.extend(forget_ended_state(tables, codec, &stored)?);
            Some(stored.session)
        }
        None => None,
    };
    Ok((Ingested { event, duplicate: false, session }, changes))
}

/// The session that the event is about, where it is known and still kept. One whose record does not open is left out: the
/// event must be kept all the same.
fn session_of(
    tables: &Tables<'_>,
    codec: &Codec,
    event: &Event,
) -> Result<Option<StoredSession>, OperationError> {
    let Some(provider_session) = &event.provider_session else { return Ok(None) };
    let key = provider_session_key(codec, &event.client, provider_session);
    let Some(link) = linked(tables, &key)? else { return Ok(None) };
    let record = tables.sessions.get(link.session.as_bytes()).map_err(database)?;
    Ok(record.and_then(|record| codec.session(link.session, record.value()).map_err(log_damage).ok()))
}
