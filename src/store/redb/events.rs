//! What happens to webhooks inside a write transaction.

use redb::ReadableTable;

use super::{
    super::{
        Event, Ingested, NewEvent,
        record::{
            Codec, Digest, EventRow, Kept, StoredSession, decode_digest, encode_digest, encode_retelling,
        },
        seal::Purpose,
    },
    inbox::span,
    sessions::{forget_ended_state, linked, log_damage, provider_session_key},
    tables::{
        Change, InboxSpan, OperationError, Outcome, Tables, database, event_key, put_session,
        session_event_key,
    },
};
use crate::domain::{ClientName, Moment, RunId, Session, WebhookSecret};

/// Most events that a session that becomes known late takes over. More than a few belong to no verification.
const MOST_TAKEN_OVER: usize = 100;

/// Keeps a verified webhook once, and moves an open session that it is about.
pub(super) fn ingest(
    tables: &Tables<'_>,
    codec: &Codec,
    now: Moment,
    run: RunId,
    new: NewEvent,
) -> Outcome<Ingested> {
    let name = new.client.as_str().as_bytes();
    let digest_key = *codec.index.hash(Purpose::Webhook, &[name, &new.body]).as_bytes();
    if let Some(row) = tables.digests.get(&digest_key).map_err(database)? {
        let digest = decode_digest(&digest_key, row.value())?;
        return Ok((duplicate(tables, codec, now, run, new, &digest)?, Vec::new()));
    }
    let mut inbox = Growth::of(tables, &new.client)?;
    let sequence = inbox.next();
    let inner_id = new
        .envelope
        .inner_id
        .map(|id| *codec.index.hash(Purpose::InnerId, &[name, id.as_bytes()]).as_bytes());
    let id_reused = match &inner_id {
        Some(key) => tables.inner_ids.get(key).map_err(database)?.is_some(),
        None => false,
    };
    let inner_id = inner_id.filter(|_| !id_reused);
    let mut stored = match &new.envelope.provider_session {
        Some(id) => session_of(tables, codec, &provider_session_key(codec, &new.client, id))?,
        None => None,
    };
    let event = Event {
        id: new.id,
        client: new.client,
        sequence,
        kind: new.envelope.kind,
        provider_session: new.envelope.provider_session,
        received: now,
        parsed: new.envelope.parsed,
        id_reused,
        session: stored.as_ref().map(|stored| (stored.session.id, stored.session.caller.clone())),
        body: new.body,
    };
    let key = event_key(&event.client, sequence);
    let kept = Kept::new(codec, &key, event.clone(), inner_id)?;
    let digest = Digest { sequence, id: event.id, received: now, secret: mark(codec, &new.secret) };
    let mut changes = vec![Change::PutDigest(digest_key, encode_digest(&digest))];
    changes.extend(inner_id.map(|key| Change::PutInnerId(key, sequence)));
    if let Some(provider_session) = &event.provider_session {
        let key = provider_session_key(codec, &event.client, provider_session);
        changes.push(Change::PutSessionEvent(session_event_key(&key, sequence)));
    }
    if let Some(stored) = &mut stored {
        stored.session.hear(now, run, &event.kind, new.envelope.status);
        changes.push(put_session(codec, stored)?);
        changes.extend(forget_ended_state(tables, codec, stored)?);
    }
    inbox.put(key, kept.encode());
    inbox.span.3 += 1;
    changes.extend(inbox.changes());
    let session = stored.map(|stored| stored.session);
    Ok((Ingested { event, duplicate: false, session }, changes))
}

/// What a webhook comes to that was kept before. The event itself may be gone; what arrived now is the same, byte for byte.
fn duplicate(
    tables: &Tables<'_>,
    codec: &Codec,
    now: Moment,
    run: RunId,
    new: NewEvent,
    digest: &Digest,
) -> Result<Ingested, OperationError> {
    let kept = kept_at(tables, codec, &new.client, digest.sequence)?;
    let event = match kept {
        Some((_, kept, _)) => Event { body: new.body, ..kept.event },
        None => Event {
            id: digest.id,
            client: new.client,
            sequence: digest.sequence,
            kind: new.envelope.kind,
            provider_session: new.envelope.provider_session,
            received: digest.received,
            parsed: new.envelope.parsed,
            id_reused: false,
            session: None,
            body: new.body,
        },
    };
    let session = match &event.provider_session {
        Some(id) => session_of(tables, codec, &provider_session_key(codec, &event.client, id))?,
        None => None,
    };
    let session = session.map(|mut stored| {
        stored.session.settle(now, run);
        stored.session
    });
    Ok(Ingested { event, duplicate: true, session })
}

/// A session has become known as the one that a provider session belongs to: the events that are about it are its own from
/// now on. To those who could not see them before they are told anew.
pub(super) fn take_over(
    tables: &Tables<'_>,
    codec: &Codec,
    now: Moment,
    run: RunId,
    session: &mut Session,
    provider_session: &[u8; 32],
) -> Result<Vec<Change>, OperationError> {
    let (first, last) =
        (session_event_key(provider_session, 0), session_event_key(provider_session, u64::MAX));
    let mut inbox = Growth::of(tables, &session.client)?;
    for row in tables.session_events.range(first..=last).map_err(database)?.take(MOST_TAKEN_OVER) {
        let (index, ()) = row.map(|(key, _)| (key.value(), ())).map_err(database)?;
        let sequence = u64::from_be_bytes(index.last_chunk().copied().unwrap_or_default());
        let Some((key, mut kept, length)) = kept_at(tables, codec, &session.client, sequence)? else {
            continue;
        };
        if kept.event.session.as_ref().is_some_and(|(id, _)| *id == session.id) {
            continue;
        }
        kept.is_relinked |= kept.event.session.is_some();
        kept.event.session = Some((session.id, session.caller.clone()));
        kept.told_anew_at = inbox.next();
        inbox.put(event_key(&session.client, kept.told_anew_at), encode_retelling(sequence, now));
        session.hear(now, run, &kept.event.kind, None);
        let (id, event) = (session.id, kept.event.id);
        tracing::info!(session = %id, client = %session.client, %event, "a webhook that came before is of this session");
        inbox.replace(key, length, kept.encode());
    }
    Ok(inbox.changes())
}

/// The key of an event's row, the event, and the row's length.
pub(super) type KeptAt = (Vec<u8>, Box<Kept>, usize);

/// The event at a place; none where it is gone, or does not open: nothing else may fail for it.
pub(super) fn kept_at(
    tables: &Tables<'_>,
    codec: &Codec,
    client: &ClientName,
    sequence: u64,
) -> Result<Option<KeptAt>, OperationError> {
    let key = event_key(client, sequence);
    let Some(row) = tables.events.get(key.as_slice()).map_err(database)? else { return Ok(None) };
    let length = row.value().len();
    let row = codec.event_row(&key, client, sequence, row.value());
    match row {
        Ok(EventRow::Kept(kept)) => Ok(Some((key, kept, length))),
        Ok(EventRow::ToldAnew { .. }) => Ok(None),
        Err(error) => {
            log_damage(error);
            Ok(None)
        }
    }
}

/// What is kept of a secret, to know it again.
pub(super) fn mark(codec: &Codec, secret: &WebhookSecret) -> [u8; 32] {
    *codec.index.hash(Purpose::WebhookSecret, &[secret.expose().as_bytes()]).as_bytes()
}

/// An inbox that grows within one operation.
struct Growth {
    client: ClientName,
    span: InboxSpan,
    rows: Vec<Change>,
}

impl Growth {
    fn of(tables: &Tables<'_>, client: &ClientName) -> Result<Self, OperationError> {
        let span = span(&tables.inboxes, client).map_err(database)?;
        Ok(Self { client: client.clone(), span, rows: Vec::new() })
    }

    /// The next place.
    fn next(&mut self) -> u64 {
        self.span.1 += 1;
        self.span.1
    }

    fn put(&mut self, key: Vec<u8>, row: Vec<u8>) {
        self.span.2 += row.len() as u64;
        self.rows.push(Change::PutEvent(key, row));
    }

    /// Puts a row in the place of one of that length.
    fn replace(&mut self, key: Vec<u8>, length: usize, row: Vec<u8>) {
        self.span.2 = self.span.2.saturating_sub(length as u64) + row.len() as u64;
        self.rows.push(Change::PutEvent(key, row));
    }

    fn changes(self) -> Vec<Change> {
        let mut changes = self.rows;
        if !changes.is_empty() {
            changes.push(Change::PutInbox(self.client, self.span));
        }
        changes
    }
}

/// The session that a provider session belongs to, where it is known and still kept. One whose record does not open is
/// left out: the event must be kept all the same.
fn session_of(
    tables: &Tables<'_>,
    codec: &Codec,
    provider_session: &[u8; 32],
) -> Result<Option<StoredSession>, OperationError> {
    let Some(link) = linked(tables, provider_session)? else { return Ok(None) };
    let record = tables.sessions.get(link.session.as_bytes()).map_err(database)?;
    Ok(record.and_then(|record| codec.session(link.session, record.value()).map_err(log_damage).ok()))
}
