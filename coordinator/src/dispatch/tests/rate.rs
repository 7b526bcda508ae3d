//! What dispatch itself costs a task: workers that answer at once, so that all that is left is the coordinator; and
//! workers that only wait, behind Lambda's own interface, so that all that is lost is the coordinator's fault.

use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};
use std::time::Instant;

use async_trait::async_trait;
use pipeline::task::Attempt;
use tempfile::TempDir;

use aws_sdk_lambda::Client;
use aws_sdk_lambda::config::retry::RetryConfig;
use aws_sdk_lambda::config::{Credentials, Region, StalledStreamProtectionConfig};
use aws_sdk_lambda::primitives::Blob;

use super::scripted::Bench;
use super::*;
use crate::credentials;
use crate::executor::{Began, Used};

/// Answers before it has begun, and leaves nothing behind.
struct AtOnce(Terms);

#[async_trait]
impl Executor for AtOnce {
    async fn run(&self, attempt: &Attempt, began: &Began, _: &Used) -> Result<Answer> {
        began.now();
        // Others get their turn in between, as they do where an answer comes over a wire.
        tokio::task::yield_now().await;
        Ok(match attempt.task {
            Task::Segment { end, .. } => Answer::Done { end },
            Task::Advance { stage, .. } => {
                Answer::Advanced(Box::new(State { units: 1 - stage as u64, ..State::default() }))
            }
        })
    }

    fn terms(&self) -> Terms {
        self.0
    }
}

/// Processor time of this thread, on which all of a test runs: what else the machine does is not in it.
fn spent() -> Duration {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: the call fills the record it is given.
    unsafe { libc::clock_gettime(libc::CLOCK_THREAD_CPUTIME_ID, &mut time) };
    Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
}

/// A large function.
const LARGE: Terms = Terms { in_flight: 1_000, ..FUNCTION };

/// A thousand attempts under way, as on a large function. It is 66,000 to 82,000 tasks a second on an AMD EPYC, not even
/// optimised; what is held is that the coordinator is never what a run waits for, and that a task costs no more where
/// there are more of them.
#[tokio::test]
async fn five_thousand_tasks_a_second() {
    const TASKS: usize = 5_000;
    for tasks in [TASKS, 4 * TASKS] {
        let bench = Bench::new(10 * tasks, LARGE);
        let (wall, start) = (Instant::now(), spent());
        let ended = bench.run_on(&(Arc::new(AtOnce(LARGE)) as Arc<dyn Executor>)).await;
        let (took, wall) = (spent() - start, wall.elapsed());
        ended.state.unwrap();
        assert_eq!(ended.stages[0].attempts, tasks as u64 + 1);
        let rate = tasks as f64 / took.as_secs_f64();
        eprintln!(
            "{tasks} tasks: {rate:.0} tasks a second of the processor, {:.0} in all",
            tasks as f64 / wall.as_secs_f64()
        );
        assert!(rate > 5_000.0, "{rate:.0} tasks a second");
    }
}

/// Each task is an invocation of a function that sleeps and costs no process.
struct Sleepers {
    client: Client,
    terms: Terms,
}

/// What a segment is meant to take.
const SLEEP: Duration = Duration::from_secs(30);

#[async_trait]
impl Executor for Sleepers {
    async fn run(&self, attempt: &Attempt, began: &Began, used: &Used) -> Result<Answer> {
        began.now();
        // What comes after the stage is not what is measured.
        if let Task::Segment { stage: 0, .. } = attempt.task {
            let payload = Blob::new(format!(r#"{{"ms": {}}}"#, SLEEP.as_millis()));
            let invoked = self.client.invoke().function_name("sleeper").payload(payload).send().await;
            invoked.map_err(|e| Error::unavailable(format!("the sleeper: {:?}", e.into_service_error())))?;
        }
        AtOnce(self.terms).run(attempt, began, used).await
    }

    fn terms(&self) -> Terms {
        self.terms
    }
}

/// The endpoint of `localstack/`, for an account that may do more than a thousand things at once.
struct Endpoint {
    process: Child,
    url: String,
    /// Where it writes what ran.
    _folder: TempDir,
}

impl Endpoint {
    fn start() -> Self {
        // The programs of the workspace lie side by side, one above the tests.
        let programs = std::env::current_exe().unwrap().parent().unwrap().parent().unwrap().to_owned();
        let folder = TempDir::new().unwrap();
        let mut process = Command::new(programs.join("lambda-endpoint"))
            .args([
                "--listen",
                "127.0.0.1:0",
                "--account-concurrency",
                "2000",
                "--access-key",
                "k",
                "--secret-key",
                "s",
            ])
            .arg("--folder")
            .arg(folder.path())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = String::new();
        BufReader::new(process.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let url = line.split_whitespace().find(|word| word.starts_with("http://")).unwrap_or_else(|| panic!("{line}"));
        Self { url: url.to_owned(), process, _folder: folder }
    }
}

impl Drop for Endpoint {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// Of the time that a thousand workers have, how much they are at work.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs the endpoint of localstack, built, and a minute"]
async fn a_thousand_sleepers_are_kept_busy() {
    // Nearly two for each: one that is left over would make all others wait.
    const TASKS: usize = 1_990;
    let endpoint = Endpoint::start();
    let config = aws_sdk_lambda::config::Builder::from(&credentials::aws().await)
        .credentials_provider(Credentials::new("k", "s", None, None, "test"))
        .endpoint_url(&endpoint.url)
        .region(Region::from_static("us-east-1"))
        .retry_config(RetryConfig::disabled())
        .stalled_stream_protection(StalledStreamProtectionConfig::disabled())
        .build();
    let bench = Bench::new(10 * TASKS, LARGE);
    let executor: Arc<dyn Executor> = Arc::new(Sleepers { client: Client::from_conf(config), terms: LARGE });
    let wall = Instant::now();
    let ended = bench.run_on(&executor).await;
    let wall = wall.elapsed();
    ended.state.unwrap();
    assert_eq!(ended.stages[0].attempts, TASKS as u64 + 1);
    let efficiency = SLEEP.as_secs_f64() * TASKS as f64 / (wall.as_secs_f64() * 1_000.0);
    eprintln!("{TASKS} tasks of {SLEEP:?}, a thousand at once: {wall:?}, an efficiency of {efficiency:.3}");
    assert!(efficiency >= 0.95, "an efficiency of {efficiency:.3}");
}
