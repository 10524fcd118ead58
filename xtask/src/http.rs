//! A small blocking HTTP client for servers on this machine.
//!
//! xtask is compiled before everything else, so it has no asynchronous runtime and does not use the client of `tests/src`.

use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use serde_json::Value;

/// How long one answer may take.
const TIMEOUT: Duration = Duration::from_secs(30);

/// A free address of this machine.
pub(crate) fn free_address() -> Result<SocketAddr> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).context("failed to find a free port")?;
    Ok(listener.local_addr()?)
}

/// The JSON at `path`.
pub(crate) fn get(address: SocketAddr, path: &str) -> Result<Value> {
    let text = get_text(address, path)?;
    serde_json::from_str(&text).with_context(|| format!("GET {path} answered without JSON: {text}"))
}

/// The text at `path`.
pub(crate) fn get_text(address: SocketAddr, path: &str) -> Result<String> {
    ask(address, "GET", path, ("", ""))
}

/// The JSON answer of `path` to a JSON body.
pub(crate) fn post(address: SocketAddr, path: &str, body: &Value) -> Result<Value> {
    post_with(address, path, "", body)
}

/// The same with one more header, as `Name: value\r\n`.
pub(crate) fn post_with(address: SocketAddr, path: &str, header: &str, body: &Value) -> Result<Value> {
    let text = ask(address, "POST", path, (header, &body.to_string()))?;
    serde_json::from_str(&text).with_context(|| format!("POST {path} answered without JSON: {text}"))
}

fn ask(address: SocketAddr, method: &str, path: &str, content: (&str, &str)) -> Result<String> {
    let what = format!("{method} http://{address}{path}");
    let answer = exchange(address, method, path, content).with_context(|| format!("failed to {what}"))?;
    let (head, body) =
        answer.split_once("\r\n\r\n").with_context(|| format!("{what} answered without HTTP: {answer:?}"))?;
    let Some(status) = head.split(' ').nth(1) else { bail!("{what} answered without a status: {head}") };
    ensure!(status == "200", "{what} answered {status}: {body}");
    Ok(body.to_owned())
}

/// One request as HTTP/1.0: the answer ends where the connection does.
fn exchange(
    address: SocketAddr,
    method: &str,
    path: &str,
    (header, body): (&str, &str),
) -> std::io::Result<String> {
    let mut stream = TcpStream::connect_timeout(&address, TIMEOUT)?;
    stream.set_read_timeout(Some(TIMEOUT))?;
    let length = body.len();
    write!(
        stream,
        "{method} {path} HTTP/1.0\r\nHost: {address}\r\nContent-Type: application/json\r\nContent-Length: {length}\r\n{header}\r\n{body}"
    )?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    Ok(answer)
}
