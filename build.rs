//! Generates the gRPC code and the stored messages from `proto/`, in pure Rust: no protoc to install.

use std::{env, error::Error, fs, path::PathBuf};

use prost::Message;
use protox::Compiler;

fn main() -> Result<(), Box<dyn Error>> {
    let out = PathBuf::from(env::var("OUT_DIR")?);
    println!("cargo:rerun-if-changed=proto");
    println!("cargo:rerun-if-changed=src/store/record.proto");

    let mut contract =
        compile("proto", &["cairld/v1/integration_service.proto", "cairld/v1/admin_service.proto"])?;
    tonic_prost_build::configure()
        .codec_path("crate::api::codec::SmallBuffers")
        .compile_fds(contract.clone())?;
    for file in &mut contract.file {
        file.source_code_info = None;
    }
    fs::write(out.join("cairld.v1.fds.bin"), contract.encode_to_vec())?;

    tonic_prost_build::configure().compile_fds(compile("src/store", &["record.proto"])?)?;
    Ok(())
}

fn compile(folder: &str, files: &[&str]) -> Result<prost_types::FileDescriptorSet, Box<dyn Error>> {
    let mut compiler = Compiler::new([folder])?;
    compiler.include_imports(true).include_source_info(true).open_files(files)?;
    Ok(compiler.file_descriptor_set())
}
