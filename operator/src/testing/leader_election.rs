//! Leader election over time, like the tests of client-go: holders that are silent, slow, or whose responses are
//! late.

use std::future::pending;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use canopy_runtime::readiness::Readiness;
use serde_json::json;
use tokio::time::{Instant, sleep, timeout};

use super::fake_api_server::{Fault, InjectedFault, client};
use super::fake_cluster::{FakeCluster, key};
use crate::api::fence::Fence;
use crate::controller::leader::{Candidate, Election};

const LEASES: &str = "kube-system";
const SECOND: Duration = Duration::from_secs(1);

/// A candidate process.
struct Process {
    election: Election,
    fence: Fence,
    readiness: Readiness,
}

fn new_cluster() -> Arc<Mutex<FakeCluster>> {
    Arc::new(Mutex::new(FakeCluster::new()))
}

fn process(cluster: &Arc<Mutex<FakeCluster>>, identity: &str, installation: &str) -> Process {
    let candidate = Candidate { identity: identity.to_owned(), installation: installation.to_owned() };
    Process {
        election: Election::new(client(cluster.clone()), LEASES, candidate),
        fence: Fence::default(),
        readiness: Readiness::new(),
    }
}

impl Process {
    async fn wins(&mut self) {
        let gate = self.readiness.gate("lease", "leader election has not started");
        assert!(self.election.acquire(&gate, &self.fence, pending()).await);
    }
}

fn inject_fault(
    cluster: &Arc<Mutex<FakeCluster>>,
    (method, path): (&'static str, &str),
    times: usize,
    how: Fault,
) {
    cluster.lock().unwrap().injected_faults.push(InjectedFault { method, path: path.to_owned(), times, how });
}

fn holder(cluster: &Arc<Mutex<FakeCluster>>) -> String {
    let cluster = cluster.lock().unwrap();
    let lease = &cluster.objects[&key("leases", LEASES, "canopy-operator")];
    lease["spec"]["holderIdentity"].as_str().unwrap().to_owned()
}

#[tokio::test(start_paused = true)]
async fn another_process_takes_an_unrenewed_lease_after_its_duration() {
    let cluster = new_cluster();
    let mut first = process(&cluster, "a", "x");
    first.wins().await;
    assert_eq!((first.fence.remaining(), first.readiness.check()), (10 * SECOND, Ok(())));
    let (mut second, began) = (process(&cluster, "b", "x"), Instant::now());
    second.wins().await;
    assert!(began.elapsed() >= 15 * SECOND && began.elapsed() <= 18 * SECOND, "{:?}", began.elapsed());
    assert_eq!((holder(&cluster).as_str(), first.fence.remaining()), ("b", Duration::ZERO));
}

/// Otherwise the next operator would wait until the Lease expires.
#[tokio::test(start_paused = true)]
async fn a_lease_that_is_taken_during_a_shutdown_can_be_released_and_a_standby_stops_at_once() {
    let cluster = new_cluster();
    inject_fault(&cluster, ("POST", "/leases"), 1, Fault::AnswersLate(2 * SECOND));
    let mut first = process(&cluster, "a", "x");
    let gate = first.readiness.gate("lease", "leader election has not started");
    assert!(
        first.election.acquire(&gate, &first.fence, sleep(SECOND)).await,
        "the response came after the stop"
    );
    let mut second = process(&cluster, "b", "x");
    let gate = second.readiness.gate("lease", "leader election has not started");
    let began = Instant::now();
    assert!(!second.election.acquire(&gate, &second.fence, sleep(SECOND)).await, "a leads");
    assert_eq!(began.elapsed(), SECOND);
    first.election.release().await;
    assert_eq!(holder(&cluster), "");
    second.wins().await;
    assert_eq!(holder(&cluster), "b");
}

#[tokio::test(start_paused = true)]
async fn a_renewed_lease_is_not_taken_until_it_is_released() {
    let cluster = new_cluster();
    let mut first = process(&cluster, "a", "x");
    first.wins().await;
    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    let holding =
        tokio::spawn(first.election.renew_until(first.fence.clone(), async { drop(stopped.await) }));
    let mut second = process(&cluster, "b", "x");
    assert!(timeout(300 * SECOND, second.wins()).await.is_err());
    assert!(!first.fence.remaining().is_zero());
    assert_eq!(second.readiness.check(), Ok(()), "one that waits for its own installation is ready");

    drop(stop);
    let election = holding.await.unwrap().unwrap();
    first.fence.close();
    election.release().await;
    let began = Instant::now();
    second.wins().await;
    assert!(began.elapsed() <= 3 * SECOND, "{:?}", began.elapsed());
}

/// Whether the Lease is still held after a fault in renewals, and for how long.
async fn renewals(method: &'static str, times: usize, how: Fault) -> (bool, Duration) {
    let cluster = new_cluster();
    let mut first = process(&cluster, "a", "x");
    first.wins().await;
    let began = Instant::now();
    inject_fault(&cluster, (method, "leases"), times, how);
    let held = timeout(120 * SECOND, first.election.renew_until(first.fence.clone(), pending())).await;
    (held.is_err() && !first.fence.remaining().is_zero(), began.elapsed())
}

#[tokio::test(start_paused = true)]
async fn one_failed_renewal_does_not_lose_the_lease() {
    for how in [
        Fault::HangsBefore,
        // The write took effect, so the next renewal meets an unknown version of the Lease and must check its holder.
        Fault::HangsAfter,
        Fault::FailsBefore(500),
        Fault::FailsAfter(504),
        Fault::FailsBefore(409),
        Fault::FailsAfter(409),
        Fault::AnswersLate(2 * SECOND),
        Fault::AnswersLate(20 * SECOND),
        Fault::ActsLate(20 * SECOND),
    ] {
        let (held, _) = renewals("PUT", 1, how).await;
        assert!(held, "{how:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_holder_whose_renewals_all_fail_stops_at_the_renew_deadline() {
    for how in [Fault::HangsBefore, Fault::HangsAfter, Fault::FailsBefore(500)] {
        let (held, after) = renewals("PUT", usize::MAX, how).await;
        assert!(!held && after == 10 * SECOND, "{how:?}: {held} after {after:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_deleted_lease_is_recreated_by_its_holder() {
    let cluster = new_cluster();
    let mut first = process(&cluster, "a", "x");
    first.wins().await;
    cluster.lock().unwrap().remove(&key("leases", LEASES, "canopy-operator")).unwrap();
    let renew_until = first.election.renew_until(first.fence.clone(), sleep(60 * SECOND));
    assert!(renew_until.await.is_some());
    assert_eq!(holder(&cluster), "a");
}

#[tokio::test(start_paused = true)]
async fn the_duration_in_the_lease_is_ignored() {
    for seconds in [0, 1, 1_000_000] {
        let cluster = new_cluster();
        let lease = json!({"apiVersion": "coordination.k8s.io/v1", "kind": "Lease",
            "metadata": {"name": "canopy-operator"},
            "spec": {"holderIdentity": "z", "leaseDurationSeconds": seconds}});
        cluster.lock().unwrap().store(key("leases", LEASES, "canopy-operator"), lease);
        let (mut first, began) = (process(&cluster, "a", "x"), Instant::now());
        first.wins().await;
        let waited = began.elapsed();
        assert!(waited >= 15 * SECOND && waited <= 18 * SECOND, "{seconds}: {waited:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_second_installation_is_not_ready_and_leads_once_the_first_is_gone() {
    let cluster = new_cluster();
    let mut first = process(&cluster, "a", "canopy-system/canopy");
    first.wins().await;
    let mut other = process(&cluster, "b", "elsewhere/canopy");
    assert!(timeout(5 * SECOND, other.wins()).await.is_err());
    assert_eq!(
        other.readiness.check(),
        Err("lease: another installation of Canopy, canopy-system/canopy, leads in this cluster (holder a), so this \
             one is inactive; uninstall one of them"
            .to_owned())
    );

    // When the pods of the first installation are replaced, the next of them must lead although the other polls as
    // often.
    let election = first.election.renew_until(first.fence.clone(), std::future::ready(())).await.unwrap();
    first.fence.close();
    election.release().await;
    let mut next = process(&cluster, "c", "canopy-system/canopy");
    tokio::select! {
        () = next.wins() => {}
        () = other.wins() => panic!("a second installation took over"),
    }
    assert_eq!(holder(&cluster), "c");

    // The first installation is gone.
    other.wins().await;
    assert_eq!((holder(&cluster).as_str(), other.readiness.check()), ("b", Ok(())));
}

/// A process that restarts whenever it loses the Lease, as in Kubernetes. All its fences are kept.
async fn live(
    cluster: Arc<Mutex<FakeCluster>>,
    identity: &'static str,
    fences: Arc<Mutex<Vec<(&'static str, Fence)>>>,
) {
    loop {
        let mut process = process(&cluster, identity, "x");
        fences.lock().unwrap().push((identity, process.fence.clone()));
        process.wins().await;
        drop(process.election.renew_until(process.fence, pending()).await);
    }
}

#[tokio::test(start_paused = true)]
async fn under_all_faults_at_most_one_process_may_write_and_one_leads_in_the_end() {
    let late = [1, 4, 9, 12, 16, 20, 31].map(|seconds| seconds * SECOND);
    let all = late.map(Fault::AnswersLate).into_iter().chain(late.map(Fault::ActsLate));
    let all = all.chain([
        Fault::HangsBefore,
        Fault::HangsAfter,
        Fault::FailsBefore(500),
        Fault::FailsAfter(500),
        Fault::FailsAfter(409),
    ]);
    for how in all {
        for (method, times) in [("POST", 1), ("PUT", 1), ("PUT", 4), ("GET", 1), ("GET", 5)] {
            let (cluster, fences) = (new_cluster(), Arc::<Mutex<Vec<_>>>::default());
            inject_fault(&cluster, (method, "leases"), times, how);
            let lives =
                ["a", "b"].map(|identity| tokio::spawn(live(cluster.clone(), identity, fences.clone())));
            for tenth in 0..1800 {
                if tenth == 600 {
                    // Once more, while one process leads.
                    inject_fault(&cluster, (method, "leases"), times, how);
                }
                sleep(SECOND / 10).await;
                let fences = fences.lock().unwrap();
                let open: Vec<_> = fences.iter().filter(|(_, fence)| !fence.remaining().is_zero()).collect();
                let who = || open.iter().map(|(identity, _)| identity).collect::<Vec<_>>();
                assert!(open.len() <= 1, "{how:?} {method} {times}: {:?} at {tenth}", who());
                assert!(tenth < 1799 || open.len() == 1, "{how:?} {method} {times}: no process leads");
            }
            lives.iter().for_each(tokio::task::JoinHandle::abort);
        }
    }
}
