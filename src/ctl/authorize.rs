//! `cairlctl start` and `cairlctl complete`.

use std::io::Read;

use super::{
    args::{Complete, Start},
    connect::Daemon,
    failure::Failure,
    input,
    output::Report,
    session,
};
use crate::api::proto::{
    CompleteAuthorizationRequest, StartAuthorizationRequest, complete_authorization_request::Callback,
    integration_service_client::IntegrationServiceClient,
};

pub(super) fn start(daemon: &Daemon, args: &Start) -> Result<Report, Failure> {
    let request = StartAuthorizationRequest {
        client: args.client.clone(),
        redirect_uri: args.redirect_uri.clone(),
        scopes: args.scopes.clone(),
        binding: input::binding(&args.binding)?,
        reference: args.reference.clone(),
        request_id: args.request_id.clone(),
    };
    let answer = daemon.call("StartAuthorization", request, async |channel, request| {
        IntegrationServiceClient::new(channel).start_authorization(request).await
    })?;
    let mut text = session::describe(answer.session.as_ref());
    text.text("authorization url", &answer.authorization_url);
    text.text("state", &answer.state);
    if answer.authorization_url.is_empty() {
        text.row(
            "authorization url",
            "none: this start was made before, and its state can no longer be used",
        );
    }
    Ok(Report::new("cairld.v1.StartAuthorizationResponse", &answer, text).if_lost(
        "The session was started. Make room where the output goes, then start with the same --request-id, which answers the \
         same; where there was none, start another one: nobody can use this, and it ends by itself.",
    ))
}

pub(super) fn complete(daemon: &Daemon, args: &Complete, stdin: &mut dyn Read) -> Result<Report, Failure> {
    let request = CompleteAuthorizationRequest {
        callback: Some(Callback::CallbackUrl(input::argument(&args.callback, stdin)?)),
        binding: input::binding(&args.binding)?,
    };
    let answer = daemon.call("CompleteAuthorization", request, async |channel, request| {
        IntegrationServiceClient::new(channel).complete_authorization(request).await
    })?;
    let text = session::describe(answer.session.as_ref());
    Ok(Report::new("cairld.v1.CompleteAuthorizationResponse", &answer, text).if_lost(session::READ_IT))
}
