//! `cairlctl store`: the store as a whole.

use super::{
    connect::Daemon,
    ending::Ending,
    exit::Exit,
    failure::Failure,
    output::{Block, Report, bytes, clean},
    progress::Progress,
    watch::{Lines, Reader, reader_gone, until_done},
};
use crate::api::proto::{
    CompactStoreRequest, VerifyStoreRequest, VerifyStoreResponse, admin_service_client::AdminServiceClient,
};

/// Has everything looked at, and tells what is wrong with it.
pub(super) fn verify(
    daemon: &Daemon,
    lines: &mut Lines<'_>,
    on_terminal: bool,
    ending: Ending<'_>,
) -> Result<Exit, Failure> {
    until_done(daemon, ending, follow(daemon, lines, on_terminal))
}

async fn follow(daemon: &Daemon, lines: &mut Lines<'_>, on_terminal: bool) -> Result<Exit, Failure> {
    const CALL: &str = "VerifyStore";
    let connection = daemon.connect(CALL).await?;
    let mut stream = connection
        .open(CALL, VerifyStoreRequest {}, async |channel, request| {
            AdminServiceClient::new(channel).verify_store(request).await
        })
        .await?;
    let mut progress = Progress::new(lines, on_terminal);
    let (mut checked, mut total, mut problems) = (0, None, 0);
    while let Some(told) = connection.next(CALL, &mut stream).await? {
        (checked, total) = (told.checked, Some(told.total));
        problems += told.problems.len();
        if tell(&mut progress, &told)? == Reader::Gone {
            return Err(reader_gone());
        }
    }
    if total != Some(checked) {
        return Err(daemon.ended_early(CALL));
    }
    let lines = progress.over_with()?;
    let (exit, outcome) = match problems {
        0 => (Exit::Success, format!("{checked} records, all of them sound")),
        _ => (
            Exit::Refused,
            format!(
                "{checked} records, {problems} problems told: see \"Records that do not open\" in docs/store.md"
            ),
        ),
    };
    if !lines.json {
        lines.text(&outcome)?;
    }
    Ok(exit)
}

fn tell(progress: &mut Progress<'_, '_>, told: &VerifyStoreResponse) -> Result<Reader, Failure> {
    let VerifyStoreResponse { checked, total, problems } = told;
    let words = format!("{checked} of {total} records looked at");
    let mut reader = progress.told("cairld.v1.VerifyStoreResponse", told, (*checked, *total), &words)?;
    let lines = if progress.is_json() { &[][..] } else { problems };
    for problem in lines {
        reader = progress.line(&clean(problem))?;
    }
    Ok(reader)
}

/// Has unused space given back.
pub(super) fn compact(daemon: &Daemon) -> Result<Report, Failure> {
    let answer = daemon.call("CompactStore", CompactStoreRequest {}, async |channel, request| {
        AdminServiceClient::new(channel).compact_store(request).await
    })?;
    let mut text = Block::default();
    text.row("before", bytes(answer.bytes_before));
    text.row("after", bytes(answer.bytes_after));
    Ok(Report::new("cairld.v1.CompactStoreResponse", &answer, text)
        .if_lost("Unused space was given back: `cairlctl status` tells how large the file is."))
}
