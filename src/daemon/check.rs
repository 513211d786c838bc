//! `cairld check`: all that is wrong with a configuration, and what a start would miss, without starting anything.

use std::{fs, io, path::Path, sync::Arc};

use sysexits::ExitCode;

use super::{
    assemble,
    clock::SystemClock,
    config::{Config, Environment, Sockets, load},
    exit::{Failure, say},
    listener::no_other_file,
    run::RunError,
};
use crate::{
    domain::{Clock, Tracer},
    provider::ProviderMetrics,
};

/// Says what is wrong with a configuration; whatever a start would refuse in it is an error, or a reload, but for what cannot be
/// changed while a daemon runs.
pub(super) fn check(path: &Path, tracer: &Arc<dyn Tracer>) -> Result<(), Failure> {
    let loaded = load(path, &Environment::from_process(Sockets::Unknown));
    let config = loaded.map_err(|problems| Failure::new(ExitCode::Config, problems))?;
    let clock: Arc<dyn Clock> = Arc::new(SystemClock::new());
    assemble::clients(&config, &clock, &ProviderMetrics::default(), tracer).map_err(RunError::from)?;
    if let Some(path) = &config.grpc.unix {
        let taken = |why| Failure::new(ExitCode::Config, format!("grpc.unix = {}: {why}", path.display()));
        no_other_file(path).map_err(taken)?;
    }
    for warning in missing_folders(&config) {
        say(format_args!("{}: {warning}", path.display()))?;
    }
    let is_told = config.grpc.unix.is_some() || config.grpc.tcp.is_some();
    let unless = if is_told { "" } else { ", where cairld.socket says where callers reach the daemon" };
    say(format_args!("{}: nothing is wrong{unless}", path.display()))
}

/// Folders that have to be there by the time of a start. They are no errors: before the first one of the unit, its own are not
/// there either.
fn missing_folders(config: &Config) -> Vec<String> {
    let unix = config.grpc.unix.as_ref().map(|path| ("grpc.unix", path));
    let files = [("store.path", &config.store.path)].into_iter().chain(unix);
    let missing = files.filter_map(|(key, file)| {
        let folder = folder(file);
        // What cannot be looked at from here may be there for the daemon's user.
        let what = match fs::metadata(folder) {
            Ok(found) if !found.is_dir() => "is no folder",
            Err(error) if error.kind() == io::ErrorKind::NotFound => "is not there",
            Ok(_) | Err(_) => return None,
        };
        Some(format!(
            "warning: {key}: {} {what}; a start needs it, and only /var/lib/cairld and /run/cairld are made by the unit",
            folder.display()
        ))
    });
    missing.collect()
}

/// Where a file lies.
pub(super) fn folder(file: &Path) -> &Path {
    file.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."))
}
