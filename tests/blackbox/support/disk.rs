//! A disk that hangs or fails when it is told to.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use super::{World, cairld};

/// What stands between a daemon and the disk under its store.
pub struct Disk {
    library: PathBuf,
    sign: PathBuf,
}

impl Disk {
    /// One without trouble. It is made of C, since what is preloaded takes `unsafe`; whoever can build the daemon has a compiler.
    pub fn new(world: &World) -> Self {
        let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/blackbox/support/disk.c");
        let disk = Self { library: world.path("disk.so"), sign: world.path("trouble") };
        let mut cc = Command::new("cc");
        cc.args(["-shared", "-fPIC", "-o"]).arg(&disk.library).arg(source).arg("-ldl");
        assert!(cc.status().unwrap().success());
        disk
    }

    /// From now on nothing is written for good.
    pub fn hang(&self) {
        fs::write(&self.sign, "").unwrap();
    }

    /// From now on nothing is written for good, and that is said.
    pub fn fail(&self) {
        // Beside, and moved there: a file that is there and empty for a moment would have a sync hang instead.
        let written = self.sign.with_extension("new");
        fs::write(&written, "fails").unwrap();
        fs::rename(written, &self.sign).unwrap();
    }

    /// It is well again, and what was held up goes on.
    pub fn mend(&self) {
        fs::remove_file(&self.sign).unwrap();
    }

    /// A command that becomes a daemon on it.
    pub fn cairld(&self) -> Command {
        let mut command = cairld();
        command.env("LD_PRELOAD", &self.library).env("TROUBLE", &self.sign);
        command
    }
}
