//! `cairlctl webhook`.

use std::io::Read;

use super::{
    args::Ingest,
    connect::Daemon,
    failure::Failure,
    input,
    output::{Block, Report},
};
use crate::api::proto::{
    IngestWebhookRequest, IngestWebhookResponse, integration_service_client::IntegrationServiceClient,
};

pub(super) fn ingest(daemon: &Daemon, args: &Ingest, stdin: &mut dyn Read) -> Result<Report, Failure> {
    let request = IngestWebhookRequest {
        client: args.client.clone(),
        body: input::body(&args.body, stdin)?,
        signature: args.signature.clone(),
    };
    let answer = daemon.call("IngestWebhook", request, async |channel, request| {
        IntegrationServiceClient::new(channel).ingest_webhook(request).await
    })?;
    let text = describe(&answer);
    Ok(Report::new("cairld.v1.IngestWebhookResponse", &answer, text).if_lost(
        "The webhook was taken in. Make room where the output goes; to hand it in again changes nothing, and tells the event.",
    ))
}

fn describe(answer: &IngestWebhookResponse) -> Block {
    let mut block = Block::default();
    let Some(event) = &answer.event else {
        block.row("event", "none in the answer");
        return block;
    };
    block.row("event", &event.id);
    block.row("duplicate", if answer.duplicate { "yes: these bytes were kept before" } else { "no" });
    block.text("client", &event.client);
    block.text("type", &event.r#type);
    block.text("session", &event.session_id);
    block.text("provider session", &event.provider_session_id);
    block.time("received", event.receive_time.as_ref());
    block.row("body", format!("{} bytes", event.body.len()));
    block.text("parsed", if event.parsed { "" } else { "no: the body is not a JSON object" });
    block.text(
        "id reused",
        if event.id_reused { "yes: an earlier event had this id and other bytes" } else { "" },
    );
    block
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::proto::Event;

    #[test]
    fn an_event_is_told_without_its_body() {
        let event = Event {
            id: "evt_1".to_owned(),
            client: "demo".to_owned(),
            body: b"not json".to_vec(),
            id_reused: true,
            ..Event::default()
        };
        let mut sink = Vec::new();
        describe(&IngestWebhookResponse { event: Some(event), duplicate: true }).write(&mut sink).unwrap();
        let expected = "\
event      evt_1
duplicate  yes: these bytes were kept before
client     demo
body       8 bytes
parsed     no: the body is not a JSON object
id reused  yes: an earlier event had this id and other bytes
";
        assert_eq!(String::from_utf8(sink).unwrap(), expected);
    }
}
