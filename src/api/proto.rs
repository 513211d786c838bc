//! The contract's generated code (`proto/cairld/v1`) and its descriptors.

#![allow(missing_docs, unreachable_pub, clippy::all, clippy::restriction)]

tonic::include_proto!("cairld.v1");

/// The contract as an encoded `google.protobuf.FileDescriptorSet`, for reflection and for JSON.
pub const FILE_DESCRIPTOR_SET: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/cairld.v1.fds.bin"));
