//! `cairlctl key rotate`, from argument to exit code.

use super::*;

fn rotate(on_terminal: bool, fake: &Fake, rest: &[&str]) -> Outcome {
    let arguments = [&["--endpoint", fake.endpoint(), "key", "rotate"], rest].concat();
    cairlctl_on(on_terminal, &mut future::pending(), &arguments, b"")
}

const OUTCOME: &str = "\
sealed anew     90 of 100 records, under key 0a0b0c0d
can be dropped  01020304: nothing is sealed under it, take it out of keys.files
";

#[test]
fn a_rotation_is_told_by_tenths_and_on_a_terminal_in_one_line() {
    let told = rotate(false, &Fake::on_unix(), &[]);
    assert_eq!((told.code, told.err.as_str()), (0, ""));
    let lines = " 10 %  10 of 100 records looked at, 9 sealed anew\n 50 %  50 of 100 records looked at, 45 sealed anew\n";
    assert_eq!(told.out, format!("{lines}{OUTCOME}"));

    let told = rotate(true, &Fake::on_unix(), &[]);
    assert_eq!(told.out.matches("\r\u{1b}[K").count(), 4, "{:?}", told.out);
    assert_eq!(told.out.lines().count(), 2, "{:?}", told.out);
    assert!(told.out.contains(" 11 %  11 of 100"), "{:?}", told.out);
    assert!(told.out.ends_with(&format!("\r\u{1b}[K{OUTCOME}")), "{:?}", told.out);
}

#[test]
fn a_rotation_in_json_is_an_object_on_each_line() {
    for on_terminal in [false, true] {
        let told = rotate(on_terminal, &Fake::on_unix(), &["--json"]);
        let told: Vec<Value> = told.out.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        assert_eq!(told.len(), 4);
        assert_eq!(told[0], json!({ "sealed": "9", "checked": "10", "total": "100" }));
        assert_eq!(told[3]["removableKeys"], json!(["01020304"]));
        assert_eq!(told[3]["done"], true);
    }
}

#[test]
fn waiting_for_a_rotation_can_be_ended() {
    let fake = Fake::on_unix();
    let arguments = ["--endpoint", fake.endpoint(), "key", "rotate"];
    let outcome = cairlctl_until(&mut future::ready(Ended::Interrupted), &arguments, b"");
    assert_eq!((outcome.code, outcome.err.as_str()), (130, ""));
}
