//! Events in the contract: their messages, their places as opaque texts, and the calls about them.

use std::sync::Arc;

use data_encoding::BASE64URL_NOPAD;
use sha2::{Digest, Sha256};
use tokio_stream::{Stream, StreamExt};

use super::{
    input::{Fields, session_id},
    output::timestamp,
    proto,
};
use crate::{
    domain::{ClientName, Reason, Refusal, SessionId, Viewer},
    flows::{EventQuery, Flows},
    store::{Event, EventFilter},
};

/// Events of a page where the caller does not say, and at most.
const PAGE: usize = 100;
const LARGEST_PAGE: usize = 1000;

/// An event of the contract, with the session that the caller may know it to belong to. Its place is one of this epoch.
pub(super) fn event(event: Event, session: Option<SessionId>, epoch: u32) -> proto::Event {
    proto::Event {
        id: event.id.to_string(),
        cursor: cursor(&event.client, epoch, event.sequence),
        client: event.client.to_string(),
        r#type: event.kind,
        session_id: session.map(|id| id.to_string()).unwrap_or_default(),
        provider_session_id: event.provider_session.map(|id| id.to_string()).unwrap_or_default(),
        body: event.body,
        receive_time: Some(timestamp(event.received.wall)),
        parsed: event.parsed,
        id_reused: event.id_reused,
    }
}

/// An event that its reader may see, and so may know its session.
fn seen(told: Event, epoch: u32) -> proto::Event {
    let session = told.session.as_ref().map(|(id, _)| *id);
    event(told, session, epoch)
}

pub(super) async fn list(
    flows: &Flows,
    viewer: &Viewer,
    request: proto::ListEventsRequest,
) -> Result<proto::ListEventsResponse, Refusal> {
    let mut fields = Fields::default();
    let most = fields.page_size(request.page_size, PAGE, LARGEST_PAGE);
    let query = EventQuery {
        client: fields.client(request.client),
        kind: fields.event_type("type", request.r#type),
        session: None,
    };
    fields.check()?;
    let session = Some(request.session_id).filter(|id| !id.is_empty());
    let query = EventQuery { session: session.map(|id| session_id(&id)).transpose()?, ..query };
    let epoch = flows.epoch();
    let after = |filter: &EventFilter| page_start(filter, epoch, &request.page_token);
    let (filter, page) = flows.events(viewer, query, after, most).await?;
    let next_page_token = if page.more { page_token(&filter, epoch, page.reached) } else { String::new() };
    let events = page.events.into_iter().map(|event| seen(event, epoch)).collect();
    Ok(proto::ListEventsResponse { events, next_page_token })
}

pub(super) async fn watch(
    flows: &Arc<Flows>,
    viewer: Viewer,
    request: proto::WatchEventsRequest,
) -> Result<impl Stream<Item = Result<proto::WatchEventsResponse, Refusal>> + Send + use<>, Refusal> {
    let mut fields = Fields::default();
    let consumer = fields.consumer(&request.consumer);
    let client = fields.client(request.client);
    let types = fields.event_types(request.types);
    let consumer = fields.checked(consumer)?;
    let (epoch, events) = (flows.epoch(), flows.watch_events(viewer, &client, consumer, types).await?);
    Ok(events.map(move |event| Ok(proto::WatchEventsResponse { event: Some(seen(event?, epoch)) })))
}

pub(super) async fn acknowledge(
    flows: &Flows,
    viewer: &Viewer,
    request: proto::AcknowledgeEventsRequest,
) -> Result<proto::AcknowledgeEventsResponse, Refusal> {
    let mut fields = Fields::default();
    let consumer = fields.consumer(&request.consumer);
    let client = fields.client(request.client);
    let consumer = fields.checked(consumer)?;
    let epoch = flows.epoch();
    let place = |client: &ClientName| place(client, epoch, &request.cursor).ok_or_else(|| invalid("cursor"));
    flows.acknowledge(viewer, &client, consumer, place).await?;
    Ok(proto::AcknowledgeEventsResponse {})
}

pub(super) async fn delete_consumer(
    flows: &Flows,
    viewer: &Viewer,
    request: proto::DeleteConsumerRequest,
) -> Result<proto::DeleteConsumerResponse, Refusal> {
    let mut fields = Fields::default();
    let consumer = fields.consumer(&request.consumer);
    let client = fields.client(request.client);
    let consumer = fields.checked(consumer)?;
    flows.delete_consumer(viewer, &client, consumer).await?;
    Ok(proto::DeleteConsumerResponse {})
}

/// An event's place in its inbox, opaque.
fn cursor(client: &ClientName, epoch: u32, sequence: u64) -> String {
    let bytes = [client.as_str().as_bytes(), &[0], &epoch.to_be_bytes(), &sequence.to_be_bytes()].concat();
    BASE64URL_NOPAD.encode(&bytes)
}

/// Reads a cursor; none where it is not one of that client's inbox, or of an epoch before a restore.
fn place(client: &ClientName, epoch: u32, cursor: &str) -> Option<u64> {
    let bytes = BASE64URL_NOPAD.decode(cursor.as_bytes()).ok()?;
    let place = bytes.strip_prefix(client.as_str().as_bytes())?.strip_prefix(&[0])?;
    let sequence = place.strip_prefix(&epoch.to_be_bytes())?;
    sequence.try_into().map(u64::from_be_bytes).ok().filter(|sequence| *sequence > 0)
}

/// Where the next page begins, opaque. It belongs to its filter (AIP-158).
fn page_token(filter: &EventFilter, epoch: u32, reached: u64) -> String {
    BASE64URL_NOPAD.encode(&[fingerprint(filter, epoch).as_slice(), &reached.to_be_bytes()].concat())
}

fn page_start(filter: &EventFilter, epoch: u32, token: &str) -> Result<u64, Refusal> {
    if token.is_empty() {
        return Ok(0);
    }
    let read = || {
        let bytes = BASE64URL_NOPAD.decode(token.as_bytes()).ok()?;
        let reached = bytes.strip_prefix(fingerprint(filter, epoch).as_slice())?;
        reached.try_into().map(u64::from_be_bytes).ok()
    };
    read().ok_or_else(|| invalid("page_token"))
}

fn invalid(field: &str) -> Refusal {
    let description = if field == "cursor" {
        "must be the cursor of an event of this client"
    } else {
        "must be the next_page_token of a call with the same client, type and session_id"
    };
    Refusal::field_with(Reason::CursorInvalid, field, description)
}

fn fingerprint(filter: &EventFilter, epoch: u32) -> [u8; 8] {
    let mut hash = Sha256::new();
    hash.update(epoch.to_be_bytes());
    hash.update(filter.client.as_str());
    for kind in &filter.kinds {
        hash.update([0]);
        hash.update(kind);
    }
    hash.update([1]);
    hash.update(filter.session.map(|id| *id.as_bytes()).unwrap_or_default());
    hash.finalize().first_chunk().copied().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn client(name: &str) -> ClientName {
        ClientName::parse(name).unwrap()
    }

    #[test]
    fn a_cursor_is_of_one_inbox() {
        let shop = cursor(&client("shop"), 0, 7);
        assert_eq!(place(&client("shop"), 0, &shop), Some(7));
        assert_eq!(place(&client("sho"), 0, &shop), None);
        assert_eq!(place(&client("shop2"), 0, &shop), None);
        assert_eq!(place(&client("shop"), 5, &shop), None, "it was told before a restore");
        assert_eq!(place(&client("shop"), 5, &cursor(&client("shop"), 5, 7)), Some(7));
        assert_eq!(place(&client("shop"), 0, &cursor(&client("shop"), 0, 0)), None, "nothing stands at 0");
        for bad in ["", "7", "!", &shop[1..], &format!("{shop}AA")] {
            assert_eq!(place(&client("shop"), 0, bad), None, "{bad:?}");
        }
    }

    #[test]
    fn a_page_token_belongs_to_its_filter() {
        let filter = |kinds: &[&str], session| EventFilter {
            client: client("shop"),
            kinds: kinds.iter().map(|kind| (*kind).to_owned()).collect(),
            session,
        };
        let token = page_token(&filter(&["a"], None), 0, 9);
        assert_eq!(page_start(&filter(&["a"], None), 0, &token).unwrap(), 9);
        assert!(page_start(&filter(&["a"], None), 5, &token).is_err(), "it was told before a restore");
        assert_eq!(page_start(&filter(&["b"], None), 0, "").unwrap(), 0);
        for other in
            [filter(&["b"], None), filter(&[], None), filter(&["a"], Some(SessionId::from_bytes([1; 16])))]
        {
            assert_eq!(page_start(&other, 0, &token).unwrap_err().violations[0].field, "page_token");
        }
        assert!(page_start(&filter(&["a"], None), 0, "nonsense").is_err());
    }
}
