//! A file server for downloads, with good and bad responses. It records the headers of requests.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, mpsc};
use std::{future, thread};

use axum::Router;
use axum::body::Body;
use axum::extract::{Path, State};
use axum::response::{Html, IntoResponse as _, Redirect, Response};
use axum::routing::get;
use axum::serve::Listener as _;
use bytes::Bytes;
use canopy_tests::tls::Tls;
use futures_util::stream::{self, StreamExt as _};
use http::{HeaderMap, StatusCode};
use tokio::net::TcpListener;

/// A running server; it ends with the process of the tests.
pub(crate) struct FileServer {
    pub(crate) address: SocketAddr,
    asked: Arc<Mutex<Vec<HeaderMap>>>,
    /// The certificate to trust, where it speaks TLS.
    pub(crate) certificate: Option<String>,
}

#[derive(Clone)]
struct Files {
    good: Bytes,
    /// Where the redirect that leaves this server goes.
    elsewhere: String,
    asked: Arc<Mutex<Vec<HeaderMap>>>,
}

impl FileServer {
    /// Serves `good` and everything bad over HTTP.
    pub(crate) fn http(good: &str) -> Self {
        Self::start(good, String::new(), false)
    }

    /// The same; its file `elsewhere` is at that address.
    pub(crate) fn leading(elsewhere: String) -> Self {
        Self::start("", elsewhere, false)
    }

    /// The same over TLS; its file `elsewhere` is at that address.
    pub(crate) fn https(good: &str, elsewhere: String) -> Self {
        Self::start(good, elsewhere, true)
    }

    fn start(good: &str, elsewhere: String, with_tls: bool) -> Self {
        let asked = Arc::<Mutex<Vec<HeaderMap>>>::default();
        let files = Files { good: Bytes::copy_from_slice(good.as_bytes()), elsewhere, asked: asked.clone() };
        let router = Router::new().route("/{name}", get(file)).with_state(files);
        let (sender, receiver) = mpsc::channel();
        // A thread of its own: the test blocks while it downloads.
        thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async {
                let address = SocketAddr::from(([127, 0, 0, 1], 0));
                if with_tls {
                    let tls = Tls::bind(address).await.unwrap();
                    sender.send((tls.local_addr().unwrap(), Some(tls.certificate.clone()))).unwrap();
                    axum::serve(tls, router).await.unwrap();
                } else {
                    let listener = TcpListener::bind(address).await.unwrap();
                    sender.send((listener.local_addr().unwrap(), None)).unwrap();
                    axum::serve(listener, router).await.unwrap();
                }
            });
        });
        let (address, certificate) = receiver.recv().unwrap();
        Self { address, asked, certificate }
    }

    /// The address of a file.
    pub(crate) fn uri(&self, name: &str) -> String {
        let scheme = if self.certificate.is_some() { "https" } else { "http" };
        format!("{scheme}://{}/{name}", self.address)
    }

    /// The headers of every request so far.
    pub(crate) fn asked(&self) -> Vec<HeaderMap> {
        self.asked.lock().unwrap().clone()
    }
}

async fn file(Path(name): Path<String>, State(files): State<Files>, headers: HeaderMap) -> Response {
    files.asked.lock().unwrap().push(headers);
    let chunk = Bytes::from_static(&[b'1'; 16 << 10]);
    match name.as_str() {
        "good.csv" => files.good.into_response(),
        "page" => Html("<html><body>Please sign in</body></html>").into_response(),
        "forbidden" => StatusCode::FORBIDDEN.into_response(),
        "gone" => StatusCode::GONE.into_response(),
        "broken" => StatusCode::INTERNAL_SERVER_ERROR.into_response(),
        "moved" => Redirect::temporary("/good.csv").into_response(),
        "loop" => Redirect::temporary("/loop").into_response(),
        "elsewhere" => Redirect::temporary(&files.elsewhere).into_response(),
        // The beginning comes, and then the connection ends.
        "cut" => {
            let pieces = [Ok(files.good.slice(..20)), Err("the server falls over")];
            Body::from_stream(stream::iter(pieces)).into_response()
        }
        "slow" => {
            let rest = stream::once(future::pending());
            Body::from_stream(stream::iter([Ok::<_, Infallible>(chunk)]).chain(rest)).into_response()
        }
        "endless" => {
            Body::from_stream(stream::repeat_with(move || Ok::<_, Infallible>(chunk.clone()))).into_response()
        }
        _ => StatusCode::NOT_FOUND.into_response(),
    }
}
