//! What the daemon itself refuses.

use super::{Becomes, Entry, Says};
use crate::domain::reason::{Reason, Stage};

/// A refusal that leaves the session as it was.
const fn own(reason: Reason, cause: &'static str, remedy: &'static str) -> Entry {
    Entry {
        stage: Some(Stage::Daemon),
        says: Says::Nothing,
        reason,
        becomes: Becomes::AsItWas,
        cause,
        remedy,
    }
}

/// A refusal that concerns no session, or none that the caller may see.
const fn general(reason: Reason, cause: &'static str, remedy: &'static str) -> Entry {
    Entry { becomes: Becomes::NoSession, ..own(reason, cause, remedy) }
}

pub(super) const ENTRIES: &[Entry] = &[
    // The callback, and who presents it.
    general(
        Reason::StateUnknown,
        "This state was never issued here, is long gone, or belongs to another caller.",
        "Pass the callback on as it came, to the cairld that started the flow, as the same [[caller]] that started it. If \
         the session is older than store.retention, or the link was made up, call StartAuthorization again.",
    ),
    own(
        Reason::StateAlreadyUsed,
        "This state was already used.",
        "Call GetSession with the state to see what became of it. A callback is completed once; a page reload must not \
         complete it again.",
    ),
    own(
        Reason::CodeAlreadyUsed,
        "This code was already presented with another state.",
        "Treat the callback as forged and give its sender nothing: a code belongs to one flow. For an honest user call \
         StartAuthorization again.",
    ),
    own(
        Reason::BindingMismatch,
        "The binding is missing or not the one that the flow was started with.",
        "Pass the same binding as to StartAuthorization, made from the same browser session (the hash of its cookie, say). \
         If the browser has no such cookie, the callback came to another browser: do not complete it, and have the user \
         start anew.",
    ),
    own(
        Reason::IssuerMismatch,
        "The callback's iss is missing or not the issuer configured for the client (RFC 9207).",
        "Do not complete this callback: it may come from another server. If the provider changed its issuer or sends none, \
         correct issuer of this [[client]] in cairld.toml, or leave it out, and reload cairld; nothing was consumed.",
    ),
    // The session, and where it stands.
    Entry {
        becomes: Becomes::Indeterminate,
        ..own(
            Reason::OutcomeUnknown,
            "The store was restored from a backup in which this session had not ended: what became of it since is not known.",
            "Call StartAuthorization again. If the user says that it had succeeded, it had, before the restore: its claims \
             went to whoever completed it, and are not here.",
        )
    },
    Entry {
        becomes: Becomes::Expired,
        ..own(
            Reason::SessionExpired,
            "The session's thirty minutes ran out.",
            "Call StartAuthorization again and send the browser to the new authorization_url.",
        )
    },
    own(
        Reason::SessionCancelled,
        "The session was cancelled.",
        "Your own service called CancelAuthorization. If the user still wants to be verified, call StartAuthorization again.",
    ),
    own(
        Reason::SessionFinished,
        "The session has already ended.",
        "Nothing is left to do: GetSession tells how it ended. For another try call StartAuthorization again.",
    ),
    own(
        Reason::RateLimited,
        "This client's rate budget has no room for the request before the call's deadline. Nothing was sent.",
        "Repeat the same call, with the same callback, after the retry delay, or with a longer deadline: it then waits in \
         line. GetStatus shows how the budgets stand. If it happens often, ask the provider for a higher limit, and set it \
         in limits.token_per_minute or limits.session_per_minute of this [[client]].",
    ),
    own(
        Reason::ExchangeInProgress,
        "The session's exchange is under way: a token request was sent, or its token is held and the claims are missing.",
        "Wait for it: GetSession or WatchSession show the outcome of a request within half a minute. Claims that are \
         missing are fetched by the same callback. To revoke the token without them, call CancelAuthorization, which \
         ends the session too.",
    ),
    Entry {
        becomes: Becomes::Failed,
        ..own(
            Reason::InvalidGrant,
            "The code's ten minutes, or its nine attempts, are over without a token.",
            "Mend first what the earlier refusals of this callback named; then call StartAuthorization again.",
        )
    },
    general(
        Reason::SessionNotFound,
        "No such session, or it belongs to another caller.",
        "Check the id, and that the same [[caller]] asks that started it (or set share = true for its [[client]] in \
         cairld.toml and reload cairld). Sessions are kept for store.retention after their thirty minutes.",
    ),
    own(
        Reason::ProviderSessionUnknown,
        "The provider's session id is not known yet, so it cannot be asked.",
        "Call GetSession without refresh; the provider's id arrives with the callback, if at all.",
    ),
    own(
        Reason::TokenNotHeld,
        "No access token is held for the session.",
        "Complete the session first, by CompleteAuthorization. A token that was revoked or ran out is gone: for a new one \
         call StartAuthorization again.",
    ),
    // Events.
    general(
        Reason::EventNotFound,
        "No such event, or it belongs to another caller.",
        "Check the id (evt_…), and that the caller may use the event's client.",
    ),
    general(
        Reason::CursorInvalid,
        "The cursor was not issued for this client's events, or the page token not for this list; or it was issued before the \
         store was restored from a backup.",
        "Give it back as it was issued, with the same client and filters. A list begins again from the front without a \
         page token; a consumer goes on with the cursor of an event that it was told.",
    ),
    general(
        Reason::ConsumerSuperseded,
        "A newer WatchEvents stream with the same consumer name has begun, or the consumer was deleted.",
        "Leave this stream ended. If both were meant to run, give each a consumer name of its own: of one name there is one \
         stream at a time.",
    ),
    // The request.
    general(
        Reason::InvalidArgument,
        "A field of the request is not as the contract says.",
        "Correct the fields named in the details (BadRequest); nothing was consumed, and the corrected call may follow at \
         once.",
    ),
    general(
        Reason::ClientUnknown,
        "No client of that name is configured for this caller.",
        "Pass the name of a [[client]] of cairld.toml that stands in clients of this [[caller]], or add it there and reload \
         cairld.",
    ),
    general(
        Reason::RedirectUriUnregistered,
        "The redirect URI is not one of the client's.",
        "Pass one of redirect_uris of the [[client]] byte for byte; or add the new one there and at the provider, and \
         reload cairld.",
    ),
    general(
        Reason::RequestIdReused,
        "The request id was used before with other arguments.",
        "Use a new request_id for each start; repeat one only with the very same arguments.",
    ),
    // The caller.
    general(
        Reason::CallerUnknown,
        "The daemon does not recognise the caller.",
        "On the Unix socket: give a [[caller]] in cairld.toml the uid (or gid) that your service runs under. Else send \
         `authorization: Bearer …` with the token behind its token_file, once. Reload cairld after a change.",
    ),
    general(
        Reason::RpcNotGranted,
        "The caller is not granted this call.",
        "Add the call's name to rpcs of this [[caller]] in cairld.toml, for GetAccessToken also access_token = true, for \
         AdminService admin = true; then reload cairld.",
    ),
    // The daemon's own state.
    own(
        Reason::Overloaded,
        "The daemon has more waiting than it takes; or this caller has more calls or streams at a time, or more sessions are \
         open, than may be; or another backup, check or compaction of the store is under way.",
        "Repeat the same call after the retry delay. If it stays: where one caller alone is refused, let it have fewer at a \
         time, or raise its limits in cairld.toml; where starts alone are, see why sessions are left open (each ends by itself \
         after thirty minutes), or raise store.pending_sessions; where all calls are, the disk under store.path is too slow.",
    ),
    own(
        Reason::StoreUnavailable,
        "The store takes no writes at present.",
        "Operator: the log says why. Free or mend the disk under store.path: the daemon ends by itself, and its supervisor \
         starts it anew until it can write. Caller: repeat the same call after the retry delay.",
    ),
    general(
        Reason::MaintenanceFailed,
        "A backup, check or compaction of the store did not go on, mostly since there is too little room beside its file. The \
         store is as it was.",
        "The log of cairld says why. Make room in the file system of store.path: for a compaction as much as the records need \
         that are kept, for a backup or check 128 MiB, and more with a busy daemon. See that its folder belongs to the \
         daemon's user, and call again.",
    ),
    general(
        Reason::CallerChanged,
        "What this caller may do was changed while the stream was open.",
        "Open the stream anew, after the retry delay: it begins with what the caller may do now.",
    ),
    own(
        Reason::ShuttingDown,
        "The daemon is stopping.",
        "Repeat the same call after the retry delay; if nobody answers then, see that cairld is started again.",
    ),
    own(
        Reason::RecordCorrupt,
        "A stored record cannot be opened: damaged, or sealed under a key that is not in the key ring.",
        "Operator: the log names the record, or the store's file and what to do about it. If a key was taken out of keys.files, put it back behind the first and reload \
         cairld. If none is missing, the record is lost: check the disk, and have the user start anew.",
    ),
    own(
        Reason::DeadlineExceeded,
        "No answer came within the call's deadline, or within 60 seconds where it had none. What was begun goes on, but for a \
         backup or check of the store of which nobody took anything for 30 seconds.",
        "Call GetSession to see what became of the session; a completion can be repeated with the same callback, a start with \
         its request_id. If it happens often, set a longer deadline, and look in GetStatus at how the provider answers.",
    ),
    general(
        Reason::Unimplemented,
        "This version of cairld does not serve the call, or does not know it.",
        "See in the changelog which version serves it, and compare with `cairld --version`; generate the client from the proto \
         files of that version.",
    ),
    own(
        Reason::Internal,
        "A bug in the daemon.",
        "Look with GetSession at what became of the session before trying again. Report the bug with `cairld --version` and \
         the log of cairld around this time.",
    ),
    // Webhooks, which are verified before anything else.
    Entry {
        stage: Some(Stage::Webhook),
        ..general(
            Reason::WebhookSignatureInvalid,
            "The webhook's signature is missing, malformed or does not fit its body.",
            "Pass the request's body byte for byte as it arrived, before anything parses it, and the value of \
             X-CAIRL-Signature; and check webhook_secret_files of this [[client]] in cairld.toml against the provider's \
             dashboard. Answer the sender with 400; if the webhook is genuine, it comes again.",
        )
    },
];
