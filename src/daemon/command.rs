//! The commands of `cairld`.

use std::{
    env, io,
    net::SocketAddr,
    num::NonZero,
    path::{Path, PathBuf},
    process,
    sync::Arc,
    thread,
    time::Duration,
};

use clap::{Parser, Subcommand};
use sd_notify::NotifyState;
use sysexits::ExitCode;
use tokio::{
    net::TcpListener,
    runtime::{Builder, Runtime},
};

use super::{
    check::check,
    config::{Config, Environment, Sockets, load},
    descriptors, dev,
    ending::Ending,
    exit::{Failure, say, write_secret},
    inherited::Inherited,
    listener::Listeners,
    notify::notify,
    run::{Readiness, Stage, run},
    signals::{Stop, reloads},
    telemetry::{self, LogOptions, Traces},
};
use crate::{domain::Tracer, sandbox, store::MasterKey};

/// Takes users through a CAIRL verification, once and right, for services in any language.
#[derive(Debug, Parser)]
#[command(version, after_help = EXIT_CODES)]
struct Args {
    #[command(subcommand)]
    command: Command,
}

const EXIT_CODES: &str = "\
Exit codes, as in sysexits(3): 0 ended as asked; 64 wrong usage; 65 the store is damaged, or the \
backup in its place; 69 a listener is in use; 70 internal error; 71 the operating system refused; 73 a file cannot be \
created; 74 the store cannot be read or written, or is not let go of in time; 75 another process has the store; \
78 the configuration or the store's key is wrong; 130 ended by a second signal.";

#[derive(Debug, Subcommand)]
enum Command {
    /// Run the daemon.
    Serve {
        /// The configuration file.
        #[arg(long, value_name = "FILE", default_value = "/etc/cairld/cairld.toml")]
        config: PathBuf,
        #[command(flatten)]
        log: LogOptions,
    },
    /// Say everything that is wrong with a configuration, and start nothing.
    Check {
        /// The configuration file.
        #[arg(long, value_name = "FILE", default_value = "/etc/cairld/cairld.toml")]
        config: PathBuf,
    },
    /// Run a stand-in for the provider: its wire contract, a consent page, scripted faults.
    ///
    /// It is steered over HTTP, under /sandbox/: clients, decide, webhooks, faults, clock, journal. docs/sandbox.md tells how.
    Sandbox {
        /// Where it listens; loopback alone.
        #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:8970")]
        listen: SocketAddr,
        /// Listen on other addresses than loopback too. Whoever reaches it controls it.
        #[arg(long)]
        allow_remote: bool,
        /// Cap test keys at so many calls a day, as the provider does at 100.
        #[arg(long, value_name = "CALLS")]
        daily_cap: Option<u32>,
        #[command(flatten)]
        log: LogOptions,
    },
    /// Run the daemon against its own sandbox, in one process with a throw-away store, and print what to try.
    Dev {
        #[command(flatten)]
        options: dev::Options,
        #[command(flatten)]
        log: LogOptions,
    },
    /// Make a master key for the store's key ring.
    Keygen {
        /// A new file to write it to, readable by its owner alone; without it, standard output.
        file: Option<PathBuf>,
    },
}

/// Runs the command that this process was started with.
pub fn main() -> process::ExitCode {
    let args = match Args::try_parse() {
        Ok(args) => args,
        Err(error) => {
            let code = if error.use_stderr() { ExitCode::Usage } else { ExitCode::Ok };
            // Where the text cannot be printed, the exit code still says it.
            let _ = error.print();
            return code.into();
        }
    };
    let format = args.command.log().map(LogOptions::form);
    match execute(args.command) {
        Ok(()) => ExitCode::Ok.into(),
        Err(failure) => {
            telemetry::last_words(format, &failure.message);
            failure.code.into()
        }
    }
}

impl Command {
    /// How a command that logs does so.
    fn log(&self) -> Option<&LogOptions> {
        match self {
            Self::Serve { log, .. } | Self::Sandbox { log, .. } | Self::Dev { log, .. } => Some(log),
            Self::Check { .. } | Self::Keygen { .. } => None,
        }
    }
}

fn execute(command: Command) -> Result<(), Failure> {
    match command {
        Command::Serve { config, log } => {
            telemetry::start("info", &log);
            let (version, pid) = (env!("CARGO_PKG_VERSION"), process::id());
            // In the message itself, which is all that `journalctl` shows without being asked for more.
            tracing::info!(version, pid, "cairld {version} starts; configuration {}", config.display());
            descriptors::raise_limit().map_err(|error| Failure::new(ExitCode::OsErr, error))?;
            let inherited = Inherited::take().map_err(|error| Failure::new(ExitCode::Config, error))?;
            let loaded = configuration(&config, inherited.sockets())?;
            let traces = Traces::from_environment();
            let stop = Stop::on_signals(traces.clone())?;
            let ending = stop.ending();
            let ended = in_runtime(serve(loaded, config, inherited, traces.tracer(), stop), &ending);
            if ended.is_ok() {
                tracing::info!("stopped");
            }
            traces.finish();
            ended
        }
        Command::Check { config } => check(&config, &Traces::default().tracer()),
        Command::Sandbox { listen, allow_remote, daily_cap, log } => {
            telemetry::start("info", &log);
            sandbox::check_listen(listen, allow_remote)
                .map_err(|error| Failure::new(ExitCode::Usage, error))?;
            let stop = Stop::on_signals_and_hang_up(Traces::default())?;
            let ending = stop.ending();
            in_runtime(serve_sandbox(listen, daily_cap, stop), &ending)
        }
        Command::Dev { options, log } => {
            telemetry::start("warn", &log);
            let traces = Traces::from_environment();
            let stop = Stop::on_signals_and_hang_up(traces.clone())?;
            let ending = stop.ending();
            let ended = in_runtime(dev::dev(options, traces.tracer(), stop), &ending);
            traces.finish();
            ended
        }
        Command::Keygen { file } => keygen(file.as_deref()),
    }
}

fn configuration(path: &Path, sockets: Sockets) -> Result<Config, Failure> {
    load(path, &Environment::from_process(sockets))
        .map_err(|problems| Failure::new(ExitCode::Config, problems))
}

fn in_runtime(work: impl Future<Output = Result<(), Failure>>, ending: &Ending) -> Result<(), Failure> {
    let runtime = runtime().map_err(|error| Failure::new(ExitCode::OsErr, error))?;
    let ended = runtime.block_on(work);
    // A look-up of a name that hangs must not hold up the end, nor a store that was still being opened.
    runtime.shutdown_timeout(Duration::from_secs(1));
    ending.closed();
    ended
}

/// One thread for the network beside the store's writer where there are two processors, since a second would compete with
/// both: measured, a quarter less processor time for each call. With more processors a thread for each, and as many as
/// `TOKIO_WORKER_THREADS` says where that is a number.
fn runtime() -> io::Result<Runtime> {
    let asked = env::var("TOKIO_WORKER_THREADS").ok().and_then(|threads| threads.parse().ok());
    let processors = thread::available_parallelism().unwrap_or(NonZero::<usize>::MIN);
    let threads = asked.or((processors.get() > 2).then_some(processors));
    let mut builder = match threads {
        Some(threads) => {
            let mut builder = Builder::new_multi_thread();
            builder.worker_threads(threads.get());
            builder
        }
        None => Builder::new_current_thread(),
    };
    builder.enable_all().build()
}

async fn serve(
    config: Config,
    path: PathBuf,
    inherited: Inherited,
    tracer: Arc<dyn Tracer>,
    stop: Stop,
) -> Result<(), Failure> {
    let reloads = reloads(path, inherited.sockets())?;
    let listeners = Listeners::bind(&config.grpc, &config.http, inherited).await?;
    notify(&[NotifyState::Status("opening the store")]);
    let (serving, ending) = (format!("serving {listeners}"), stop.ending());
    let tell = |stage| {
        ending.follow(&stage);
        match stage {
            Stage::Serving(Readiness::AsConfigured) => {
                notify(&[NotifyState::Ready, NotifyState::Status(&serving)]);
            }
            Stage::Serving(Readiness::AsBefore) => {
                let status = "serving as before: the configuration that was read anew is wrong, see the log";
                notify(&[NotifyState::Ready, NotifyState::Status(status)]);
            }
            Stage::Stopping => {
                notify(&[NotifyState::Stopping, NotifyState::Status("finishing calls in flight")]);
            }
            Stage::Closing(_) => notify(&[NotifyState::Status("closing the store")]),
        }
    };
    run(config, listeners, tell, reloads, tracer, stop.asked()).await?;
    Ok(())
}

async fn serve_sandbox(listen: SocketAddr, daily_cap: Option<u32>, stop: Stop) -> Result<(), Failure> {
    let unavailable = |error: io::Error| Failure::new(ExitCode::Unavailable, format!("{listen}: {error}"));
    let bound = TcpListener::bind(listen).await;
    let listener = bound.map_err(|error| {
        let what = format!("--listen {listen}: {error}; choose another port, or 0 for any");
        Failure::new(ExitCode::Unavailable, what)
    })?;
    let address = listener.local_addr().map_err(unavailable)?;
    say(format_args!("sandbox     http://{address}"))?;
    notify(&[NotifyState::Ready]);
    let settings = sandbox::Settings { daily_cap, ..sandbox::Settings::default() };
    sandbox::run(listener, settings, async move { stop.asked().await }).await.map_err(unavailable)
}

fn keygen(file: Option<&Path>) -> Result<(), Failure> {
    let mut bytes = [0; 32];
    getrandom::fill(&mut bytes).map_err(|error| Failure::new(ExitCode::OsErr, error))?;
    let text = MasterKey::new(bytes).expose();
    match file {
        None => say(format_args!("{}", *text)),
        Some(path) => write_secret(path, &text).map_err(|error| {
            let remedy = if error.kind() == io::ErrorKind::AlreadyExists {
                "a key that is in use must not be lost: choose another name"
            } else {
                "choose a folder that exists and that you may write to"
            };
            Failure::new(ExitCode::CantCreat, format!("{}: {error}; {remedy}", path.display()))
        }),
    }
}
