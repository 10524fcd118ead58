//! The gateway as a process: what it says when it cannot start, and how it ends.

use std::net::SocketAddr;
use std::process::Stdio;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader, Lines};
use tokio::net::{TcpListener, TcpStream};
use tokio::process::{Child, ChildStderr, Command};

fn command(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_canopy-gateway"));
    let free = "127.0.0.1:0";
    command.env("CANOPY_LISTEN", free).env("CANOPY_ADMIN", free).env("CANOPY_DRAIN_SECONDS", "0");
    command
        .args(arguments)
        .env("CANOPY_LOG_FORMAT", "json")
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .kill_on_drop(true);
    command
}

async fn in_time<F: Future>(future: F) -> F::Output {
    tokio::time::timeout(Duration::from_secs(20), future).await.unwrap()
}

/// The exit code and the words of a gateway that does not start.
async fn fails(arguments: &[&str]) -> (Option<i32>, String) {
    let output = in_time(command(arguments).stderr(Stdio::piped()).output()).await.unwrap();
    (output.status.code(), String::from_utf8(output.stderr).unwrap())
}

async fn started() -> (Child, Lines<BufReader<ChildStderr>>, [SocketAddr; 2]) {
    let mut child = command(&[]).stderr(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
    loop {
        let line = in_time(lines.next_line()).await.unwrap().unwrap();
        let line: Value = serde_json::from_str(&line).unwrap();
        if line["message"] == "starting" {
            let address = |field: &str| line[field].as_str().unwrap().parse().unwrap();
            return (child, lines, [address("address"), address("admin")]);
        }
    }
}

async fn get(address: SocketAddr, path: &str) -> String {
    let mut stream = TcpStream::connect(address).await.unwrap();
    let request = format!("GET {path} HTTP/1.1\r\nhost: gateway\r\nconnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    in_time(stream.read_to_string(&mut answer)).await.unwrap();
    answer
}

#[tokio::test]
async fn flags_that_mean_nothing_are_named_with_what_they_must_be() {
    let (code, words) = fails(&["--predictors", "demo"]).await;
    assert_eq!(code, Some(2), "{words}");
    assert!(words.contains("\"demo\" must be MODEL=http://HOST:PORT"), "{words}");
    let (code, words) = fails(&["--upstream-timeout", "soon"]).await;
    assert_eq!(code, Some(2), "{words}");
    assert!(words.contains("as in 30s"), "{words}");
    let (code, words) = fails(&["--predictors", "Demo=http://127.0.0.1:1"]).await;
    assert_eq!(code, Some(1), "{words}");
    assert!(words.contains("CANOPY_PREDICTORS names no model"), "{words}");
}

#[tokio::test]
async fn a_port_that_is_taken_is_named_with_how_to_change_it() {
    let holder = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let taken = holder.local_addr().unwrap();
    for (flag, variable) in [("--listen", "CANOPY_LISTEN"), ("--admin", "CANOPY_ADMIN")] {
        let (code, words) = fails(&[flag, &taken.to_string()]).await;
        assert_eq!(code, Some(1), "{words}");
        let expected =
            format!("failed to listen on {taken}; choose another address with {flag} or {variable}");
        assert!(words.contains(&expected), "{words}");
    }
}

#[tokio::test]
async fn a_gateway_is_ready_serves_and_ends_well_when_it_is_told_to() {
    let (mut child, _lines, [address, admin]) = started().await;
    in_time(async {
        while !get(admin, "/ready").await.starts_with("HTTP/1.1 200 ") {
            tokio::task::yield_now().await;
        }
    })
    .await;
    assert!(get(address, "/api/test").await.starts_with("HTTP/1.1 200 "));
    let metrics = get(admin, "/metrics").await;
    for series in [
        "canopy_build_info{process=\"canopy-gateway\"",
        "canopy_gateway_requests_in_flight 0\n",
        "process_open_fds ",
    ] {
        assert!(metrics.contains(series), "{series} is missing in {metrics}");
    }
    let id = Pid::from_raw(child.id().unwrap().try_into().unwrap()).unwrap();
    kill_process(id, Signal::TERM).unwrap();
    assert_eq!(in_time(child.wait()).await.unwrap().code(), Some(0));
}
