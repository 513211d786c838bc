//! Answers for scripts: canonical proto3 JSON, the same as any gRPC tool with the contract at hand prints.

use std::sync::LazyLock;

use prost_reflect::{DescriptorError, DescriptorPool, DynamicMessage};
use serde_json::Value;

use super::failure::Failure;
use crate::api::proto::FILE_DESCRIPTOR_SET;

/// An encoded message of the contract's type `name` as JSON, keys in a fixed order.
pub(super) fn of(name: &str, encoded: &[u8]) -> Result<Value, Failure> {
    // Once for all messages of a stream.
    static POOL: LazyLock<Result<DescriptorPool, DescriptorError>> =
        LazyLock::new(|| DescriptorPool::decode(FILE_DESCRIPTOR_SET));
    let pool = POOL
        .as_ref()
        .map_err(|error| Failure::internal(format!("the built-in contract cannot be read: {error}")))?;
    let descriptor = pool
        .get_message_by_name(name)
        .ok_or_else(|| Failure::internal(format!("the built-in contract has no {name}")))?;
    let message = DynamicMessage::decode(descriptor, encoded)
        .map_err(|error| Failure::internal(format!("the answer is not a {name}: {error}")))?;
    serde_json::to_value(&message)
        .map_err(|error| Failure::internal(format!("the answer has no JSON form: {error}")))
}

#[cfg(test)]
mod tests {
    use prost::Message;
    use serde_json::json;

    use super::*;
    use crate::api::proto::{
        ClaimValue, Event, GetSessionResponse, IngestWebhookResponse, Session, SessionStatus,
        claim_value::Kind,
    };

    #[test]
    fn a_session_is_canonical_json() {
        let claim = |kind| ClaimValue { kind: Some(kind) };
        let session = Session {
            id: "ses_1".to_owned(),
            status: SessionStatus::Complete.into(),
            create_time: Some(prost_types::Timestamp { seconds: 1_735_689_600, nanos: 0 }),
            claims: [
                ("age_18_plus".to_owned(), claim(Kind::BoolValue(false))),
                ("resident".to_owned(), claim(Kind::NullValue(0))),
            ]
            .into(),
            ..Session::default()
        };
        let encoded = GetSessionResponse { session: Some(session) }.encode_to_vec();
        let expected = json!({ "session": {
            "id": "ses_1",
            "status": "SESSION_STATUS_COMPLETE",
            "createTime": "2025-01-01T00:00:00Z",
            "claims": { "age_18_plus": { "boolValue": false }, "resident": { "nullValue": null } },
        }});
        assert_eq!(of("cairld.v1.GetSessionResponse", &encoded).unwrap(), expected);
    }

    #[test]
    fn bytes_are_base64() {
        let event = Event { body: b"{}\n".to_vec(), ..Event::default() };
        let encoded = IngestWebhookResponse { event: Some(event), duplicate: true }.encode_to_vec();
        let expected = json!({ "event": { "body": "e30K" }, "duplicate": true });
        assert_eq!(of("cairld.v1.IngestWebhookResponse", &encoded).unwrap(), expected);
    }

    #[test]
    fn an_unknown_message_is_an_error() {
        assert_eq!(of("cairld.v1.Nothing", &[]).unwrap_err().exit().code(), 70);
    }
}
