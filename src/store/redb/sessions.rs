//! What happens to sessions inside a write transaction.

use redb::ReadableTable;

use super::{
    super::{
        NewSession, Next, PendingLimits, Slot, Started, StoreError, Take, Took,
        record::{Codec, Link, StoredRequest, StoredSession, decode_link, encode_link},
        seal::{KeyId, Purpose},
    },
    budgets, events,
    revocations::put_revocation,
    tables::{Change, OperationError, Outcome, Tables, database, put_session},
};
use crate::domain::{
    At, BudgetTerms, ClaimsEnd, ClientName, ExchangeEnd, KeyedHash, Moment, OpenStatus, Presented,
    PresentedHashes, ProviderSessionId, ProviderStatus, Reason, Refusal, RunId, Session, SessionId, SlotEnd,
    State, StateSecret, Taken, Timeline, TokenStanding, Viewer,
};

/// A start, with everything done that needs no transaction.
pub(super) struct PreparedStart {
    stored: StoredSession,
    secret: StateSecret,
    /// What the arguments of a start with a request id come to.
    arguments: KeyedHash,
    limits: PendingLimits,
    sealed: SealedStart,
}

/// A start's rows.
struct SealedStart {
    /// The key that they are sealed under.
    key: KeyId,
    session: Vec<u8>,
    request: Option<([u8; 32], Vec<u8>)>,
}

impl SealedStart {
    fn new(
        codec: &Codec,
        stored: &StoredSession,
        secret: &StateSecret,
        arguments: KeyedHash,
    ) -> Result<Self, StoreError> {
        // Asked for before sealing: where the ring is exchanged meanwhile, the rows count as sealed under the old one.
        let key = codec.keys.first();
        let request = stored.request.map(|key| {
            let row = StoredRequest { session: stored.session.id, arguments, secret: Some(secret.clone()) };
            Ok::<_, StoreError>((key, codec.request_bytes(&key, &row)?))
        });
        Ok(Self { key, session: codec.session_bytes(stored)?, request: request.transpose()? })
    }
}

pub(super) fn prepare_start(
    codec: &Codec,
    now: Moment,
    new: NewSession,
) -> Result<PreparedStart, StoreError> {
    let arguments = arguments_hash(codec, &new);
    let NewSession { id, client, caller, secret, limits, .. } = new;
    let request = new.request_id.as_ref().map(|request_id| {
        let parts = [caller.as_str(), client.as_str(), request_id].map(str::as_bytes);
        *codec.index.hash(Purpose::Request, &parts).as_bytes()
    });
    let session = Session {
        id,
        client,
        caller,
        scopes: new.scopes,
        redirect_uri: new.redirect_uri,
        reference: new.reference,
        test_mode: new.test_mode,
        created: now,
        updated: now.wall,
        state: state_hash(codec, id, &secret),
        binding: new.binding.map(|binding| binding_hash(codec, id, binding.expose())),
        verifier: Some(new.verifier),
        provider_session: None,
        spent: None,
        failure: None,
        at: At::Open(OpenStatus::Pending),
        token: TokenStanding::None,
        userinfo: None,
        timeline: Timeline::default(),
    };
    let stored = StoredSession { session, request };
    let sealed = SealedStart::new(codec, &stored, &secret, arguments)?;
    Ok(PreparedStart { stored, secret, arguments, limits, sealed })
}

impl PreparedStart {
    pub(super) fn apply(
        self,
        tables: &Tables<'_>,
        codec: &Codec,
        now: Moment,
        run: RunId,
    ) -> Outcome<Started> {
        let Self { stored, secret, arguments, limits, mut sealed } = self;
        if let Some(key) = stored.request
            && let Some(row) = tables.requests.get(&key).map_err(database)?
        {
            let known = codec.request(&key, row.value())?;
            return Ok((started_before(tables, codec, now, run, known, arguments)?, Vec::new()));
        }
        tables.admit(&stored.session.caller, limits)?;
        // The ring was exchanged while this waited: nothing is written under the old key any more.
        if sealed.key != codec.keys.first() {
            sealed = SealedStart::new(codec, &stored, &secret, arguments)?;
        }
        let session = stored.session;
        let mut changes = vec![Change::PutSession(session.id, sealed.session)];
        changes.extend(sealed.request.map(|(key, row)| Change::PutRequest(key, row)));
        let state = State { session: session.id, secret };
        Ok((Started { usable: session.verifier.clone().map(|verifier| (state, verifier)), session }, changes))
    }
}

/// A new session's key and row.
#[cfg(test)]
pub(in crate::store) fn new_row(codec: &Codec, now: Moment, new: NewSession) -> ([u8; 16], Vec<u8>) {
    let prepared = prepare_start(codec, now, new).unwrap();
    (*prepared.stored.session.id.as_bytes(), prepared.sealed.session)
}

fn started_before(
    tables: &Tables<'_>,
    codec: &Codec,
    now: Moment,
    run: RunId,
    known: StoredRequest,
    arguments: KeyedHash,
) -> Result<Started, OperationError> {
    if !known.arguments.matches(&arguments) {
        return Err(Reason::RequestIdReused.into());
    }
    let mut session = tables.session(codec, known.session, Reason::SessionNotFound)?.session;
    session.settle(now, run);
    let is_usable = matches!(session.at, At::Open(_)) && session.spent.is_none();
    let usable = match (known.secret, session.verifier.clone()) {
        (Some(secret), Some(verifier)) if is_usable => {
            Some((State { session: session.id, secret }, verifier))
        }
        _ => None,
    };
    Ok(Started { session, usable })
}

/// A callback, with its hashes computed.
pub(super) struct PreparedTake {
    id: SessionId,
    viewer: Viewer,
    hashes: PresentedHashes,
    provider_session: Option<ProviderSessionId>,
}

/// The rate budget that a take needs a slot of.
pub(super) struct TakeBudget {
    pub(super) key: [u8; 32],
    pub(super) terms: BudgetTerms,
}

pub(super) fn prepare_take(codec: &Codec, take: Take) -> PreparedTake {
    let id = take.state.session;
    let (callback, error) = match take.presented {
        Presented::Code(code) => (codec.index.hash(Purpose::Code, &[code.expose().as_bytes()]), None),
        Presented::Error { error, description } => {
            let parts = [id.as_bytes().as_slice(), error.as_bytes(), description.as_bytes()];
            (codec.index.hash(Purpose::ErrorCallback, &parts), Some((error, description)))
        }
    };
    PreparedTake {
        id,
        viewer: take.viewer,
        hashes: PresentedHashes {
            state: state_hash(codec, id, &take.state.secret),
            binding: take.binding.map(|binding| binding_hash(codec, id, binding.expose())),
            callback,
            error,
            since: Some(take.since),
        },
        provider_session: take.provider_session,
    }
}

impl PreparedTake {
    /// What tells the callback from all others, where it may be presented.
    pub(super) fn admit(&self, session: &Session) -> Result<[u8; 32], Refusal> {
        session.admit(&self.viewer, &self.hashes)?;
        Ok(*self.hashes.callback.as_bytes())
    }

    pub(super) fn apply(
        self,
        tables: &Tables<'_>,
        codec: &Codec,
        now: Moment,
        run: RunId,
        budget: &TakeBudget,
    ) -> Outcome<Took> {
        let mut stored = tables.session(codec, self.id, Reason::StateUnknown)?;
        let code_key = *self.hashes.callback.as_bytes();
        let owner =
            tables.codes.get(&code_key).map_err(database)?.map(|id| SessionId::from_bytes(id.value()));
        let session = &mut stored.session;
        let hint = self.provider_session.as_ref();
        let taken = session.take(now, run, &self.viewer, &self.hashes, owner, hint)?;
        let is_changed = matches!(taken, Taken::Send { .. } | Taken::Ended);
        let mut changes = Vec::new();
        let next = match taken {
            Taken::Send { verifier } => {
                let (slot, change) = budgets::take(tables, now, budget.key, &budget.terms)?;
                changes.push(change);
                Next::Send { verifier, slot }
            }
            Taken::FetchClaims { token } => Next::FetchClaims { token },
            Taken::Ended | Taken::Replay => Next::Answer,
        };
        if is_changed {
            changes.extend(link(tables, codec, now, run, &mut stored.session, false)?);
            changes.push(put_session(codec, &stored)?);
            changes.extend(forget_state(tables, codec, &stored)?);
            if owner.is_none() && self.hashes.error.is_none() {
                changes.push(Change::PutCode(code_key, self.id));
            }
        }
        Ok((Took { session: stored.session, next }, changes))
    }
}

pub(super) fn end_exchange(
    tables: &Tables<'_>,
    codec: &Codec,
    now: Moment,
    run: RunId,
    id: SessionId,
    slot: Slot,
    end: ExchangeEnd,
) -> Outcome<Result<Session, StoreError>> {
    let budget = budgets::end(tables, now, slot, SlotEnd::from(&end))?;
    match record_exchange(tables, codec, now, run, id, end) {
        Ok((session, mut changes)) => {
            changes.push(budget);
            Ok((Ok(session), changes))
        }
        // Whatever became of the session, the provider has counted the request.
        Err(OperationError::Refused(error)) => Ok((Err(error), vec![budget])),
        Err(error @ OperationError::Database(_)) => Err(error),
    }
}

fn record_exchange(
    tables: &Tables<'_>,
    codec: &Codec,
    now: Moment,
    run: RunId,
    id: SessionId,
    end: ExchangeEnd,
) -> Outcome<Session> {
    let mut stored = tables.session(codec, id, Reason::SessionNotFound)?;
    stored.session.exchange_ended(now, end)?;
    let mut changes = Vec::new();
    if stored.session.at == At::Token {
        changes.extend(link(tables, codec, now, run, &mut stored.session, true)?);
    }
    stored.session.settle(now, run);
    changes.push(put_session(codec, &stored)?);
    Ok((stored.session, changes))
}

pub(super) fn end_claims(
    tables: &Tables<'_>,
    codec: &Codec,
    now: Moment,
    run: RunId,
    id: SessionId,
    end: ClaimsEnd,
) -> Outcome<Session> {
    let mut stored = tables.session(codec, id, Reason::SessionNotFound)?;
    // What has ended meanwhile, and may have been read so, does not come back for what was received.
    stored.session.settle(now, run);
    stored.session.claims_ended(now, end);
    let change = put_session(codec, &stored)?;
    Ok((stored.session, vec![change]))
}

pub(super) fn cancel(
    tables: &Tables<'_>,
    codec: &Codec,
    now: Moment,
    run: RunId,
    viewer: &Viewer,
    id: SessionId,
) -> Outcome<Session> {
    let mut stored = tables.visible_session(codec, viewer, id)?;
    let revocation = stored.session.cancel(now, run)?;
    let mut changes = vec![put_session(codec, &stored)?];
    changes.extend(forget_state(tables, codec, &stored)?);
    changes.extend(revocation.map(|revocation| put_revocation(codec, &revocation)).transpose()?);
    Ok((stored.session, changes))
}

/// The session may have been swept meanwhile: its slot counts all the same.
pub(super) fn end_query(
    tables: &Tables<'_>,
    codec: &Codec,
    now: Moment,
    run: RunId,
    id: SessionId,
    query: Query,
) -> Outcome<()> {
    let mut changes = vec![budgets::end(tables, now, query.slot, query.end)?];
    if let Some(status) = query.status
        && let Some(record) = tables.sessions.get(id.as_bytes()).map_err(database)?
    {
        let mut stored = codec.session(id, record.value())?;
        if stored.session.observe(now, run, status) {
            changes.push(put_session(codec, &stored)?);
            changes.extend(forget_ended_state(tables, codec, &stored)?);
        }
    }
    Ok(((), changes))
}

/// A question about a session that has ended.
pub(super) struct Query {
    pub(super) slot: Slot,
    pub(super) end: SlotEnd,
    pub(super) status: Option<ProviderStatus>,
}

/// The state is spent or over: a repeated request id gets it no more.
pub(super) fn forget_state(
    tables: &Tables<'_>,
    codec: &Codec,
    stored: &StoredSession,
) -> Result<Option<Change>, OperationError> {
    let Some(key) = stored.request else { return Ok(None) };
    let Some(row) = tables.requests.get(&key).map_err(database)? else { return Ok(None) };
    match codec.request(&key, row.value()) {
        Ok(known @ StoredRequest { secret: Some(_), .. }) => {
            let row = codec.request_bytes(&key, &StoredRequest { secret: None, ..known })?;
            Ok(Some(Change::PutRequest(key, row)))
        }
        Ok(StoredRequest { secret: None, .. }) => Ok(None),
        Err(error) => {
            log_damage(error);
            Ok(Some(Change::RemoveRequest(key)))
        }
    }
}

/// [`forget_state`] where the session has ended.
pub(super) fn forget_ended_state(
    tables: &Tables<'_>,
    codec: &Codec,
    stored: &StoredSession,
) -> Result<Option<Change>, OperationError> {
    if stored.session.ended().is_some() { forget_state(tables, codec, stored) } else { Ok(None) }
}

/// Links the provider's session to ours. Its id came through a browser, so the first session to complete an exchange with
/// it owns the link; until then the first to name it has it. Events that came before are its own with the link.
fn link(
    tables: &Tables<'_>,
    codec: &Codec,
    now: Moment,
    run: RunId,
    session: &mut Session,
    owned: bool,
) -> Result<Vec<Change>, OperationError> {
    let Some(provider_session) = &session.provider_session else { return Ok(Vec::new()) };
    let key = provider_session_key(codec, &session.client, provider_session);
    let is_taken =
        linked(tables, &key)?.is_some_and(|known| known.owned || (!owned && known.session != session.id));
    if is_taken {
        return Ok(Vec::new());
    }
    let link = encode_link(Link { session: session.id, owned });
    let mut changes = vec![Change::PutProviderSession(key, link)];
    changes.extend(events::take_over(tables, codec, now, run, session, &key)?);
    Ok(changes)
}

/// The row that links a provider session, if there is one. A damaged one is logged and counts as none: what it said is said
/// again by the next callback, and nothing else may fail for it.
pub(super) fn linked(tables: &Tables<'_>, key: &[u8; 32]) -> Result<Option<Link>, OperationError> {
    let row = tables.provider_sessions.get(key).map_err(database)?;
    Ok(row.and_then(|row| decode_link(key, row.value()).map_err(log_damage).ok()))
}

pub(super) fn log_damage(error: StoreError) {
    tracing::error!(%error, "a stored record does not open; going on without it");
}

pub(super) fn provider_session_key(
    codec: &Codec,
    client: &ClientName,
    provider_session: &ProviderSessionId,
) -> [u8; 32] {
    let parts = [client.as_str().as_bytes(), provider_session.as_str().as_bytes()];
    *codec.index.hash(Purpose::ProviderSession, &parts).as_bytes()
}

pub(super) fn state_hash(codec: &Codec, id: SessionId, secret: &StateSecret) -> KeyedHash {
    codec.index.hash(Purpose::State, &[id.as_bytes(), secret.expose()])
}

fn binding_hash(codec: &Codec, id: SessionId, binding: &str) -> KeyedHash {
    codec.index.hash(Purpose::Binding, &[id.as_bytes(), binding.as_bytes()])
}

/// What a repeated request id must have in common with the first.
fn arguments_hash(codec: &Codec, new: &NewSession) -> KeyedHash {
    let binding = new.binding.as_ref().map_or(&[][..], |binding| binding.expose().as_bytes());
    let mut parts = vec![new.redirect_uri.as_bytes(), new.reference.as_bytes(), binding];
    parts.extend(new.scopes.iter().map(|scope| scope.as_str().as_bytes()));
    codec.index.hash(Purpose::Arguments, &parts)
}
