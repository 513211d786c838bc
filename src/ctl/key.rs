//! `cairlctl key`.

use super::{
    connect::Daemon,
    ending::Ending,
    exit::Exit,
    failure::Failure,
    output::Block,
    progress::Progress,
    watch::{Lines, Reader, until_ended},
};
use crate::api::proto::{RotateKeyRequest, RotateKeyResponse, admin_service_client::AdminServiceClient};

/// Has everything sealed anew, and tells how far that is. Whoever stops waiting ends the telling alone.
pub(super) fn rotate(
    daemon: &Daemon,
    lines: &mut Lines<'_>,
    on_terminal: bool,
    ending: Ending<'_>,
) -> Result<Exit, Failure> {
    until_ended(daemon, ending, Exit::Interrupted, follow(daemon, lines, on_terminal))
}

async fn follow(daemon: &Daemon, lines: &mut Lines<'_>, on_terminal: bool) -> Result<Exit, Failure> {
    const CALL: &str = "RotateKey";
    const ANSWER: &str = "cairld.v1.RotateKeyResponse";
    let connection = daemon.connect(CALL).await?;
    let mut stream = connection
        .open(CALL, RotateKeyRequest {}, async |channel, request| {
            AdminServiceClient::new(channel).rotate_key(request).await
        })
        .await?;
    let mut progress = Progress::new(lines, on_terminal);
    while let Some(told) = connection.next(CALL, &mut stream).await? {
        if told.done {
            progress.over_with()?.write(ANSWER, &told, &outcome(&told)?)?;
            return Ok(Exit::Success);
        }
        if progress.told(ANSWER, &told, (told.checked, told.total), &words(&told))? == Reader::Gone {
            return Ok(Exit::Success);
        }
    }
    Err(daemon.ended_early(CALL))
}

fn words(told: &RotateKeyResponse) -> String {
    let RotateKeyResponse { sealed, checked, total, .. } = told;
    format!("{checked} of {total} records looked at, {sealed} sealed anew")
}

/// What it came to, and what may be done now.
fn outcome(told: &RotateKeyResponse) -> Result<String, Failure> {
    let RotateKeyResponse { sealed, checked, unreadable, key, removable_keys, kept_keys, .. } = told;
    let mut text = Block::default();
    text.row("sealed anew", format!("{sealed} of {checked} records, under key {key}"));
    if *unreadable > 0 {
        text.row(
            "unreadable",
            format!("{unreadable} records, left as they are; the daemon's log names them"),
        );
    }
    if !kept_keys.is_empty() {
        let keys = kept_keys.join(", ");
        text.row(
            "still in use",
            format!("{keys}: keep it in keys.files, unreadable records are sealed under it"),
        );
    }
    if removable_keys.is_empty() {
        text.row("can be dropped", "no key");
    } else {
        let keys = removable_keys.join(", ");
        text.row("can be dropped", format!("{keys}: nothing is sealed under it, take it out of keys.files"));
    }
    let mut written = Vec::new();
    text.write(&mut written)
        .map_err(|error| Failure::internal(format!("the outcome cannot be put in words: {error}")))?;
    Ok(String::from_utf8_lossy(&written).trim_end().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_outcome_says_which_keys_can_go() {
        let told = RotateKeyResponse {
            sealed: 7,
            checked: 9,
            total: 9,
            done: true,
            key: "0a0b0c0d".to_owned(),
            removable_keys: vec!["01020304".to_owned()],
            ..RotateKeyResponse::default()
        };
        let expected = "\
sealed anew     7 of 9 records, under key 0a0b0c0d
can be dropped  01020304: nothing is sealed under it, take it out of keys.files";
        assert_eq!(outcome(&told).unwrap(), expected);
        let stuck = RotateKeyResponse {
            unreadable: 2,
            removable_keys: Vec::new(),
            kept_keys: vec!["01020304".to_owned()],
            ..told
        };
        let expected = "\
sealed anew     7 of 9 records, under key 0a0b0c0d
unreadable      2 records, left as they are; the daemon's log names them
still in use    01020304: keep it in keys.files, unreadable records are sealed under it
can be dropped  no key";
        assert_eq!(outcome(&stuck).unwrap(), expected);
    }
}
