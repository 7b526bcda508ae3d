//! A Lambda endpoint on one machine, for tests and local use: it speaks the Invoke API to whoever calls functions and the
//! Runtime API to the functions, and runs their unmodified programs as processes, as AWS does.
//!
//! It knows nothing of what the functions do and imports nothing of theirs, so that it can't agree with them by accident.
//! It is a stand-in and never a product: what it leaves out is listed in `README.md` beside it.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Write;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use base64::Engine;
use clap::Parser;
use sha2::Digest;

use crate::api::Service;
use crate::faults::Faults;
use crate::function::{Account, Code, Function, PUBLISHED, Settings};
use crate::log::Log;

mod api;
mod control;
mod describe;
mod dice;
mod faults;
mod function;
mod ids;
mod instance;
mod listener;
mod log;
mod process;
mod refusal;
mod report;
mod runtime_api;

/// A Lambda endpoint on one machine: runs functions' programs as processes, as AWS does.
#[derive(Debug, Parser)]
#[command(version)]
struct Args {
    /// Where to listen; port 0 is any that is free. The address is printed once it answers.
    #[arg(long, default_value = "127.0.0.1:0")]
    listen: SocketAddr,
    /// A function and its program; may be given several times. There is always one called `sleeper`.
    #[arg(long = "function", value_name = "NAME=PATH", value_parser = pair)]
    functions: Vec<(String, String)>,
    /// A folder for the log of what ran (invocations.jsonl), what functions print (function.log), and scratch.
    #[arg(long)]
    folder: PathBuf,
    /// The region it is in.
    #[arg(long, default_value = "us-east-1")]
    region: String,
    /// The access key that callers sign with, and functions get.
    #[arg(long, default_value = "AKIALOCAL")]
    access_key: String,
    /// The secret key that functions get.
    #[arg(long, default_value = "local")]
    secret_key: String,
    /// MB of memory of an instance.
    #[arg(long, default_value_t = 2048)]
    memory: u64,
    /// Seconds an invocation may take.
    #[arg(long, default_value_t = 900.0, value_parser = seconds)]
    timeout: f64,
    /// Seconds an instance may take to start.
    #[arg(long, default_value_t = 10.0, value_parser = seconds)]
    init_limit: f64,
    /// Seconds an instance may wait for something to do.
    #[arg(long, default_value_t = 300.0, value_parser = seconds)]
    idle_limit: f64,
    /// Concurrency reserved for each function; without it they share the account's.
    #[arg(long)]
    concurrency: Option<usize>,
    /// Concurrency of the account.
    #[arg(long, default_value_t = 1000)]
    account_concurrency: usize,
    /// How logs are written.
    #[arg(long, value_enum, default_value = "text", ignore_case = true)]
    log_format: report::Format,
    /// An alias of the published version, 1.
    #[arg(long = "alias", default_value = "live")]
    aliases: Vec<String>,
    /// A variable of the functions' environment; may be given several times.
    #[arg(long = "env", value_name = "NAME=VALUE", value_parser = pair)]
    environment: Vec<(String, String)>,
    /// Lets instances run on between invocations; on AWS they are frozen.
    #[arg(long)]
    no_freeze: bool,
    /// Seconds before the second and before the third try of an event that failed; on AWS a minute and two.
    #[arg(long, default_value = "1,2", value_delimiter = ',', num_args = 1, value_parser = seconds)]
    event_pauses: Vec<f64>,
}

fn pair(text: &str) -> Result<(String, String), String> {
    let (name, value) = text.split_once('=').ok_or("expected NAME=VALUE")?;
    if name.is_empty() {
        return Err("expected a name before '='".to_owned());
    }
    Ok((name.to_owned(), value.to_owned()))
}

fn seconds(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(value) if value.is_finite() && (0.0..=1e6).contains(&value) => Ok(value),
        _ => Err("expected a number of seconds".to_owned()),
    }
}

#[tokio::main]
async fn main() -> ExitCode {
    tracing_subscriber::fmt().with_writer(std::io::stderr).with_ansi(false).init();
    match run(Args::parse()).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(message) => {
            tracing::error!("{message}");
            ExitCode::FAILURE
        }
    }
}

async fn run(args: Args) -> Result<(), String> {
    let service = service(&args)?;
    let listener = tokio::net::TcpListener::bind(args.listen)
        .await
        .map_err(|e| format!("can't listen at {}: {e}", args.listen))?;
    let address = listener.local_addr().map_err(|e| e.to_string())?;
    raise_file_limit();
    // What can't be written to standard output, because nobody reads it, is no reason to end.
    let _ = writeln!(std::io::stdout(), "http://{address}");
    let _ = std::io::stdout().flush();
    tracing::info!(%address, functions = ?service.functions.keys().collect::<Vec<_>>(), "listening");

    let routes = api::router(service.clone()).merge(control::router(service.clone()));
    let server =
        axum::serve(listener::Listener(listener), routes.into_make_service_with_connect_info::<listener::Peer>());
    let mut second = tokio::time::interval(Duration::from_secs_f64((args.idle_limit / 4.0).clamp(0.05, 1.0)));
    let serving = tokio::spawn(async move { server.await });
    let mut stop =
        tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate()).map_err(|e| e.to_string())?;
    loop {
        tokio::select! {
            _ = second.tick() => service.functions.values().for_each(|function| function.expire()),
            _ = stop.recv() => break,
            _ = tokio::signal::ctrl_c() => break,
        }
    }
    serving.abort();
    for function in service.functions.values() {
        function.end(true);
    }
    // Those at work are killed by whoever waits for them; the kernel sees to any that is left.
    tokio::time::sleep(Duration::from_millis(100)).await;
    Ok(())
}

fn service(args: &Args) -> Result<Arc<Service>, String> {
    let scratch = args.folder.join("scratch");
    // What an endpoint that was killed has left.
    let _ = std::fs::remove_dir_all(&scratch);
    std::fs::create_dir_all(&scratch).map_err(|e| format!("can't make the folder {}: {e}", scratch.display()))?;
    let scratch = scratch.canonicalize().map_err(|e| e.to_string())?;
    let path = args.folder.join("invocations.jsonl");
    let log = Log::to_file(&path).map_err(|e| format!("can't write to {}: {e}", path.display()))?;
    let path = args.folder.join("function.log");
    let output = File::options()
        .create(true)
        .append(true)
        .open(&path)
        .map_err(|e| format!("can't write to {}: {e}", path.display()))?;
    let output = Arc::new(Mutex::new(output));
    let (log, faults, account) = (Arc::new(log), Arc::new(Faults::default()), Account::new(args.account_concurrency));

    let mut functions = BTreeMap::new();
    let programs = args.functions.iter().map(|(name, path)| Ok((name.clone(), program(Path::new(path))?)));
    for entry in programs.chain([Ok(("sleeper".to_owned(), Source::sleeper()))]) {
        let (name, source): (String, Source) = entry.map_err(|e: String| e)?;
        let sleeps = matches!(source.code, Code::Sleeper);
        let settings = Settings {
            name: name.clone(),
            code: source.code,
            code_sha256: source.sha256,
            code_bytes: source.bytes,
            region: args.region.clone(),
            memory_mb: args.memory,
            timeout: Duration::from_secs_f64(args.timeout),
            init_limit: Duration::from_secs_f64(args.init_limit),
            idle_limit: Duration::from_secs_f64(args.idle_limit),
            format: args.log_format,
            freeze: !args.no_freeze,
            reserved: if sleeps { None } else { args.concurrency },
            aliases: args.aliases.iter().map(|alias| (alias.clone(), PUBLISHED.to_owned())).collect(),
            environment: args.environment.clone(),
            credentials: vec![
                ("AWS_ACCESS_KEY_ID".to_owned(), args.access_key.clone()),
                ("AWS_SECRET_ACCESS_KEY".to_owned(), args.secret_key.clone()),
            ],
            folder: scratch.clone(),
            modified_ms: ids::now_ms(),
        };
        let function = Function::new(settings, faults.clone(), log.clone(), account.clone(), Some(output.clone()));
        functions.insert(name, function);
    }
    let pause = |n: usize| Duration::from_secs_f64(args.event_pauses.get(n).copied().unwrap_or(1.0));
    Ok(Arc::new(Service {
        region: args.region.clone(),
        keys: vec![args.access_key.clone()],
        functions,
        account,
        faults,
        log,
        event_pauses: [pause(0), pause(1)],
    }))
}

/// A function's code, and how it is known.
struct Source {
    code: Code,
    sha256: String,
    bytes: u64,
}

impl Source {
    fn sleeper() -> Self {
        Self { code: Code::Sleeper, sha256: digest(b"sleeper"), bytes: 0 }
    }
}

fn digest(bytes: &[u8]) -> String {
    base64::engine::general_purpose::STANDARD.encode(sha2::Sha256::digest(bytes))
}

fn program(path: &Path) -> Result<Source, String> {
    let shown = path.display();
    let bytes = std::fs::read(path).map_err(|e| format!("can't read the function's program {shown}: {e}"))?;
    let path = path.canonicalize().map_err(|e| format!("can't find {shown}: {e}"))?;
    Ok(Source { sha256: digest(&bytes), bytes: bytes.len() as u64, code: Code::Program(path) })
}

/// A thousand callers and their instances need more open files than a shell allows at first.
fn raise_file_limit() {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: both calls take a pointer to a structure that lives here.
    unsafe {
        if libc::getrlimit(libc::RLIMIT_NOFILE, &mut limit) == 0 {
            limit.rlim_cur = limit.rlim_max;
            libc::setrlimit(libc::RLIMIT_NOFILE, &limit);
        }
    }
}
