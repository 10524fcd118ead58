//! The pages that describe the API, in a real browser that resolves no name: each shows an operation of its API and sends requests
//! to its own server only.

use std::fs;
use std::net::SocketAddr;
use std::path::Path;

use anyhow::{Context as _, Result, bail, ensure};
use serde_json::Value;

use super::laptop::Laptop;
use crate::debian;
use crate::http::get_text;
use crate::shell::{capture, command, root};

/// The origin in Chromium's log of requests that the browser makes for itself.
const NO_PAGE: &str = "not an origin";

/// Opens all pages.
pub(super) fn check() -> Result<()> {
    debian::need("chromium", "chromium")?;
    let laptop = Laptop::start()?;
    for (address, operation) in [(laptop.gateway, "/api/users/{id}"), (laptop.predictor, "/predict")] {
        for path in ["/docs", "/redoc"] {
            page(address, path, operation).with_context(|| format!("http://{address}{path}"))?;
        }
    }
    Ok(())
}

fn page(address: SocketAddr, path: &str, operation: &str) -> Result<()> {
    let folder = root().join("target/browser");
    drop(fs::remove_dir_all(&folder)); // of an earlier run, if any
    let (origin, log) = (format!("http://{address}"), folder.join("requests.json"));
    let shown = browse(&format!("{origin}{path}"), &folder, &log)?;
    let log = fs::read(&log).context("Chromium kept no log of its requests")?;
    let requests = requests(&serde_json::from_slice(&log).context("Chromium's log is not JSON")?)?;
    let foreign: Vec<_> = requests.iter().filter(|url| !url.starts_with(&format!("{origin}/"))).collect();
    ensure!(foreign.is_empty(), "the page sends requests to other hosts: {foreign:?}");
    let description = format!("{origin}/openapi.json");
    ensure!(requests.contains(&description), "the page requests {requests:?} but not {description}");
    ensure!(get_text(address, "/openapi.json")?.contains(operation), "the description has no {operation}");
    // The pages mark where a long path may be broken.
    let shown = shown.replace("<wbr>", "").replace('\u{200b}', "");
    ensure!(shown.contains(&format!(">{operation}<")), "the page shows no {operation}:\n{shown}");
    Ok(())
}

/// The page after its scripts have run.
fn browse(url: &str, profile: &Path, log: &Path) -> Result<String> {
    let mut chromium =
        command("chromium", ["--headless=new", "--no-sandbox", "--disable-gpu", "--no-first-run"]);
    chromium.arg("--host-resolver-rules=MAP * ~NOTFOUND , EXCLUDE 127.0.0.1");
    chromium.arg(format!("--user-data-dir={}", profile.display()));
    chromium.arg(format!("--log-net-log={}", log.display()));
    // Neither Chromium's own requests nor its messages about a machine without a desktop.
    chromium.args(["--disable-background-networking", "--disable-component-update", "--log-level=3"]);
    chromium.args(["--virtual-time-budget=30000", "--dump-dom", url]);
    Ok(String::from_utf8(capture(&mut chromium)?)?)
}

/// The URLs that the page requested, from Chromium's log of all its requests.
fn requests(log: &Value) -> Result<Vec<String>> {
    let Some(start) = log["constants"]["logEventTypes"]["URL_REQUEST_START_JOB"].as_u64() else {
        bail!("Chromium's log names no event URL_REQUEST_START_JOB");
    };
    let events = log["events"].as_array().context("Chromium's log has no events")?;
    let by_page = |event: &&Value| {
        let from = event["params"]["initiator"].as_str();
        event["type"] == start && from.is_some_and(|origin| origin != NO_PAGE)
    };
    Ok(events
        .iter()
        .filter(by_page)
        .filter_map(|event| event["params"]["url"].as_str().map(str::to_owned))
        .collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn requests_of_the_browser_itself_are_left_out() {
        let event = |kind: u64, url: &str, from: &str| json!({"type": kind, "params": {"url": url, "initiator": from}});
        let log = json!({
            "constants": {"logEventTypes": {"REQUEST_ALIVE": 1, "URL_REQUEST_START_JOB": 2}},
            "events": [
                event(2, "http://127.0.0.1:1/docs", NO_PAGE),
                event(1, "http://127.0.0.1:1/a.js", "http://127.0.0.1:1"),
                event(2, "http://127.0.0.1:1/a.js", "http://127.0.0.1:1"),
                event(2, "https://fonts.example/a.css", "http://127.0.0.1:1"),
                event(2, "https://update.example/", NO_PAGE),
                {"type": 2},
            ],
        });
        assert_eq!(requests(&log).unwrap(), ["http://127.0.0.1:1/a.js", "https://fonts.example/a.css"]);
        assert!(requests(&json!({"constants": {}, "events": []})).is_err());
    }
}
