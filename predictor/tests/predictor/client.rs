//! An HTTP client for a whole predictor.

use std::net::SocketAddr;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::harness::PATIENCE;

/// What came back: everything until the server closed, or until the body was whole.
#[derive(Debug)]
pub(crate) struct Reply {
    pub(crate) status: u16,
    /// The lines of the head, in lower case.
    pub(crate) head: String,
    pub(crate) body: String,
}

pub(crate) async fn post(address: SocketAddr, body: &str) -> Reply {
    let mut stream = TcpStream::connect(address).await.unwrap();
    send(&mut stream, "POST /predict", body).await;
    receive(&mut stream).await
}

pub(crate) async fn get(address: SocketAddr, path: &str) -> Reply {
    let mut stream = TcpStream::connect(address).await.unwrap();
    send(&mut stream, &format!("GET {path}"), "").await;
    receive(&mut stream).await
}

pub(crate) async fn send(stream: &mut TcpStream, line: &str, body: &str) {
    let head = format!("{line} HTTP/1.1\r\nhost: test\r\ncontent-length: {}\r\n\r\n", body.len());
    stream.write_all(format!("{head}{body}").as_bytes()).await.unwrap();
}

pub(crate) async fn receive(stream: &mut TcpStream) -> Reply {
    let (mut bytes, mut chunk) = (Vec::new(), [0; 4096]);
    loop {
        if let Some(reply) = whole(&bytes) {
            return reply;
        }
        let read = timeout(PATIENCE, stream.read(&mut chunk)).await.expect("no answer in time").unwrap();
        assert!(read > 0, "the connection ended within an answer: {:?}", String::from_utf8_lossy(&bytes));
        bytes.extend_from_slice(&chunk[..read]);
    }
}

fn whole(bytes: &[u8]) -> Option<Reply> {
    let text = String::from_utf8_lossy(bytes);
    let (head, body) = text.split_once("\r\n\r\n")?;
    let head = head.to_lowercase();
    let length: usize = head.split("content-length: ").nth(1)?.lines().next()?.parse().ok()?;
    let status = head.split(' ').nth(1)?.parse().ok()?;
    (body.len() >= length).then(|| Reply { status, head, body: body.to_owned() })
}

/// Returns when the server has closed the connection.
pub(crate) async fn closed(stream: &mut TcpStream) {
    let mut rest = Vec::new();
    // A reset is a closed connection too.
    drop(timeout(PATIENCE, stream.read_to_end(&mut rest)).await.expect("the connection stays open"));
    assert!(rest.is_empty(), "more came: {:?}", String::from_utf8_lossy(&rest));
}
