//! All events of the objects of one kind in a namespace, in order, from `kubectl get --watch`. Polling could miss some.

use anyhow::{Context as _, Result, ensure};
use canopy_tests::kubernetes::kubectl_running;
use canopy_tests::namespace::Namespace;
use canopy_tests::process::Process;
use canopy_tests::wait::{SOON, until};
use serde::Deserialize as _;
use serde_json::Value;

/// A watch until this value is dropped.
pub(crate) struct Watch {
    process: Process,
}

/// An event of an object.
#[derive(Debug)]
pub(crate) struct Event {
    /// `ADDED`, `MODIFIED` or `DELETED`.
    pub(crate) kind: String,
    /// The object at that time.
    pub(crate) object: Value,
}

impl Watch {
    /// Starts a watch, and returns when it has the objects that exist already.
    pub(crate) async fn start(namespace: &Namespace, kind: &str) -> Result<Self> {
        let words = [
            "get",
            kind,
            "--namespace",
            &namespace.name,
            "--watch",
            "--output-watch-events",
            "--output",
            "json",
        ];
        let watch = Self { process: kubectl_running(&words)? };
        let there = namespace.list(kind, "")?.len();
        until(&format!("a watch of {kind}"), SOON, async || {
            let count = watch.events()?.len();
            ensure!(count >= there, "expected events of {there} objects, got {count}");
            Ok(())
        })
        .await?;
        Ok(watch)
    }

    /// All events so far.
    pub(crate) fn events(&self) -> Result<Vec<Event>> {
        let text = self.process.lines().join("\n");
        let mut events = Vec::new();
        let mut stream = serde_json::Deserializer::from_str(&text);
        loop {
            // The last one may be incomplete.
            match Value::deserialize(&mut stream) {
                Ok(mut event) => {
                    let kind = event["type"].as_str().context("an event has a type")?.to_owned();
                    events.push(Event { kind, object: event["object"].take() });
                }
                Err(error) if error.is_eof() => return Ok(events),
                Err(error) => return Err(error).context(text),
            }
        }
    }

    /// All events so far about the object `name`.
    pub(crate) fn events_of(&self, name: &str) -> Result<Vec<Event>> {
        let events = self.events()?.into_iter();
        Ok(events.filter(|event| event.object["metadata"]["name"] == name).collect())
    }
}

impl Event {
    /// Its resource version, which orders events of all kinds.
    pub(crate) fn version(&self) -> Result<u64> {
        let version = self.object["metadata"]["resourceVersion"].as_str();
        Ok(version.context("an object has a resource version")?.parse()?)
    }
}
