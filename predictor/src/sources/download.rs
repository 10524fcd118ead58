//! Downloads: the only module that opens connections for them.
//!
//! A download has the expected digest and is limited in size and time. It connects to admitted addresses only. Error texts
//! contain no password or signature of the URL, and no details of networks that were not allowed explicitly.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use std::{io, thread};

use canopy_contract::serving::Download;
use canopy_runtime::process::install_cryptography;
use reqwest::dns::{Addrs, Name, Resolve, Resolving};
use reqwest::redirect::Policy;
use reqwest::{Client, StatusCode, Url};
use sha2::{Digest as _, Sha256};
use tokio::time::timeout;

use crate::artifact::hexadecimal;
use crate::sources::networks::{Admission, Networks, Sources};

/// The time limit for a connection to be established.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// The time limit between two reads.
const SILENCE_TIMEOUT: Duration = Duration::from_secs(30);
const REDIRECTS_MAX: usize = 5;
/// The most characters of a URL in an error text.
const SHOWN_MAX: usize = 160;
const PROGRAM: &str = concat!("canopy/", env!("CARGO_PKG_VERSION"));
/// The error text for every failure in a network that was not allowed explicitly. It is the same for a closed port, an
/// unknown name and a missing file, so that the author of a spec cannot scan the network by it.
const NOT_TOLD: &str = "no file could be read there. Check the address, that its server lets this cluster read the \
                        file, that it arrives within half of train.deadlineSeconds, and that the operator allows its \
                        network (operator.sources of the chart)";

/// Why a download failed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DownloadError {
    /// The address cannot be parsed. The message does not repeat it, because any part of it may be secret.
    #[error("the uri of the data is invalid: {0}")]
    Address(String),
    /// The file is larger than the limit.
    #[error("failed to download {uri}: it is larger than {limit} bytes")]
    TooLarge {
        /// The address.
        uri: String,
        /// The limit in bytes.
        limit: u64,
    },
    /// The file does not have the expected digest.
    #[error(
        "{uri} has {}, but sha256 is {expected}: set sha256 to the new digest if the new file is meant, \
         or restore the old file and set the annotation canopy.rs/restartedAt",
        found.as_ref().map_or("another SHA-256".to_owned(), |found| format!("the SHA-256 {found}"))
    )]
    Digest {
        /// The address.
        uri: String,
        /// The expected SHA-256.
        expected: String,
        /// The SHA-256 of the file, if the message may contain it.
        found: Option<String>,
    },
    /// The address is in a network that downloads must not reach.
    #[error(
        "failed to download {uri}: data must not come from this address; use a server that the operator allows \
         (operator.sources of the chart)"
    )]
    Refused {
        /// The address.
        uri: String,
    },
    /// The download failed, which may be temporary.
    #[error("failed to download {uri}: {why}")]
    Failed {
        /// The address.
        uri: String,
        /// The cause, and what to do.
        why: String,
    },
}

/// Downloads a file of at most `bytes_max` bytes. It blocks, and may also be called within an asynchronous runtime.
pub fn fetch(download: &Download, bytes_max: u64, sources: &Sources) -> Result<Vec<u8>, DownloadError> {
    let Download { uri, sha256, timeout_seconds } = download;
    let url: Url = uri.parse().map_err(|error| DownloadError::Address(format!("{error}")))?;
    let guard = match sources {
        Sources::Anywhere => None,
        Sources::Within(networks) => Some(Guard::new(networks)),
    };
    if guard.as_ref().is_some_and(|guard| !guard.admits(&url)) {
        return Err(DownloadError::Refused { uri: without_secrets(&url) });
    }
    let limits = Limits { time: Duration::from_secs((*timeout_seconds).into()), bytes: bytes_max };
    // Runtimes cannot be nested, and the caller's thread may be inside one.
    let fetched = thread::scope(|scope| scope.spawn(|| at_once(&url, limits, guard.as_ref())).join());
    let fetched = fetched.unwrap_or_else(|panic| std::panic::resume_unwind(panic));
    let tells = guard.is_none_or(|guard| guard.tells());
    let File { bytes, sha256: found } = fetched.map_err(|fault| fault.of(&url, tells))?;
    if found == *sha256 {
        return Ok(bytes);
    }
    let found = matches!(sources, Sources::Anywhere).then_some(found);
    Err(DownloadError::Digest { uri: without_secrets(&url), expected: sha256.clone(), found })
}

/// Checks the addresses of one download and its redirects, and records whether all were allowed explicitly.
#[derive(Clone)]
struct Guard(Arc<Watch>);

struct Watch {
    networks: Networks,
    /// An address that was allowed explicitly was admitted.
    named: AtomicBool,
    /// Another address was admitted or refused.
    other: AtomicBool,
}

impl Guard {
    fn new(networks: &Networks) -> Self {
        let (named, other) = (AtomicBool::new(false), AtomicBool::new(false));
        Self(Arc::new(Watch { networks: networks.clone(), named, other }))
    }

    /// Whether the host of a URL may be connected to. A literal address is checked here, because the
    /// client connects to it without a lookup. `Url` has normalized its notation.
    fn admits(&self, url: &Url) -> bool {
        let Some(host) = url.host_str() else { return false };
        match host.trim_start_matches('[').trim_end_matches(']').parse() {
            Ok(address) => self.admit(SocketAddr::new(address, 0)),
            Err(_) => self.0.networks.admits_host(host) || self.meets_other(),
        }
    }

    fn admit(&self, address: SocketAddr) -> bool {
        match self.0.networks.admit(address.ip()) {
            Some(Admission::Named) => {
                self.0.named.store(true, Ordering::Relaxed);
                true
            }
            Some(Admission::Reached) => !self.meets_other(),
            None => self.meets_other(),
        }
    }

    /// Records an address whose details must not appear in messages. Returns false.
    fn meets_other(&self) -> bool {
        self.0.other.store(true, Ordering::Relaxed);
        false
    }

    /// Whether messages may have details: every address was allowed explicitly.
    fn tells(&self) -> bool {
        self.0.named.load(Ordering::Relaxed) && !self.0.other.load(Ordering::Relaxed)
    }
}

impl Resolve for Guard {
    /// Looks a name up and leaves only the addresses that may be connected to.
    fn resolve(&self, name: Name) -> Resolving {
        let guard = self.clone();
        Box::pin(async move {
            if !guard.0.networks.admits_host(name.as_str()) {
                guard.meets_other();
                return Err(not_admitted());
            }
            let found = tokio::net::lookup_host((name.as_str(), 0)).await?;
            let admitted: Vec<_> = found.filter(|address| guard.admit(*address)).collect();
            if admitted.is_empty() {
                Err(not_admitted())
            } else {
                Ok(Box::new(admitted.into_iter()) as Addrs)
            }
        })
    }
}

fn not_admitted() -> Box<dyn std::error::Error + Send + Sync> {
    io::Error::other("data must not come from this address").into()
}

/// The URL for error texts: without user, password, query and fragment, and of limited length.
pub fn shown(uri: &str) -> String {
    uri.parse().map_or_else(|_| "an invalid uri".to_owned(), |url| without_secrets(&url))
}

fn without_secrets(url: &Url) -> String {
    let mut url = url.clone();
    // These fail only for URLs that cannot have a user or password.
    let _ = (url.set_username(""), url.set_password(None));
    url.set_query(None);
    url.set_fragment(None);
    let text = String::from(url);
    match text.char_indices().nth(SHOWN_MAX) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text,
    }
}

#[derive(Clone, Copy)]
struct Limits {
    time: Duration,
    bytes: u64,
}

/// A complete file.
struct File {
    bytes: Vec<u8>,
    sha256: String,
}

enum Fault {
    TooLarge(u64),
    Other(String),
}

impl Fault {
    fn of(self, url: &Url, tells: bool) -> DownloadError {
        let uri = without_secrets(url);
        match self {
            Self::TooLarge(limit) => DownloadError::TooLarge { uri, limit },
            Self::Other(why) => {
                DownloadError::Failed { uri, why: if tells { why } else { NOT_TOLD.to_owned() } }
            }
        }
    }
}

impl From<reqwest::Error> for Fault {
    fn from(error: reqwest::Error) -> Self {
        let silent = error.is_timeout() && !error.is_connect();
        let no_client = error.is_builder();
        let error = error.without_url();
        let why = if no_client {
            format!("{}: SSL_CERT_FILE names a bundle of certificates", chain(&error))
        } else if silent {
            format!("the server sent nothing for {} s", SILENCE_TIMEOUT.as_secs())
        } else {
            chain(&error)
        };
        Self::Other(why)
    }
}

fn at_once(url: &Url, limits: Limits, guard: Option<&Guard>) -> Result<File, Fault> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|error| Fault::Other(error.to_string()))?;
    let ended = runtime.block_on(async {
        let Ok(ended) = timeout(limits.time, file(url, limits.bytes, guard)).await else {
            let seconds = limits.time.as_secs();
            let why = format!(
                "it did not arrive within {seconds} s: raise train.deadlineSeconds, half of which is for the download"
            );
            return Err(Fault::Other(why));
        };
        ended
    });
    // A DNS lookup may still run on a blocking thread, which cannot be cancelled.
    runtime.shutdown_background();
    ended
}

async fn file(url: &Url, bytes_max: u64, guard: Option<&Guard>) -> Result<File, Fault> {
    let mut response = client(url, guard)?.get(url.clone()).send().await?;
    if response.status() != StatusCode::OK {
        return Err(Fault::Other(unwanted(response.status())));
    }
    if response.content_length().is_some_and(|length| length > bytes_max) {
        return Err(Fault::TooLarge(bytes_max));
    }
    let (mut bytes, mut digest) = (Vec::new(), Sha256::new());
    while let Some(chunk) = response.chunk().await? {
        if (bytes.len() + chunk.len()) as u64 > bytes_max {
            return Err(Fault::TooLarge(bytes_max));
        }
        digest.update(&chunk);
        bytes.extend_from_slice(&chunk);
    }
    Ok(File { bytes, sha256: hexadecimal(&digest.finalize()) })
}

fn client(url: &Url, guard: Option<&Guard>) -> Result<Client, reqwest::Error> {
    install_cryptography();
    let builder = || {
        let builder = Client::builder()
            .user_agent(PROGRAM)
            .connect_timeout(CONNECT_TIMEOUT)
            .read_timeout(SILENCE_TIMEOUT)
            .redirect(redirects(guard.cloned()))
            // The URL before a redirect may contain a signature, which is secret.
            .referer(false);
        match guard {
            // A proxy would resolve names by itself and connect to addresses that are not checked here.
            Some(guard) => builder.no_proxy().dns_resolver(guard.clone()),
            None => builder,
        }
    };
    match builder().build() {
        // The machine has no CA certificates. Plain HTTP needs none.
        Err(_) if url.scheme() == "http" => builder().tls_certs_only([]).build(),
        built => built,
    }
}

fn redirects(guard: Option<Guard>) -> Policy {
    Policy::custom(move |attempt| {
        let was_secret = attempt.previous().iter().any(|url| url.scheme() == "https");
        if attempt.previous().len() > REDIRECTS_MAX {
            attempt.error(format!("it was redirected more than {REDIRECTS_MAX} times"))
        } else if was_secret && attempt.url().scheme() != "https" {
            let to = without_secrets(attempt.url());
            attempt.error(format!(
                "it was redirected from https to {to}, which is not encrypted: use an https uri"
            ))
        } else if guard.as_ref().is_some_and(|guard| !guard.admits(attempt.url())) {
            attempt.error(not_admitted())
        } else {
            attempt.follow()
        }
    })
}

/// The error text for an unsuccessful status.
fn unwanted(status: StatusCode) -> String {
    let advice = match status {
        StatusCode::NOT_FOUND | StatusCode::GONE => "put the file there, or correct uri",
        StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => "let the file be read, or correct uri",
        _ => "check the logs of the server",
    };
    format!("the server responded {status}: {advice}")
}

/// The causes of `error`, the root cause last. The outermost text is left out: it says only that the request failed.
fn chain(error: &reqwest::Error) -> String {
    let outer: &dyn std::error::Error = error;
    let mut causes: Vec<_> =
        std::iter::successors(outer.source(), |cause| cause.source()).map(ToString::to_string).collect();
    causes.dedup();
    if causes.is_empty() { error.to_string() } else { causes.join(": ") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_shown_without_its_secrets() {
        for (uri, expected) in [
            ("https://data.shop/a/b.csv", "https://data.shop/a/b.csv"),
            ("http://user:word@data.shop:81/b.csv?signature=s#f", "http://data.shop:81/b.csv"),
            ("https://token@data.shop?x", "https://data.shop/"),
            ("http://[::1]:80/b%20c.csv", "http://[::1]/b%20c.csv"),
        ] {
            assert_eq!(shown(uri), expected);
        }
        let long = format!("https://data.shop/{}", "a".repeat(500));
        assert_eq!(shown(&long).chars().count(), 161);
    }

    #[test]
    fn an_invalid_address_is_refused_without_repeating_it() {
        let download =
            Download { uri: "http://user:word@:80".to_owned(), sha256: "00".to_owned(), timeout_seconds: 1 };
        let error = fetch(&download, 1, &Sources::Anywhere).unwrap_err();
        assert_eq!(error.to_string(), "the uri of the data is invalid: empty host");
    }

    #[tokio::test]
    async fn a_name_is_admitted_by_the_addresses_that_it_resolves_to() {
        let resolve = async |allowed: &[&str], name: &str| {
            let allowed = allowed.iter().map(|network| network.parse().unwrap()).collect();
            let guard = Guard::new(&Networks { allowed, ..Networks::default() });
            let found = guard.resolve(name.parse().unwrap()).await;
            (found.map(|found| found.map(|a| a.ip().to_string()).collect::<Vec<_>>()), guard.tells())
        };
        // The resolver parses these as addresses.
        for name in ["0x7f.1", "2130706433", "localhost", "kubernetes.default.svc.cluster.local"] {
            let (found, tells) = resolve(&[], name).await;
            assert_eq!(found.unwrap_err().to_string(), "data must not come from this address", "{name}");
            assert!(!tells, "{name}");
        }
        let (found, tells) = resolve(&["127.0.0.0/8"], "0x7f.1").await;
        assert_eq!((found.unwrap(), tells), (vec!["127.0.0.1".to_owned()], true));
        let (found, tells) = resolve(&[], "0x08.8.8.8").await;
        assert_eq!(
            (found.unwrap(), tells),
            (vec!["8.8.8.8".to_owned()], false),
            "it is reached, but messages have no details"
        );
    }
}
