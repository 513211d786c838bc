//! A way in for fuzz/: records as a file may hold them, whoever wrote it. Compiled for that alone.
//!
//! What is sealed is sealed here, so that what stands behind the seal is tried too: a key that leaked, or another version
//! of this program, could have written anything.

use std::time::Duration;

use prost::Message;

use super::{
    super::{
        keys::Keys,
        seal::{IndexKey, KeyRing, MasterKey, Place},
    },
    Codec, EVENTS, EventRow, REQUESTS, REVOCATIONS, SESSIONS, decode_budget, decode_consumer, decode_digest,
    decode_link, encode_budget,
    event::as_received,
    stored,
};
use crate::domain::{BootTime, ClientName, Moment, RunId, SessionId, SlotEnd, SlotId, Timestamp};

const KEY: [u8; 32] = [3; 32];

/// Opens and decodes a record of a table; `inside` is what is sealed in it. What opens is used, encoded and opened again.
pub fn record(table: u8, record: &[u8], inside: &[u8]) {
    let ring = KeyRing::new(&MasterKey::new([1; 32]), &[]);
    let codec = Codec { keys: Keys::new(ring), index: IndexKey::new([2; 32]) };
    let id = SessionId::from_bytes([4; 16]);
    let now = Moment {
        wall: Timestamp::from_millis(1_767_225_600_000),
        boot: BootTime { boot: 7, millis: 5_000_000 },
    };
    match table % 8 {
        0 => session(&codec, id, now, record, inside),
        1 => {
            let sealed = codec.seal(Place::whole(REQUESTS, &KEY), record);
            let _ = sealed.and_then(|sealed| codec.request(&KEY, &sealed));
        }
        2 => {
            let sealed = codec.seal(Place::whole(REVOCATIONS, id.as_bytes()), record);
            if let Ok(revocation) = sealed.and_then(|sealed| codec.revocation(id, &sealed)) {
                let _ = revocation.left(now);
                let again =
                    codec.revocation_bytes(&revocation).and_then(|bytes| codec.revocation(id, &bytes));
                assert!(again.is_ok_and(|again| again.token.expose() == revocation.token.expose()));
            }
        }
        3 => event(&codec, record, inside),
        4 => {
            let _ = decode_digest(&KEY, record).and(decode_link(&KEY, record).map(drop));
        }
        5 => drop(decode_consumer(&KEY, record)),
        6 => budget(now, record),
        // As they are: nothing that was not sealed opens.
        _ => {
            assert!(codec.request(&KEY, record).is_err() && codec.revocation(id, record).is_err());
            assert!(codec.session(id, record).is_err());
        }
    }
}

fn session(codec: &Codec, id: SessionId, now: Moment, record: &[u8], inside: &[u8]) {
    let Ok(mut record) = stored::SessionRecord::decode(record) else { return };
    record.sealed.clear();
    let clear = record.encode_to_vec();
    let place = Place { table: SESSIONS, key: id.as_bytes(), clear: &clear };
    let Ok(sealed) = codec.seal(place, inside) else { return };
    record.sealed = sealed;
    let Ok(mut stored) = codec.session(id, &record.encode_to_vec()) else { return };
    for _ in 0..2 {
        let session = &stored.session;
        let _ = (session.status(), session.expires(), session.can_resume(now.wall), session.outcome());
        let _ = session.next_step(now.wall);
        let bytes = codec.session_bytes(&stored);
        let again = bytes.and_then(|bytes| codec.session(id, &bytes));
        assert!(again.is_ok_and(|again| format!("{again:?}") == format!("{stored:?}")), "{stored:?}");
        stored.session.settle(now, RunId::new([9; 16]));
    }
}

fn event(codec: &Codec, record: &[u8], inside: &[u8]) {
    let Ok(mut record) = stored::EventRecord::decode(record) else { return };
    let clear = as_received(&record).encode_to_vec();
    let place = Place { table: EVENTS, key: &KEY, clear: &clear };
    let Ok(sealed) = codec.seal(place, inside) else { return };
    record.sealed = sealed;
    let Ok(client) = ClientName::parse("shop") else { return };
    if let Ok(EventRow::Kept(kept)) = codec.event_row(&KEY, &client, 7, &record.encode_to_vec()) {
        let again = codec.event_row(&KEY, &client, 7, &kept.encode());
        assert!(matches!(again, Ok(EventRow::Kept(again)) if again.event.id == kept.event.id));
        let _ = codec.opened(&KEY, *kept);
    }
}

fn budget(now: Moment, record: &[u8]) {
    let Ok(mut budget) = decode_budget(&KEY, record) else { return };
    assert!(decode_budget(&KEY, &encode_budget(&budget)).is_ok_and(|again| again == budget));
    for limit in [1, 30, 6000] {
        let outlook = budget.outlook(now, limit);
        let _ = outlook.wait_behind(3);
    }
    let _ = budget.is_idle(now);
    budget.end(now, SlotId(1), SlotEnd::Limited { retry_after: Some(Duration::from_secs(3)) });
    budget.restarted(now);
}
