//! More heavy requests than CPUs: those that would wait too long are refused, and light requests are not delayed.

use std::sync::{Arc, Condvar, Mutex};

use futures_util::future::join_all;
use http::Request;

use crate::harness::{Answer, Port, sum};

/// More rows than a worker answers by itself, for the hundred trees of a model in a test.
fn heavy(milliseconds: u32) -> Request<axum::body::Body> {
    let rows = vec!["[1,2]"; 250].join(",");
    let request = Request::post("/predict").header("canopy-timeout-milliseconds", milliseconds.to_string());
    request.body(format!("{{\"instances\":[{rows}]}}").into()).unwrap()
}

/// Work does not end before this is opened.
#[derive(Default)]
struct Lock {
    is_open: Mutex<bool>,
    opened: Condvar,
}

impl Lock {
    fn wait(&self) {
        drop(self.opened.wait_while(self.is_open.lock().unwrap(), |is_open| !*is_open).unwrap());
    }

    fn set(&self, is_open: bool) {
        *self.is_open.lock().unwrap() = is_open;
        self.opened.notify_all();
    }
}

#[track_caller]
fn refused(answer: &Answer) {
    assert_eq!(
        (answer.status, answer.body.as_str()),
        (503, r#"{"detail":"Overloaded: try again in a second"}"#)
    );
    assert_eq!(answer.headers["retry-after"], "1");
    assert_eq!(answer.headers["canopy-revision"], "6f3a9c1e");
}

#[tokio::test(flavor = "multi_thread")]
async fn heavy_work_waits_as_long_as_its_caller_and_a_second_at_most() {
    let lock = Arc::new(Lock::default());
    let held = lock.clone();
    let port = Port::serving(move |rows| {
        if !rows.is_single() {
            held.wait();
        }
        sum(rows)
    });
    lock.set(true);
    assert_eq!(port.send(heavy(20_000)).await.status, 200, "how long it takes is known from here on");
    lock.set(false);
    let at_once = std::thread::available_parallelism().unwrap().get();
    let working = join_all((0..at_once).map(|_| port.send(heavy(20_000))));
    let others = async {
        while port.app.heavy().free() > 0 {
            tokio::task::yield_now().await;
        }
        refused(&port.send(heavy(50)).await);
        refused(&port.send(heavy(20_000)).await);
        let light = port.post(r#"{"features":[1,2]}"#).await;
        assert_eq!(light.status, 200, "{light:?}");
        lock.set(true);
    };
    let (working, ()) = tokio::join!(working, others);
    assert!(working.iter().all(|answer| answer.status == 200), "{working:?}");
    assert_eq!(port.send(heavy(20_000)).await.status, 200);
    let refused = [("code", "503"), ("reason", "overloaded")];
    assert_eq!(port.metric("canopy_predictor_requests_total", &refused), "2");
}
