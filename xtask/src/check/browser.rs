//! The pages that describe the API, in a browser that reaches no host but this one.
//!
//! Comes in: `canopy up`. Goes out: each page shows an operation of its API and asks nobody else for anything.
//! Never: a page judged by its source; only what the browser made of it counts.

use std::fs;
use std::net::SocketAddr;
use std::path::Path;

use anyhow::{Context as _, Result, bail, ensure};
use serde_json::Value;

use super::laptop::Laptop;
use crate::debian;
use crate::http::get_text;
use crate::shell::{capture, command, root};

/// What Chromium notes as the origin of a request that no page made, but the browser itself.
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
    ensure!(foreign.is_empty(), "the page asks other hosts: {foreign:?}");
    let description = format!("{origin}/openapi.json");
    ensure!(
        requests.contains(&description),
        "the page does not ask for {description}, only for {requests:?}"
    );
    ensure!(get_text(address, "/openapi.json")?.contains(operation), "the description has no {operation}");
    // Where a long path may be broken, the pages say so within it.
    let shown = shown.replace("<wbr>", "").replace('\u{200b}', "");
    ensure!(shown.contains(&format!(">{operation}<")), "the page shows no {operation}:\n{shown}");
    Ok(())
}

/// The page as the browser has it once its scripts have run.
fn browse(url: &str, profile: &Path, log: &Path) -> Result<String> {
    let mut chromium =
        command("chromium", ["--headless=new", "--no-sandbox", "--disable-gpu", "--no-first-run"]);
    chromium.arg("--host-resolver-rules=MAP * ~NOTFOUND , EXCLUDE 127.0.0.1");
    chromium.arg(format!("--user-data-dir={}", profile.display()));
    chromium.arg(format!("--log-net-log={}", log.display()));
    // Chromium's own wishes, and the voices in its head on a machine without a desktop, are nothing to show.
    chromium.args(["--disable-background-networking", "--disable-component-update", "--log-level=3"]);
    chromium.args(["--virtual-time-budget=30000", "--dump-dom", url]);
    Ok(String::from_utf8(capture(&mut chromium)?)?)
}

/// What the page asked for, out of Chromium's log of everything that any part of it asked for.
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
    fn a_request_of_the_page_is_told_from_one_of_the_browser_itself() {
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
