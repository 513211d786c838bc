//! The record in `docs/store.md`: what stands there is what the code makes, and opens.

use std::fmt::Write as _;

use data_encoding::HEXLOWER;
use prost::Message;

use super::{
    super::{
        keys::Keys,
        seal::{IndexKey, KeyRing, MasterKey, Place},
    },
    Codec, SESSIONS, stored,
};
use crate::{
    domain::CodeVerifier,
    store::{
        NewSession,
        conformance::{at, new_session},
        redb::new_row,
    },
};

const BEGIN: &str =
    "<!-- Made from the code: CAIRLD_BLESS=1 cargo test --lib the_record_in_the_document renews it. -->\n";
const END: &str = "<!-- Here it ends. -->\n";
/// The verifier of RFC 7636, appendix B.
const VERIFIER: &str = "dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk";

fn ring() -> KeyRing {
    KeyRing::new(&MasterKey::new([1; 32]), &[])
}

/// The row of a session that was just started, sealed with a nonce of its own.
fn row() -> ([u8; 16], Vec<u8>) {
    let codec = Codec { keys: Keys::new(ring()), index: IndexKey::new([2; 32]) };
    let new = NewSession {
        verifier: CodeVerifier::new(VERIFIER),
        reference: "order-4711".into(),
        ..new_session(0, 1)
    };
    new_row(&codec, at(0), new)
}

/// Bytes in lines of 32, each under the other.
fn hex(text: &mut String, name: &str, bytes: &[u8]) {
    for (line, bytes) in bytes.chunks(32).enumerate() {
        let name = if line == 0 { name } else { "" };
        let _ = writeln!(text, "{name:18}{}", HEXLOWER.encode(bytes));
    }
}

/// What the document says of a row.
fn described(id: &[u8; 16], row: &[u8]) -> String {
    let mut record = stored::SessionRecord::decode(row).unwrap();
    let sealed = std::mem::take(&mut record.sealed);
    let clear = record.encode_to_vec();
    let place = Place { table: SESSIONS, key: id, clear: &clear };
    let opened = ring().open(place, &sealed).unwrap();
    let content = stored::SealedSession::decode(opened.as_slice()).unwrap();
    let mut text = String::from("```\n");
    let _ = writeln!(text, "{:18}{}", "master key", *MasterKey::new([1; 32]).expose());
    let _ = writeln!(text, "{:18}{SESSIONS}", "table");
    hex(&mut text, "key", id);
    hex(&mut text, "row", row);
    hex(&mut text, "of it in clear", &clear);
    let (form, rest) = sealed.split_at(1);
    let (key, rest) = rest.split_at(4);
    let (nonce, message) = rest.split_at(24);
    text.push_str("of it sealed\n");
    hex(&mut text, "  form", form);
    hex(&mut text, "  id of the key", key);
    hex(&mut text, "  nonce", nonce);
    hex(&mut text, "  message", message);
    hex(&mut text, "associated data", &place.associated());
    hex(&mut text, "opened", &opened);
    let _ = writeln!(text, "  verifier        {}", content.verifier);
    let _ = writeln!(text, "  reference       {}", content.reference);
    text.push_str("```\n");
    text
}

#[test]
fn the_record_in_the_document_is_what_it_says() {
    let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/store.md");
    let page = std::fs::read_to_string(&path).unwrap();
    let (before, rest) = page.split_once(BEGIN).unwrap();
    let (block, after) = rest.split_once(END).unwrap();
    if std::env::var_os("CAIRLD_BLESS").is_some() {
        let (id, row) = row();
        let block = described(&id, &row);
        std::fs::write(&path, format!("{before}{BEGIN}{block}{END}{after}")).unwrap();
        return;
    }
    // The nonce is random: the row that stands there is opened, and must come to all else that stands there.
    let bytes = |name: &str| {
        let mut lines = block.lines().skip_while(|line| !line.starts_with(&format!("{name:18}")));
        let first = lines.next().unwrap_or_default();
        let rest = lines.take_while(|line| line.starts_with("      "));
        let hex: String = [first].into_iter().chain(rest).filter_map(|line| line.get(18..)).collect();
        HEXLOWER.decode(hex.as_bytes()).unwrap()
    };
    let id: [u8; 16] = bytes("key").try_into().unwrap();
    assert_eq!(described(&id, &bytes("row")), block);
    // And it is what a session is stored as today, but for nonce and what follows from it.
    let (fresh_id, fresh) = row();
    let without_seal = |row: &[u8]| {
        let record = stored::SessionRecord::decode(row).unwrap();
        (record.sealed.len(), stored::SessionRecord { sealed: Vec::new(), ..record })
    };
    assert_eq!((id, without_seal(&bytes("row"))), (fresh_id, without_seal(&fresh)));
}
