//! Its `AdminService`.

use sha2::{Digest, Sha256};

use super::*;
use crate::api::proto::admin_service_server::AdminService;

/// What it gives as a backup.
pub(crate) fn backup() -> Vec<u8> {
    let mut bytes = [b"cairld backup 1\n", &[7; 70][..]].concat();
    bytes.extend(Sha256::digest(&bytes));
    bytes
}

#[tonic::async_trait]
impl AdminService for Knowing {
    async fn get_status(&self, _: Request<GetStatusRequest>) -> Answer<GetStatusResponse> {
        Ok(Response::new(GetStatusResponse { version: "0.1.0".to_owned(), ..GetStatusResponse::default() }))
    }

    type BackupStoreStream = Streamed<BackupStoreResponse>;
    type VerifyStoreStream = Streamed<VerifyStoreResponse>;
    type RotateKeyStream = Streamed<RotateKeyResponse>;

    async fn list_sessions(&self, _: Request<ListSessionsRequest>) -> Answer<ListSessionsResponse> {
        unasked()
    }

    async fn backup_store(&self, _: Request<BackupStoreRequest>) -> Answer<Self::BackupStoreStream> {
        let bytes = backup();
        let told = (1_i64..)
            .zip(bytes.chunks(bytes.len().div_ceil(3)))
            .map(|(copied, chunk)| Ok(BackupStoreResponse { chunk: chunk.to_vec(), copied, total: 3 }));
        let pieces = if self.0.is_flawed.load(Ordering::Relaxed) { 2 } else { 3 };
        Ok(Response::new(Box::pin(tokio_stream::iter(told.take(pieces).collect::<Vec<_>>()))))
    }

    async fn verify_store(&self, _: Request<VerifyStoreRequest>) -> Answer<Self::VerifyStoreStream> {
        let problems = if self.0.is_flawed.load(Ordering::Relaxed) {
            vec![
                "sessions 00ff: damaged \u{1b}[2J".to_owned(),
                "codes 01: its session 02 is not there".to_owned(),
            ]
        } else {
            Vec::new()
        };
        let told = [
            VerifyStoreResponse { checked: 50, total: 100, problems: Vec::new() },
            VerifyStoreResponse { checked: 100, total: 100, problems },
        ];
        Ok(Response::new(Box::pin(tokio_stream::iter(told.map(Ok)))))
    }

    async fn compact_store(&self, _: Request<CompactStoreRequest>) -> Answer<CompactStoreResponse> {
        Ok(Response::new(CompactStoreResponse { bytes_before: 2048, bytes_after: 1024 }))
    }

    async fn rotate_key(&self, _: Request<RotateKeyRequest>) -> Answer<Self::RotateKeyStream> {
        let told = [(10, 9), (11, 10), (50, 45)];
        let told = told.map(|(checked, sealed)| RotateKeyResponse {
            sealed,
            checked,
            total: 100,
            ..RotateKeyResponse::default()
        });
        let last = RotateKeyResponse {
            sealed: 90,
            checked: 100,
            total: 100,
            done: true,
            key: "0a0b0c0d".to_owned(),
            removable_keys: vec!["01020304".to_owned()],
            ..RotateKeyResponse::default()
        };
        Ok(Response::new(Box::pin(tokio_stream::iter(told.into_iter().chain([last]).map(Ok)))))
    }

    async fn check_provider(&self, _: Request<CheckProviderRequest>) -> Answer<CheckProviderResponse> {
        unasked()
    }
}
