//! Handing out an access token.

use super::Flows;
use crate::{
    domain::{AccessToken, Reason, Refusal, SessionId, Timestamp, TokenStanding, Viewer},
    store::Lookup,
};

impl Flows {
    /// The session's access token, and when it runs out. Whether the caller may have tokens at all is decided at the door.
    ///
    /// # Errors
    /// `SESSION_NOT_FOUND`, `TOKEN_NOT_HELD`, the store's.
    pub async fn access_token(
        &self,
        viewer: &Viewer,
        id: SessionId,
    ) -> Result<(AccessToken, Timestamp), Refusal> {
        match self.session(viewer, &Lookup::Id(id)).await?.token {
            TokenStanding::Held { token, since, life } => Ok((token, since.wall.plus(life))),
            TokenStanding::None | TokenStanding::Revoked | TokenStanding::Expired => {
                Err(Reason::TokenNotHeld.into())
            }
        }
    }
}
