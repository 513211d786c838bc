//! `cairlctl events`, and an event in words.

use data_encoding::BASE64;

use super::{
    args::{Acknowledge, Forget, ListEvents, WatchEvents},
    connect::{Connection, Daemon},
    ending::Ending,
    exit::Exit,
    failure::Failure,
    output::{Block, Report, clean, time},
    watch::{Lines, Reader, until_ended},
};
use crate::api::proto::{
    AcknowledgeEventsRequest, AcknowledgeEventsResponse, DeleteConsumerRequest, Event, ListEventsRequest,
    ListEventsResponse, WatchEventsRequest, integration_service_client::IntegrationServiceClient,
};

/// Most events that the contract gives at once.
const LARGEST_PAGE: usize = 1000;

pub(super) fn list(daemon: &Daemon, args: &ListEvents) -> Result<Report, Failure> {
    let answer = daemon.run(read_pages(daemon, args))?;
    let mut text = Block::default();
    for event in &answer.events {
        for line in lines(event, args.shown.body) {
            text.heading(&line);
        }
    }
    if !answer.next_page_token.is_empty() {
        text.text("there may be more", &format!("with --page-token {}", answer.next_page_token));
    } else if answer.events.is_empty() {
        text.heading(
            "no events: none is kept that fits (those of no session are shown to callers with `events = true` alone)",
        );
    }
    Ok(Report::new("cairld.v1.ListEventsResponse", &answer, text))
}

/// Pages until there are no more, or enough, as if they were one.
async fn read_pages(daemon: &Daemon, args: &ListEvents) -> Result<ListEventsResponse, Failure> {
    const CALL: &str = "ListEvents";
    let connection = daemon.connect(CALL).await?;
    let limit = usize::try_from(args.limit).unwrap_or(usize::MAX);
    let mut answer =
        ListEventsResponse { next_page_token: args.page_token.clone(), ..ListEventsResponse::default() };
    loop {
        let room = limit.saturating_sub(answer.events.len()).min(LARGEST_PAGE);
        let request = ListEventsRequest {
            page_size: i32::try_from(room).unwrap_or(i32::MAX),
            page_token: answer.next_page_token,
            client: args.client.clone(),
            r#type: args.kind.clone(),
            session_id: args.session.clone(),
        };
        let page = connection
            .call(CALL, request, async |channel, request| {
                IntegrationServiceClient::new(channel).list_events(request).await
            })
            .await?;
        answer.events.extend(page.events);
        answer.next_page_token = page.next_page_token;
        if answer.next_page_token.is_empty() || answer.events.len() >= limit {
            return Ok(answer);
        }
    }
}

/// Follows events until there were enough, or nobody waits any more.
pub(super) fn watch(
    daemon: &Daemon,
    args: &WatchEvents,
    lines: &mut Lines<'_>,
    ending: Ending<'_>,
) -> Result<Exit, Failure> {
    // A signal is the usual end of a watch that has no other.
    let interrupted = if args.count.is_some() { Exit::Interrupted } else { Exit::Success };
    until_ended(daemon, ending, interrupted, follow(daemon, args, lines))
}

async fn follow(daemon: &Daemon, args: &WatchEvents, output: &mut Lines<'_>) -> Result<Exit, Failure> {
    const CALL: &str = "WatchEvents";
    let connection = daemon.connect(CALL).await?;
    let request = WatchEventsRequest {
        consumer: args.consumer.name.clone(),
        client: args.consumer.client.clone(),
        types: args.kinds.clone(),
    };
    let mut stream = connection
        .open(CALL, request, async |channel, request| {
            IntegrationServiceClient::new(channel).watch_events(request).await
        })
        .await?;
    let mut told: u64 = 0;
    while args.count.is_none_or(|count| told < count) {
        let Some(answer) = connection.next(CALL, &mut stream).await? else {
            return Err(daemon.ended_early(CALL));
        };
        let text = answer.event.iter().flat_map(|event| lines(event, args.shown.body)).collect::<Vec<_>>();
        if output.write("cairld.v1.WatchEventsResponse", &answer, &text.join("\n"))? == Reader::Gone {
            break;
        }
        told += 1;
        if let Some(event) = answer.event.filter(|_| args.ack) {
            let request = AcknowledgeEventsRequest {
                consumer: args.consumer.name.clone(),
                // The event's own: where the argument was left out, a later configuration may know two.
                client: event.client,
                cursor: event.cursor,
            };
            acknowledge(&connection, request).await?;
        }
    }
    Ok(Exit::Success)
}

async fn acknowledge(
    connection: &Connection<'_>,
    request: AcknowledgeEventsRequest,
) -> Result<AcknowledgeEventsResponse, Failure> {
    let call = connection.call("AcknowledgeEvents", request, async |channel, request| {
        IntegrationServiceClient::new(channel).acknowledge_events(request).await
    });
    call.await
}

pub(super) fn ack(daemon: &Daemon, args: &Acknowledge) -> Result<Report, Failure> {
    let request = AcknowledgeEventsRequest {
        consumer: args.consumer.name.clone(),
        client: args.consumer.client.clone(),
        cursor: args.cursor.clone(),
    };
    let answer = daemon.run(async {
        let connection = daemon.connect("AcknowledgeEvents").await?;
        acknowledge(&connection, request).await
    })?;
    let mut text = Block::default();
    text.row("consumer", &args.consumer.name);
    text.row("done", format!("up to and including {}", args.cursor));
    Ok(Report::new("cairld.v1.AcknowledgeEventsResponse", &answer, text)
        .if_lost("The consumer's place was moved: there is nothing to repeat."))
}

pub(super) fn forget(daemon: &Daemon, args: &Forget) -> Result<Report, Failure> {
    let request =
        DeleteConsumerRequest { consumer: args.consumer.name.clone(), client: args.consumer.client.clone() };
    let answer = daemon.call("DeleteConsumer", request, async |channel, request| {
        IntegrationServiceClient::new(channel).delete_consumer(request).await
    })?;
    let mut text = Block::default();
    text.row("consumer", &args.consumer.name);
    // Whether there was one the answer does not say: to delete it twice comes to the same.
    text.row("forgotten", "no consumer of this name is left: a watch with it begins at the oldest event");
    Ok(Report::new("cairld.v1.DeleteConsumerResponse", &answer, text)
        .if_lost("The consumer is forgotten: there is nothing to repeat."))
}

/// `2026-11-23T17:57:33.365Z vae.resolved session=ses_… provider_session=hvf_… id=evt_… cursor=…`, words without
/// spaces that scripts can take apart; below it the body, where it is wanted.
fn lines(event: &Event, with_body: bool) -> Vec<String> {
    let received = event.receive_time.as_ref().map_or_else(|| "-".to_owned(), time);
    let mut line = format!(
        "{received} {} session={} provider_session={} id={} cursor={}",
        word(&event.r#type),
        word(&event.session_id),
        word(&event.provider_session_id),
        word(&event.id),
        word(&event.cursor)
    );
    for (is_so, what) in [(!event.parsed, " parsed=no"), (event.id_reused, " id_reused=yes")] {
        if is_so {
            line.push_str(what);
        }
    }
    let mut lines = vec![line];
    if with_body {
        lines.push(format!("  {}", body(&event.body)));
    }
    lines
}

/// Text from elsewhere as one word.
fn word(text: &str) -> String {
    if text.is_empty() {
        return "-".to_owned();
    }
    let mut word = String::with_capacity(text.len());
    for c in clean(text).chars() {
        if c.is_whitespace() {
            word.extend(c.escape_unicode());
        } else {
            word.push(c);
        }
    }
    word
}

/// A body on one line: text, or base64 where it is none.
fn body(bytes: &[u8]) -> String {
    match std::str::from_utf8(bytes) {
        Ok(text) => format!("body: {}", clean(text)),
        Err(_) => {
            format!("body, {} bytes that are no UTF-8, in base64: {}", bytes.len(), BASE64.encode(bytes))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event() -> Event {
        Event {
            id: "evt_1".to_owned(),
            client: "demo".to_owned(),
            cursor: "c1".to_owned(),
            r#type: "vae.resolved".to_owned(),
            session_id: "ses_1".to_owned(),
            provider_session_id: "hvf_1".to_owned(),
            body: b"{\"id\":\"e1\"}\n".to_vec(),
            receive_time: Some(prost_types::Timestamp { seconds: 1_735_689_600, nanos: 250_000_000 }),
            parsed: true,
            id_reused: false,
        }
    }

    #[test]
    fn an_event_is_a_line() {
        let line =
            "2025-01-01T00:00:00.25Z vae.resolved session=ses_1 provider_session=hvf_1 id=evt_1 cursor=c1";
        assert_eq!(lines(&event(), false), [line]);
        assert_eq!(lines(&event(), true), [line, "  body: {\"id\":\"e1\"}\\n"]);
    }

    #[test]
    fn what_is_missing_or_odd_is_said() {
        let odd =
            Event { id: "evt_2".to_owned(), cursor: "c2".to_owned(), id_reused: true, ..Event::default() };
        assert_eq!(
            lines(&odd, false),
            ["- - session=- provider_session=- id=evt_2 cursor=c2 parsed=no id_reused=yes"]
        );
    }

    #[test]
    fn a_body_cannot_steer_the_terminal() {
        let shown = |bytes: &[u8]| body(bytes);
        assert_eq!(shown("Größe 日本".as_bytes()), "body: Größe 日本");
        assert_eq!(shown(b"\x1b[2J\x1b]0;owned\x07\r\nx"), "body: \\u{1b}[2J\\u{1b}]0;owned\\u{7}\\r\\nx");
        // The C1 control sequence introducer, as UTF-8; then as the lone byte, which is none.
        assert_eq!(shown("\u{9b}31m".as_bytes()), "body: \\u{9b}31m");
        assert_eq!(shown(b"\x9b31m"), "body, 4 bytes that are no UTF-8, in base64: mzMxbQ==");
        assert_eq!(shown(b""), "body: ");
    }

    #[test]
    fn a_type_cannot_pass_for_other_fields_or_lines() {
        let hostile = Event { r#type: "a session=ses_9\n\u{1b}[2J\u{a0}b".to_owned(), ..event() };
        let line = lines(&hostile, false).join("\n");
        assert!(line.contains(" a\\u{20}session=ses_9\\n\\u{1b}[2J\\u{a0}b session=ses_1 "), "{line}");
    }
}
