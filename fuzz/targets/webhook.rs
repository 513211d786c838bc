//! A webhook as it knocks: its signature header in the first line, its body behind that.

#![no_main]

use cairld::domain::{Envelope, verify_signature};
use data_encoding::HEXLOWER;
use hmac::{Hmac, KeyInit, Mac};
use libfuzzer_sys::fuzz_target;
use sha2::Sha256;

const SECRETS: [&[u8]; 2] = [b"whsec_the_old_one", b"whsec_the_new_one"];

fn signature(secret: &[u8], body: &[u8]) -> String {
    let mac = Hmac::<Sha256>::new_from_slice(secret).expect("HMAC takes any length").chain_update(body);
    format!("sha256={}", HEXLOWER.encode(&mac.finalize().into_bytes()))
}

fuzz_target!(|data: &[u8]| {
    let (header, body) = data.split_at(data.iter().position(|byte| *byte == b'\n').unwrap_or(0));
    let header = String::from_utf8_lossy(header);
    let good = SECRETS.map(|secret| signature(secret, body));
    // Nothing but the very signature passes, in either case of its digits.
    let fits = verify_signature(body, &header, SECRETS);
    assert_eq!(
        fits,
        good.iter().position(|good| header.starts_with("sha256=") && good.eq_ignore_ascii_case(&header))
    );
    for (number, good) in good.iter().enumerate() {
        assert_eq!(verify_signature(body, good, SECRETS), Some(number));
        assert_eq!(verify_signature(&[body, b" "].concat(), good, SECRETS), None, "for other bytes");
    }
    let envelope = Envelope::read(body);
    assert!(envelope.parsed || envelope == Envelope::default(), "of what is unreadable nothing is known");
    for word in [Some(&envelope.kind), envelope.inner_id.as_ref()].into_iter().flatten() {
        assert!(word.len() <= 256 && !word.contains(char::is_control));
    }
});
