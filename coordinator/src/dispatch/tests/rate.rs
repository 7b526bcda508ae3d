//! What dispatch itself costs a task: workers that answer at once, so that all that is left is the coordinator.

use std::time::Instant;

use async_trait::async_trait;
use pipeline::task::Attempt;

use super::scripted::Bench;
use super::*;
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

/// A thousand attempts under way, as on a large function. It is 66,000 to 82,000 tasks a second on an AMD EPYC, not even
/// optimised; what is held is that the coordinator is never what a run waits for, and that a task costs no more where
/// there are more of them.
#[tokio::test]
async fn five_thousand_tasks_a_second() {
    const TASKS: usize = 5_000;
    let terms = Terms { in_flight: 1_000, backups: true, attempt_limit: Some(Duration::from_secs(900)), ramp: None };
    for tasks in [TASKS, 4 * TASKS] {
        let bench = Bench::new(10 * tasks, terms);
        let (wall, start) = (Instant::now(), spent());
        let ended = bench.run_on(&(Arc::new(AtOnce(terms)) as Arc<dyn Executor>)).await;
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
