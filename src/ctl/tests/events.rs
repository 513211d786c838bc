//! `cairlctl events`, from argument to exit code.

use super::{fake::EVENTS, *};

fn at(fake: &Fake, rest: &[&str]) -> Outcome {
    cairlctl(&[&["--endpoint", fake.endpoint(), "events"], rest].concat(), b"")
}

fn json_lines(text: &str) -> Vec<Value> {
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

#[test]
fn a_list_pages_by_itself_up_to_its_limit() {
    let fake = Fake::on_unix();
    let all = at(&fake, &["list", "--client", "demo", "--type", "t", "--session", "ses_1"]);
    assert_eq!((all.code, all.err.as_str()), (0, ""));
    let lines: Vec<_> = all.out.lines().collect();
    assert_eq!(lines.len(), EVENTS, "{}", all.out);
    assert_eq!(lines[0], "- vae.resolved session=- provider_session=- id=evt_1 cursor=c1");
    assert_eq!(
        fake.calls(),
        [
            "list 100 \"\" \"demo\" \"t\" \"ses_1\"",
            "list 98 \"2\" \"demo\" \"t\" \"ses_1\"",
            "list 96 \"4\" \"demo\" \"t\" \"ses_1\"",
            "list 95 \"5\" \"demo\" \"t\" \"ses_1\"",
        ]
    );

    let some = at(&fake, &["list", "--limit", "3", "--body"]);
    assert!(some.out.contains("\n  body: {\"type\":\"vae.resolved\"}\\n\n"), "{}", some.out);
    assert!(some.out.ends_with("there may be more  with --page-token 3\n"), "{}", some.out);
    let rest = at(&fake, &["list", "--page-token", "3"]);
    assert!(rest.out.starts_with("- vae.resolved session=- provider_session=- id=evt_4 "), "{}", rest.out);
    let page_sizes: Vec<_> =
        fake.calls()[4..].iter().map(|call| call.split(' ').nth(1).unwrap().to_owned()).collect();
    assert_eq!(page_sizes, ["3", "1", "100", "98"]);
}

#[test]
fn a_list_without_events_says_so() {
    let none = at(&Fake::on_unix(), &["list", "--type", "none"]);
    assert_eq!(none.code, 0);
    assert!(none.out.starts_with("no events: ") && none.out.contains("`events = true`"), "{}", none.out);
}

#[test]
fn a_list_in_json_is_one_answer_of_the_contract() {
    let fake = Fake::on_unix();
    let list = |rest: &[&str]| -> Value {
        serde_json::from_str(&at(&fake, &[&["list", "--json"], rest].concat()).out).unwrap()
    };
    let all = list(&[]);
    assert_eq!(all["events"].as_array().unwrap().len(), EVENTS);
    assert_eq!(all["events"][0]["body"], "eyJ0eXBlIjoidmFlLnJlc29sdmVkIn0K", "base64, as proto3 JSON has it");
    assert_eq!(all.get("nextPageToken"), None);
    assert_eq!(list(&["--limit", "2"])["nextPageToken"], "2");
    assert_eq!(list(&["--type", "none"]), json!({}));
}

#[test]
fn a_watch_ends_after_as_many_as_were_asked_for() {
    let fake = Fake::on_unix();
    let told = at(&fake, &["watch", "--consumer", "c", "--type", "a", "--type", "b", "--count", "2"]);
    assert_eq!((told.code, told.err.as_str()), (0, ""));
    let expected = "\
- vae.resolved session=- provider_session=- id=evt_1 cursor=c1
- vae.resolved session=- provider_session=- id=evt_2 cursor=c2
";
    assert_eq!(told.out, expected);
    assert_eq!(fake.calls(), ["watch c \"\" [\"a\", \"b\"]"], "nothing is acknowledged unasked");

    let told = at(&fake, &["watch", "--consumer", "c", "--count", "2", "--json"]);
    let told = json_lines(&told.out);
    assert_eq!(told.len(), 2, "an object on each line");
    let event = json!({
        "id": "evt_2", "client": "demo", "cursor": "c2", "type": "vae.resolved", "parsed": true,
        "body": "eyJ0eXBlIjoidmFlLnJlc29sdmVkIn0K",
    });
    assert_eq!(told[1], json!({ "event": event }));
}

#[test]
fn a_watch_acknowledges_what_it_has_written_and_nothing_else() {
    let fake = Fake::on_unix();
    assert_eq!(at(&fake, &["watch", "--consumer", "c", "--count", "2", "--ack"]).code, 0);
    assert_eq!(fake.calls(), ["watch c \"\" []", "ack c \"demo\" c1", "ack c \"demo\" c2"]);

    let fake = Fake::on_unix();
    assert_eq!(unread(&["--endpoint", fake.endpoint(), "events", "watch", "--consumer", "c", "--ack"]), 0);
    assert_eq!(fake.calls(), ["watch c \"\" []"], "nobody has read it");
}

#[test]
fn a_watch_that_the_daemon_ends_says_why() {
    let fake = Fake::on_unix();
    let ended = at(&fake, &["watch", "--consumer", "superseded"]);
    assert_eq!((ended.code, ended.out.lines().count()), (1, EVENTS), "what was told is written");
    assert!(ended.err.contains("WatchEvents: a newer stream") && ended.err.contains("CONSUMER_SUPERSEDED"));
    let ended = at(&fake, &["watch", "--consumer", "ended"]);
    assert_eq!(ended.code, 69);
    assert!(ended.err.contains("STREAM_ENDED") && ended.err.contains("same command again"), "{}", ended.err);
    let ended = at(&fake, &["watch", "--consumer", "ended", "--json"]);
    let error: Value = serde_json::from_str(&ended.err).unwrap();
    assert_eq!(error["error"]["exitCode"], 69);
}

#[test]
fn a_signal_is_the_usual_end_of_a_watch_that_has_no_other() {
    let fake = Fake::on_unix();
    let until = |ended: Ended, rest: &[&str]| {
        let arguments =
            [&["--endpoint", fake.endpoint(), "events", "watch", "--consumer", "c"], rest].concat();
        cairlctl_until(&mut future::ready(ended), &arguments, b"")
    };
    for (ended, rest, code) in [
        (Ended::Interrupted, &[][..], 0),
        (Ended::Interrupted, &["--count", "9"], 130),
        (Ended::ReaderGone, &["--count", "9"], 0),
    ] {
        let outcome = until(ended, rest);
        assert_eq!((outcome.code, outcome.err.as_str()), (code, ""), "{ended:?} {rest:?}");
    }
}

#[test]
fn a_consumer_is_moved_and_forgotten() {
    let fake = Fake::on_unix();
    let done = at(&fake, &["ack", "--consumer", "c", "--client", "demo", "c3"]);
    assert_eq!(done.out, "consumer  c\ndone      up to and including c3\n");
    let forgotten = at(&fake, &["forget", "--consumer", "c"]);
    assert!(forgotten.out.contains("no consumer of this name is left"), "{}", forgotten.out);
    assert!(!forgotten.out.contains("yes"), "nobody has said that there was one: {}", forgotten.out);
    assert_eq!(fake.calls(), ["ack c \"demo\" c3", "forget c \"\""]);
    assert_eq!(at(&fake, &["ack", "--consumer", "c", "c3", "--json"]).out, "{}\n");
    assert_eq!(at(&fake, &["forget", "--consumer", "c", "--json"]).out, "{}\n");
    let refused = at(&fake, &["ack", "--consumer", "c", "nonsense"]);
    assert_eq!((refused.code, refused.out.as_str()), (65, ""));
    assert!(refused.err.contains("CURSOR_INVALID") && refused.err.contains("Take one that was told."));
}
