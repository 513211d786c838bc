//! Events and what belongs to them, and their records, both ways.

use prost::Message;

use super::{
    super::{Event, StoreError, seal::Place},
    CONSUMERS, Codec, DIGESTS, Damage, EVENTS, fixed, moment, named, optional, read_moment, stored,
};
use crate::domain::{CallerName, ClientName, EventId, Moment, ProviderSessionId, SessionId};

/// What stands at a place of an inbox.
pub(crate) enum EventRow {
    /// An event.
    Kept(Box<Kept>),
    /// Another one's event, told anew.
    ToldAnew {
        /// The other one's place.
        of: u64,
        /// When this was written.
        since: Moment,
    },
}

/// An event as it is kept. Its body is still sealed: it is opened only where it is wanted.
pub(crate) struct Kept {
    /// The event without its body.
    pub(crate) event: Event,
    /// Key of its row in `inner_ids`, where it has one.
    pub(crate) inner_id: Option<[u8; 32]>,
    /// Where it is told anew; 0 for nowhere.
    pub(crate) told_anew_at: u64,
    /// Whether it belonged to another session before.
    pub(crate) is_relinked: bool,
    sealed: Vec<u8>,
}

/// What a webhook brought that is known already.
pub(crate) struct Digest {
    pub(crate) sequence: u64,
    pub(crate) id: EventId,
    pub(crate) received: Moment,
    pub(crate) secret: [u8; 32],
}

impl Kept {
    /// A new event, its body sealed.
    pub(crate) fn new(
        codec: &Codec,
        key: &[u8],
        event: Event,
        inner_id: Option<[u8; 32]>,
    ) -> Result<Self, StoreError> {
        let body = stored::SealedEvent { body: event.body.clone() }.encode_to_vec();
        let mut kept = Self { event, inner_id, told_anew_at: 0, is_relinked: false, sealed: Vec::new() };
        let clear = kept.as_received().encode_to_vec();
        kept.sealed = codec.seal(Place { table: EVENTS, key, clear: &clear }, &body)?;
        Ok(kept)
    }

    /// The part of the record that stands in clear and stays as it was received.
    fn as_received(&self) -> stored::EventRecord {
        let event = &self.event;
        stored::EventRecord {
            id: event.id.as_bytes().to_vec(),
            r#type: event.kind.clone(),
            provider_session: event.provider_session.as_ref().map(ToString::to_string).unwrap_or_default(),
            parsed: event.parsed,
            id_reused: event.id_reused,
            received: Some(moment(event.received)),
            inner_id: self.inner_id.map(|key| key.to_vec()).unwrap_or_default(),
            ..stored::EventRecord::default()
        }
    }

    pub(crate) fn encode(&self) -> Vec<u8> {
        let (session, owner) = match &self.event.session {
            Some((session, owner)) => (session.as_bytes().to_vec(), owner.to_string()),
            None => Default::default(),
        };
        let record = stored::EventRecord {
            sealed: self.sealed.clone(),
            session,
            owner,
            told_anew_at: self.told_anew_at,
            relinked: self.is_relinked,
            ..self.as_received()
        };
        record.encode_to_vec()
    }
}

/// The part of a record that stands in clear and stays as it was received.
pub(super) fn as_received(record: &stored::EventRecord) -> stored::EventRecord {
    stored::EventRecord {
        id: record.id.clone(),
        r#type: record.r#type.clone(),
        provider_session: record.provider_session.clone(),
        parsed: record.parsed,
        id_reused: record.id_reused,
        received: record.received,
        inner_id: record.inner_id.clone(),
        ..stored::EventRecord::default()
    }
}

/// A row that tells another one anew.
pub(crate) fn encode_retelling(of: u64, now: Moment) -> Vec<u8> {
    let received = Some(moment(now));
    stored::EventRecord { tells_anew: of, received, ..stored::EventRecord::default() }.encode_to_vec()
}

impl Codec {
    /// Reads what stands at a place of an inbox.
    pub(crate) fn event_row(
        &self,
        key: &[u8],
        client: &ClientName,
        sequence: u64,
        bytes: &[u8],
    ) -> Result<EventRow, StoreError> {
        read_row(client, sequence, bytes).map_err(|damage| damage.of(EVENTS, key))
    }

    /// The event with its body.
    pub(crate) fn opened(&self, key: &[u8], kept: Kept) -> Result<Event, StoreError> {
        let open = || {
            let clear = kept.as_received().encode_to_vec();
            let plain = self.open(Place { table: EVENTS, key, clear: &clear }, &kept.sealed)?;
            Ok(stored::SealedEvent::decode(plain.as_slice())?.body)
        };
        let body = open().map_err(|damage: Damage| damage.of(EVENTS, key))?;
        Ok(Event { body, ..kept.event })
    }
}

fn read_row(client: &ClientName, sequence: u64, bytes: &[u8]) -> Result<EventRow, Damage> {
    let record = stored::EventRecord::decode(bytes)?;
    let received = read_moment(record.received)?;
    if record.tells_anew != 0 {
        return Ok(EventRow::ToldAnew { of: record.tells_anew, since: received });
    }
    let session = match optional(&record.session)? {
        Some(session) => {
            let owner = CallerName::parse(&record.owner).map_err(|_| Damage::Form("no owner"))?;
            Some((SessionId::from_bytes(session), owner))
        }
        None => None,
    };
    let event = Event {
        id: EventId::from_bytes(fixed(&record.id)?),
        client: client.clone(),
        sequence,
        kind: record.r#type,
        provider_session: named(&record.provider_session, ProviderSessionId::parse)?,
        received,
        parsed: record.parsed,
        id_reused: record.id_reused,
        session,
        body: Vec::new(),
    };
    let inner_id = optional(&record.inner_id)?;
    let kept = Kept {
        event,
        inner_id,
        told_anew_at: record.told_anew_at,
        is_relinked: record.relinked,
        sealed: record.sealed,
    };
    Ok(EventRow::Kept(Box::new(kept)))
}

pub(crate) fn encode_digest(digest: &Digest) -> Vec<u8> {
    let record = stored::DigestRecord {
        sequence: digest.sequence,
        id: digest.id.as_bytes().to_vec(),
        received: Some(moment(digest.received)),
        secret: digest.secret.to_vec(),
    };
    record.encode_to_vec()
}

pub(crate) fn decode_digest(key: &[u8; 32], bytes: &[u8]) -> Result<Digest, StoreError> {
    let decode = || {
        let record = stored::DigestRecord::decode(bytes)?;
        Ok(Digest {
            sequence: record.sequence,
            id: EventId::from_bytes(fixed(&record.id)?),
            received: read_moment(record.received)?,
            secret: fixed(&record.secret)?,
        })
    };
    decode().map_err(|damage: Damage| damage.of(DIGESTS, key))
}

pub(crate) fn encode_consumer(done: u64, created: Moment) -> Vec<u8> {
    stored::ConsumerRecord { done, created: Some(moment(created)) }.encode_to_vec()
}

/// Up to where a consumer is done, and since when it exists.
pub(crate) fn decode_consumer(key: &[u8], bytes: &[u8]) -> Result<(u64, Moment), StoreError> {
    let decode = || {
        let record = stored::ConsumerRecord::decode(bytes)?;
        Ok((record.done, read_moment(record.created)?))
    };
    decode().map_err(|damage: Damage| damage.of(CONSUMERS, key))
}
