//! A gRPC client of the daemon, and its errors taken apart.

use std::{path::Path, time::Duration};

use cairld::api::proto::{
    CancelAuthorizationRequest, CompleteAuthorizationRequest, GetAccessTokenRequest, GetSessionRequest,
    GetStatusRequest, GetStatusResponse, IngestWebhookRequest, IngestWebhookResponse, RevokeTokenRequest,
    Session, StartAuthorizationRequest, StartAuthorizationResponse, admin_service_client::AdminServiceClient,
    get_session_request::Lookup, integration_service_client::IntegrationServiceClient,
};
use tonic::{
    Code, Request, Status,
    metadata::MetadataValue,
    transport::{Channel, Endpoint},
};
use tonic_types::StatusExt;

use super::SURELY;

/// A client of both services, with or without a token.
#[derive(Clone)]
pub struct Client {
    pub integration: IntegrationServiceClient<Channel>,
    pub admin: AdminServiceClient<Channel>,
    pub channel: Channel,
    token: Option<String>,
    deadline: Option<Duration>,
}

impl Client {
    /// The same client, whose calls have a deadline.
    pub fn within(&self, deadline: Duration) -> Self {
        Self { deadline: Some(deadline), ..self.clone() }
    }

    pub async fn unix(path: &Path, token: Option<&str>) -> Self {
        let endpoint = Endpoint::from_shared(format!("unix:{}", path.display())).unwrap();
        Self::connect(endpoint.origin("http://localhost".parse().unwrap()), token).await
    }

    pub async fn tcp(address: &str, token: Option<&str>) -> Self {
        Self::connect(Endpoint::from_shared(format!("http://{address}")).unwrap(), token).await
    }

    async fn connect(endpoint: Endpoint, token: Option<&str>) -> Self {
        Self::over(endpoint.connect().await.unwrap(), token)
    }

    /// The same over a connection that is there.
    pub fn over(channel: Channel, token: Option<&str>) -> Self {
        Self {
            integration: IntegrationServiceClient::new(channel.clone()),
            admin: AdminServiceClient::new(channel.clone()),
            channel,
            token: token.map(str::to_owned),
            deadline: None,
        }
    }

    pub fn request<T>(&self, message: T) -> Request<T> {
        let mut request = Request::new(message);
        if let Some(deadline) = self.deadline {
            request.set_timeout(deadline);
        }
        if let Some(token) = &self.token {
            let bearer = MetadataValue::try_from(format!("Bearer {token}")).unwrap();
            request.metadata_mut().insert("authorization", bearer);
        }
        request
    }

    pub async fn start(
        &mut self,
        message: StartAuthorizationRequest,
    ) -> Result<StartAuthorizationResponse, Status> {
        let request = self.request(message);
        Ok(self.integration.start_authorization(request).await?.into_inner())
    }

    pub async fn complete(&mut self, message: CompleteAuthorizationRequest) -> Result<Session, Status> {
        let request = self.request(message);
        Ok(self.integration.complete_authorization(request).await?.into_inner().session.unwrap())
    }

    pub async fn get(&mut self, lookup: Lookup) -> Result<Session, Status> {
        let request = self.request(GetSessionRequest { lookup: Some(lookup), refresh: false });
        Ok(self.integration.get_session(request).await?.into_inner().session.unwrap())
    }

    pub async fn session(&mut self, id: &str) -> Result<Session, Status> {
        self.get(Lookup::SessionId(id.to_owned())).await
    }

    pub async fn refreshed(&mut self, id: &str) -> Result<Session, Status> {
        let lookup = Some(Lookup::SessionId(id.to_owned()));
        let request = self.request(GetSessionRequest { lookup, refresh: true });
        Ok(self.integration.get_session(request).await?.into_inner().session.unwrap())
    }

    pub async fn cancel(&mut self, id: &str) -> Result<Session, Status> {
        let request = self.request(CancelAuthorizationRequest { session_id: id.to_owned() });
        Ok(self.integration.cancel_authorization(request).await?.into_inner().session.unwrap())
    }

    pub async fn revoke(&mut self, id: &str) -> Result<Session, Status> {
        let request = self.request(RevokeTokenRequest { session_id: id.to_owned() });
        Ok(self.integration.revoke_token(request).await?.into_inner().session.unwrap())
    }

    pub async fn access_token(&mut self, id: &str) -> Result<String, Status> {
        let request = self.request(GetAccessTokenRequest { session_id: id.to_owned() });
        Ok(self.integration.get_access_token(request).await?.into_inner().access_token)
    }

    /// Waits until no token waits to be revoked any more.
    pub async fn no_revocation_waits(&mut self) {
        self.status_until(|status| status.store.as_ref().unwrap().pending_revocations == 0).await;
    }

    pub async fn ingest(&mut self, body: &[u8], signature: &str) -> Result<IngestWebhookResponse, Status> {
        let message = IngestWebhookRequest {
            client: "shop".into(),
            body: body.to_vec(),
            signature: signature.to_owned(),
        };
        let request = self.request(message);
        Ok(self.integration.ingest_webhook(request).await?.into_inner())
    }

    /// Asks for the status until it is as wanted.
    pub async fn status_until(
        &mut self,
        is_wanted: impl Fn(&GetStatusResponse) -> bool,
    ) -> GetStatusResponse {
        let asking = async {
            loop {
                let status = self.status().await.unwrap();
                if is_wanted(&status) {
                    return status;
                }
            }
        };
        tokio::time::timeout(SURELY, asking).await.expect("the status is not as wanted")
    }

    pub async fn status(&mut self) -> Result<GetStatusResponse, Status> {
        let request = self.request(GetStatusRequest {});
        Ok(self.admin.get_status(request).await?.into_inner())
    }
}

/// A refusal as a caller sees it.
#[derive(Debug)]
pub struct Refused {
    pub code: Code,
    pub reason: String,
    pub metadata: std::collections::HashMap<String, String>,
    pub fields: Vec<String>,
    pub is_retryable: bool,
    /// When a retry has a chance, where one has.
    pub retry_delay: Option<Duration>,
}

/// Takes a refusal apart, and checks what every one must have: details and trailers that say the same.
pub fn refused<T: std::fmt::Debug>(result: Result<T, Status>) -> Refused {
    let status = result.expect_err("a refusal");
    let info = status.get_details_error_info().unwrap_or_else(|| panic!("no ErrorInfo: {status:?}"));
    assert_eq!(info.domain, "cairld");
    assert!(info.metadata.contains_key("remedy"), "{info:?}");
    assert!(status.get_details_help().is_some(), "{status:?}");
    let trailer = |name: &str| status.metadata().get(name).unwrap().to_str().unwrap().to_owned();
    assert_eq!(trailer("cairld-reason"), info.reason);
    let retry = status.get_details_retry_info();
    let is_retryable = retry.is_some();
    assert_eq!(trailer("cairld-retryable"), is_retryable.to_string());
    let violations = status.get_details_bad_request().map(|bad| bad.field_violations).unwrap_or_default();
    Refused {
        code: status.code(),
        reason: info.reason,
        metadata: info.metadata,
        fields: violations.into_iter().map(|violation| violation.field).collect(),
        is_retryable,
        retry_delay: retry.and_then(|retry| retry.retry_delay),
    }
}
