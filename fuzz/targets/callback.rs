//! A callback URL as a caller passes it on, and the same already parsed.

#![no_main]

use cairld::domain::{
    Callback, CallbackParameters, Presented, Refusal, parse_callback_url, parse_parameters,
};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    check(parse_callback_url(text));
    let mut fields = text.split('\n').map(str::to_owned);
    let mut next = || fields.next().unwrap_or_default();
    check(parse_parameters(&CallbackParameters {
        state: next(),
        code: next(),
        error: next(),
        error_description: next(),
        session_id: next(),
        iss: next(),
    }));
});

/// What is taken is as it is said to be; what is refused says which field, and never a value.
fn check(read: Result<Callback, Refusal>) {
    let is_visible = |text: &str| text.bytes().all(|byte| (0x20..=0x7e).contains(&byte));
    match read {
        Ok(callback) => {
            let state = callback.state.expose();
            assert_eq!(state.len(), 64);
            match &callback.presented {
                Presented::Code(code) => {
                    assert!((1..=2048).contains(&code.expose().len()) && is_visible(code.expose()));
                }
                Presented::Error { error, description } => {
                    assert!((1..=512).contains(&error.len()) && is_visible(error));
                    assert!(description.len() <= 512 && !description.contains(char::is_control));
                    assert!(
                        !error.contains(&state) && !description.contains(&state),
                        "the state is kept to itself"
                    );
                }
            }
            assert!(callback.provider_session.is_none_or(|id| id.as_str().starts_with("hvf_")));
        }
        Err(refusal) => {
            for violation in &refusal.violations {
                assert!(violation.field == "callback_url" || violation.field.starts_with("parameters."));
                assert!(is_visible(&violation.description) && violation.description.len() < 200);
            }
        }
    }
}
