//! Sweeping: bite after bite, until nothing is left to do for now.

use std::sync::PoisonError;

use super::Flows;
use crate::{
    domain::Moment,
    store::{StoreError, Swept},
};

impl Flows {
    /// Sweeps until nothing is past its time any more. Other work goes on between the bites.
    ///
    /// # Errors
    /// The store's; the next sweep begins where this one stopped.
    pub async fn sweep(&self) -> Result<Swept, StoreError> {
        let mut sum = Swept::default();
        loop {
            let bite = self.store.sweep(self.now()).await?;
            sum.ended += bite.ended;
            sum.removed += bite.removed;
            sum.unreadable = bite.unreadable.or(sum.unreadable);
            if !bite.more {
                break;
            }
            tokio::task::yield_now().await;
        }
        if sum.unreadable.is_none() {
            *self.last_sweep.lock().unwrap_or_else(PoisonError::into_inner) = Some((self.now(), sum.clone()));
        }
        Ok(sum)
    }

    /// When the last sweep of this process ended that left nothing out, and what it did.
    pub fn last_sweep(&self) -> Option<(Moment, Swept)> {
        self.last_sweep.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}
