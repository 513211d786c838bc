//! How many instructions the pure parts take that every call goes through, counted by Valgrind: the same on a busy machine
//! and an idle one. Each has a limit a quarter above what it took when the limit was set; `.ci/run` fails where one is passed.
//!
//! `scripts/instructions.sh`, which installs what counts. A limit that is passed for a good reason is raised here, with the
//! reason in the commit.

#![allow(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::unwrap_used,
    missing_docs,
    reason = "a benchmark: what does not hold ends it, and its macros make items without documentation"
)]

use std::{hint::black_box, time::Duration};

use cairld::domain::{
    ApiKey, BootTime, Budget, BudgetKind, BudgetTerms, CodeVerifier, Envelope, Moment, SigningSecret,
    SlotEnd, Timestamp, Userinfo, Verdict, WebhookSecret, parse_callback_url, token_verdict,
};
use gungraun::prelude::*;
use gungraun::{Callgrind, EventKind};

/// A limit on the instructions of a benchmark.
fn at_most(instructions: u64) -> LibraryBenchmarkConfig {
    let mut config = LibraryBenchmarkConfig::default();
    let mut callgrind = Callgrind::default();
    callgrind.hard_limits([(EventKind::Ir, instructions)]);
    config.tool(callgrind);
    config
}

fn body() -> Vec<u8> {
    let filler = "x".repeat(800);
    let text = format!(
        r#"{{"id":"evt_1","type":"vae.resolved","data":{{"session_id":"hvf_1","status":"complete","filler":"{filler}"}}}}"#
    );
    text.into_bytes()
}

/// A webhook, a signature, and two secrets, neither of which fits: the longest way.
fn webhook() -> (Vec<SigningSecret>, Vec<u8>, String) {
    let secret = |text| SigningSecret { secret: WebhookSecret::new(text), until: None };
    (vec![secret("whsec_old"), secret("whsec_new")], body(), format!("sha256={}", "0".repeat(64)))
}

#[library_benchmark(config = at_most(155_000))]
#[bench::two_secrets(webhook())]
fn verify_webhook((secrets, body, signature): (Vec<SigningSecret>, Vec<u8>, String)) -> Option<usize> {
    let now = Timestamp::from_millis(1_800_000_000_000);
    black_box(SigningSecret::signer(black_box(&secrets), black_box(&body), &signature, now))
}

#[library_benchmark(config = at_most(17_500))]
#[bench::of_a_kibibyte(body())]
fn read_webhook(body: Vec<u8>) -> Envelope {
    black_box(Envelope::read(black_box(&body)))
}

fn callback() -> String {
    let state = "A".repeat(64);
    format!("https://shop.example/callback?code=ac_0123456789abcdef&state={state}&session_id=hvf_0123456789")
}

#[library_benchmark(config = at_most(13_000))]
#[bench::with_a_code(callback())]
fn read_callback(url: String) -> bool {
    black_box(parse_callback_url(black_box(&url))).is_ok()
}

#[library_benchmark(config = at_most(6_000))]
#[bench::of_a_verifier(CodeVerifier::from_random([7; 32]))]
fn challenge(verifier: CodeVerifier) -> usize {
    black_box(black_box(verifier).challenge()).as_str().len()
}

#[library_benchmark(config = at_most(31_000))]
#[bench::of_nine_claims(nine_claims())]
fn read_claims(body: Vec<u8>) -> bool {
    black_box(Userinfo::parse(black_box(&body))).is_ok()
}

fn nine_claims() -> Vec<u8> {
    let claims: Vec<_> = (0..9).map(|number| format!(r#""claim_{number}":true"#)).collect();
    format!(r#"{{"sub":"pws_v1_1","evaluated_at":"2026-01-01","claims":{{{}}}}}"#, claims.join(","))
        .into_bytes()
}

fn at(millis: u64) -> Moment {
    Moment { wall: Timestamp::from_millis(1_800_000_000_000 + millis), boot: BootTime { boot: 1, millis } }
}

/// A budget of which all slots but one are held.
fn nearly_spent() -> (Budget, BudgetTerms) {
    let credential = ApiKey::new("cairl_test_1");
    let patience = Duration::from_secs(30);
    let terms = BudgetTerms { kind: BudgetKind::Token, credential, limit: 30, patience };
    let mut budget = Budget::default();
    for number in 0..29 {
        let slot = budget.take(at(number), &terms).unwrap();
        budget.end(at(number + 1), slot, SlotEnd::Answered);
    }
    (budget, terms)
}

#[library_benchmark(config = at_most(10_000))]
#[bench::the_last(nearly_spent())]
fn take_slot((mut budget, terms): (Budget, BudgetTerms)) -> Budget {
    let slot = budget.take(black_box(at(1000)), &terms).unwrap();
    budget.end(at(1100), slot, SlotEnd::Answered);
    black_box(budget)
}

#[library_benchmark(config = at_most(300))]
#[bench::payment_required(402)]
fn understand_refusal(status: u16) -> Verdict {
    black_box(token_verdict(black_box(status), Some("payment_required")))
}

library_benchmark_group!(
    name = every_call,
    benchmarks =
        [verify_webhook, read_webhook, read_callback, challenge, read_claims, take_slot, understand_refusal]
);

main!(library_benchmark_groups = every_call);
