//! Files from other machines: the only place that asks one for something.
//!
//! Comes in: an address and the digest its file must have. Goes out: the bytes, or why there are none, with the
//! address as anybody may see it. Never: bytes of another digest; more of them, or more time, than allowed; a
//! password or a signature in a message.

use std::thread;
use std::time::Duration;

use canopy_contract::serving::Download;
use canopy_runtime::process::install_cryptography;
use reqwest::redirect::Policy;
use reqwest::{Client, StatusCode, Url};
use sha2::{Digest as _, Sha256};
use tokio::time::timeout;

use crate::artifact::hexadecimal;

/// Whoever is there answers by then.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// Whoever still sends has sent something by then.
const SILENCE_TIMEOUT: Duration = Duration::from_secs(30);
const REDIRECTS_MAX: usize = 5;
/// How many characters of an address are told.
const SHOWN_MAX: usize = 160;
const PROGRAM: &str = concat!("canopy/", env!("CARGO_PKG_VERSION"));

/// Why there is no file.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DownloadError {
    /// The address is none. It is not repeated, since nobody can tell what of it is secret.
    #[error("the uri of the data cannot be read: {0}")]
    Address(String),
    /// It is longer than any file of its kind should be.
    #[error("failed to download {uri}: it is larger than {limit} bytes")]
    TooLarge {
        /// The address.
        uri: String,
        /// The most bytes it may have.
        limit: u64,
    },
    /// It is another file.
    #[error(
        "{uri} has the SHA-256 {found}, but {expected} is asked for: give sha256 the new digest if the new file is \
         meant, or put the old file back and ask again by the annotation canopy.rs/restartedAt"
    )]
    Digest {
        /// The address.
        uri: String,
        /// What it should be.
        expected: String,
        /// What it is.
        found: String,
    },
    /// It did not come, which may pass.
    #[error("failed to download {uri}: {why}")]
    Failed {
        /// The address.
        uri: String,
        /// What happened, and what to do.
        why: String,
    },
}

/// Downloads a file of at most `bytes_max` bytes. Blocks; it may be called from asynchronous code all the same.
pub fn fetch(download: &Download, bytes_max: u64) -> Result<Vec<u8>, DownloadError> {
    let Download { uri, sha256, timeout_seconds } = download;
    let url: Url = uri.parse().map_err(|error| DownloadError::Address(format!("{error}")))?;
    let limits = Limits { time: Duration::from_secs((*timeout_seconds).into()), bytes: bytes_max };
    // A runtime cannot be entered from another one, and the caller's thread may be in one.
    let fetched = thread::scope(|scope| scope.spawn(|| at_once(&url, limits)).join());
    let File { bytes, sha256: found } = match fetched {
        Ok(fetched) => fetched.map_err(|fault| fault.of(&url))?,
        Err(panic) => std::panic::resume_unwind(panic),
    };
    if found == *sha256 {
        Ok(bytes)
    } else {
        Err(DownloadError::Digest { uri: without_secrets(&url), expected: sha256.clone(), found })
    }
}

/// The address as anybody may see it: without user, password, query and fragment, and short enough that a message
/// has room for more.
pub fn shown(uri: &str) -> String {
    uri.parse().map_or_else(|_| "an address that cannot be read".to_owned(), |url| without_secrets(&url))
}

fn without_secrets(url: &Url) -> String {
    let mut url = url.clone();
    // These fail where there is nothing to take away.
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

/// A file that arrived whole.
struct File {
    bytes: Vec<u8>,
    sha256: String,
}

enum Fault {
    TooLarge(u64),
    Other(String),
}

impl Fault {
    fn of(self, url: &Url) -> DownloadError {
        let uri = without_secrets(url);
        match self {
            Self::TooLarge(limit) => DownloadError::TooLarge { uri, limit },
            Self::Other(why) => DownloadError::Failed { uri, why },
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
            format!("it sent nothing for {} s", SILENCE_TIMEOUT.as_secs())
        } else {
            chain(&error)
        };
        Self::Other(why)
    }
}

fn at_once(url: &Url, limits: Limits) -> Result<File, Fault> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|error| Fault::Other(error.to_string()))?;
    let ended = runtime.block_on(async {
        let Ok(ended) = timeout(limits.time, file(url, limits.bytes)).await else {
            let seconds = limits.time.as_secs();
            let why = format!(
                "it did not arrive within {seconds} s: raise train.deadlineSeconds, half of which is for the download"
            );
            return Err(Fault::Other(why));
        };
        ended
    });
    // A look-up of the address may still run in a thread of its own, and nobody can end it.
    runtime.shutdown_background();
    ended
}

async fn file(url: &Url, bytes_max: u64) -> Result<File, Fault> {
    let mut response = client(url)?.get(url.clone()).send().await?;
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

fn client(url: &Url) -> Result<Client, reqwest::Error> {
    install_cryptography();
    let builder = || {
        Client::builder()
            .user_agent(PROGRAM)
            .connect_timeout(CONNECT_TIMEOUT)
            .read_timeout(SILENCE_TIMEOUT)
            .redirect(redirects())
            // The address before a redirect may have a signature in it, which is nobody else's business.
            .referer(false)
    };
    match builder().build() {
        // There is no bundle of certificates, as in an empty folder: without TLS none is needed.
        Err(_) if url.scheme() == "http" => builder().tls_certs_only([]).build(),
        built => built,
    }
}

fn redirects() -> Policy {
    Policy::custom(|attempt| {
        let was_secret = attempt.previous().iter().any(|url| url.scheme() == "https");
        if attempt.previous().len() > REDIRECTS_MAX {
            attempt.error(format!("it was redirected more than {REDIRECTS_MAX} times"))
        } else if was_secret && attempt.url().scheme() != "https" {
            let to = without_secrets(attempt.url());
            attempt.error(format!("it was redirected from https to {to}, where anybody could change it"))
        } else {
            attempt.follow()
        }
    })
}

/// What a status says, and what to do.
fn unwanted(status: StatusCode) -> String {
    let advice = match status {
        StatusCode::NOT_FOUND | StatusCode::GONE => "put the file there, or correct uri",
        StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => "let the file be read, or correct uri",
        _ => "see what its server says of it",
    };
    format!("the answer was {status}: {advice}")
}

/// The causes, the nearest last; the library's own first words say only that it did not work.
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
    fn what_is_no_address_is_told_without_it() {
        let download =
            Download { uri: "http://user:word@:80".to_owned(), sha256: "00".to_owned(), timeout_seconds: 1 };
        let error = fetch(&download, 1).unwrap_err();
        assert_eq!(error.to_string(), "the uri of the data cannot be read: empty host");
    }
}
