//! A function: its settings, its instances, how many of them may run at once, and what an invocation of it comes to.

use std::collections::BTreeMap;
use std::fs::File;
use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use axum::body::Bytes;
use serde_json::json;
use tokio::sync::Notify;

use crate::faults::{Fate, Faults};
use crate::ids;
use crate::instance::{Answer, Broken, Instance, Recipe};
use crate::log::{Log, Record};
use crate::refusal::Refusal;
use crate::report::{self, Format, Metrics, Status};
use crate::runtime_api::{Event, RESPONSE_LIMIT};

/// What runs an invocation.
#[derive(Clone, Debug)]
pub(crate) enum Code {
    /// This program, as a process.
    Program(PathBuf),
    /// Nothing: the answer comes after the payload's `ms` milliseconds. It costs no process, so that a thousand at once
    /// measure the caller and not the machine.
    Sleeper,
}

/// What a function is set to.
#[derive(Clone, Debug)]
pub(crate) struct Settings {
    pub(crate) name: String,
    pub(crate) code: Code,
    pub(crate) code_sha256: String,
    pub(crate) code_bytes: u64,
    pub(crate) region: String,
    pub(crate) memory_mb: u64,
    pub(crate) timeout: Duration,
    pub(crate) init_limit: Duration,
    pub(crate) idle_limit: Duration,
    pub(crate) format: Format,
    pub(crate) freeze: bool,
    /// The concurrency reserved for it, if any.
    pub(crate) reserved: Option<usize>,
    /// Alias to version.
    pub(crate) aliases: BTreeMap<String, String>,
    /// The variables its configuration gives.
    pub(crate) environment: Vec<(String, String)>,
    /// Access key, secret key, and a session token if there is one: what its role's would be.
    pub(crate) credentials: Vec<(String, String)>,
    /// A folder for the scratch of instances.
    pub(crate) folder: PathBuf,
    /// Milliseconds since 1970 at which it was deployed.
    pub(crate) modified_ms: u64,
}

/// The version that can change, and the one that is published.
pub(crate) const LATEST: &str = "$LATEST";
pub(crate) const PUBLISHED: &str = "1";

/// What one invocation is asked to do.
#[derive(Clone, Debug)]
pub(crate) struct Call {
    pub(crate) request_id: String,
    pub(crate) version: String,
    /// The ARN as it was asked for, qualifier and all.
    pub(crate) arn: String,
    pub(crate) payload: Bytes,
    pub(crate) trace: String,
    pub(crate) client_context: Option<String>,
    /// `RequestResponse` or `Event`.
    pub(crate) kind: &'static str,
    pub(crate) attempt: u32,
    /// What becomes of the answer, for the log of what ran.
    pub(crate) fate: Fate,
}

/// What came of one.
#[derive(Debug)]
pub(crate) struct Outcome {
    pub(crate) payload: Bytes,
    /// Whether it is an error of the function.
    pub(crate) failed: bool,
    pub(crate) log: Vec<u8>,
}

/// A function and its instances.
pub(crate) struct Function {
    pub(crate) settings: Settings,
    pub(crate) faults: Arc<Faults>,
    pub(crate) log: Arc<Log>,
    /// Invocations of all functions, and how many there may be.
    pub(crate) account: Arc<Account>,
    output: Option<Arc<Mutex<File>>>,
    idle: Mutex<Vec<Instance>>,
    in_flight: AtomicUsize,
    throttled: AtomicUsize,
    started: AtomicUsize,
    /// Told when all instances are to be killed.
    doom: Arc<Notify>,
    /// The mean time of what ran lately, in microseconds.
    mean_us: AtomicUsize,
}

/// What all functions share.
#[derive(Debug)]
pub(crate) struct Account {
    pub(crate) limit: usize,
    in_flight: AtomicUsize,
}

impl Account {
    pub(crate) fn new(limit: usize) -> Arc<Self> {
        Arc::new(Self { limit, in_flight: AtomicUsize::new(0) })
    }
}

/// The right to run one invocation, while it lasts.
pub(crate) struct Permit(Arc<Function>);

impl Drop for Permit {
    fn drop(&mut self) {
        self.0.in_flight.fetch_sub(1, Ordering::SeqCst);
        self.0.account.in_flight.fetch_sub(1, Ordering::SeqCst);
    }
}

/// Takes one of so many, if one is left.
fn take(count: &AtomicUsize, limit: usize) -> bool {
    count.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |n| (n < limit).then_some(n + 1)).is_ok()
}

impl Function {
    pub(crate) fn new(
        settings: Settings,
        faults: Arc<Faults>,
        log: Arc<Log>,
        account: Arc<Account>,
        output: Option<Arc<Mutex<File>>>,
    ) -> Arc<Self> {
        Arc::new(Self {
            settings,
            faults,
            log,
            account,
            output,
            idle: Mutex::default(),
            in_flight: AtomicUsize::new(0),
            throttled: AtomicUsize::new(0),
            started: AtomicUsize::new(0),
            doom: Arc::default(),
            mean_us: AtomicUsize::new(0),
        })
    }

    /// Its ARN, without a qualifier.
    pub(crate) fn arn(&self) -> String {
        format!("arn:aws:lambda:{}:{}:function:{}", self.settings.region, ids::ACCOUNT, self.settings.name)
    }

    /// The version a qualifier means.
    pub(crate) fn resolve(&self, qualifier: Option<&str>) -> Result<String, Refusal> {
        match qualifier {
            None | Some("" | LATEST) => Ok(LATEST.to_owned()),
            Some(PUBLISHED) => Ok(PUBLISHED.to_owned()),
            Some(other) => {
                let version = self.settings.aliases.get(other).cloned();
                version.ok_or_else(|| Refusal::not_found(&format!("{}:{other}", self.arn())))
            }
        }
    }

    fn idle(&self) -> MutexGuard<'_, Vec<Instance>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The right to run one more, or the throttle's reason.
    pub(crate) fn admit(self: &Arc<Self>) -> Result<Permit, Refusal> {
        let refuse = |reason: &str| {
            self.throttled.fetch_add(1, Ordering::SeqCst);
            Err(Refusal::throttled(reason))
        };
        let own = match (self.settings.reserved, self.faults.concurrency()) {
            (Some(a), Some(b)) => Some(a.min(b)),
            (a, b) => a.or(b),
        };
        if !take(&self.in_flight, own.unwrap_or(usize::MAX)) {
            return refuse("ReservedFunctionConcurrentInvocationLimitExceeded");
        }
        if !take(&self.account.in_flight, self.account.limit) {
            self.in_flight.fetch_sub(1, Ordering::SeqCst);
            return refuse("ConcurrentInvocationLimitExceeded");
        }
        Ok(Permit(self.clone()))
    }

    /// Runs one invocation to its end, and writes it down.
    pub(crate) async fn run(self: Arc<Self>, permit: Permit, call: Call) -> Outcome {
        let mut record = Record {
            request_id: call.request_id.clone(),
            function: self.settings.name.clone(),
            version: call.version.clone(),
            invocation_type: call.kind,
            attempt: call.attempt,
            start_ms: ids::now_ms(),
            memory_mb: self.settings.memory_mb,
            request_bytes: call.payload.len(),
            outcome: "ok",
            fault: call.fate.name(),
            ..Record::default()
        };
        let outcome = match &self.settings.code {
            Code::Sleeper => self.sleep(&call, &mut record).await,
            Code::Program(program) => self.process(program.clone(), &call, &mut record).await,
        };
        record.end_ms = ids::now_ms();
        record.response_bytes = outcome.payload.len();
        let us = (record.duration_ms * 1000.0) as usize;
        let mean = self.mean_us.load(Ordering::Relaxed);
        self.mean_us.store(if mean == 0 { us } else { (mean * 7 + us) / 8 }, Ordering::Relaxed);
        // Who asks for the log right after an answer finds it there; and who asks again at once is not throttled.
        self.log.add(record);
        drop(permit);
        outcome
    }

    async fn sleep(&self, call: &Call, record: &mut Record) -> Outcome {
        let start = Instant::now();
        let value: serde_json::Value = serde_json::from_slice(&call.payload).unwrap_or_default();
        let ms = value["ms"].as_f64().unwrap_or(0.0).clamp(0.0, 900_000.0);
        tokio::time::sleep(Duration::from_secs_f64(ms / 1000.0)).await;
        record.instance = Some("sleeper".to_owned());
        let metrics = self.measure(start.elapsed(), None, 0, record);
        let format = self.settings.format;
        let mut log = report::start(format, &call.request_id, &call.version);
        log += &report::end(format, &call.request_id, &metrics, &Status::Success);
        let payload = Bytes::from(json!({ "slept_ms": ms }).to_string());
        Outcome { payload, failed: false, log: log.into_bytes() }
    }

    /// Puts what was measured into the record.
    fn measure(&self, duration: Duration, init_ms: Option<f64>, peak_bytes: u64, record: &mut Record) -> Metrics {
        let memory_mb = self.settings.memory_mb;
        let metrics = Metrics {
            duration_ms: duration.as_secs_f64() * 1000.0,
            init_ms,
            memory_mb,
            max_memory_mb: peak_bytes.div_ceil(1 << 20).min(memory_mb),
        };
        record.duration_ms = metrics.duration_ms;
        record.init_ms = init_ms;
        record.billed_ms = metrics.billed_ms();
        record.max_memory_mb = metrics.max_memory_mb;
        metrics
    }

    async fn process(&self, program: PathBuf, call: &Call, record: &mut Record) -> Outcome {
        let format = self.settings.format;
        let mut log = Vec::new();
        let mut init_ms = None;
        let warm = self.warm(&call.version);
        record.cold = warm.is_none();
        // A start that fails is tried once more, within the time of the invocation itself.
        let (started, begun) = match warm {
            Some(instance) => (Ok(instance), Instant::now()),
            None => {
                let cold = Instant::now();
                let first = self.start(program.clone(), &call.version, self.settings.init_limit).await;
                let took_ms = cold.elapsed().as_secs_f64() * 1000.0;
                match first {
                    Ok(instance) => {
                        init_ms = Some(took_ms);
                        (Ok(instance), Instant::now())
                    }
                    Err((broken, output)) => {
                        log.extend(output);
                        log.extend(report::init(format, took_ms, "init", error_kind(&broken)).into_bytes());
                        let begun = Instant::now();
                        let again = self.start(program, &call.version, self.settings.timeout).await;
                        if let Err((broken, output)) = &again {
                            log.extend(output);
                            let took_ms = begun.elapsed().as_secs_f64() * 1000.0;
                            log.extend(report::init(format, took_ms, "invoke", error_kind(broken)).into_bytes());
                        }
                        (again.map_err(|(broken, _)| broken), begun)
                    }
                }
            }
        };
        log.extend(report::start(format, &call.request_id, &call.version).into_bytes());
        let (result, peak) = match started {
            Ok(mut instance) => {
                record.instance = Some(instance.name.clone());
                let limit = self.settings.timeout.saturating_sub(begun.elapsed());
                let event = Event {
                    request_id: call.request_id.clone(),
                    payload: call.payload.clone(),
                    deadline_ms: ids::now_ms() + limit.as_millis() as u64,
                    arn: call.arn.clone(),
                    trace: call.trace.clone(),
                    client_context: call.client_context.clone(),
                };
                let kill = self.faults.kills(Duration::from_micros(self.mean_us.load(Ordering::Relaxed) as u64));
                let result = instance.invoke(event, limit, kill).await;
                log.extend(instance.output.take());
                let peak = instance.peak_bytes;
                if result.is_ok() && instance.fit() {
                    self.idle().push(instance);
                }
                (result, peak)
            }
            Err(broken) => {
                record.outcome = match &broken {
                    Broken::Timeout => "init_timeout",
                    Broken::InitError(..) => "init_error",
                    _ => "init_exit",
                };
                (Err(broken), 0)
            }
        };
        let peak = if matches!(result, Err(Broken::OutOfMemory)) { u64::MAX } else { peak };
        let metrics = self.measure(begun.elapsed(), init_ms, peak, record);
        let (payload, status, remark) = self.judge(result, call, record);
        if let Some(remark) = remark {
            log.extend(report::remark(format, &remark).into_bytes());
        }
        log.extend(report::end(format, &call.request_id, &metrics, &status).into_bytes());
        Outcome { payload, failed: status != Status::Success, log }
    }

    /// The payload, the status and the log's remark for what became of an invocation, in Lambda's words.
    fn judge(
        &self,
        result: Result<Answer, Broken>,
        call: &Call,
        record: &mut Record,
    ) -> (Bytes, Status, Option<String>) {
        let id = &call.request_id;
        let error =
            |kind: &str, message: &str| Bytes::from(json!({ "errorType": kind, "errorMessage": message }).to_string());
        let (outcome, kind, payload, status, remark) = match result {
            Ok(Answer::Response(payload)) => return (payload, Status::Success, None),
            Ok(Answer::TooLarge) => {
                let kind = "Function.ResponseSizeTooLarge";
                let message =
                    format!("Response payload size exceeded maximum allowed payload size ({RESPONSE_LIMIT} bytes).");
                let remark = Some(format!("RequestId: {id} Error: {message}"));
                ("too_large", kind.to_owned(), error(kind, &message), Status::Reported(kind.to_owned()), remark)
            }
            Ok(Answer::Error(payload, kind)) => ("error", kind.clone(), payload, Status::Reported(kind), None),
            Err(Broken::InitError(payload, kind)) => ("init_error", kind.clone(), payload, Status::Broken(kind), None),
            Err(Broken::Timeout) => {
                let kind = "Sandbox.Timedout";
                let message = format!("Task timed out after {:.2} seconds", self.settings.timeout.as_secs_f64());
                let remark = format!("{} {id} {message}\n", ids::iso(ids::now_ms()));
                let payload = error(kind, &format!("RequestId: {id} Error: {message}"));
                ("timeout", kind.to_owned(), payload, Status::Timeout, Some(remark))
            }
            Err(broken) => {
                let (outcome, what) = match broken {
                    Broken::OutOfMemory => ("out_of_memory", "Runtime exited with error: signal: killed".to_owned()),
                    Broken::Killed => ("killed", "Runtime exited with error: signal: killed".to_owned()),
                    Broken::Exit(what) => ("exit", what),
                    Broken::Spawn(e) => ("init_exit", format!("fork/exec /var/task/bootstrap: {e}")),
                    Broken::Timeout | Broken::InitError(..) => ("exit", String::new()),
                };
                let kind = if what.starts_with("fork") { "Runtime.InvalidEntrypoint" } else { "Runtime.ExitError" };
                let message = format!("RequestId: {id} Error: {what}");
                let payload = error(kind, &message);
                (outcome, kind.to_owned(), payload, Status::Broken(kind.to_owned()), Some(message))
            }
        };
        if !record.outcome.starts_with("init") {
            record.outcome = outcome;
        }
        record.error_type = Some(kind);
        (payload, status, remark)
    }

    /// An instance of a version that waits, the one that was last at work; those that have ended meanwhile are let go.
    fn warm(&self, version: &str) -> Option<Instance> {
        let mut idle = self.idle();
        idle.retain(Instance::fit);
        let place = idle.iter().rposition(|instance| instance.version == version)?;
        Some(idle.remove(place))
    }

    /// Starts an instance and waits until it is ready.
    async fn start(&self, program: PathBuf, version: &str, limit: Duration) -> Result<Instance, (Broken, Vec<u8>)> {
        let number = self.started.fetch_add(1, Ordering::SeqCst) + 1;
        let shown = if version == LATEST { "[$LATEST]".to_owned() } else { format!("[{version}]") };
        let name = format!("{}/{shown}{}", ids::day(ids::now_ms()), ids::stream());
        let recipe = Recipe {
            environment: self.environment(&program, version, &name),
            program,
            scratch: self.settings.folder.join(format!("{}-{number}", self.settings.name)),
            memory_bytes: self.settings.memory_mb << 20,
            freeze: self.settings.freeze,
            log: self.output.clone(),
        };
        let mut instance = Instance::start(recipe, version.to_owned(), name, self.doom.clone())
            .await
            .map_err(|broken| (broken, Vec::new()))?;
        let ready = instance.ready(limit).await;
        // What it printed before its first event is no part of that event's log.
        let output = instance.output.take();
        ready.map(|()| instance).map_err(|broken| (broken, output))
    }

    /// The environment of an instance: Lambda's and the function's own, nothing else.
    fn environment(&self, program: &std::path::Path, version: &str, stream: &str) -> Vec<(String, String)> {
        let settings = &self.settings;
        let root = program.parent().map_or_else(|| "/var/task".to_owned(), |p| p.display().to_string());
        let memory = settings.memory_mb.to_string();
        let group = format!("/aws/lambda/{}", settings.name);
        let mut variables: Vec<(String, String)> = [
            ("AWS_DEFAULT_REGION", settings.region.as_str()),
            ("AWS_LAMBDA_FUNCTION_MEMORY_SIZE", &memory),
            ("AWS_LAMBDA_FUNCTION_NAME", &settings.name),
            ("AWS_LAMBDA_FUNCTION_VERSION", version),
            ("AWS_LAMBDA_INITIALIZATION_TYPE", "on-demand"),
            ("AWS_LAMBDA_LOG_GROUP_NAME", &group),
            ("AWS_LAMBDA_LOG_STREAM_NAME", stream),
            ("AWS_REGION", &settings.region),
            ("LAMBDA_RUNTIME_DIR", "/var/runtime"),
            ("LAMBDA_TASK_ROOT", &root),
            ("LANG", "en_US.UTF-8"),
            ("PATH", "/usr/local/bin:/usr/bin/:/bin:/opt/bin"),
            ("TZ", ":UTC"),
            ("_HANDLER", "bootstrap"),
        ]
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .into();
        if settings.format == Format::Json {
            variables.push(("AWS_LAMBDA_LOG_FORMAT".to_owned(), "JSON".to_owned()));
            variables.push(("AWS_LAMBDA_LOG_LEVEL".to_owned(), "INFO".to_owned()));
        }
        variables.extend(settings.credentials.iter().cloned());
        variables.extend(settings.environment.iter().cloned());
        variables
    }

    /// Ends instances that have waited too long.
    pub(crate) fn expire(&self) {
        let limit = self.settings.idle_limit;
        self.idle().retain(|instance| instance.fit() && instance.idle_since.elapsed() < limit);
    }

    /// Ends all instances that wait, so that the next invocations start cold; with `all`, also those at work, as a crash.
    pub(crate) fn end(&self, all: bool) {
        self.idle().clear();
        if all {
            self.doom.notify_waiters();
        }
    }

    /// How it stands, for whoever controls this endpoint.
    pub(crate) fn standing(&self) -> serde_json::Value {
        let waiting: Vec<serde_json::Value> = self
            .idle()
            .iter()
            .map(|instance| {
                json!({ "instance": instance.name, "version": instance.version, "pid": instance.pid(),
                        "max_memory_mb": instance.peak_bytes.div_ceil(1 << 20) })
            })
            .collect();
        json!({
            "name": self.settings.name,
            "code_sha256": self.settings.code_sha256,
            "in_flight": self.in_flight.load(Ordering::SeqCst),
            "throttled": self.throttled.load(Ordering::SeqCst),
            "instances_started": self.started.load(Ordering::SeqCst),
            "idle": waiting,
        })
    }
}

/// The type of error a start ended with; none for a timeout, which has a status of its own.
fn error_kind(broken: &Broken) -> Option<&str> {
    match broken {
        Broken::Timeout => None,
        Broken::InitError(_, kind) => Some(kind),
        _ => Some("Runtime.ExitError"),
    }
}
