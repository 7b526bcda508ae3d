#![allow(clippy::unwrap_used)]
//! Attempt tables: which errors are tried again, how often, and what is not sent at all.

use std::collections::VecDeque;
use std::sync::Mutex;

use async_trait::async_trait;

use super::*;

/// Answers each attempt with the next line of its table; succeeds when the table is at its end.
struct Scripted {
    errors: Mutex<VecDeque<Error>>,
    attempts: Mutex<u64>,
}

#[async_trait]
impl Executor for Scripted {
    async fn run(&self, sent: &Attempt) -> Result<Answer> {
        *self.attempts.lock().unwrap() += 1;
        match (self.errors.lock().unwrap().pop_front(), sent.task) {
            (Some(error), _) => Err(error),
            (None, Task::Segment { end, .. }) => Ok(Answer::Done { end }),
            (None, Task::Advance { .. }) => Ok(Answer::Advanced(Box::default())),
        }
    }

    fn in_flight(&self) -> usize {
        1
    }
}

async fn attempts(errors: Vec<Error>) -> (u64, Result<Answer>) {
    let scripted = Arc::new(Scripted { errors: Mutex::new(errors.into()), attempts: Mutex::new(0) });
    let executor: Arc<dyn Executor> = scripted.clone();
    let mut counted = 0;
    let answer = attempt("plan", &executor, Task::Segment { stage: 0, first: 0, end: 1 }, &mut counted).await;
    assert_eq!(counted, *scripted.attempts.lock().unwrap());
    (counted, answer)
}

#[tokio::test(start_paused = true)]
async fn what_may_help_is_tried_again() {
    let (away, broken) = (Error::unavailable("away"), Error::internal("broken"));
    assert_eq!(attempts(vec![]).await, (1, Ok(Answer::Done { end: 1 })));
    assert_eq!(attempts(vec![away.clone(), away.clone()]).await, (3, Ok(Answer::Done { end: 1 })));
    assert_eq!(attempts(vec![away.clone(); 3]).await, (3, Err(away)));
    assert_eq!(attempts(vec![broken.clone()]).await, (2, Ok(Answer::Done { end: 1 })));
    assert_eq!(attempts(vec![broken.clone(); 2]).await, (2, Err(broken)));
}

#[tokio::test(start_paused = true)]
async fn what_can_not_help_is_not() {
    for error in [Error::invalid("no"), Error::data("damaged")] {
        assert_eq!(attempts(vec![error.clone()]).await, (1, Err(error)));
    }
}
